//! Clients of a cluster that is being tortured: producers and subscribers in a thread of their own, and
//! the history that they tell.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kontiki_client::{
    Client, From, ProducerConfig, Record, SubscribeError, Subscription, TopicName,
};
use kontiki_raft::Micros;
use kontiki_sim::history::{AppendId, History, Outcome, Piece, Seen, SubscriptionId};
use kontiki_wire::{GroupId, Offset};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{cluster::PATIENCE, plan::Random};

/// Records of one producer that wait for their acknowledgement.
const WINDOW: u32 = 32;
/// Records after which a producer gives way to a new one.
const LIFE: u64 = 3000;
/// Between two readings of the topic's end.
const LOOK: Duration = Duration::from_millis(100);
/// Most wait rather long, one so shortly that it often does not learn what became of a record.
const TIMEOUTS: [Duration; 3] = [
    Duration::from_secs(30),
    Duration::from_secs(30),
    Duration::from_millis(400),
];

/// How producers go about it.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    /// How long each waits for an acknowledgement.
    pub(crate) timeouts: &'static [Duration],
    /// Between two records of one producer.
    pub(crate) pace: Duration,
    /// Bytes by which a value is longer than it need be, at most.
    pub(crate) filling_max: u64,
}

impl Default for Style {
    /// Many small records.
    fn default() -> Self {
        Self {
            timeouts: &TIMEOUTS,
            pace: Duration::from_millis(2),
            filling_max: 600,
        }
    }
}

/// A thread with a runtime for all that waits; the torturing thread is left to wait for processes.
pub(crate) struct Hands {
    pub(crate) handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hands {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            // An error says that the other side is gone, which ends it too.
            let _ = runtime.block_on(ended);
        });
        Self {
            handle,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Waits for it here, while tasks go on there.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

/// What clients tell, and since when.
pub(crate) struct Told {
    began: Instant,
    history: Mutex<History>,
    acknowledged: AtomicU64,
    /// Of all acknowledged records, the one submitted last, and when its acknowledgement came.
    latest: watch::Sender<(Instant, Instant)>,
}

impl Told {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            began: now,
            history: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            latest: watch::Sender::new((now, now)),
        })
    }

    pub(crate) fn now(&self) -> Micros {
        Micros(self.began.elapsed().as_micros() as u64)
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic elsewhere")
    }

    fn ended(&self, append: AppendId, submitted: Instant, outcome: Outcome) {
        self.history().append_ended(self.now(), append, outcome);
        if !matches!(outcome, Outcome::Acknowledged { .. }) {
            return;
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        self.latest.send_if_modified(|latest| {
            let later = submitted > latest.0;
            if later {
                *latest = (submitted, now);
            }
            later
        });
    }
}

/// Producers, subscribers, and one who asks where the topic ends.
pub(crate) struct Load {
    pub(crate) told: Arc<Told>,
    stop: watch::Sender<bool>,
    /// Set at the end: the offset that subscribers are to reach.
    until: watch::Sender<Option<u64>>,
    producers: JoinSet<()>,
    subscribers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(
        hands: &Hands,
        client: &Client,
        topic: &TopicName,
        group: GroupId,
        style: Style,
        random: &mut Random,
    ) -> Self {
        let told = Told::new();
        let (stop, until) = (watch::Sender::new(false), watch::Sender::new(None));
        let mut producers = JoinSet::new();
        for timeout in style.timeouts {
            let producer = Producing {
                told: told.clone(),
                topic: client.topic(topic).expect("a name"),
                group,
                timeout: *timeout,
                style,
                random: random.branch(),
                stopped: stop.subscribe(),
            };
            producers.spawn_on(producer.run(), &hands.handle);
        }
        let (asking, name) = (client.clone(), topic.clone());
        let looker = look(told.clone(), asking, name, group, stop.subscribe());
        producers.spawn_on(looker, &hands.handle);
        let mut subscribers = JoinSet::new();
        let topic = client.topic(topic).expect("a name");
        let faithful = Reading {
            told: told.clone(),
            topic: topic.clone(),
            group,
            from: 0,
            until: until.subscribe(),
            leave: None,
        };
        subscribers.spawn_on(faithful.run(), &hands.handle);
        let visitor = visit(
            told.clone(),
            topic,
            group,
            random.branch(),
            stop.subscribe(),
        );
        producers.spawn_on(visitor, &hands.handle);
        Self {
            told,
            stop,
            until,
            producers,
            subscribers,
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.told.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for an acknowledgement of something submitted after `then`, and says when it came.
    pub(crate) fn acknowledged_since(&self, hands: &Hands, then: Instant) -> Instant {
        let mut latest = self.told.latest.subscribe();
        let waited = hands.wait(async {
            let since = latest.wait_for(|(submitted, _)| *submitted > then);
            tokio::time::timeout(PATIENCE, since)
                .await
                .map(|latest| latest.expect("the sender lives").1)
        });
        waited.expect("appends make progress")
    }

    /// Ends the producers, then the subscribers at `end()`, the topic's end after that.
    pub(crate) fn end(&mut self, hands: &Hands, end: impl FnOnce() -> u64) -> u64 {
        self.stop.send_replace(true);
        hands.wait(all(&mut self.producers, "the producers"));
        let end = end();
        self.until.send_replace(Some(end));
        hands.wait(all(&mut self.subscribers, "the subscribers"));
        end
    }
}

/// Waits for all tasks to end well.
async fn all(tasks: &mut JoinSet<()>, who: &str) {
    let join = async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task ends well");
        }
    };
    // A producer may wait for its timeout, and then for its end.
    let ended = tokio::time::timeout(PATIENCE * 2, join).await;
    ended.unwrap_or_else(|_| panic!("{who} do not end"));
}

struct Producing {
    told: Arc<Told>,
    topic: kontiki_client::Topic,
    group: GroupId,
    timeout: Duration,
    style: Style,
    random: Random,
    stopped: watch::Receiver<bool>,
}

impl Producing {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            self.live().await;
        }
    }

    /// One producer from birth to end.
    async fn live(&mut self) {
        let config = ProducerConfig::new().delivery_timeout(self.timeout);
        let producer = self.topic.producer_with(config).expect("a producer");
        let writer = self.told.history().writer();
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        let mut pace = interval(self.style.pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..LIFE {
            pace.tick().await;
            if *self.stopped.borrow() {
                break;
            }
            let permit = window.clone().acquire_owned().await.expect("never closed");
            let filling = self.random.below(self.style.filling_max) as usize;
            let told = &self.told;
            let (append, value) = told.history().append(told.now(), self.group, writer, 1);
            let submitted = Instant::now();
            match producer.submit(Record::new(value.bytes(filling))).await {
                Err(error) => told.ended(append, submitted, fate(Err(error))),
                Ok(ticket) => {
                    let told = told.clone();
                    tokio::spawn(async move {
                        told.ended(append, submitted, fate(ticket.await));
                        drop(permit);
                    });
                }
            }
        }
        let idle = window.acquire_many(WINDOW).await;
        drop(idle.expect("never closed"));
        // What failed was told record by record.
        let _ = producer.close().await;
    }
}

fn fate(result: Result<kontiki_client::Appended, kontiki_client::AppendError>) -> Outcome {
    match result {
        Ok(appended) => Outcome::Acknowledged {
            offset: appended.offset.0,
        },
        Err(error) if error.has_no_side_effects() => Outcome::Failed,
        Err(_) => Outcome::Unknown,
    }
}

/// Asks the leader again and again where the topic ends.
async fn look(
    told: Arc<Told>,
    client: Client,
    topic: TopicName,
    group: GroupId,
    stopped: watch::Receiver<bool>,
) {
    let admin = client.admin();
    while !*stopped.borrow() {
        let tail = told.history().tail(told.now(), group);
        // Without a leader it is what the member who is furthest ahead knows.
        if let Ok(info) = admin.describe_topic(&topic).await
            && info.leader.is_some()
        {
            let now = told.now();
            told.history().tail_answered(now, tail, info.next.0);
        }
        sleep(LOOK).await;
    }
}

/// One subscription.
struct Reading {
    told: Arc<Told>,
    topic: kontiki_client::Topic,
    group: GroupId,
    from: u64,
    /// Where it ends, once that is known.
    until: watch::Receiver<Option<u64>>,
    /// When it is left, wherever it is then.
    leave: Option<tokio::time::Instant>,
}

impl Reading {
    async fn run(mut self) {
        let id = self.told.history().subscribe(self.group, Some(self.from));
        let read = self.read(id).await;
        let mut history = self.told.history();
        match read {
            Ok(true) => {}
            Ok(false) => history.unsubscribe(id),
            Err(error) => {
                history.unsubscribe(id);
                history.stuck.push(format!("a subscription ended: {error}"));
            }
        }
    }

    /// Whether it came to its end.
    async fn read(&mut self, id: SubscriptionId) -> Result<bool, SubscribeError> {
        let Some(mut subscription) = self.begin().await? else {
            return Ok(false);
        };
        let mut next = self.from;
        while self.until.borrow().is_none_or(|end| next < end) {
            let batch = tokio::select! {
                batch = subscription.next_batch() => batch,
                changed = self.until.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok(false),
                },
                () = at(self.leave) => return Ok(false),
            };
            let records = match batch {
                Ok(Some(records)) => records,
                Ok(None) => return Ok(false),
                Err(error) if error.is_retryable() => continue,
                Err(error) => return Err(error),
            };
            let offset = records.offset().0;
            let records = records.map(|found| Ok(Seen::of(&found?.record.value)));
            let piece = Piece {
                offset,
                stamp: None,
                records: records.collect::<Result<_, _>>()?,
            };
            next = piece.end();
            let now = self.told.now();
            self.told.history().delivered(now, id, piece);
        }
        Ok(true)
    }

    /// `None` if it is to be left before it has begun.
    async fn begin(&self) -> Result<Option<Subscription>, SubscribeError> {
        loop {
            let begin = self.topic.subscribe(From::Offset(Offset(self.from)));
            let begun = tokio::select! {
                begun = begin.into_future() => begun,
                () = at(self.leave) => return Ok(None),
            };
            match begun {
                Ok(subscription) => return Ok(Some(subscription)),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits until then; for ever if that is never.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Subscribes somewhere, reads for a moment, and leaves; again and again.
async fn visit(
    told: Arc<Told>,
    topic: kontiki_client::Topic,
    group: GroupId,
    mut random: Random,
    stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        let records = told.acknowledged.load(Ordering::Relaxed);
        let stay = random.millis(50..=1500);
        let (_never_ends, until) = watch::channel(None);
        let visit = Reading {
            told: told.clone(),
            topic: topic.clone(),
            group,
            from: records.saturating_sub(random.below(2000)),
            until,
            leave: Some(tokio::time::Instant::now() + stay),
        };
        visit.run().await;
    }
}
