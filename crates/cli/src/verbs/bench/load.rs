//! Producers under load: a closed loop of so many in flight, or a steady rate.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use kontiki_client::{
    AppendError, Appended, Client, ClusterId, Producer, ProducerConfig, Record, Ticket, TopicName,
    TopicSettings,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout_at},
};

use crate::{
    exit::Failure,
    invocation::{Invocation, leave},
    verbs::bench::{
        latency::Latencies,
        machine::{Cost, Servers},
        pace,
        payload::{PAYLOAD_BYTES_MIN, Payloads, Stamp},
    },
};

/// How long acknowledgements may still come after the end before the run is given up.
const GRACE: Duration = Duration::from_secs(35);

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

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=65_536).contains(number))
        .ok_or_else(|| "a number from 1 to 65536 is needed".into())
}

/// The times of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// When the first record may be sent; payloads count from here.
    pub(crate) start: Instant,
    /// When the warm-up is over.
    pub(crate) from: Instant,
    /// When measuring ends.
    pub(crate) until: Instant,
}

impl Window {
    fn contains(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// What became of the records of one or more producers.
pub(crate) struct Outcome {
    /// Acknowledged inside the window.
    pub(crate) records: u64,
    /// Acknowledged at all.
    pub(crate) acknowledged: u64,
    /// Not acknowledged, or not known to be.
    pub(crate) failed: u64,
    /// One of the failures.
    pub(crate) failure: Option<AppendError>,
    /// How long those inside the window took.
    pub(crate) latencies: Latencies,
}

impl Outcome {
    fn new() -> Self {
        Self {
            records: 0,
            acknowledged: 0,
            failed: 0,
            failure: None,
            latencies: Latencies::new(),
        }
    }

    fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.latencies.merge(&other.latencies);
    }
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

/// Makes the topic if it is missing, and a producer with a connection of its own as often as asked.
pub(crate) async fn producers(
    load: &Load,
    invocation: &Invocation,
) -> Result<Vec<(Client, Producer)>, Failure> {
    let mut producers = Vec::with_capacity(load.producers);
    for _ in 0..load.producers {
        let client = invocation.connect().await?;
        if producers.is_empty() {
            client
                .admin()
                .ensure_topic(&load.topic, TopicSettings::default())
                .await?;
        }
        let config = ProducerConfig::new();
        let producer = client.topic(load.topic.as_str())?.producer_with(config)?;
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
        let worker = Worker {
            producer,
            payloads: Payloads::new(load.size),
            stamp: Stamp {
                producer: number,
                run,
                sequence: 0,
                sent: Duration::ZERO,
            },
            in_flight: load.in_flight,
            window,
            waiting: VecDeque::with_capacity(load.in_flight),
            outcome: Outcome::new(),
            gaps: gaps.clone(),
        };
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
        for client in &self.clients {
            leave(client).await;
        }
        Ok(Loaded {
            outcome,
            longest_gap: self.gaps.longest(),
            cost,
        })
    }
}

/// One producer.
struct Worker {
    producer: Producer,
    payloads: Payloads,
    stamp: Stamp,
    in_flight: usize,
    window: Window,
    /// When each record was due or submitted, and its ticket; in order.
    waiting: VecDeque<(Instant, Ticket)>,
    outcome: Outcome,
    gaps: Gaps,
}

impl Worker {
    async fn run(mut self, pace: Option<mpsc::Receiver<Instant>>) -> Outcome {
        match pace {
            Some(pace) => self.paced(pace).await,
            None => self.closed_loop().await,
        }
        let late = self.window.until + GRACE;
        while !self.waiting.is_empty() {
            if timeout_at(late.into(), self.answers()).await.is_err() {
                self.outcome.failed += self.waiting.len() as u64;
                break;
            }
        }
        self.outcome
    }

    async fn closed_loop(&mut self) {
        let mut now = Instant::now();
        while now < self.window.until {
            while self.waiting.len() < self.in_flight {
                now = Instant::now();
                if !self.submit(now).await {
                    return;
                }
            }
            if timeout_at(self.window.until.into(), self.answers())
                .await
                .is_err()
            {
                return;
            }
            now = Instant::now();
        }
    }

    async fn paced(&mut self, mut pace: mpsc::Receiver<Instant>) {
        loop {
            tokio::select! {
                biased;
                due = pace.recv(), if self.waiting.len() < self.in_flight => match due {
                    Some(due) => if !self.submit(due).await {
                        return;
                    },
                    None => return,
                },
                () = answers(&mut self.waiting, &mut self.outcome, &self.gaps, self.window), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// Whether it makes sense to go on.
    async fn submit(&mut self, due: Instant) -> bool {
        self.stamp.sent = due.saturating_duration_since(self.window.start);
        let value = self.payloads.make(self.stamp);
        self.stamp.sequence += 1;
        match self
            .producer
            .submit(Record {
                value,
                ..Record::default()
            })
            .await
        {
            Ok(ticket) => {
                self.waiting.push_back((due, ticket));
                true
            }
            Err(error) => {
                self.outcome.failed += 1;
                let go_on = error.is_retryable();
                self.outcome.failure = Some(error);
                go_on
            }
        }
    }

    async fn answers(&mut self) {
        answers(
            &mut self.waiting,
            &mut self.outcome,
            &self.gaps,
            self.window,
        )
        .await;
    }
}

/// Waits for the answer to the oldest waiting record, and takes all that have come. Cancel-safe.
async fn answers(
    waiting: &mut VecDeque<(Instant, Ticket)>,
    outcome: &mut Outcome,
    gaps: &Gaps,
    window: Window,
) {
    poll_fn(|context| {
        let mut now = None;
        while let Some((due, ticket)) = waiting.front_mut() {
            let Poll::Ready(answer) = Pin::new(ticket).poll(context) else {
                break;
            };
            let due = *due;
            waiting.pop_front();
            let now = *now.get_or_insert_with(Instant::now);
            count(outcome, answer, due, now, window);
        }
        match now {
            Some(now) => {
                gaps.acknowledged(now);
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    })
    .await;
}

fn count(
    outcome: &mut Outcome,
    answer: Result<Appended, AppendError>,
    due: Instant,
    now: Instant,
    window: Window,
) {
    match answer {
        Ok(_) => {
            outcome.acknowledged += 1;
            if window.contains(now) {
                outcome.records += 1;
                outcome.latencies.add(now.saturating_duration_since(due));
            }
        }
        Err(error) => {
            outcome.failed += 1;
            outcome.failure.get_or_insert(error);
        }
    }
}

/// The longest silence over all producers.
#[derive(Clone)]
struct Gaps(Arc<Mutex<Silence>>);

struct Silence {
    since: Instant,
    longest: Duration,
    until: Instant,
}

impl Gaps {
    fn new(window: Window) -> Self {
        let silence = Silence {
            since: window.from,
            longest: Duration::ZERO,
            until: window.until,
        };
        Self(Arc::new(Mutex::new(silence)))
    }

    fn lock(&self) -> MutexGuard<'_, Silence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self, now: Instant) {
        let mut silence = self.lock();
        let now = now.min(silence.until);
        silence.longest = silence
            .longest
            .max(now.saturating_duration_since(silence.since));
        silence.since = silence.since.max(now);
    }

    fn longest(&self) -> Duration {
        let until = self.lock().until;
        self.acknowledged(until);
        self.lock().longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_inside_the_window_alone() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let window = Window {
            start,
            from: at(1000),
            until: at(2000),
        };
        let gaps = Gaps::new(window);
        for millis in [10, 900, 1100, 1400, 1450, 9000] {
            gaps.acknowledged(at(millis));
        }
        assert_eq!(gaps.longest(), Duration::from_millis(550));
        assert_eq!(Gaps::new(window).longest(), Duration::from_secs(1));
    }

    #[test]
    fn only_answers_inside_the_window_are_measured() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let window = Window {
            start,
            from: at(1000),
            until: at(2000),
        };
        let mut outcome = Outcome::new();
        let ok = || {
            Ok(Appended {
                offset: kontiki_client::Offset(0),
                timestamp: 0,
            })
        };
        count(&mut outcome, ok(), at(0), at(999), window);
        count(&mut outcome, ok(), at(0), at(1000), window);
        count(&mut outcome, ok(), at(0), at(2000), window);
        count(
            &mut outcome,
            Err(AppendError::Closed),
            at(0),
            at(1500),
            window,
        );
        assert_eq!(
            (outcome.records, outcome.acknowledged, outcome.failed),
            (1, 3, 1)
        );
        assert_eq!(outcome.latencies.len(), 1);
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
