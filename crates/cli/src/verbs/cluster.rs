//! `kontiki cluster`: how the cluster is.

use std::time::{Duration, Instant};

use kontiki_client::{
    AdminError, Client, ClusterStatus, MemberHealth, Recovery, ReplicaHealth, TopicHealth,
};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    moment::format_micros,
    output::{Cell, Output, Paint, Table},
    verbs::cert,
};

/// How long `--wait-healthy` waits unless told otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What can be asked of the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show members and topics; ends with 10 if something is not as it should be
    Status {
        /// Wait until all is well, for as long as --timeout says (60 s if it does not)
        #[arg(long)]
        wait_healthy: bool,
    },
    /// Say whether the cluster spreads topics and leaderships evenly by itself, which it does unless told
    Balance {
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        to: String,
    },
    /// Have the cluster come to the highest version that all members can do, when all run a newer build; no older
    /// build can be a member from then on
    Finalize,
    /// List how the cluster was recovered after the loss of a majority: when, by whom, and what was given up
    Recoveries,
}

#[derive(Serialize)]
struct Recoveries {
    recoveries: Vec<Recovered>,
}

#[derive(Serialize)]
struct Recovered {
    epoch: u64,
    at: String,
    by: String,
    survivor: String,
    given_up: Vec<String>,
    topics_kept: u64,
    topics_lost: u64,
    lost_topics: Vec<String>,
}

impl From<Recovery> for Recovered {
    fn from(recovery: Recovery) -> Self {
        Self {
            epoch: recovery.epoch.number,
            at: format_micros(recovery.at),
            by: recovery.by,
            survivor: recovery.survivor,
            given_up: recovery.given_up,
            topics_kept: recovery.kept,
            topics_lost: recovery.lost,
            lost_topics: recovery.lost_topics,
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let wait_healthy = match verb {
        Verb::Status { wait_healthy } => wait_healthy,
        Verb::Balance { to } => return balance(to == "on", invocation).await,
        Verb::Finalize => return finalize(invocation).await,
        Verb::Recoveries => return recoveries(invocation).await,
    };
    let status = if wait_healthy {
        wait(invocation).await?
    } else {
        let client = invocation.connect().await?;
        let status = client.admin().status().await?;
        for warning in cert::warnings(&client).await {
            invocation.output.note(warning);
        }
        leave(&client).await;
        status
    };
    invocation
        .output
        .say(&status, |output| render(&status, output))?;
    Ok(if status.healthy {
        Exit::Done
    } else {
        Exit::Unhealthy
    })
}

async fn balance(on: bool, invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    client.admin().set_balance(on).await?;
    leave(&client).await;
    let balance = Balance { balance: on };
    invocation.output.say(&balance, |_| match on {
        true => "the cluster spreads topics and leaderships evenly by itself".to_owned(),
        false => "topics and leaderships stay where they are, unless a member leaves or drains; \
                  `kontiki leader balance` spreads leaderships once"
            .to_owned(),
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Finalized {
    version: u16,
}

async fn finalize(invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    let version = client.admin().finalize().await?;
    leave(&client).await;
    invocation.output.say(&Finalized { version }, |_| {
        format!(
            "the cluster is at version {version} now, and older builds cannot be members any more"
        )
    })?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Balance {
    balance: bool,
}

async fn recoveries(invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    let listed = client.admin().recoveries().await?;
    leave(&client).await;
    let listed = Recoveries {
        recoveries: listed.into_iter().map(Recovered::from).collect(),
    };
    invocation.output.say(&listed, |output| {
        if listed.recoveries.is_empty() {
            return "this cluster has never lost its majority for good".to_owned();
        }
        let mut table = Table::new(["EPOCH", "AT", "BY", "WENT ON", "GIVEN UP", "TOPICS LOST"]);
        for one in &listed.recoveries {
            table.row([
                one.epoch.into(),
                one.at.as_str().into(),
                one.by.as_str().into(),
                one.survivor.as_str().into(),
                one.given_up.join(", ").into(),
                lost(one).into(),
            ]);
        }
        table.render(output)
    })?;
    Ok(Exit::Done)
}

/// How many topics, and the first of their names.
fn lost(recovered: &Recovered) -> String {
    match &recovered.lost_topics[..] {
        [] => recovered.topics_lost.to_string(),
        names => format!("{}: {}", recovered.topics_lost, names.join(", ")),
    }
}

/// The first healthy status, or the last one there was when the time is over.
async fn wait(invocation: &Invocation) -> Result<ClusterStatus, Failure> {
    let until = Instant::now() + invocation.timeout.unwrap_or(WAIT_DEFAULT);
    let mut client: Option<Client> = None;
    loop {
        let looked = look(&mut client, invocation).await;
        let late = Instant::now() >= until;
        match looked {
            Ok(status) if status.healthy || late => return Ok(status),
            Err(failure) if late || failure.exit() != Exit::NoQuorum => return Err(failure),
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

async fn look(
    client: &mut Option<Client>,
    invocation: &Invocation,
) -> Result<ClusterStatus, Failure> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => invocation.connect().await?,
    };
    let status: Result<_, AdminError> = client.insert(connected).admin().status().await;
    Ok(status?)
}

fn render(status: &ClusterStatus, output: Output) -> String {
    let verdict = if status.healthy {
        output.paint(Paint::Good, "healthy")
    } else {
        output.paint(Paint::Bad, "not healthy")
    };
    let mut text = format!("cluster {} is {verdict}\n", status.cluster_id);
    for reason in status.reasons.iter().chain(&status.warnings) {
        text.push_str(&format!("  {reason}\n"));
    }
    if let Some(version) = status.version {
        text.push_str(&format!("  version {version}\n"));
    }
    if let Some(next) = status.next_version {
        text.push_str(&format!(
            "  all members can do version {next}: `kontiki cluster finalize`\n"
        ));
    }
    let mut members = Table::new([
        "MEMBER", "ADDRESS", "STATE", "VOTER", "UP", "BUILD", "CAN DO",
    ]);
    for member in &status.members {
        members.row([
            member.name.as_str().into(),
            member.address.as_str().into(),
            Cell::painted(member.state.as_str(), state_paint(&member.state)),
            if member.voter { "yes" } else { "no" }.into(),
            member.up_seconds.map_or_else(|| "-".into(), since).into(),
            member.build.as_deref().unwrap_or("-").into(),
            can_do(member).into(),
        ]);
    }
    text.push('\n');
    text.push_str(&members.render(output));
    if !status.topics.is_empty() {
        text.push('\n');
        text.push_str(&topics(&status.topics, output));
    }
    text
}

/// The versions that a member's build can do.
fn can_do(member: &MemberHealth) -> String {
    match (member.lowest_version, member.highest_version) {
        (lowest, highest) if lowest == highest => highest.to_string(),
        (lowest, highest) => format!("{lowest}-{highest}"),
    }
}

fn topics(topics: &[TopicHealth], output: Output) -> String {
    let mut table = Table::new(["TOPIC", "LEADER", "TERM", "FIRST", "NEXT", "REPLICAS"]);
    for topic in topics {
        let leader = topic.leader.as_deref().map_or_else(
            || Cell::painted("none", Paint::Bad),
            |leader| Cell::painted(leader, Paint::Plain),
        );
        let replicas: Vec<String> = topic.replicas.iter().map(replica).collect();
        table.row([
            topic.name.as_str().into(),
            leader,
            topic.term.into(),
            topic.first_offset.0.into(),
            topic.next_offset.0.into(),
            replicas.join(", ").into(),
        ]);
    }
    table.render(output)
}

/// A replica in a word or two: its name, and what is not ordinary about it.
fn replica(replica: &ReplicaHealth) -> String {
    let mut text = match replica.state.as_str() {
        "leader" => format!("{}*", replica.name),
        "follower" => replica.name.clone(),
        state => format!("{} {state}", replica.name),
    };
    // How far one is that cannot be reached, its leader may not know.
    if replica.lag > 0 && replica.state != "unreachable" {
        text.push_str(&format!(" -{}", replica.lag));
    }
    text
}

/// How the word for a member's state is shown.
pub(crate) fn state_paint(state: &str) -> Paint {
    match state {
        "up" => Paint::Good,
        "down" => Paint::Bad,
        _ => Paint::Warn,
    }
}

fn since(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_up_read_in_one_unit() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_800].map(since),
            ["0s", "119s", "2m", "119m", "2h", "2d"]
        );
    }
}
