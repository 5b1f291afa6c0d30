//! `kontiki sim`: breaks simulated clusters on purpose, repeatably.

mod interrupted;
mod planted;

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
    panic,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use kontiki_sim::{Choice, Failure as Found, MEMBERS_MAX, Plan, Sum, shrink, tell_guarded};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Output, Paint},
    verbs::sim::interrupted::Interrupted,
};

const HOW: &str = "A seed is a story: it decides how large the cluster is, how it is tuned, what is \
asked of it, and what goes wrong and when. Members run the code that `kontiki serve` runs, over disks, \
links and clocks that are simulated; after a while everything is healed and the cluster has to recover. \
The same seed is the same story, down to the last message: the trace's hash tells.

crates/sim/README.md says what is covered and what is not.";

/// What is to be told.
#[derive(Debug, clap::Args)]
#[command(after_help = HOW)]
pub(crate) struct Args {
    /// Tell this one story; without it many are told, from a seed drawn at random on
    #[arg(long, value_name = "SEED", value_parser = parse_seed)]
    seed: Option<u64>,

    /// How long to let them suffer, in simulated minutes; of one story as long as its seed says if not
    /// given, of many 120
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    minutes: Option<u64>,

    /// Members of the cluster; as many as the seed says if not given
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=MEMBERS_MAX as u64))]
    members: Option<u64>,

    /// Print what happens, line by line
    #[arg(long, requires = "seed")]
    trace: bool,

    /// Have members join, leave and be replaced, too
    #[arg(long)]
    changes: bool,

    /// Plant mistakes that others have made, one after the other, and see how soon each is found; in a
    /// program that was built for it
    #[arg(long, conflicts_with_all = ["seed", "minutes", "members", "trace", "changes"])]
    planted: bool,

    /// Only this one of them
    #[arg(long, value_name = "NAME", requires = "planted")]
    only: Option<String>,
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let seed = text.parse();
    seed.map_err(|_| format!("a seed is a whole number from 0 to {}", u64::MAX))
}

/// A minute in microseconds.
const MINUTE: u64 = 60_000_000;
/// Simulated minutes of many stories, unless told otherwise.
const MINUTES: u64 = 120;
/// Lines of a shortened failure that are printed.
const LINES_MAX: usize = 120;

/// Does it.
pub(crate) fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let output = invocation.output;
    if args.planted {
        return planted::run(args.only.as_deref(), output);
    }
    panic::set_hook(Box::new(last_words));
    let choice = Choice {
        members: args.members.map(|members| members as usize),
        suffers: args.seed.and(args.minutes).map(|minutes| minutes * MINUTE),
        changes: args.changes,
    };
    let begun = Instant::now();
    let (sum, shortens) = match args.seed {
        Some(seed) => (one(seed, choice, args.trace)?, true),
        None => many(args.minutes.unwrap_or(MINUTES), choice, output)?,
    };
    let shown = Shown::of(&sum, begun.elapsed());
    for failure in sum.failures.iter().take(FAILURES_SHOWN_MAX) {
        let minutes = args.minutes.filter(|_| args.seed.is_some());
        tell_failure(failure, choice, minutes, output);
        if shortens {
            shorten(failure, choice, output);
        }
    }
    let _ = panic::take_hook();
    output.say(&shown, |output| shown.text(output))?;
    Ok(if sum.failures.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Failures that are told in full.
const FAILURES_SHOWN_MAX: usize = 3;

/// Where a panic ends the process, its seed is all that matters.
fn last_words(fault: &panic::PanicHookInfo<'_>) {
    if let Some(seed) = kontiki_sim::telling()
        && cfg!(panic = "abort")
    {
        eprintln!(
            "seed {seed}: it panics: {fault}\nrepeat it with: kontiki sim --seed {seed} --trace"
        );
        std::process::exit(i32::from(Exit::Failed.code()));
    }
}

fn one(seed: u64, choice: Choice, trace: bool) -> Result<Sum, Failure> {
    let told = tell_guarded(&Plan::draw(seed, choice), trace);
    let hash = told.as_ref().map_or(0, |told| told.trace.hash());
    if let Ok(told) = &told {
        let mut lines = String::new();
        for line in told.trace.lines() {
            lines.push_str(line);
            lines.push('\n');
        }
        io::stdout().lock().write_all(lines.as_bytes())?;
    }
    let mut sum = Sum::default();
    sum.add(seed, told);
    Ok(Sum { hash, ..sum })
}

/// Tells many, until somebody interrupts it; then nothing takes any more time.
fn many(minutes: u64, choice: Choice, output: Output) -> Result<(Sum, bool), Failure> {
    let interrupted = Interrupted::watch()?;
    let first =
        getrandom::u64().map_err(|error| Failure::new(format!("cannot draw a seed: {error}")))?;
    // Short enough to be read out.
    let seeds = kontiki_sim::seeds(first >> 24, choice, minutes * MINUTE);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if let (Some(first), Some(last)) = (seeds.first(), seeds.last()) {
        output.note(format_args!("seeds {first} to {last} on {threads} threads"));
    }
    let bar = if output.progress() {
        ProgressBar::new(seeds.len() as u64)
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} stories, {eta} left{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let bar = Mutex::new(bar);
    let sum = kontiki_sim::run(&seeds, choice, threads, |sum| {
        if let Ok(bar) = bar.lock() {
            if !sum.failures.is_empty() {
                bar.set_message(format!(", {} failed", sum.failures.len()));
            }
            bar.set_position(sum.stories);
        }
        match interrupted.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Ok(bar) = bar.into_inner() {
        bar.finish_and_clear();
    }
    if interrupted.is_set() {
        let (told, all) = (sum.stories, seeds.len());
        output.note(format_args!("interrupted after {told} of {all} stories"));
    }
    Ok((sum, !interrupted.is_set()))
}

/// The seed first, then how to repeat it.
fn tell_failure(failure: &Found, choice: Choice, minutes: Option<u64>, output: Output) {
    let Found { seed, finding } = failure;
    let seed_painted = output.paint_note(Paint::Bad, &format!("seed {seed}:"));
    output.note(format_args!("{seed_painted} {finding}"));
    let mut command = format!("kontiki sim --seed {seed} --trace");
    if let Some(minutes) = minutes {
        command += &format!(" --minutes {minutes}");
    }
    if let Some(members) = choice.members {
        command += &format!(" --members {members}");
    }
    if choice.changes {
        command += " --changes";
    }
    output.note(format_args!("repeat it with: {command}"));
}

/// The shortest trace that was found in which the same is wrong.
fn shorten(failure: &Found, choice: Choice, output: Output) {
    let plan = Plan::draw(failure.seed, choice);
    let before = plan.faults.len();
    let short = shrink(plan, &failure.finding);
    let faults = short.faults.len();
    match tell_guarded(&short, true) {
        Ok(told) => {
            output.note(format_args!(
                "with {faults} of its {before} faults it ends like this:"
            ));
            let lines: Vec<_> = told.trace.lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES_MAX)..] {
                output.note(line);
            }
        }
        Err(panic) => output.note(format_args!("with {faults} of its {before} faults {panic}")),
    }
}

#[derive(Serialize)]
struct Shown {
    stories: u64,
    simulated_hours: f64,
    seconds: f64,
    events: u64,
    faults: u64,
    faults_by_kind: Vec<(&'static str, u64)>,
    attempted: u64,
    acknowledged: u64,
    failed: u64,
    unknown: u64,
    lost: u64,
    doubled: u64,
    phantom: u64,
    reordered: u64,
    wrong_bytes: u64,
    stale_reads: u64,
    violations: u64,
    longest_write_outage_ms: u64,
    trace_hash: String,
    failures: Vec<ShownFailure>,
    #[serde(skip)]
    report: String,
}

#[derive(Serialize)]
struct ShownFailure {
    seed: u64,
    finding: String,
}

impl Shown {
    fn of(sum: &Sum, took: Duration) -> Self {
        let report = &sum.report;
        let kinds = sum.counts.iter();
        let failures = sum.failures.iter();
        Self {
            stories: sum.stories,
            simulated_hours: sum.lasted as f64 / 3.6e9,
            seconds: took.as_secs_f64(),
            events: sum.events,
            faults: sum.faults(),
            faults_by_kind: kinds.map(|(kind, count)| (kind.name(), *count)).collect(),
            attempted: report.attempted,
            acknowledged: report.acknowledged,
            failed: report.failed,
            unknown: report.unknown,
            lost: report.lost,
            doubled: report.doubled,
            phantom: report.phantom,
            reordered: report.reordered,
            wrong_bytes: report.wrong_bytes,
            stale_reads: report.stale_reads,
            violations: report.violations,
            longest_write_outage_ms: report.longest_write_outage.0 / 1000,
            trace_hash: format!("{:016x}", sum.hash),
            failures: failures
                .map(|failure| ShownFailure {
                    seed: failure.seed,
                    finding: failure.finding.clone(),
                })
                .collect(),
            report: report.to_string(),
        }
    }

    fn text(&self, output: Output) -> String {
        let mut text = format!("{}\n", self.report);
        let kinds = self.faults_by_kind.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        text += &format!("faults {}: {}\n", self.faults, kinds.join(", "));
        text += &format!(
            "stories {}; simulated hours {:.2} in {:.1} s; events {}; trace hash {}\n",
            self.stories, self.simulated_hours, self.seconds, self.events, self.trace_hash
        );
        text += &match self.failures.len() {
            0 => output.paint(Paint::Good, "nothing was found"),
            failed => {
                let seeds = self.failures.iter().map(|failure| failure.seed.to_string());
                let seeds: Vec<_> = seeds.collect();
                let line = format!("{failed} stories failed: seeds {}", seeds.join(", "));
                output.paint(Paint::Bad, &line)
            }
        };
        text
    }
}
