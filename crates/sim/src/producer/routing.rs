//! How a producer finds the leader, and how it notices that there is another one.

use kontiki_wire::{Request, Response};

use crate::{
    event::{Event, Wake},
    pipe::{Asker, End},
    producer::Pause,
    world::World,
};

/// How long a leader may owe an answer before its successor is looked for.
const SILENCE_MAX: u64 = 150_000;
/// How long a leader that nobody contradicts may owe an answer before everything is sent again.
const ANSWER_TIME_MAX: u64 = 5_000_000;
/// The longest such pause.
const RETRY_LONGEST: u64 = 500_000;
/// How long a member may take to say who leads.
const ROUTE_TIME_MAX: u64 = 400_000;
/// How often a producer that waits looks at what it waits for.
const WATCH: u64 = 100_000;

impl World {
    pub(super) fn plan_watch(&mut self, number: usize) {
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
    pub(super) fn begin_route(&mut self, number: usize, delay: u64) {
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

    pub(super) fn route(&mut self, number: usize) {
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
        let leader = leader.and_then(|name| self.named(&name));
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

    pub(super) fn pause(&mut self, number: usize) {
        let it = &mut self.producers[number];
        let pause = it.pause;
        it.pause = (pause * 2).min(RETRY_LONGEST);
        let delay = pause / 2 + it.names.between(0, pause / 2 + 1);
        self.begin_route(number, delay);
    }

    /// Looks whether an answer is overdue, and asks others who leads if it is.
    pub(super) fn watch(&mut self, number: usize) {
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
}
