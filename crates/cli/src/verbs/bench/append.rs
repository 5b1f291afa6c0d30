//! `kontiki bench append`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use kontiki_client::TopicName;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    output::Counted,
    verbs::bench::{
        load::{self, Load, Loaded},
        plot,
        read::{self, Sought},
        report::Report,
    },
};

/// How to append
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,

    /// Append this many records a second, over all producers, instead of as many as go
    #[arg(long, value_name = "R", value_parser = load::parse_rate)]
    rate: Option<NonZeroU32>,

    /// Spread the producers over so many topics, named TOPIC-1 and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = load::at_least_one)]
    topics: usize,

    /// Then read the topics, and fail unless all that was acknowledged is there, unaltered and in order
    #[arg(long)]
    verify: bool,

    /// Draw the latencies into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let load = &args.load;
    if args.topics > load.producers {
        return Err(Failure::new(format!(
            "{} topics need as many producers, and there are {}",
            args.topics, load.producers
        ))
        .advise("give --producers, or fewer --topics"));
    }
    let topics = topics(&load.topic, args.topics)?;
    args.plot.as_deref().map(plot::try_out).transpose()?;
    let producers = load::producers(load, &topics, invocation).await?;
    let run = new_run()?;
    let running = load::start(load, args.rate, run, producers)?;
    let pids = running.pids().to_vec();
    invocation.output.note(format_args!(
        "appending to {} for {} s after {} s of warm-up",
        load.topic, load.seconds, load.warm_up
    ));
    let loaded = running.finish().await?;
    let acknowledged = loaded.outcome.acknowledged;
    let mut judged = loaded.judged(args.rate);
    let mut report = report(&args, &loaded, &pids);
    let mut wrong = None;
    if args.verify {
        let read = read_back(&topics, run, &loaded, invocation).await;
        let found = read.as_ref().copied().unwrap_or(0);
        report.field("read_back", read.is_ok().then_some(found));
        report.line("read back", Counted(found, "record").to_string());
        match read {
            Ok(read) => judged.missing = acknowledged.saturating_sub(read),
            Err(_) => judged.altered = true,
        }
        wrong = read.err();
    }
    report.verdict(&judged);
    report.say(invocation.output)?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if judged.missing > 0 {
        return Err(Failure::new(format!(
            "{} of {acknowledged} acknowledged records are not there",
            judged.missing
        )));
    }
    if let Some(path) = &args.plot {
        let title = format!(
            "kontiki bench append: {} B, {} x {} in flight",
            load.size, load.producers, load.in_flight
        );
        plot::write(path, &title, &[("acknowledged", &loaded.outcome.latencies)])?;
    }
    loaded.outcome.all_acknowledged()?;
    Ok(Exit::Done)
}

/// How many acknowledged records of this run the topics have.
async fn read_back(
    topics: &[TopicName],
    run: u64,
    loaded: &Loaded,
    invocation: &Invocation,
) -> Result<u64, Failure> {
    let open = &loaded.outcome.open;
    let mut all = 0;
    for topic in topics {
        all += read::of_run(invocation, topic, Sought { run, open }).await?;
    }
    Ok(all)
}

/// The topics of a run: the one that is named, or so many whose names begin so.
fn topics(topic: &TopicName, count: usize) -> Result<Vec<TopicName>, Failure> {
    if count == 1 {
        return Ok(vec![topic.clone()]);
    }
    let name = |number| format!("{topic}-{number}").parse::<TopicName>();
    let names = (1..=count).map(name).collect::<Result<_, _>>();
    names.map_err(|error| Failure::new(error.to_string()))
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
    report.field("topics", args.topics);
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
