//! Reads a topic: history, then live, without a gap.

use std::{
    fmt,
    future::{Future, IntoFuture, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use kontiki_wire::{From, Malformed, Offset, Record, Request, Response, TopicName, Until};
use tokio::{sync::watch, time::Instant};

use crate::{
    error::SubscribeError,
    reading::{Progress, Reading, Span, Stretch, no_route},
    routing::{NoRoute, Routing},
};

/// A subscription to be; `.await` begins it.
#[must_use = "await it to begin"]
pub struct SubscribeBuilder {
    topic: TopicName,
    from: From,
    until: Until,
    routing: Arc<Routing>,
    deadline: Duration,
}

impl SubscribeBuilder {
    pub(crate) fn new(
        topic: TopicName,
        from: From,
        routing: Arc<Routing>,
        deadline: Duration,
    ) -> Self {
        Self {
            topic,
            from,
            until: Until::Forever,
            routing,
            deadline,
        }
    }

    /// Where it ends; never by default.
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// Whether it begins or stops at the end, which must not lie before what was acknowledged by now:
    /// only a leader with a quorum can tell.
    fn needs_end(&self) -> bool {
        matches!(self.from, From::Latest | From::Last(_)) || self.until == Until::End
    }

    /// Resolves everything relative against the leader, so that any member may serve from there on
    /// and none can move the beginning.
    async fn begin(self) -> Result<Subscription, SubscribeError> {
        let deadline = Instant::now() + self.deadline;
        let (routing, topic) = (&self.routing, &self.topic);
        let info = if self.needs_end() {
            routing.topic_confirmed(topic, deadline).await
        } else {
            routing.topic_at_leader(topic, deadline).await
        };
        let info = info.map_err(|why| no_route(&self.topic, why))?;
        let position = match self.from {
            From::Earliest => None,
            From::Latest => Some(info.next.0),
            From::Offset(offset) => Some(offset.0),
            From::Last(count) => Some(info.next.0.saturating_sub(count).max(info.first.0)),
            From::Time(time) => Some(self.offset_at(time, deadline).await?.0),
        };
        let until = match self.until {
            Until::End => Until::Offset(info.next),
            until => until,
        };
        // With nothing there yet the beginning is known, though no delivery says it.
        let nothing =
            info.first == info.next || matches!(until, Until::Offset(end) if end <= info.first);
        let span = Span {
            topic: self.topic,
            group: info.group,
            epoch: info.epoch,
            position: position.or_else(|| nothing.then_some(info.first.0)),
            until,
            watermark: info.next.0,
            replicas: info.replicas,
            leader: info.leader,
        };
        Ok(Subscription::new(Reading::new(
            span,
            self.routing,
            self.deadline,
        )))
    }

    async fn offset_at(&self, time: u64, deadline: Instant) -> Result<Offset, SubscribeError> {
        let request = Request::OffsetAt {
            topic: self.topic.clone(),
            time,
        };
        // Another member may lag behind, and find the end too soon.
        let asked = self
            .routing
            .ask_leader_or_any(&self.topic, &request, deadline);
        let answer = asked.await;
        match answer.map_err(|why| no_route(&self.topic, why))? {
            Response::Offset(offset) => Ok(offset),
            other => Err(no_route(&self.topic, NoRoute::refused(&other))),
        }
    }
}

impl fmt::Debug for SubscribeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic, from, until, ..
        } = self;
        write!(f, "SubscribeBuilder({topic}, {from:?} to {until:?})")
    }
}

impl IntoFuture for SubscribeBuilder {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    /// Fixes where it begins and ends. When this is done, every record committed from there on will
    /// be delivered, whatever happens to members in between.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

/// A record at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// Its place in the topic.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub timestamp: u64,
    /// The record; it shares the bytes of its batch.
    pub record: Record,
}

/// Records that were appended together, in order of their offsets. There is at least one when it is
/// handed out.
pub struct DeliveredRecords {
    topic: Arc<TopicName>,
    stretch: Stretch,
}

impl DeliveredRecords {
    /// The offset of the next record.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.stretch.offset)
    }

    /// How many records are left in it.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.stretch.end - self.stretch.offset) as usize
    }

    /// Whether all records have been taken out of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The leader's clock when they were appended, microseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.stretch.time
    }

    /// Bytes of the batch they came in.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.stretch.bytes
    }
}

impl Iterator for DeliveredRecords {
    type Item = Result<Delivered, SubscribeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_empty() {
            return None;
        }
        let offset = self.offset();
        let missing = Err(Malformed::Inconsistent {
            what: "the batch has fewer records than it says",
        });
        let record = self.stretch.records.next().unwrap_or(missing);
        self.stretch.offset += 1;
        Some(match record {
            Ok(record) => Ok(Delivered {
                offset,
                timestamp: self.stretch.time,
                record,
            }),
            Err(why) => {
                self.stretch.offset = self.stretch.end;
                Err(SubscribeError::Unreadable {
                    topic: (*self.topic).clone(),
                    offset,
                    why,
                })
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.len()))
    }
}

impl fmt::Debug for DeliveredRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, stretch } = self;
        write!(
            f,
            "DeliveredRecords({topic} {}..{})",
            stretch.offset, stretch.end
        )
    }
}

type Fetching = Pin<Box<dyn Future<Output = (Box<Reading>, Fetched)> + Send>>;
type Fetched = Result<Option<Stretch>, SubscribeError>;

/// Between two polls: what reads, or what is being waited for.
enum State {
    Idle(Box<Reading>),
    Fetching(Fetching),
    /// Only within a poll.
    Between,
}

/// The records of a topic, in order, without a gap, over changes of leader and losses of members.
///
/// It moves only while it is polled: the QUIC stream's window is the read-ahead, and a reader that
/// does not poll stops the member that serves it. After a retryable error, polling on goes on;
/// after another one it ends.
pub struct Subscription {
    topic: Arc<TopicName>,
    state: State,
    /// What has been begun to be handed out one by one.
    current: Option<DeliveredRecords>,
    progress: watch::Sender<Progress>,
    /// A record could not be read: nothing after it is handed out.
    broken: bool,
}

impl Subscription {
    fn new(reading: Reading) -> Self {
        Self {
            topic: Arc::clone(reading.topic()),
            progress: reading.progress().clone(),
            state: State::Idle(Box::new(reading)),
            current: None,
            broken: false,
        }
    }

    /// The next records that were appended together, or `None` at the end. Faster than record by
    /// record. Cancel-safe. Mixes with the `Stream`: it goes on where that stopped.
    pub async fn next_batch(&mut self) -> Result<Option<DeliveredRecords>, SubscribeError> {
        let batch = match self.current.take() {
            Some(current) => Some(current),
            None => poll_fn(|context| self.poll_batch(context)).await?,
        };
        if let Some(batch) = &batch {
            self.handed_out_to(batch.stretch.end);
        }
        Ok(batch)
    }

    /// The offset of the next record to be handed out, once it is known: from the beginning, except
    /// with [`From::Earliest`] before anything has arrived.
    #[must_use]
    pub fn position(&self) -> Option<Offset> {
        match &self.current {
            Some(current) => Some(current.offset()),
            None => self.progress.borrow().position.map(Offset),
        }
    }

    /// Whether everything has been handed out that was committed when a member last spoke.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.current.is_none() && self.progress.borrow().is_caught_up()
    }

    /// Resolves when [`is_caught_up`](Self::is_caught_up) is or becomes true. Does not borrow: go on
    /// polling the subscription meanwhile, without that nothing moves.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut progress = self.progress.subscribe();
        async move {
            // If the subscription is gone it never catches up, and nobody is left to ask.
            if progress.wait_for(Progress::is_caught_up).await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn handed_out_to(&self, end: u64) {
        self.progress
            .send_modify(|progress| progress.position = Some(end));
    }

    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<DeliveredRecords>, SubscribeError>> {
        let mut fetching = match std::mem::replace(&mut self.state, State::Between) {
            State::Fetching(fetching) => fetching,
            State::Idle(mut reading) => {
                if let Some(ready) = reading.ready() {
                    self.state = State::Idle(reading);
                    return Poll::Ready(ready.map(|stretch| Some(self.records(stretch))));
                }
                Box::pin(async move {
                    let fetched = reading.next().await;
                    (reading, fetched)
                })
            }
            State::Between => unreachable!("a poll leaves what it took"),
        };
        match fetching.as_mut().poll(context) {
            Poll::Pending => {
                self.state = State::Fetching(fetching);
                Poll::Pending
            }
            Poll::Ready((reading, fetched)) => {
                self.state = State::Idle(reading);
                Poll::Ready(fetched.map(|stretch| stretch.map(|stretch| self.records(stretch))))
            }
        }
    }

    fn records(&self, stretch: Stretch) -> DeliveredRecords {
        let topic = Arc::clone(&self.topic);
        DeliveredRecords { topic, stretch }
    }
}

impl Stream for Subscription {
    type Item = Result<Delivered, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(current) = &mut this.current {
                let next = current.next();
                if matches!(next, Some(Err(_))) {
                    this.broken = true;
                    this.current = None;
                    return Poll::Ready(next);
                }
                if current.is_empty() {
                    let end = current.stretch.end;
                    this.current = None;
                    this.handed_out_to(end);
                }
                if next.is_some() {
                    return Poll::Ready(next);
                }
            }
            if this.broken {
                return Poll::Ready(None);
            }
            match ready!(this.poll_batch(context)) {
                Ok(Some(records)) => this.current = Some(records),
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({} at {:?})", self.topic, self.position())
    }
}
