//! A producer: the client's own decisions about batches on their way, and around them the client's way
//! of finding the leader, of losing it, and of trying again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kontiki_client::{
    AppendError, Ticket,
    parts::{BatchFate, Flight, Gathered, Instant, Remedy, Serial},
};
use kontiki_wire::{
    Answer, BatchBuilder, GroupId, ProducerId, Record, Request, Response, TopicName,
};

use crate::{
    chance::Chance,
    event::{Event, PipeId, Wake},
    history::{AppendId, Outcome, Value},
    pipe::{Asker, End, Up},
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

/// How long a leader may owe an answer before its successor is looked for.
const SILENCE_MAX: u64 = 150_000;
/// How long a leader that nobody contradicts may owe an answer before everything is sent again.
const ANSWER_TIME_MAX: u64 = 5_000_000;
/// The first pause between attempts that did not help; it doubles up to the second.
const RETRY_FIRST: u64 = 10_000;
/// The longest such pause.
const RETRY_LONGEST: u64 = 500_000;
/// How long a member may take to say who leads.
const ROUTE_TIME_MAX: u64 = 400_000;
/// How often a producer that waits looks at what it waits for.
const WATCH: u64 = 100_000;

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

    fn plan_watch(&mut self, number: usize) {
        let it = &mut self.producers[number];
        if !std::mem::replace(&mut it.watched, true) {
            let what = Wake::Watch { turn: it.turn };
            self.plan_in(
                WATCH,
                Event::Producer {
                    producer: number,
                    what,
                },
            );
        }
    }

    /// Looks for the leader after a while.
    fn begin_route(&mut self, number: usize, delay: u64) {
        let it = &mut self.producers[number];
        it.turn += 1;
        it.watched = false;
        let what = Wake::Route { turn: it.turn };
        self.plan_in(
            delay,
            Event::Producer {
                producer: number,
                what,
            },
        );
    }

    fn route(&mut self, number: usize) {
        self.expire(number);
        if let Some(leader) = self.producers[number].leader {
            self.open_stream(number, leader);
            return;
        }
        let count = self.members.len();
        let it = &mut self.producers[number];
        let member = it.names.below(count);
        let asker = Asker::Producer(number, it.turn);
        let name = it.name.clone();
        let asked = self.ask(asker, member, Request::Topic { name }, ROUTE_TIME_MAX);
        if asked.is_none() {
            self.pause(number);
        }
    }

    /// Somebody has said who leads, or has not.
    pub(crate) fn routed(&mut self, number: usize, turn: u32, response: Option<Response>) {
        if self.producers[number].turn != turn {
            return;
        }
        let leader = match response {
            Some(Response::Topic(info)) if info.group == self.producers[number].group => {
                info.leader
            }
            Some(Response::Refused(kontiki_wire::Refusal::NoSuchTopic { .. }))
                if self.is_deleted(self.producers[number].group) =>
            {
                self.give_up(number);
                return;
            }
            _ => None,
        };
        let leader = leader.and_then(|name| self.member_named(&name));
        match leader {
            Some(leader) if self.producers[number].stream.is_none() => {
                self.producers[number].leader = Some(leader);
                self.open_stream(number, leader);
            }
            // While an answer is owed somebody else was asked who leads.
            Some(leader) => self.successor(number, leader),
            None if self.producers[number].stream.is_none() => self.pause(number),
            None => {}
        }
    }

    fn open_stream(&mut self, number: usize, leader: usize) {
        let Some(pipe) = self.connect(End::Producer(number), leader) else {
            self.producers[number].leader = None;
            self.pause(number);
            return;
        };
        let it = &mut self.producers[number];
        it.turn += 1;
        it.watched = false;
        it.stream = Some((pipe, leader));
        it.remedy = None;
        it.owed_since = None;
        self.fill(number);
        self.plan_watch(number);
    }

    fn pause(&mut self, number: usize) {
        let it = &mut self.producers[number];
        let pause = it.pause;
        it.pause = (pause * 2).min(RETRY_LONGEST);
        let delay = pause / 2 + it.names.between(0, pause / 2 + 1);
        self.begin_route(number, delay);
    }

    /// Looks whether an answer is overdue, and asks others who leads if it is.
    fn watch(&mut self, number: usize) {
        self.producers[number].watched = false;
        self.expire(number);
        let now = self.now;
        let it = &mut self.producers[number];
        let Some((pipe, member)) = it.stream else {
            return;
        };
        let owed = it.owed_since.map_or(0, |since| now - since);
        if owed >= ANSWER_TIME_MAX {
            self.stream_lost(number, pipe);
            return;
        }
        if owed >= SILENCE_MAX {
            let turn = it.turn;
            let name = it.name.clone();
            let other = it.names.below(self.members.len());
            if other != member {
                let asker = Asker::Producer(number, turn);
                self.ask(asker, other, Request::Topic { name }, ROUTE_TIME_MAX);
            }
        }
        self.plan_watch(number);
    }

    /// While the leader owes an answer, somebody names another one.
    fn successor(&mut self, number: usize, leader: usize) {
        let it = &mut self.producers[number];
        let silent = it
            .owed_since
            .is_some_and(|since| self.now - since >= SILENCE_MAX);
        if let Some((_, member)) = it.stream
            && member != leader
            && silent
        {
            it.leader = Some(leader);
            self.end_stream(number, Pause::No, true);
        }
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
                let leader = leader.and_then(|name| self.member_named(&name));
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

    fn member_named(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }
}
