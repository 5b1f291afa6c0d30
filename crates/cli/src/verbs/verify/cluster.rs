//! A running cluster: its members read their own logs, and the replicas are compared.

use indicatif::{ProgressBar, ProgressStyle};
use kontiki_client::{ClusterVerified, ReplicaVerified};

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    output::{Cell, Output, Paint, Table},
};

/// Damaged stretches of a replica that are told one by one.
const DAMAGE_SHOWN_MAX: usize = 10;

/// Has them do it and says what they found.
pub(crate) async fn run(invocation: &Invocation) -> Result<Exit, Failure> {
    let output = invocation.output;
    let client = invocation.connect().await?;
    let bar = if output.progress() {
        bar()
    } else {
        ProgressBar::hidden()
    };
    let admin = client.admin();
    let verified = admin.verify(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    let verified = verified.await;
    bar.finish_and_clear();
    let verified = verified?;
    leave(&client).await;
    output.say(&verified, |output| render(&verified, output))?;
    Ok(if verified.sound {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {eta} to go");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn render(verified: &ClusterVerified, output: Output) -> String {
    let mut table = Table::new(["TOPIC", "MEMBER", "ENTRIES", "BYTES", "STATE"]);
    let mut details = String::new();
    for replica in &verified.replicas {
        let topic = replica.topic.as_deref().unwrap_or("(the cluster's own)");
        let (state, paint) = state(replica);
        table.row([
            topic.into(),
            replica.member.as_str().into(),
            replica.entries.into(),
            replica.bytes.into(),
            Cell::painted(state, paint),
        ]);
        for damage in replica.damage.iter().take(DAMAGE_SHOWN_MAX) {
            let entries = entries(damage.first, damage.last);
            details.push_str(&format!(
                "{topic} on {}, {entries}: {}\n",
                replica.member, damage.what
            ));
        }
        if !replica.damage.is_empty() {
            details.push_str(if is_alone(replica, verified) {
                "  no other member has it: bring back a copy of the file\n"
            } else {
                "  its member fetches it from another one by itself\n"
            });
        }
    }
    let mut text = table.render(output);
    if !details.is_empty() {
        text.push_str(&format!("\n{details}"));
    }
    if !verified.topics_confirmed {
        text.push_str(
            "\nthe leader of the cluster's own group did not confirm in time which topics there are: \
             there may be more\n",
        );
    }
    let verdict = if verified.sound {
        output.paint(Paint::Good, "sound, and its replicas are the same")
    } else {
        output.paint(Paint::Bad, "not sound")
    };
    text.push_str(&format!("\ncluster {} is {verdict}\n", verified.cluster_id));
    text
}

/// Whether nobody else keeps what this replica keeps.
fn is_alone(replica: &ReplicaVerified, verified: &ClusterVerified) -> bool {
    let same = |other: &&ReplicaVerified| other.group == replica.group;
    verified.replicas.iter().filter(same).count() == 1
}

fn state(replica: &ReplicaVerified) -> (String, Paint) {
    if let Some(why) = &replica.unread {
        return (format!("not read: {why}"), Paint::Bad);
    }
    if let Some(entry) = replica.differs_from {
        return (format!("differs from entry {entry} on"), Paint::Bad);
    }
    match &replica.damage[..] {
        [] => ("sound".to_owned(), Paint::Good),
        [damage] => {
            let entries = entries(damage.first, damage.last);
            (format!("damaged: {entries}"), Paint::Bad)
        }
        more => (format!("damaged in {} places", more.len()), Paint::Bad),
    }
}

fn entries(first: u64, last: u64) -> String {
    if first == last {
        format!("entry {first}")
    } else {
        format!("entries {first} to {last}")
    }
}
