//! `kontiki bench append`.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    verbs::bench::{
        load::{self, Load, Loaded},
        report::Report,
    },
};

/// How to append
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,

    /// Append this many records a second, over all producers, instead of as many as go
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroU32>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let load = &args.load;
    let producers = load::producers(load, invocation).await?;
    let running = load::start(load, args.rate, new_run()?, producers)?;
    let pids = running.pids().to_vec();
    invocation.output.note(format_args!(
        "appending to {} for {} s after {} s of warm-up",
        load.topic, load.seconds, load.warm_up
    ));
    let loaded = running.finish().await?;
    report(&args, &loaded, &pids).say(invocation.output)?;
    match loaded.outcome.failure {
        Some(error) => Err(Failure::from(error).within(|error| {
            format!(
                "{} records were not acknowledged: {error}",
                loaded.outcome.failed
            )
        })),
        None => Ok(Exit::Done),
    }
}

/// A number that tells the records of this run from those of others.
pub(crate) fn new_run() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::new(format!("cannot draw a random number: {error}")))
}

fn report(args: &Args, loaded: &Loaded, pids: &[u32]) -> Report {
    let load = &args.load;
    let mut report = Report::new("append", load.topic.as_str());
    report.field("size", load.size);
    report.field("producers", load.producers);
    report.field("in_flight", load.in_flight);
    report.field("rate", args.rate.map(NonZeroU32::get));
    let records = loaded.outcome.records;
    let bytes = records * load.size as u64;
    report.throughput(records, bytes, Duration::from_secs(load.seconds));
    report.latency("ack", &loaded.outcome.latencies);
    let gap = u64::try_from(loaded.longest_gap.as_millis()).unwrap_or(u64::MAX);
    report.field("longest_gap_ms", gap);
    report.line(
        "longest gap",
        format!("{gap} ms without an acknowledgement"),
    );
    report.field("failed", loaded.outcome.failed);
    report.cost(&loaded.cost, pids, records);
    report
}
