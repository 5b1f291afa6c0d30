//! `kontiki bench tail`: from producers to subscribers, end to end.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use tokio::sync::watch;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    verbs::bench::{
        append::new_run,
        crowd::{Crowd, GRACE, Run, Seen},
        load::{self, Load, Loaded, at_least_one, parse_rate},
        plot,
        report::Report,
        verdict::Judged,
    },
};

/// How to append and follow
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,

    /// Append this many records a second, over all producers
    #[arg(long, value_name = "R", default_value = "5000", value_parser = parse_rate)]
    rate: NonZeroU32,

    /// Subscribers, each with a connection of its own
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one)]
    subscribers: usize,

    /// Draw the latencies into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let load = &args.load;
    args.plot.as_deref().map(plot::try_out).transpose()?;
    let producers = load::producers(load, std::slice::from_ref(&load.topic), invocation).await?;
    let mut crowds = Crowd::all(args.subscribers, &load.topic, invocation).await?;
    let run = new_run()?;
    let running = load::start(load, Some(args.rate), run, producers)?;
    let pids = running.pids().to_vec();
    invocation.output.note(format_args!(
        "appending {} a second to {} and following, for {} s after {} s of warm-up",
        args.rate, load.topic, load.seconds, load.warm_up
    ));
    let (acknowledged, expected) = watch::channel(None);
    for crowd in &mut crowds {
        crowd.tell(Run {
            number: run,
            window: running.window(),
            expected: expected.clone(),
        });
    }
    let loaded = running.finish().await?;
    acknowledged.send_replace(Some(loaded.outcome.acknowledged));
    let mut seen = Seen::new();
    for crowd in crowds {
        seen.merge(crowd.seen().await?);
    }
    report(&args, &loaded, &seen, &pids).say(invocation.output)?;
    let plotted = args.plot.as_deref().map(|path| {
        let title = format!(
            "kontiki bench tail: {} B, {} a second, {} subscribers",
            load.size, args.rate, args.subscribers
        );
        let lines = [
            ("acknowledged", &loaded.outcome.latencies),
            ("delivered", &seen.latencies),
        ];
        plot::write(path, &title, &lines)
    });
    let done = judge(&args, loaded, seen)?;
    plotted.transpose()?;
    Ok(done)
}

fn judge(args: &Args, loaded: Loaded, seen: Seen) -> Result<Exit, Failure> {
    if seen.altered > 0 {
        return Err(Failure::new(format!(
            "{} records arrived altered",
            seen.altered
        )));
    }
    let expected = loaded.outcome.acknowledged * args.subscribers as u64;
    loaded.outcome.all_acknowledged()?;
    match seen.failure {
        Some(error) => Err(error.into()),
        None if seen.delivered < expected => Err(Failure::new(format!(
            "{} of {expected} records did not arrive within {} s",
            expected - seen.delivered,
            GRACE.as_secs()
        ))),
        None => Ok(Exit::Done),
    }
}

fn report(args: &Args, loaded: &Loaded, seen: &Seen, pids: &[u32]) -> Report {
    let load = &args.load;
    let mut report = Report::new("tail", load.topic.as_str());
    report.field("size", load.size);
    report.field("producers", load.producers);
    report.field("in_flight", load.in_flight);
    report.field("rate", args.rate.get());
    report.field("subscribers", args.subscribers);
    let records = loaded.outcome.records;
    report.throughput(
        records,
        records * load.size as u64,
        Duration::from_secs(load.seconds),
    );
    report.latency("ack", &loaded.outcome.latencies);
    report.latency("e2e", &seen.latencies);
    report.field("acknowledged", loaded.outcome.acknowledged);
    report.field("delivered", seen.delivered);
    report.field("altered", seen.altered);
    report.line(
        "delivered",
        format!("{} to {} subscribers", seen.delivered, args.subscribers),
    );
    report.field("failed", loaded.outcome.failed);
    report.cost(&loaded.cost, pids, records);
    let expected = loaded.outcome.acknowledged * args.subscribers as u64;
    report.verdict(&Judged {
        missing: expected.saturating_sub(seen.delivered),
        altered: seen.altered > 0,
        ..loaded.judged(Some(args.rate))
    });
    report
}
