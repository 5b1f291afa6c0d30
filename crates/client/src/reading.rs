//! Reading a topic from one member after the other: where it stands, and that nothing is missing.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use kontiki_wire::{
    Batch, ClientStream, Deliver, DeliveredBatch, Frame, FrameKind, From, GroupId, Malformed,
    Offset, Records, Refusal, StreamEnd, Subscribe, TopicName, Until,
    limits::CLIENT_FRAME_BYTES_MAX,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    asking::examine,
    backoff::{Backoff, shuffle},
    connections::{Member, NoAnswer, Stream},
    error::SubscribeError,
    routing::{NoRoute, Routing},
};

/// How long a member may say nothing. On an idle subscription it gives a sign of life twice as often.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a member may take to let a stream be opened.
const OPEN_TIME_MAX: Duration = Duration::from_secs(1);
/// How long one member's stream is waited for before another one's is opened as well.
const HEDGE_AFTER: Duration = Duration::from_millis(150);
/// Between rounds of members of which none served.
const RETRY: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
/// Records behind the end within which a subscription is as good as live.
const NEARLY_LIVE: u64 = 1_000;

/// A stretch of records, contiguous in offsets.
pub(crate) struct Stretch {
    pub(crate) records: Records,
    /// The offset of the first.
    pub(crate) offset: u64,
    /// The offset after the last.
    pub(crate) end: u64,
    pub(crate) time: u64,
    pub(crate) bytes: usize,
}

/// One subscription's way through a topic.
pub(crate) struct Reading {
    topic: Arc<TopicName>,
    /// The topic of that name that was there at the beginning; a later one is another.
    group: GroupId,
    /// The life of the cluster that it was there in: in another, offsets mean something else.
    epoch: u64,
    routing: Arc<Routing>,
    deadline: Duration,
    /// The next offset; unknown only from the earliest, before anything has come.
    position: Option<u64>,
    until: Until,
    progress: watch::Sender<Progress>,
    serving: Option<Serving>,
    arrived: VecDeque<DeliveredBatch>,
    /// Who keeps the topic, by name.
    replicas: Vec<String>,
    /// Who leads it, as far as is known.
    leader: Option<String>,
    /// The leader may be asked to serve, if it has few subscribers: not again before somebody has served.
    asks_leader: bool,
    /// Who served badly just now, or has enough to serve.
    avoid: Option<Arc<str>>,
    /// When it went wrong, if nothing has come since.
    trouble: Option<(Instant, NoAnswer)>,
    retry: Backoff,
    finished: bool,
}

/// What is known of how far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// What has been handed out to the user, up to here.
    pub(crate) position: Option<u64>,
    /// The end of what was committed when a member last spoke.
    pub(crate) watermark: u64,
}

impl Progress {
    pub(crate) fn is_caught_up(&self) -> bool {
        self.position
            .is_some_and(|position| position >= self.watermark)
    }
}

/// The member that serves.
struct Serving {
    member: Arc<Member>,
    stream: Stream,
    /// Whether it was asked to serve only if it has few subscribers.
    if_few: bool,
    /// Whether something at or after the position has come from it.
    aligned: bool,
}

/// What is to be read, resolved.
pub(crate) struct Span {
    pub(crate) topic: TopicName,
    pub(crate) group: GroupId,
    pub(crate) epoch: u64,
    pub(crate) position: Option<u64>,
    pub(crate) until: Until,
    pub(crate) watermark: u64,
    pub(crate) replicas: Vec<String>,
    pub(crate) leader: Option<String>,
}

impl Reading {
    pub(crate) fn new(span: Span, routing: Arc<Routing>, deadline: Duration) -> Self {
        Self {
            topic: Arc::new(span.topic),
            group: span.group,
            epoch: span.epoch,
            routing,
            deadline,
            position: span.position,
            until: span.until,
            progress: watch::Sender::new(Progress {
                position: span.position,
                watermark: span.watermark,
            }),
            serving: None,
            arrived: VecDeque::new(),
            replicas: span.replicas,
            leader: span.leader,
            asks_leader: true,
            avoid: None,
            trouble: None,
            retry: RETRY,
            finished: false,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<TopicName> {
        &self.topic
    }

    pub(crate) fn progress(&self) -> &watch::Sender<Progress> {
        &self.progress
    }

    /// What has arrived already, without waiting.
    pub(crate) fn ready(&mut self) -> Option<Result<Stretch, SubscribeError>> {
        while let Some(arrived) = self.arrived.pop_front() {
            match self.admit(arrived) {
                Ok(Some(stretch)) => return Some(Ok(stretch)),
                Ok(None) => {}
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
        None
    }

    /// The next records, or `None` at the end. Whatever it takes, until for the client's deadline
    /// nobody has served.
    pub(crate) async fn next(&mut self) -> Result<Option<Stretch>, SubscribeError> {
        loop {
            if let Some(ready) = self.ready() {
                return ready.map(Some);
            }
            if self.finished || self.is_at_end() {
                self.finish();
                return Ok(None);
            }
            let Some(serving) = &mut self.serving else {
                self.open().await?;
                continue;
            };
            let next = serving.stream.reader.next(CLIENT_FRAME_BYTES_MAX);
            match timeout(SILENCE_MAX, next).await {
                Ok(Ok(Some(frame))) => {
                    if let Err(error) = self.take_in(&frame) {
                        return Err(self.fail(error));
                    }
                }
                Ok(Ok(None)) => self.leave(NoAnswer::new("the member ended the stream")),
                Ok(Err(why)) => self.leave(NoAnswer::new(why)),
                Err(_) => {
                    examine(&serving.member, &self.topic);
                    self.leave(NoAnswer::new("the member has fallen silent"));
                }
            }
        }
    }

    fn is_at_end(&self) -> bool {
        match (self.until, self.position) {
            (Until::Offset(end), Some(position)) => position >= end.0,
            _ => false,
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.serving = None;
        self.arrived.clear();
    }

    /// Ends for good, unless polling on may help.
    fn fail(&mut self, error: SubscribeError) -> SubscribeError {
        if !error.is_retryable() {
            self.finish();
        }
        error
    }

    fn take_in(&mut self, frame: &Frame) -> Result<(), SubscribeError> {
        match frame.kind {
            FrameKind::End => match StreamEnd::decode(frame) {
                Ok(end) => self.ended(end),
                Err(why) => {
                    self.leave(NoAnswer::new(why));
                    Ok(())
                }
            },
            _ => {
                match Deliver::decode(frame) {
                    Ok(delivery) => self.delivered(delivery),
                    // Damaged or disordered within: another member's copy is asked for.
                    Err(why) => self.leave(NoAnswer::new(why)),
                }
                Ok(())
            }
        }
    }

    fn delivered(&mut self, delivery: Deliver) {
        self.trouble = None;
        self.asks_leader = true;
        self.retry.reset();
        self.progress.send_if_modified(|progress| {
            // A member that lags behind the one before it takes nothing back.
            let further = delivery.watermark.0 > progress.watermark;
            progress.watermark = progress.watermark.max(delivery.watermark.0);
            further
        });
        self.arrived.extend(delivery.batches);
    }

    fn ended(&mut self, end: StreamEnd) -> Result<(), SubscribeError> {
        let topic = (*self.topic).clone();
        match end {
            StreamEnd::Reached => match (self.until, self.position) {
                (Until::Time(_), _) => self.finish(),
                // What is there begins behind the end.
                (Until::Offset(_), None) => self.finish(),
                // Otherwise the position says whether it is reached, not a member.
                _ => self.leave(NoAnswer::new("the member ended the subscription too soon")),
            },
            StreamEnd::Moving => self.leave(NoAnswer::new("the member is going away")),
            StreamEnd::Crowded => self.sent_on(),
            StreamEnd::Deleted { group } if group == self.group => {
                return Err(SubscribeError::Deleted { topic });
            }
            // A member that lags behind still had an earlier topic of that name.
            StreamEnd::Deleted { .. } => self.leave(NoAnswer::new("the member lags behind")),
            StreamEnd::Refused(Refusal::OffsetOutOfRange { first, next }) => {
                return Err(SubscribeError::OffsetOutOfRange {
                    topic,
                    wanted: Offset(self.position.unwrap_or_default()),
                    first: Offset(first),
                    next: Offset(next),
                });
            }
            StreamEnd::Refused(Refusal::NotPermitted { what }) => {
                let what = what.into();
                return Err(SubscribeError::NotPermitted { topic, what });
            }
            StreamEnd::Refused(Refusal::Recovered { epoch }) => {
                return Err(SubscribeError::Recovered { topic, epoch });
            }
            // It may not be one of the topic's replicas any more, or not have heard of it yet.
            StreamEnd::Refused(why) => self.leave(NoAnswer::new(why)),
        }
        Ok(())
    }

    /// The member has enough to serve: others are asked at once. Unless it has begun to, or was to serve in any case.
    fn sent_on(&mut self) {
        let may = !self.asks_leader && self.serving.as_ref().is_some_and(|by| by.if_few);
        if !may {
            return self.leave(NoAnswer::new("the member has too many subscribers"));
        }
        let by = self.serving.take();
        self.avoid = by.map(|by| Arc::clone(by.member.name()));
    }

    /// Goes on elsewhere.
    fn leave(&mut self, why: NoAnswer) {
        if let Some(serving) = self.serving.take() {
            let member = Arc::clone(serving.member.name());
            tracing::debug!(topic = %self.topic, member = &*member, %why, "subscription resumes elsewhere");
            self.avoid = Some(member);
        }
        // What has arrived and was not handed out is read again.
        self.arrived.clear();
        self.note_trouble(why);
    }

    fn note_trouble(&mut self, why: NoAnswer) {
        let since = self
            .trouble
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        self.trouble = Some((since, why));
    }

    /// Finds a member that serves. After one that did not there is a pause before each round.
    async fn open(&mut self) -> Result<(), SubscribeError> {
        if let Some((since, why)) = &self.trouble {
            if since.elapsed() >= self.deadline {
                let error = SubscribeError::Unavailable {
                    topic: (*self.topic).clone(),
                    why: Arc::clone(&why.why),
                };
                self.trouble = None;
                return Err(error);
            }
            let deadline = *since + self.deadline;
            self.retry.wait(deadline).await;
        }
        let candidates = self.candidates().await?;
        let (leader, others) = self.parted(candidates);
        // Whatever comes of it, without anything that it delivers it is not asked again.
        self.asks_leader &= leader.is_none();
        match self.open_hedged(leader, others).await {
            Ok(serving) => self.serving = Some(serving),
            Err(why) => self.note_trouble(why),
        }
        Ok(())
    }

    /// Opens a stream at the leader, if it is to be asked, or else at the first of the others, and at the next as
    /// well whenever that takes a while or fails; the first stream that is open is taken.
    async fn open_hedged(
        &self,
        leader: Option<Arc<Member>>,
        others: Vec<Arc<Member>>,
    ) -> Result<Serving, NoAnswer> {
        let subscribe = Subscribe {
            topic: (*self.topic).clone(),
            group: Some(self.group),
            epoch: Some(self.epoch),
            from: self
                .position
                .map_or(From::Earliest, |position| From::Offset(Offset(position))),
            until: self.until,
        };
        let opening = |stream: ClientStream| {
            let mut opening = BytesMut::new();
            stream.encode(&mut opening);
            opening.freeze()
        };
        let if_few = opening(ClientStream::SubscribeIfFew(subscribe.clone()));
        let in_any_case = opening(ClientStream::Subscribe(subscribe));
        let leader = leader.map(|leader| (leader, if_few, true));
        let others = others.into_iter();
        let others = others.map(|member| (member, in_any_case.clone(), false));
        let mut waiting = leader.into_iter().chain(others);
        let mut attempts = JoinSet::new();
        let mut last = NoAnswer::new("the topic has no replica that is known");
        loop {
            if let Some((member, opening, if_few)) = waiting.next() {
                attempts.spawn(async move {
                    let stream = open_at(&member, opening).await?;
                    Ok(Serving {
                        member,
                        stream,
                        if_few,
                        aligned: false,
                    })
                });
            } else if attempts.is_empty() {
                return Err(last);
            }
            tokio::select! {
                Some(attempt) = attempts.join_next() => match attempt {
                    Ok(Ok(opened)) => return Ok(opened),
                    Ok(Err(why)) => last = why,
                    Err(why) => last = NoAnswer::new(why),
                },
                () = sleep(HEDGE_AFTER) => {}
            }
        }
    }

    /// The topic's replicas in random order, so that subscriptions spread. Who is to be avoided is left out for
    /// once; after one that served badly those that are connected come first.
    async fn candidates(&mut self) -> Result<Vec<Arc<Member>>, SubscribeError> {
        if self.trouble.is_some() || self.replicas.is_empty() {
            let deadline = Instant::now() + OPEN_TIME_MAX;
            match self.routing.topic(&self.topic, deadline).await {
                Ok(info) if info.epoch > self.epoch => {
                    let (topic, epoch) = ((*self.topic).clone(), info.epoch);
                    return Err(self.fail(SubscribeError::Recovered { topic, epoch }));
                }
                Ok(info) if info.group == self.group => {
                    self.replicas = info.replicas;
                    self.leader = info.leader;
                }
                // Groups are numbered in the order in which they are made.
                Ok(info) if info.group > self.group => {
                    let topic = (*self.topic).clone();
                    return Err(self.fail(SubscribeError::Deleted { topic }));
                }
                Ok(_) => self.note_trouble(NoAnswer::new("the member asked lags behind")),
                Err(NoRoute::NoAnswer(why)) => self.note_trouble(why),
                Err(other) => {
                    let error = no_route(&self.topic, other);
                    return Err(self.fail(error));
                }
            }
        }
        let deadline = Instant::now() + OPEN_TIME_MAX;
        let mut members = self.routing.find_all(&self.replicas, deadline).await;
        shuffle(&mut members);
        if let Some(avoid) = self.avoid.take() {
            if self.trouble.is_some() {
                members.sort_by_key(|member| !member.is_well());
            }
            if members.len() > 1 {
                members.retain(|member| *member.name() != avoid);
            }
        }
        Ok(members)
    }

    /// The leader, if it is among these and to be asked first, and the others. It knows what is committed a hop
    /// before the others do, so whoever follows what is appended is best served by it; a history is as good
    /// anywhere, and the leader has enough to do.
    fn parted(&self, mut members: Vec<Arc<Member>>) -> (Option<Arc<Member>>, Vec<Arc<Member>>) {
        let behind = self.progress.borrow().watermark;
        let behind = behind.saturating_sub(self.position.unwrap_or_default());
        let follows = self.until == Until::Forever && behind <= NEARLY_LIVE;
        let is_leader = |member: &Arc<Member>| {
            member.is_well() && self.leader.as_deref() == Some(&**member.name())
        };
        let leader = (self.asks_leader && follows && members.len() > 1)
            .then(|| members.iter().position(is_leader))
            .flatten()
            .map(|at| members.remove(at));
        (leader, members)
    }

    /// Checks that a batch is what is due, and cuts off what is not wanted of it.
    fn admit(&mut self, arrived: DeliveredBatch) -> Result<Option<Stretch>, SubscribeError> {
        let unreadable = |why: Malformed| SubscribeError::Unreadable {
            topic: (*self.topic).clone(),
            offset: arrived.offset,
            why,
        };
        let bytes = arrived.batch.len();
        let batch = Batch::trusted(arrived.batch.clone()).map_err(unreadable)?;
        let offset = arrived.offset.0;
        let end = offset.checked_add(batch.header().count.into());
        let end = end.ok_or_else(|| {
            unreadable(Malformed::Inconsistent {
                what: "the offsets of a batch",
            })
        })?;
        let due = self.position.unwrap_or(offset);
        let aligned = self.serving.as_ref().is_some_and(|serving| serving.aligned);
        if offset > due || (aligned && offset < due) {
            return Err(self.discontinuity(due, offset));
        }
        if end <= due {
            // Before the position, as the beginning of the first delivery may be.
            return Ok(None);
        }
        if let Some(serving) = &mut self.serving {
            serving.aligned = true;
        }
        let end = match self.until {
            Until::Offset(until) => end.min(until.0),
            _ => end,
        };
        if end <= due {
            return Ok(None);
        }
        self.position = Some(end);
        Ok(Some(Stretch {
            records: batch.records().skip_records((due - offset) as u32),
            offset: due,
            end,
            time: arrived.time,
            bytes,
        }))
    }

    fn discontinuity(&self, expected: u64, found: u64) -> SubscribeError {
        let member = self.serving.as_ref().map_or_else(
            || "a member".into(),
            |serving| Arc::clone(serving.member.name()),
        );
        SubscribeError::Discontinuity {
            topic: (*self.topic).clone(),
            member,
            expected: Offset(expected),
            found: Offset(found),
        }
    }
}

async fn open_at(member: &Member, opening: Bytes) -> Result<Stream, NoAnswer> {
    let mut stream = member.open(Instant::now() + OPEN_TIME_MAX).await?;
    stream.writer.write(opening).await.map_err(NoAnswer::new)?;
    Ok(stream)
}

/// Why there is no way to a topic, to a subscriber.
pub(crate) fn no_route(topic: &TopicName, no_route: NoRoute) -> SubscribeError {
    let topic = topic.clone();
    match no_route {
        NoRoute::NoSuchTopic => SubscribeError::NoSuchTopic { topic },
        NoRoute::NotPermitted(what) => SubscribeError::NotPermitted { topic, what },
        NoRoute::Closed => SubscribeError::Closed,
        NoRoute::NoAnswer(no_answer) => SubscribeError::Unavailable {
            topic,
            why: no_answer.why,
        },
    }
}
