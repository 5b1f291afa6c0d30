//! The directory of a member that does not run.

use std::path::PathBuf;

use indicatif::{HumanBytes, ProgressBar};
use kontiki_server::verify::{Found, Report, VerifyError, verify_dir};
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Counted, Output, Paint, Table, bytes_bar},
    signals::Signals,
};

/// Reads all of it and says what is damaged.
pub(crate) async fn run(dir: PathBuf, invocation: &Invocation) -> Result<Exit, Failure> {
    let output = invocation.output;
    let bar = if output.progress() {
        bytes_bar(0)
    } else {
        ProgressBar::hidden()
    };
    let shown = bar.clone();
    let (told, mut progress) = watch::channel(());
    let mut signals = Signals::new()?;
    let mut walk = spawn_blocking(move || {
        verify_dir(&dir, move |done, total| {
            shown.set_length(total);
            shown.set_position(done);
            told.send_replace(());
        })
    });
    let verified = tokio::select! {
        verified = &mut walk => Some(verified),
        () = signals.next() => None,
    };
    let Some(verified) = verified else {
        progress.mark_unchanged();
        tokio::select! {
            // What was copied elsewhere is gone when progress is told; the reading ends with the process.
            _ = progress.changed() => {}
            _ = walk => {}
            () = signals.next() => {}
        }
        bar.finish_and_clear();
        return Err(Failure::new("interrupted: not everything was read"));
    };
    bar.finish_and_clear();
    let report = verified.map_err(|error| Failure::new(format!("the walk ended: {error}")))??;
    output.say(&report, |output| render(&report, output))?;
    Ok(if report.sound {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn render(report: &Report, output: Output) -> String {
    let mut text = String::new();
    for found in &report.findings {
        text.push_str(&finding(found, output));
    }
    if !report.findings.is_empty() {
        text.push('\n');
    }
    if !report.topics.is_empty() {
        text.push_str(&topics(report, output));
        text.push('\n');
    }
    let member = match (&report.member, &report.cluster_id) {
        (Some(member), Some(cluster)) => format!("{member} of cluster {cluster}"),
        _ => report.dir.display().to_string(),
    };
    let damaged = report.findings.iter().filter(|found| found.damage).count() as u64;
    let verdict = if report.sound {
        output.paint(Paint::Good, "sound")
    } else {
        let places = Counted(damaged + report.unlisted, "place");
        output.paint(Paint::Bad, &format!("damaged in {places}"))
    };
    let read = format!(
        "{}, {}",
        Counted(report.files, "file"),
        HumanBytes(report.bytes)
    );
    if report.unlisted > 0 {
        let more = Counted(report.unlisted, "more place");
        text.push_str(&format!("and {more}\n"));
    }
    match report.joining {
        true => text.push_str(&format!("{member} is nobody's yet, and nothing is lost")),
        false => text.push_str(&format!("{member} is {verdict} ({read} read)")),
    }
    text
}

/// A finding in up to four lines: where, what, whose, and what becomes of it.
fn finding(found: &Found, output: Output) -> String {
    let kind = if found.damage {
        output.paint(Paint::Bad, "damaged:")
    } else {
        output.paint(Paint::Warn, "note:")
    };
    let mut text = format!("{kind} {}", found.file.display());
    if let Some(byte) = found.byte {
        text.push_str(&format!(" at byte {byte}"));
    }
    let whose = found.whose();
    for line in [&found.what, &whose, &found.next_start] {
        if !line.is_empty() {
            text.push_str(&format!("\n  {line}"));
        }
    }
    text.push('\n');
    text
}

fn topics(report: &Report, output: Output) -> String {
    let mut table = Table::new(["TOPIC", "SEGMENTS", "ENTRIES", "BYTES", "LAST ENTRY"]);
    for topic in &report.topics {
        let name = match (&topic.topic, topic.group) {
            (Some(name), _) => name.clone(),
            (None, 0) => "(the cluster's own)".to_owned(),
            (None, group) => format!("(group {group})"),
        };
        table.row([
            name.into(),
            topic.segments.into(),
            topic.entries.into(),
            topic.bytes.into(),
            topic.last_entry.into(),
        ]);
    }
    table.render(output)
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        Self::new(error.to_string())
    }
}
