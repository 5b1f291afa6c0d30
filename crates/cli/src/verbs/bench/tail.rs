//! `kontiki bench tail`: from producers to subscribers, end to end.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

use kontiki_client::{Client, DeliveredRecords, From as Start, SubscribeError, Subscription};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    verbs::bench::{
        append::new_run,
        latency::Latencies,
        load::{self, Load, Loaded, at_least_one},
        outcome::Window,
        payload::{Stamp, Wrong},
        plot,
        report::Report,
        verdict::Judged,
    },
};

/// How long nothing may come, once all are acknowledged, before what is left counts as missing.
const GRACE: Duration = Duration::from_secs(10);

/// How to append and follow
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,

    /// Append this many records a second, over all producers
    #[arg(long, value_name = "R", default_value = "5000")]
    rate: NonZeroU32,

    /// Subscribers, each with a connection of its own
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one)]
    subscribers: usize,

    /// Draw the latencies into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What one or more subscribers saw.
struct Seen {
    /// Records of this run, each subscriber's counted, and none twice.
    delivered: u64,
    /// The last one of each producer.
    last: BTreeMap<u32, u64>,
    /// Latencies of those that were due inside the window.
    latencies: Latencies,
    /// Records whose bytes are not those that were sent.
    altered: u64,
    failure: Option<SubscribeError>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let load = &args.load;
    args.plot.as_deref().map(plot::try_out).transpose()?;
    let producers = load::producers(load, std::slice::from_ref(&load.topic), invocation).await?;
    let mut followers = Vec::with_capacity(args.subscribers);
    for _ in 0..args.subscribers {
        let client = invocation.connect().await?;
        let subscription = client
            .topic(load.topic.as_str())?
            .subscribe(Start::Latest)
            .await?;
        followers.push((client, subscription));
    }
    let run = new_run()?;
    let running = load::start(load, Some(args.rate), run, producers)?;
    let pids = running.pids().to_vec();
    invocation.output.note(format_args!(
        "appending {} a second to {} and following, for {} s after {} s of warm-up",
        args.rate, load.topic, load.seconds, load.warm_up
    ));
    let (acknowledged, expected) = watch::channel(None);
    let mut tasks = JoinSet::new();
    for (client, subscription) in followers {
        let follower = Follower {
            client,
            run,
            window: running.window(),
            expected: expected.clone(),
        };
        tasks.spawn(follower.follow(subscription));
    }
    let loaded = running.finish().await?;
    acknowledged.send_replace(Some(loaded.outcome.acknowledged));
    let mut seen = Seen::new();
    while let Some(ended) = tasks.join_next().await {
        seen.merge(ended.map_err(|_| Failure::new("a subscriber of the bench died"))?);
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
    if let Some(error) = loaded.outcome.failure {
        return Err(error.into());
    }
    let expected = loaded.outcome.acknowledged * args.subscribers as u64;
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

impl Seen {
    fn new() -> Self {
        Self {
            delivered: 0,
            last: BTreeMap::new(),
            latencies: Latencies::new(),
            altered: 0,
            failure: None,
        }
    }

    fn merge(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.latencies.merge(&other.latencies);
        self.altered += other.altered;
        self.failure = self.failure.take().or(other.failure);
    }

    fn add(&mut self, value: &[u8], run: u64, window: Window, now: Instant) {
        match Stamp::verify(value) {
            Ok(stamp) if stamp.run == run => {
                let before = self.last.insert(stamp.producer, stamp.sequence);
                if before.is_some_and(|before| before >= stamp.sequence) {
                    return;
                }
                self.delivered += 1;
                let due = window.start + stamp.sent;
                if window.from <= due {
                    self.latencies.add(now.saturating_duration_since(due));
                }
            }
            Err(Wrong::Altered(of)) if of == run => self.altered += 1,
            Ok(_) | Err(_) => {}
        }
    }
}

/// One subscriber.
struct Follower {
    client: Client,
    run: u64,
    window: Window,
    /// How many records there are to be seen, once that is known.
    expected: watch::Receiver<Option<u64>>,
}

impl Follower {
    async fn follow(self, mut subscription: Subscription) -> Seen {
        let mut seen = Seen::new();
        let mut expected = self.expected.clone();
        loop {
            let all = *expected.borrow();
            if all.is_some_and(|all| seen.delivered >= all) {
                break;
            }
            tokio::select! {
                biased;
                next = subscription.next_batch() => match next {
                    Ok(Some(batch)) => self.take(batch, &mut seen),
                    Ok(None) => break,
                    // It goes on by itself when it is polled again.
                    Err(error) if error.is_retryable() => {}
                    Err(error) => {
                        seen.failure = Some(error);
                        break;
                    }
                },
                changed = expected.changed(), if all.is_none() => if changed.is_err() {
                    break;
                },
                () = sleep(GRACE), if all.is_some() => break,
            }
        }
        leave(&self.client).await;
        seen
    }

    fn take(&self, batch: DeliveredRecords, seen: &mut Seen) {
        let now = Instant::now();
        for delivered in batch {
            match delivered {
                Ok(delivered) => seen.add(&delivered.record.value, self.run, self.window, now),
                Err(error) => seen.failure = Some(error),
            }
        }
    }
}
