//! `kontiki recover`: when a majority is lost for good, one member goes on alone with what it has.

use std::{
    env, fs,
    io::{self, BufRead, IsTerminal},
    path::{Path, PathBuf},
};

use kontiki_server::recovery::{GroupReport, RecoveryError, Report, ask, look, recover};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Cell, Output, Paint, Table},
};

/// What to recover from
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only for a cluster whose majority will never come back: what never came to this member is \
gone. Where several members are left, look at each with --dry-run and recover the one that has most; the others \
join it anew. Keep a copy of the folder before.

Example:
  kontiki recover --data n1 --dry-run       # what n1 has, what would be lost, what cannot be known
  kontiki recover --data n1                 # n1 goes on alone, in a new epoch of the cluster
  kontiki serve --data n1                   # and others can join it again"
)]
pub(crate) struct Args {
    /// The folder of the member that is to go on; it must not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Only say what would be lost; nothing is written
    #[arg(long)]
    dry_run: bool,

    /// Do it without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Do it though other members answer: they are given up, with all that they acknowledge
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// Whether it was done.
    done: bool,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let Args {
        data,
        dry_run,
        yes,
        force,
    } = args;
    let mut seen = blocking(&data, look).await?;
    // What was begun is finished, whoever lives.
    if seen.obstacles.is_empty() && !seen.interrupted {
        seen = ask(&data, seen).await;
    }
    let objected = !force && !seen.objections.is_empty();
    let refused = !seen.interrupted && !seen.obstacles.is_empty() || objected;
    if dry_run || refused {
        let shown = Shown {
            report: &seen,
            done: false,
        };
        invocation
            .output
            .say(&shown, |output| render(&seen, output))?;
        if objected {
            let what = "it is not recovered while others live, unless --force says so";
            invocation.output.note(what);
        }
        return Ok(match refused {
            true => Exit::Failed,
            false => Exit::Done,
        });
    }
    if !yes {
        confirm(&seen, invocation)?;
    }
    let by = who(!seen.objections.is_empty());
    let mut report = blocking(&data, move |dir| recover(dir, &by)).await?;
    (report.objections, report.unknown) = (seen.objections, seen.unknown);
    let shown = Shown {
        report: &report,
        done: true,
    };
    invocation.output.say(&shown, |output| {
        let mut text = match invocation.output.json() || yes {
            true => render(&report, output),
            false => String::new(),
        };
        text.push_str(&format!(
            "\n{} is a cluster of its own now; `kontiki serve --data {}` starts it, and others join it with \
             tokens (`kontiki token create --role node`)\n",
            report.member,
            report.dir.display()
        ));
        text
    })?;
    Ok(Exit::Done)
}

async fn blocking(
    data: &Path,
    work: impl FnOnce(&Path) -> Result<Report, RecoveryError> + Send + 'static,
) -> Result<Report, Failure> {
    let data = data.to_owned();
    let done = spawn_blocking(move || work(&data)).await;
    let done = done.map_err(|error| Failure::new(format!("the recovery ended: {error}")))?;
    done.map_err(|error| Failure::new(error.to_string()))
}

fn confirm(seen: &Report, invocation: &Invocation) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("this gives up members and records for good")
            .advise("look at it with --dry-run, then say --yes"));
    }
    let output = invocation.output;
    output.note(render(seen, output));
    output.note(format_args!(
        "this cannot be undone; type {} to go on:",
        seen.member
    ));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    match answer.trim() == seen.member {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "nothing was done: {} was not typed",
            seen.member
        ))),
    }
}

/// Who does it, as far as this machine tells, and whether against what others say by being there.
fn who(forced: bool) -> String {
    let user = env::var("USER").or_else(|_| env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| "somebody".to_owned());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut who = match host.trim() {
        "" => user,
        host => format!("{user} on {host}"),
    };
    let mut end = who.len().min(NAME_BYTES_MAX);
    while !who.is_char_boundary(end) {
        end -= 1;
    }
    who.truncate(end);
    if forced {
        who.push_str(", by --force");
    }
    who
}

/// More than anybody's name and machine take.
const NAME_BYTES_MAX: usize = 200;

fn render(report: &Report, output: Output) -> String {
    let mut text = format!(
        "{} of cluster {}, in epoch {}, has\n\n",
        report.member, report.cluster_id, report.epoch
    );
    text.push_str(&groups(&report.groups, output));
    let mut list = |head: &str, paint: Paint, sentences: &[String]| {
        if !sentences.is_empty() {
            text.push_str(&format!("\n{}\n", output.paint(paint, head)));
        }
        for sentence in sentences {
            text.push_str(&format!("  - {sentence}\n"));
        }
    };
    if report.interrupted {
        let what = "`kontiki recover` finishes it, and so does the next start".to_owned();
        list("a recovery was begun and interrupted", Paint::Warn, &[what]);
    } else if report.obstacles.is_empty() {
        list("others live", Paint::Bad, &report.objections);
        let head = "if it goes on alone";
        list(head, Paint::Warn, &report.consequences);
        list(
            "what nobody can know from here",
            Paint::Warn,
            &report.unknown,
        );
    } else {
        list("it is not recovered", Paint::Bad, &report.obstacles);
    }
    text
}

fn groups(groups: &[GroupReport], output: Output) -> String {
    let headings = [
        "TOPIC",
        "NEXT",
        "LAST ENTRY",
        "OF TERM",
        "COMMITTED",
        "VOTERS",
        "MAJORITY",
    ];
    let mut table = Table::new(headings);
    for group in groups {
        let name = group.topic.as_deref().unwrap_or("(the cluster's own)");
        table.row([
            name.into(),
            match group.topic {
                Some(_) => group.next_offset.into(),
                None => "-".into(),
            },
            group.last_entry.into(),
            group.last_entry_term.into(),
            group.committed_entry.into(),
            group.voters.join(", ").into(),
            match group.alive {
                true => Cell::painted("here", Paint::Good),
                false => Cell::painted("not here", Paint::Bad),
            },
        ]);
    }
    table.render(output)
}
