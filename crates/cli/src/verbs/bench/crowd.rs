//! The subscribers of a bench. Many are parted into crowds, each with a thread, so that the servers, and not
//! the one thread of the load, set the pace: elsewhere every subscriber would be a machine.

use std::{
    collections::BTreeMap,
    future::pending,
    thread,
    time::{Duration, Instant},
};

use kontiki_client::{
    Client, DeliveredRecords, From as Start, SubscribeError, Subscription, TopicName,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::sleep_until,
};

use crate::{
    exit::Failure,
    invocation::{Invocation, leave},
    runtime,
    verbs::bench::{
        latency::Latencies,
        outcome::Window,
        payload::{Stamp, Wrong},
    },
};

/// How long nothing may come, once all are acknowledged, before what is left counts as missing.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What one or more subscribers saw.
pub(crate) struct Seen {
    /// Records of this run, each subscriber's counted, and none twice.
    pub(crate) delivered: u64,
    /// Latencies of those that were due inside the window.
    pub(crate) latencies: Latencies,
    /// Records whose bytes are not those that were sent.
    pub(crate) altered: u64,
    pub(crate) failure: Option<SubscribeError>,
    /// The last one of each producer.
    last: BTreeMap<u32, u64>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            delivered: 0,
            last: BTreeMap::new(),
            latencies: Latencies::new(),
            altered: 0,
            failure: None,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.latencies.merge(&other.latencies);
        self.altered += other.altered;
        self.failure = self.failure.take().or(other.failure);
    }

    fn add(&mut self, value: &[u8], run: &Run, now: Instant) {
        match Stamp::verify(value) {
            Ok(stamp) if stamp.run == run.number => {
                let last = self.last.get(&stamp.producer);
                if last.is_some_and(|last| *last >= stamp.sequence) {
                    return;
                }
                self.last.insert(stamp.producer, stamp.sequence);
                self.delivered += 1;
                let due = run.window.start + stamp.sent;
                if run.window.from <= due {
                    self.latencies.add(now.saturating_duration_since(due));
                }
            }
            Err(Wrong::Altered(of)) if of == run.number => self.altered += 1,
            Ok(_) | Err(_) => {}
        }
    }
}

/// What is followed.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) window: Window,
    /// How many records there are to be seen, once that is known.
    pub(crate) expected: watch::Receiver<Option<u64>>,
}

/// Subscribers whom the load's own thread serves as well: a few are followed sooner without another thread
/// beside the servers'.
const FEW: usize = 16;

/// Some subscribers.
pub(crate) struct Crowd {
    subscribed: oneshot::Receiver<Result<(), Failure>>,
    run: Option<oneshot::Sender<Run>>,
    done: oneshot::Receiver<Result<Seen, Failure>>,
}

impl Crowd {
    /// Subscribes to the topic so many times, each with a connection of its own.
    pub(crate) async fn all(
        subscribers: usize,
        topic: &TopicName,
        invocation: &Invocation,
    ) -> Result<Vec<Self>, Failure> {
        let shares = shares(subscribers);
        let apart = shares.len() > 1;
        let gather = |share| Self::gather(share, apart, topic.clone(), invocation);
        let mut crowds = shares
            .into_iter()
            .map(gather)
            .collect::<Result<Vec<_>, _>>()?;
        for crowd in &mut crowds {
            (&mut crowd.subscribed)
                .await
                .unwrap_or_else(|_| Err(died()))?;
        }
        Ok(crowds)
    }

    /// Begins to subscribe to the topic so many times, each with a connection of its own; in a thread of
    /// their own if they are `apart`.
    fn gather(
        subscribers: usize,
        apart: bool,
        topic: TopicName,
        invocation: &Invocation,
    ) -> Result<Self, Failure> {
        let invocation = invocation.clone();
        let (told, subscribed) = oneshot::channel();
        let (run, begun) = oneshot::channel();
        let (ended, done) = oneshot::channel();
        let work = async move {
            let followers = subscribe(subscribers, &topic, &invocation).await;
            let (followers, outcome) = match followers {
                Ok(followers) => (followers, Ok(())),
                Err(failure) => (Vec::new(), Err(failure)),
            };
            // Nobody listens if the bench has ended.
            let _ = told.send(outcome);
            if let Ok(run) = begun.await {
                let _ = ended.send(follow_all(followers, run).await);
            }
        };
        if apart {
            let runtime = runtime()?;
            thread::Builder::new()
                .name("subscribers".into())
                .spawn(move || runtime.block_on(work))
                .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        } else {
            tokio::spawn(work);
        }
        Ok(Self {
            subscribed,
            run: Some(run),
            done,
        })
    }

    /// Says what is to come.
    pub(crate) fn tell(&mut self, run: Run) {
        if let Some(told) = self.run.take() {
            // A crowd that has died is noticed when its end is waited for.
            let _ = told.send(run);
        }
    }

    /// Waits until they have seen all, or will not.
    pub(crate) async fn seen(self) -> Result<Seen, Failure> {
        self.done.await.unwrap_or_else(|_| Err(died()))
    }
}

/// So many subscribers as crowds of about the same size: a few are one, and of many there is one a
/// processor.
fn shares(subscribers: usize) -> Vec<usize> {
    let crowds = match subscribers {
        ..=FEW => 1,
        many => thread::available_parallelism().map_or(1, |most| most.get().min(many)),
    };
    let share = |crowd| (subscribers + crowd) / crowds;
    (0..crowds).map(share).collect()
}

fn died() -> Failure {
    Failure::new("a subscriber of the bench died")
}

async fn subscribe(
    subscribers: usize,
    topic: &TopicName,
    invocation: &Invocation,
) -> Result<Vec<(Client, Subscription)>, Failure> {
    let mut followers = Vec::with_capacity(subscribers);
    for _ in 0..subscribers {
        let client = invocation.connect().await?;
        let subscription = client
            .topic(topic.as_str())?
            .subscribe(Start::Latest)
            .await?;
        followers.push((client, subscription));
    }
    Ok(followers)
}

async fn follow_all(followers: Vec<(Client, Subscription)>, run: Run) -> Result<Seen, Failure> {
    let mut tasks: JoinSet<Seen> = followers
        .into_iter()
        .map(|(client, subscription)| follow(client, subscription, run.clone()))
        .collect();
    let mut seen = Seen::new();
    while let Some(ended) = tasks.join_next().await {
        seen.merge(ended.map_err(|_| died())?);
    }
    Ok(seen)
}

async fn follow(client: Client, mut subscription: Subscription, mut run: Run) -> Seen {
    let mut seen = Seen::new();
    // Until when something must come of what is left, once it is known how much that is.
    let mut late: Option<Instant> = None;
    loop {
        let all = *run.expected.borrow();
        if all.is_some_and(|all| seen.delivered >= all) {
            break;
        }
        if all.is_some() && late.is_none() {
            late = Some(Instant::now() + GRACE);
        }
        let delivered = seen.delivered;
        tokio::select! {
            biased;
            () = until(late) => break,
            next = subscription.next_batch() => match next {
                Ok(Some(batch)) => take(batch, &run, Instant::now(), &mut seen),
                Ok(None) => break,
                // It goes on by itself when it is polled again.
                Err(error) if error.is_retryable() => {}
                Err(error) => {
                    seen.failure = Some(error);
                    break;
                }
            },
            changed = run.expected.changed(), if all.is_none() => if changed.is_err() {
                break;
            },
        }
        if seen.delivered > delivered {
            late = None;
        }
    }
    leave(&client).await;
    seen
}

/// Waits until then, if there is an end to it.
async fn until(late: Option<Instant>) {
    match late {
        Some(late) => sleep_until(late.into()).await,
        None => pending().await,
    }
}

fn take(batch: DeliveredRecords, run: &Run, now: Instant, seen: &mut Seen) {
    for delivered in batch {
        match delivered {
            Ok(delivered) => seen.add(&delivered.record.value, run, now),
            Err(error) => seen.failure = Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_is_in_a_crowd_and_no_crowd_is_empty() {
        for subscribers in [1, 2, FEW, FEW + 1, 99, 100] {
            let shares = shares(subscribers);
            assert_eq!(shares.iter().sum::<usize>(), subscribers);
            assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
            assert!(subscribers > FEW || shares.len() == 1, "{shares:?}");
        }
    }
}
