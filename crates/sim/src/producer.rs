//! A producer: the client's own decisions about batches on their way, and around them the client's way
//! of finding the leader, of losing it, and of trying again.

mod routing;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kontiki_client::{
    AppendError, Ticket,
    parts::{BatchFate, Flight, Gathered, Instant, Remedy, Serial},
};
use kontiki_wire::{Answer, BatchBuilder, GroupId, ProducerId, Record, TopicName};

use crate::{
    chance::Chance,
    event::{Event, PipeId, Wake},
    history::{AppendId, Outcome, Value},
    pipe::Up,
    plan::Load,
    world::World,
};

/// One producer of one topic.
pub(crate) struct Producer {
    name: TopicName,
    group: GroupId,
    writer: u32,
    load: Load,
    flight: Flight,
    /// Appends without a fate, in order.
    pending: VecDeque<(AppendId, Ticket)>,
    serial: u64,
    /// What the client's clock showed when the story began.
    origin: Instant,
    /// Whom it believes to lead.
    leader: Option<usize>,
    stream: Option<(PipeId, usize)>,
    remedy: Option<Remedy>,
    /// Something was acknowledged on this stream.
    progressed: bool,
    hurried: bool,
    pause: u64,
    owed_since: Option<u64>,
    /// Counts what was planned: what was planned before means nothing any more.
    turn: u32,
    watched: bool,
    /// It writes no more.
    pub(crate) is_ending: bool,
    names: Chance,
}

/// Whether to wait before the next attempt.
enum Pause {
    No,
    UnlessFirst,
    Yes,
}

/// The first pause between attempts that did not help; it doubles up to the second.
const RETRY_FIRST: u64 = 10_000;

impl Producer {
    fn new(name: TopicName, group: GroupId, writer: u32, load: Load, mut names: Chance) -> Self {
        let id = ProducerId(u128::from(names.next()) << 64 | u128::from(names.next()));
        Self {
            flight: Flight::new(name.clone(), id),
            name,
            group,
            writer,
            load,
            pending: VecDeque::new(),
            serial: 0,
            origin: Instant::now(),
            leader: None,
            stream: None,
            remedy: None,
            progressed: false,
            hurried: false,
            pause: RETRY_FIRST,
            owed_since: None,
            turn: 0,
            watched: false,
            is_ending: false,
            names,
        }
    }

    /// Whether everything it was given has its fate.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_micros(at)
    }

    /// One batch to be sent.
    fn gather(&mut self, at: u64, first: Value, count: u32, filling: usize) -> Ticket {
        self.serial += 1;
        let mut builder = BatchBuilder::new(64 + count as usize * (filling + 40));
        for number in 0..count {
            let value = Value {
                number: first.number + number,
                ..first
            };
            let record = Record {
                value: value.bytes(filling),
                ..Record::default()
            };
            builder.push(&record).expect("a small record fits");
        }
        let fate: Arc<BatchFate> = Arc::default();
        let ticket = fate.ticket(0);
        self.flight.push(Gathered {
            serial: Serial(self.serial),
            builder,
            fate,
            since: self.instant(at),
            charged: 0,
        });
        ticket
    }
}

impl World {
    /// A producer begins to write to a topic.
    pub(crate) fn produce(&mut self, name: TopicName, group: GroupId, load: Load) {
        let number = self.producers.len();
        let writer = self.history.writer();
        let names = self.chance.fork(1_000 + number as u64);
        let gap = load.gap;
        self.producers
            .push(Producer::new(name, group, writer, load, names));
        let delay = self.chance.around(gap);
        let what = Wake::Make;
        self.plan_in(
            delay,
            Event::Producer {
                producer: number,
                what,
            },
        );
        self.begin_route(number, 0);
    }

    pub(crate) fn wake_producer(&mut self, number: usize, what: Wake) {
        match what {
            Wake::Make => self.make(number),
            Wake::Route { turn } if self.producers[number].turn == turn => self.route(number),
            Wake::Watch { turn } if self.producers[number].turn == turn => self.watch(number),
            Wake::Route { .. } | Wake::Watch { .. } => {}
        }
    }

    /// Writes something, if not too much is on its way.
    fn make(&mut self, number: usize) {
        let at = self.time();
        let it = &mut self.producers[number];
        it.is_ending |= at.0 >= it.load.leaves_at;
        if it.is_ending {
            return;
        }
        if it.flight.len() < it.load.in_flight {
            let count = it.names.between(1, u64::from(it.load.records_max) + 1) as u32;
            let filling = it.names.between(0, it.load.filling_max) as usize;
            let (append, first) = self.history.append(at, it.group, it.writer, count);
            let ticket = it.gather(at.0, first, count, filling);
            it.pending.push_back((append, ticket));
            self.fill(number);
        }
        let gap = self.producers[number].load.gap;
        let delay = 1 + self.producers[number].names.around(gap);
        let what = Wake::Make;
        self.plan_in(
            delay,
            Event::Producer {
                producer: number,
                what,
            },
        );
    }

    /// Puts onto the stream what there is.
    fn fill(&mut self, number: usize) {
        let it = &mut self.producers[number];
        let Some((pipe, _)) = it.stream else {
            return;
        };
        let mut batches = Vec::new();
        while let Some(batch) = it.flight.send_next() {
            batches.push(batch);
        }
        if batches.is_empty() {
            return;
        }
        it.owed_since.get_or_insert(self.now);
        let topic = it.name.clone();
        for batch in batches {
            let topic = topic.clone();
            self.up(pipe, Up::Append { topic, batch });
        }
        self.plan_watch(number);
    }

    /// The stream has ended without a word.
    pub(crate) fn stream_lost(&mut self, number: usize, pipe: PipeId) {
        let it = &mut self.producers[number];
        if it.stream.is_none_or(|(open, _)| open != pipe) {
            self.close(pipe);
            return;
        }
        it.leader = None;
        self.end_stream(number, Pause::UnlessFirst, true);
    }

    fn end_stream(&mut self, number: usize, pause: Pause, ended: bool) {
        let it = &mut self.producers[number];
        if let Some((pipe, _)) = it.stream.take() {
            self.close(pipe);
        }
        let it = &mut self.producers[number];
        if ended {
            it.flight.stream_ended();
        }
        it.owed_since = None;
        it.remedy = None;
        if std::mem::take(&mut it.progressed) {
            it.pause = RETRY_FIRST;
            it.hurried = false;
        }
        match pause {
            Pause::No => self.begin_route(number, 0),
            Pause::UnlessFirst if !it.hurried => {
                it.hurried = true;
                self.begin_route(number, 0);
            }
            Pause::UnlessFirst | Pause::Yes => self.pause(number),
        }
        self.settle_appends(number);
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, number: usize, pipe: PipeId, answer: &Answer) {
        let it = &mut self.producers[number];
        if it.stream.is_none_or(|(open, _)| open != pipe) {
            return;
        }
        let taken = match answer {
            Ok(acknowledged) => {
                it.progressed = true;
                it.flight.acknowledge(acknowledged)
            }
            Err(refused) => it
                .flight
                .refuse(refused.sequence, &refused.refusal)
                .map(|asked| {
                    it.remedy = Some(match it.remedy.take() {
                        None => asked,
                        Some(before) => before.or(asked),
                    });
                }),
        };
        if let Err(absurd) = taken {
            let name = it.name.clone();
            self.find(|| format!("a producer of {name} is told {absurd}"));
            return;
        }
        let owed = it.flight.owed();
        it.owed_since = (owed > 0).then_some(self.now);
        match it.remedy.take_if(|_| owed == 0) {
            Some(remedy) => self.apply(number, remedy),
            None => {
                self.settle_appends(number);
                self.fill(number);
            }
        }
    }

    /// Does what a refusal asks for, as the client's sender does.
    fn apply(&mut self, number: usize, remedy: Remedy) {
        let it = &mut self.producers[number];
        it.flight.stream_ended();
        let mut pause = Pause::Yes;
        match remedy {
            Remedy::Again(_) => {}
            Remedy::Later(_) => it.leader = None,
            Remedy::Elsewhere(leader) => {
                let here = it.stream.map(|(_, member)| member);
                it.leader = None;
                let leader = leader.and_then(|name| self.named(&name));
                if let Some(leader) = leader.filter(|leader| Some(*leader) != here) {
                    self.producers[number].leader = Some(leader);
                    pause = Pause::UnlessFirst;
                }
            }
            Remedy::NoSuchTopic => it.leader = None,
            Remedy::NotPermitted(what) => {
                self.find(|| format!("a producer is not permitted {what}"));
                return;
            }
            Remedy::Recovered(epoch) => {
                self.find(|| format!("a producer is told of epoch {epoch}"));
                return;
            }
            Remedy::Reject(why) => {
                let topic = it.name.clone();
                let rejected = AppendError::Rejected {
                    topic,
                    why: why.as_str().into(),
                };
                it.flight.fail_first(&why, &rejected);
            }
            Remedy::NewEpoch(why) => it.flight.next_epoch(&why),
            Remedy::NewName(why) => {
                let id = u128::from(it.names.next()) << 64 | u128::from(it.names.next());
                it.flight.rename(ProducerId(id), &why);
            }
        }
        self.end_stream(number, pause, false);
    }

    /// Fails what has waited for too long.
    fn expire(&mut self, number: usize) {
        let now = self.now;
        let it = &mut self.producers[number];
        let then = it.instant(now.saturating_sub(it.load.patience));
        let is_due = |flight: &Flight| flight.since().is_some_and(|since| since <= then);
        if now < it.load.patience || !is_due(&it.flight) {
            return;
        }
        if it.stream.is_some() {
            it.leader = None;
            self.end_stream(number, Pause::No, true);
        }
        let it = &mut self.producers[number];
        let why = "it took too long";
        let verdict = AppendError::NotAppended {
            topic: it.name.clone(),
            why: why.into(),
        };
        while is_due(&it.flight) {
            it.flight.fail_first(why, &verdict);
        }
        self.settle_appends(number);
    }

    /// The topic is gone.
    pub(crate) fn give_up(&mut self, number: usize) {
        let it = &mut self.producers[number];
        it.is_ending = true;
        let topic = it.name.clone();
        if let Some((pipe, _)) = it.stream.take() {
            self.close(pipe);
        }
        let it = &mut self.producers[number];
        it.turn += 1;
        it.flight.fail_all(
            "there is no such topic",
            &AppendError::NoSuchTopic { topic },
        );
        self.settle_appends(number);
    }

    /// Tells what has its fate.
    fn settle_appends(&mut self, number: usize) {
        let at = self.time();
        let it = &mut self.producers[number];
        drop(it.flight.settled());
        let mut acknowledged = 0;
        let mut waiting = VecDeque::with_capacity(it.pending.len());
        for (append, ticket) in it.pending.drain(..) {
            let outcome = match ticket.outcome() {
                None => {
                    waiting.push_back((append, ticket));
                    continue;
                }
                Some(Ok(appended)) => {
                    acknowledged += 1;
                    Outcome::Acknowledged {
                        offset: appended.offset.0,
                    }
                }
                Some(Err(AppendError::Ambiguous { .. })) => Outcome::Unknown,
                Some(Err(_)) => Outcome::Failed,
            };
            self.history.append_ended(at, append, outcome);
        }
        it.pending = waiting;
        if acknowledged > 0 {
            self.trace.note(self.now, 12, acknowledged);
        }
    }
}
