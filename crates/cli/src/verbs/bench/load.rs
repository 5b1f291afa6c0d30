//! A load: producers with connections of their own, for a while, and what it costs.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use kontiki_client::{Client, ClusterId, Producer, ProducerConfig, TopicName, TopicSettings};
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    exit::Failure,
    invocation::{Invocation, leave},
    verbs::bench::{
        machine::{Cost, Servers},
        outcome::{Gaps, Outcome, Window},
        pace,
        payload::PAYLOAD_BYTES_MIN,
        verdict::Judged,
        worker::Worker,
    },
};

/// What a record takes in a producer's buffer besides its value, at most.
const RECORD_OVERHEAD: usize = 256;
/// What producers hold unless more is in flight.
const BUFFER_BYTES_MIN: usize = 32 << 20;

/// What to append, in which way, and for how long
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// The topic; it is made if it is missing
    #[arg(long, default_value = "bench")]
    pub(crate) topic: TopicName,

    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = parse_size)]
    pub(crate) size: usize,

    /// Producers, each with a connection of its own
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) producers: usize,

    /// Records of each producer that may wait for their acknowledgement
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) in_flight: usize,

    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,

    /// Seconds before that which do not count
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub(crate) warm_up: u64,

    /// Count the CPU of these processes as the servers' instead of looking for them
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let range = PAYLOAD_BYTES_MIN..=kontiki_wire::limits::VALUE_BYTES_MAX;
    text.parse()
        .ok()
        .filter(|size| range.contains(size))
        .ok_or_else(|| {
            format!(
                "a size is {} to {} bytes: a payload says who sent it and when",
                range.start(),
                range.end()
            )
        })
}

pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .map_err(|_| "a number of records a second is needed, 1 or more, like 5000".into())
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=65_536).contains(number))
        .ok_or_else(|| "a number from 1 to 65536 is needed".into())
}

/// A load that runs.
pub(crate) struct Running {
    window: Window,
    servers: Servers,
    gaps: Gaps,
    producers: JoinSet<Outcome>,
    clients: Vec<Client>,
}

/// What a load came to.
pub(crate) struct Loaded {
    /// What became of the records.
    pub(crate) outcome: Outcome,
    /// The longest time inside the window without any acknowledgement.
    pub(crate) longest_gap: Duration,
    /// What it cost.
    pub(crate) cost: Cost,
}

impl Loaded {
    /// What of it is judged, before anything is read back.
    pub(crate) fn judged(&self, rate: Option<NonZeroU32>) -> Judged {
        let pace = |rate: NonZeroU32| Duration::from_secs(1) / rate.get();
        Judged {
            missing: 0,
            altered: false,
            pace: rate.map_or(Duration::ZERO, pace),
            records: self.outcome.records,
            failed: self.outcome.failed,
            longest_gap: self.longest_gap,
            p50_us: self.outcome.latencies.micros_at(0.5),
            p99_us: self.outcome.latencies.micros_at(0.99),
        }
    }
}

/// Makes the topics if they are missing, and a producer with a connection of its own as often as asked;
/// they take the topics in turn.
pub(crate) async fn producers(
    load: &Load,
    topics: &[TopicName],
    invocation: &Invocation,
) -> Result<Vec<(Client, Producer)>, Failure> {
    let mut producers = Vec::with_capacity(load.producers);
    for topic in topics.iter().cycle().take(load.producers) {
        let client = invocation.connect().await?;
        if producers.is_empty() {
            for topic in topics {
                let admin = client.admin();
                admin.ensure_topic(topic, TopicSettings::default()).await?;
            }
        }
        // All that may be in flight fits, so that submitting never waits.
        let in_flight = load.in_flight.saturating_mul(load.size + RECORD_OVERHEAD);
        let config = ProducerConfig::new().buffer_bytes(in_flight.max(BUFFER_BYTES_MIN));
        let producer = client.topic(topic.as_str())?.producer_with(config)?;
        producers.push((client, producer));
    }
    Ok(producers)
}

/// The servers whose cost counts.
pub(crate) fn servers(pids: &[u32], cluster: ClusterId) -> Result<Servers, Failure> {
    if pids.is_empty() {
        Ok(Servers::find(cluster))
    } else {
        Servers::given(pids)
    }
}

/// Starts the load. Payloads carry `run`.
pub(crate) fn start(
    load: &Load,
    rate: Option<NonZeroU32>,
    run: u64,
    producers: Vec<(Client, Producer)>,
) -> Result<Running, Failure> {
    let (first, _) = producers.first().expect("there is at least one producer");
    let servers = servers(&load.pids, first.cluster_id())?;
    let start = Instant::now();
    let from = start + Duration::from_secs(load.warm_up);
    let window = Window {
        start,
        from,
        until: from + Duration::from_secs(load.seconds),
    };
    let mut paces = match rate {
        Some(rate) => pace::start(rate, start, window.until, producers.len())?,
        None => Vec::new(),
    }
    .into_iter();
    let gaps = Gaps::new(window);
    let mut tasks = JoinSet::new();
    let mut clients = Vec::with_capacity(producers.len());
    for (number, (client, producer)) in (0_u32..).zip(producers) {
        clients.push(client);
        let worker = Worker::new(
            producer,
            (run, number),
            load.size,
            load.in_flight,
            window,
            gaps.clone(),
        );
        tasks.spawn(worker.run(paces.next()));
    }
    Ok(Running {
        window,
        servers,
        gaps,
        producers: tasks,
        clients,
    })
}

impl Running {
    /// The times of the run.
    pub(crate) const fn window(&self) -> Window {
        self.window
    }

    /// The processes whose cost counts as the servers'.
    pub(crate) fn pids(&self) -> &[u32] {
        self.servers.pids()
    }

    /// Waits for the end.
    pub(crate) async fn finish(mut self) -> Result<Loaded, Failure> {
        sleep_until(self.window.from.into()).await;
        let before = self.servers.usage();
        sleep_until(self.window.until.into()).await;
        let cost = self.servers.usage().since(&before);
        let mut outcome = Outcome::new();
        while let Some(ended) = self.producers.join_next().await {
            outcome.merge(ended.map_err(|_| Failure::new("a producer of the bench died"))?);
        }
        let clients = self.clients.into_iter();
        let mut leaving: JoinSet<()> = clients
            .map(|client| async move { leave(&client).await })
            .collect();
        while leaving.join_next().await.is_some() {}
        Ok(Loaded {
            outcome,
            longest_gap: self.gaps.longest(),
            cost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_records() {
        assert_eq!(parse_rate("5000").map(NonZeroU32::get), Ok(5_000));
        for wrong in ["0", "-1", "fast", "5k", ""] {
            let why = parse_rate(wrong).unwrap_err();
            assert!(why.contains("like 5000"), "{why}");
        }
    }

    #[test]
    fn a_size_holds_a_stamp_and_stays_a_record() {
        assert_eq!(parse_size("32"), Ok(32));
        assert_eq!(parse_size("1048576"), Ok(1 << 20));
        for wrong in ["31", "1048577", "-1", "1k", ""] {
            parse_size(wrong).unwrap_err();
        }
    }
}
