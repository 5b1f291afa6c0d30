//! The task behind a producer: it finds the leader, keeps a stream to it, and moves batches from the
//! buffer into flight and onto the stream, until each has its fate.

use std::{
    future::pending,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kontiki_transport::{FrameReader, FrameWriter};
use kontiki_wire::{
    Acknowledged, ClientStream, Frame, FrameKind, Produced, ProducerId, TopicName, TopicSettings,
    limits::CLIENT_FRAME_BYTES_MAX,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    asking::examine,
    backoff::{Backoff, chance},
    buffer::{Buffer, Taken},
    connections::{Member, NoAnswer},
    ended::{DRAIN_TIME_MAX, Ended, end_of_stream, ended_by_member, unwritable},
    error::AppendError,
    flight::{Absurd, Flight, Remedy},
    routing::{NoRoute, Routing},
    vigil::Vigil,
};

/// How long a leader may owe an answer before its successor is looked for, unless its answers took longer of late.
/// Disks that take longer cost a question to each member, no more.
const SILENCE_MAX: Duration = Duration::from_millis(150);
/// How long a leader that nobody contradicts may owe an answer before everything is sent again. What
/// it has taken in is recognised.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes that are handed to the stream at once.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Between attempts that did not help.
const RETRY: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
/// The longest pause, whatever the deadlines.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long one look for a leader may take.
const ROUTE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a member that leads may take to let a stream be opened.
const OPEN_TIME_MAX: Duration = Duration::from_secs(3);
/// How long it may take to make a topic on first use.
const MAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Moves one producer's records.
pub(crate) struct Sender {
    topic: TopicName,
    buffer: Arc<Buffer>,
    routing: Arc<Routing>,
    flight: Mutex<Flight>,
    vigil: Vigil,
    /// Which life of the cluster it has found itself in: it appends to the topic in no other.
    epoch: Option<u64>,
    /// Something was acknowledged since this was last looked at.
    progressed: AtomicBool,
    /// The last thing that went wrong, for people.
    trouble: Arc<str>,
}

/// Whether to wait before the next attempt.
enum Pause {
    No,
    /// Not if it is the first since something was acknowledged.
    UnlessFirst,
    Yes,
}

impl Sender {
    pub(crate) fn new(topic: TopicName, buffer: Arc<Buffer>, routing: Arc<Routing>) -> Self {
        let flight = Flight::new(topic.clone(), new_name());
        Self {
            topic,
            buffer,
            routing,
            flight: Mutex::new(flight),
            vigil: Vigil::new(SILENCE_MAX),
            epoch: None,
            progressed: AtomicBool::new(false),
            trouble: "it was not tried yet".into(),
        }
    }

    /// Runs until the buffer has ended and is empty.
    pub(crate) async fn run(mut self) {
        let mut retry = RETRY;
        let mut hurried = false;
        while self.has_work().await {
            self.expire();
            let member = match self.route().await {
                Ok(member) => member,
                Err(no_route) => {
                    self.no_route(no_route).await;
                    self.pause(&mut retry).await;
                    continue;
                }
            };
            self.epoch = self.epoch.or_else(|| self.routing.epoch());
            let ended = self.session(&member).await;
            if self.progressed.swap(false, Ordering::Relaxed) {
                retry.reset();
                hurried = false;
            }
            match self.recover(&member, ended) {
                Pause::No => {}
                // Following one hint needs no pause; two members that name each other do.
                Pause::UnlessFirst if !hurried => hurried = true,
                Pause::UnlessFirst | Pause::Yes => self.pause(&mut retry).await,
            }
        }
    }

    /// Waits for something to do; false at the end.
    async fn has_work(&self) -> bool {
        loop {
            if !self.flight().is_empty() || self.buffer.has_waiting() {
                return true;
            }
            if self.buffer.is_ending() {
                return false;
            }
            self.buffer.worked().await;
        }
    }

    async fn pause(&self, retry: &mut Backoff) {
        retry.wait(self.by(PAUSE_MAX)).await;
    }

    /// After this time, or when the first batch's time is over.
    fn by(&self, time: Duration) -> Instant {
        let soon = Instant::now() + time;
        self.expiry().map_or(soon, |expiry| expiry.min(soon))
    }

    /// When the first batch's time is over.
    fn expiry(&self) -> Option<Instant> {
        let in_flight = self.flight().since();
        let since = in_flight.or_else(|| self.buffer.waiting_since())?;
        Some(since + self.buffer.config().delivery_timeout)
    }

    async fn route(&self) -> Result<Arc<Member>, NoRoute> {
        let deadline = self.by(ROUTE_TIME_MAX);
        match timeout_at(deadline, self.routing.leader(&self.topic, deadline)).await {
            Ok(route) => route,
            Err(_) => Err(NoRoute::NoAnswer(NoAnswer::new("no member names a leader"))),
        }
    }

    async fn no_route(&mut self, no_route: NoRoute) {
        match no_route {
            NoRoute::NoAnswer(no_answer) => self.trouble = no_answer.why,
            NoRoute::NoSuchTopic => self.make_topic().await,
            NoRoute::NotPermitted(what) => self.not_permitted(what),
            NoRoute::Closed => {
                self.buffer.end();
                self.fail_all("the client was closed", &AppendError::Closed);
            }
        }
    }

    /// The topic is not known: make it, if that is the cluster's way, or fail.
    async fn make_topic(&mut self) {
        if !self.routing.auto_create() {
            let topic = self.topic.clone();
            self.fail_all(
                "there is no such topic",
                &AppendError::NoSuchTopic { topic },
            );
            return;
        }
        let deadline = self.by(MAKE_TIME_MAX);
        let settings = TopicSettings::default();
        let making = self.routing.ensure_topic(&self.topic, settings, deadline);
        match making.await {
            Ok(()) => tracing::info!(topic = %self.topic, "made on first use"),
            Err(NoRoute::NotPermitted(what)) => self.not_permitted(what),
            Err(NoRoute::NoAnswer(no_answer)) => self.trouble = no_answer.why,
            Err(NoRoute::NoSuchTopic | NoRoute::Closed) => {}
        }
    }

    fn not_permitted(&self, what: Arc<str>) {
        let topic = self.topic.clone();
        let why = Arc::clone(&what);
        self.fail_all(&why, &AppendError::NotPermitted { topic, what });
    }

    /// One stream, from its opening to its end.
    async fn session(&self, member: &Member) -> Ended {
        self.vigil.expect();
        let mut nothing_yet = pin!(pending());
        let opened = tokio::select! {
            opened = member.open(self.by(OPEN_TIME_MAX)) => opened,
            ended = self.watch(member, nothing_yet.as_mut()) => return ended,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(no_answer) => return Ended::Lost(no_answer.why),
        };
        let mut distrusted = pin!(stream.distrusted());
        tokio::select! {
            ended = self.write(&mut stream.writer) => ended,
            ended = self.read(&mut stream.reader) => ended,
            ended = self.watch(member, distrusted.as_mut()) => ended,
        }
    }

    /// Puts onto the stream whatever there is while the window is open.
    async fn write(&self, writer: &mut FrameWriter) -> Ended {
        let mut head = BytesMut::new();
        let (topic, epoch) = (self.topic.clone(), self.epoch);
        ClientStream::Produce { topic, epoch }.encode(&mut head);
        let mut pieces = vec![head.split().freeze()];
        loop {
            let lingers = self.fill(&mut head, &mut pieces);
            if !pieces.is_empty() {
                if let Err(why) = writer.write_all(&mut pieces).await {
                    return unwritable(&why).await;
                }
                pieces.clear();
                continue;
            }
            if self.flight().is_empty() && self.buffer.is_ending() && !self.buffer.has_waiting() {
                writer.finish();
                return Ended::Done;
            }
            match lingers {
                None => self.buffer.worked().await,
                Some(until) => tokio::select! {
                    () = self.buffer.worked() => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// Moves batches from the buffer into flight, and from there to what is to be written. Says until
    /// when one lingers.
    fn fill(&self, head: &mut BytesMut, pieces: &mut Vec<Bytes>) -> Option<Instant> {
        let mut flight = self.flight();
        let mut bytes = 0;
        let mut lingers = None;
        while bytes < WRITE_BYTES_MAX {
            if let Some(batch) = flight.send_next() {
                Produced::encode_header(&batch, head);
                bytes += batch.bytes().len();
                pieces.push(head.split().freeze());
                pieces.push(batch.bytes().clone());
                continue;
            }
            if flight.is_going_back() || flight.len() >= self.buffer.config().in_flight_batches {
                break;
            }
            match self.buffer.take(Instant::now(), flight.len()) {
                Taken::Batch(gathered) => flight.push(*gathered),
                Taken::Lingers(until) => {
                    lingers = Some(until);
                    break;
                }
                Taken::Nothing => break,
            }
        }
        if bytes > 0 {
            self.vigil.expect();
        }
        lingers
    }

    /// Takes answers off the stream. After a refusal, until nothing is owed any more.
    async fn read(&self, reader: &mut FrameReader) -> Ended {
        let mut remedy: Option<Remedy> = None;
        let mut drained_by = None;
        let mut answered = false;
        loop {
            let next = reader.next(CLIENT_FRAME_BYTES_MAX);
            let next = match drained_by {
                None => next.await,
                Some(drained_by) => timeout_at(drained_by, next).await.unwrap_or(Ok(None)),
            };
            let mut frame = match next {
                Ok(Some(frame)) => Some(frame),
                Ok(None) => return remedy.map_or_else(ended_by_member, Ended::Refused),
                Err(why) => {
                    return remedy
                        .map_or_else(|| Ended::Lost(why.to_string().into()), Ended::Refused);
                }
            };
            while let Some(one) = frame {
                if one.kind == FrameKind::End {
                    return end_of_stream(&one, answered, remedy);
                }
                if let Err(why) = self.answers(&one, &mut remedy) {
                    return Ended::Lost(why);
                }
                answered = true;
                frame = match reader.ready(CLIENT_FRAME_BYTES_MAX) {
                    Ok(next) => next,
                    Err(why) => return Ended::Lost(why.to_string().into()),
                };
            }
            let owed = self.tell();
            if let Some(remedy) = remedy.take_if(|_| owed == 0) {
                return Ended::Refused(remedy);
            }
            if remedy.is_some() {
                drained_by.get_or_insert_with(|| Instant::now() + DRAIN_TIME_MAX);
            }
        }
    }

    /// Takes in one frame of answers.
    fn answers(&self, frame: &Frame, remedy: &mut Option<Remedy>) -> Result<(), Arc<str>> {
        let answers = Acknowledged::decode(frame)
            .map_err(|why| Arc::from(format!("the member sent {why}")))?;
        let absurd = |absurd: Absurd| Arc::from(format!("the member sent {absurd}"));
        let mut flight = self.flight();
        for answer in answers {
            match answer {
                Ok(acknowledged) => {
                    flight.acknowledge(&acknowledged).map_err(absurd)?;
                    self.progressed.store(true, Ordering::Relaxed);
                }
                Err(refused) => {
                    let asked = flight
                        .refuse(refused.sequence, &refused.refusal)
                        .map_err(absurd)?;
                    *remedy = Some(match remedy.take() {
                        None => asked,
                        Some(before) => before.or(asked),
                    });
                }
            }
        }
        Ok(())
    }

    /// Tells all whom it concerns what has come. Returns how many answers are still owed.
    fn tell(&self) -> usize {
        self.settle();
        let owed = self.flight().owed();
        self.vigil.heard(owed > 0);
        self.buffer.stir();
        owed
    }

    fn settle(&self) {
        let (settled, upto) = self.flight().settled();
        if let Some(why) = settled.failure.as_ref().filter(|_| self.buffer.is_ending()) {
            tracing::warn!(
                topic = %self.topic,
                batches = settled.failed,
                %why,
                "records of a producer that was closed or dropped have failed"
            );
        }
        self.buffer.settle(settled.bytes, upto, settled.failure);
    }

    /// Ends the stream when a batch's time is over, and when the leader owes an answer for too long
    /// and another one is found, or its connection turns out to be dead.
    async fn watch(
        &self,
        member: &Member,
        mut distrusted: Pin<&mut impl Future<Output = ()>>,
    ) -> Ended {
        loop {
            let expiry = self.expiry();
            if expiry.is_some_and(|expiry| expiry <= Instant::now()) {
                return Ended::Expired;
            }
            let expired = async {
                match expiry {
                    Some(expiry) => sleep_until(expiry).await,
                    None => pending().await,
                }
            };
            let silenced = async {
                self.vigil.silent().await;
                self.silenced(member, distrusted.as_mut()).await
            };
            tokio::select! {
                () = expired => {}
                () = self.vigil.changed() => {}
                ended = silenced => return ended,
            }
        }
    }

    /// The leader owes an answer.
    async fn silenced(
        &self,
        member: &Member,
        distrusted: Pin<&mut impl Future<Output = ()>>,
    ) -> Ended {
        let name = member.name();
        tracing::debug!(topic = %self.topic, member = &**name, "the leader owes an answer");
        tokio::select! {
            () = self.routing.successor(&self.topic, name) => Ended::Moved,
            () = distrusted => Ended::Lost(format!("{name} has fallen silent").into()),
            () = self.vigil.owed_for(ANSWER_TIME_MAX) => {
                Ended::Lost(format!("{name} does not answer").into())
            }
        }
    }

    /// Does what the end of a stream asks for, and says whether to wait before the next.
    fn recover(&mut self, member: &Arc<Member>, ended: Ended) -> Pause {
        self.vigil.forget();
        if let Ended::NotOpened(_) = ended {
            self.flight().untouched();
        } else {
            self.flight().stream_ended();
        }
        let pause = match ended {
            Ended::Done | Ended::Expired => Pause::No,
            Ended::Moved => {
                let name = member.name();
                self.trouble = format!("{name} does not answer, and another one leads").into();
                examine(member, &self.topic);
                Pause::No
            }
            Ended::Lost(why) => {
                tracing::debug!(topic = %self.topic, member = &**member.name(), %why, "stream lost");
                self.trouble = why;
                self.routing.doubt(&self.topic, member.name());
                Pause::UnlessFirst
            }
            Ended::Refused(remedy) | Ended::NotOpened(remedy) => self.apply(member, remedy),
        };
        self.settle();
        pause
    }

    fn apply(&mut self, member: &Member, remedy: Remedy) -> Pause {
        tracing::debug!(topic = %self.topic, member = &**member.name(), ?remedy, "refused");
        match remedy {
            Remedy::Again(why) => self.trouble = why.into(),
            Remedy::Later(why) => self.doubt(member, why),
            Remedy::Elsewhere(leader) => {
                self.doubt(member, format!("{} does not lead", member.name()));
                if let Some(leader) = leader.filter(|leader| **leader != **member.name()) {
                    self.routing.hint(&self.topic, &leader);
                    return Pause::UnlessFirst;
                }
            }
            // Asking for the leader settles whether there is one.
            Remedy::NoSuchTopic => self.doubt(member, "the topic is not known there".to_owned()),
            Remedy::NotPermitted(what) => self.not_permitted(what.into()),
            Remedy::Recovered(epoch) => {
                let topic = self.topic.clone();
                self.routing.doubt(&topic, member.name());
                let recovered = AppendError::Recovered { topic, epoch };
                self.fail_all("the cluster was recovered", &recovered);
            }
            Remedy::Reject(why) => {
                let rejected = AppendError::Rejected {
                    topic: self.topic.clone(),
                    why: why.as_str().into(),
                };
                self.flight().fail_first(&why, &rejected);
            }
            Remedy::NewEpoch(why) => {
                tracing::warn!(topic = %self.topic, why, "a new epoch of the producer begins");
                self.flight().next_epoch(&why);
            }
            Remedy::NewName(why) => {
                tracing::warn!(topic = %self.topic, why, "the producer takes another name");
                self.flight().rename(new_name(), &why);
            }
        }
        Pause::Yes
    }

    fn doubt(&mut self, member: &Member, why: String) {
        self.trouble = why.into();
        self.routing.doubt(&self.topic, member.name());
    }

    /// Fails what has waited for too long.
    fn expire(&self) {
        let Some(then) = Instant::now().checked_sub(self.buffer.config().delivery_timeout) else {
            return;
        };
        let verdict = AppendError::NotAppended {
            topic: self.topic.clone(),
            why: Arc::clone(&self.trouble),
        };
        let mut flight = self.flight();
        while flight.since().is_some_and(|since| since <= then) {
            flight.fail_first(&self.trouble, &verdict);
        }
        if flight.is_empty() {
            while let Some(gathered) = self.buffer.take_begun_by(then) {
                flight.pass_by(&gathered, &verdict);
            }
        }
        drop(flight);
        self.settle();
    }

    /// Fails everything there is.
    fn fail_all(&self, why: &str, verdict: &AppendError) {
        let mut flight = self.flight();
        flight.fail_all(why, verdict);
        while let Some(gathered) = self.buffer.take_begun_by(Instant::now()) {
            flight.pass_by(&gathered, verdict);
        }
        drop(flight);
        self.settle();
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sender {
    /// Also when the runtime goes down with the task: no ticket waits for ever.
    fn drop(&mut self) {
        self.buffer.end();
        let why = "the runtime that sent it was shut down";
        let topic = self.topic.clone();
        let why_not = AppendError::NotAppended {
            topic,
            why: why.into(),
        };
        self.fail_all(why, &why_not);
    }
}

fn new_name() -> ProducerId {
    ProducerId(u128::from(chance()) << 64 | u128::from(chance()))
}
