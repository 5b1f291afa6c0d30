//! What travels between clients and members, and what a member's sessions do with it.

use kontiki_broker::{Input, StreamId};
use kontiki_wire::{GroupId, Refusal, Request, Response, StreamEnd, TopicName};

use crate::{
    delivery::{Delivery, Pumped, UNTAKEN_MAX},
    event::{Event, PipeId, Process},
    member::Waiting,
    pipe::{Asker, Down, End, Pipe, Up},
    world::World,
};

/// Between two attempts of the network to get something through.
const RETRANSMIT: u64 = 120_000;
/// Bytes of one delivery: small, so that there are many.
const DELIVERY_BYTES: usize = 4 << 10;

impl World {
    /// Opens a way to a member; `None` if its process is not there.
    pub(crate) fn connect(&mut self, end: End, member: usize) -> Option<PipeId> {
        let it = &self.members[member];
        if it.host.is_none() || !self.network.hears_clients(member) {
            return None;
        }
        self.last_pipe += 1;
        let pipe = Pipe::new(end, member, it.life);
        self.pipes.insert(self.last_pipe, pipe);
        Some(self.last_pipe)
    }

    /// Opens a way for one question; whoever asked hears at the latest after `time`.
    pub(crate) fn ask(
        &mut self,
        asker: Asker,
        member: usize,
        request: Request,
        time: u64,
    ) -> Option<PipeId> {
        self.question(asker, member, Up::Ask(request), time)
    }

    /// The same, of any kind.
    pub(crate) fn question(
        &mut self,
        asker: Asker,
        member: usize,
        what: Up,
        time: u64,
    ) -> Option<PipeId> {
        let pipe = self.connect(End::Ask(asker), member)?;
        self.up(pipe, what);
        self.plan_in(time, Event::Unanswered { pipe });
        Some(pipe)
    }

    /// A client says something.
    pub(crate) fn up(&mut self, pipe: PipeId, what: Up) {
        let Some(it) = self.pipes.get_mut(&pipe) else {
            return;
        };
        it.up.push_back(what);
        if !std::mem::replace(&mut it.planned.0, true) {
            let delay = self.network.client_delay();
            self.plan_in(delay, Event::Carry { pipe, up: true });
        }
    }

    /// A member says something; whoever has gone does not hear it.
    pub(crate) fn down(&mut self, pipe: PipeId, what: Down) {
        let Some(it) = self.pipes.get_mut(&pipe) else {
            return;
        };
        it.down.push_back(what);
        if !std::mem::replace(&mut it.planned.1, true) {
            let delay = self.network.client_delay();
            self.plan_in(delay, Event::Carry { pipe, up: false });
        }
    }

    /// The client is done with it.
    pub(crate) fn close(&mut self, pipe: PipeId) {
        if let Some(it) = self.pipes.remove(&pipe)
            && let Some(host) = &mut self.members[it.member].host
        {
            host.deliveries.remove(&pipe);
        }
    }

    /// What was said arrives, all of it.
    pub(crate) fn carry(&mut self, pipe: PipeId, up: bool) {
        let Some(it) = self.pipes.get_mut(&pipe) else {
            return;
        };
        let member = it.member;
        let is_there = {
            let there = &self.members[member];
            there.host.is_some() && there.life == it.life
        };
        let waits = !self.network.hears_clients(member)
            || (up && self.members[member].paused_until > self.now);
        if waits {
            self.plan_in(RETRANSMIT, Event::Carry { pipe, up });
            return;
        }
        if up {
            it.planned.0 = false;
            let said = std::mem::take(&mut it.up);
            if is_there {
                for what in said {
                    self.arrived(pipe, member, what);
                }
            }
        } else {
            it.planned.1 = false;
            let end = it.end;
            let said = std::mem::take(&mut it.down);
            for what in said {
                self.told(pipe, end, what);
            }
        }
    }

    /// A member's session takes what a client said.
    fn arrived(&mut self, pipe: PipeId, member: usize, what: Up) {
        let Some(host) = &mut self.members[member].host else {
            return;
        };
        match what {
            Up::Append { topic, batch } => {
                let sequence = batch.header().sequence;
                self.trace.note(self.now, 11, sequence);
                match host.group_named(&topic) {
                    Some(group) => {
                        let stream = StreamId(pipe);
                        let append = Input::Append {
                            stream,
                            group,
                            batch,
                        };
                        self.input(member, append);
                    }
                    None => {
                        let waiting = Waiting::Elsewhere { pipe, sequence };
                        let ticket = host.ticket(waiting);
                        let request = Request::Topic { name: topic };
                        self.input(member, Input::Request { ticket, request });
                    }
                }
            }
            Up::Ask(request) => {
                let ticket = host.ticket(Waiting::Client(pipe));
                self.input(member, Input::Request { ticket, request });
            }
            Up::Command(command) => {
                let ticket = host.ticket(Waiting::Client(pipe));
                self.input(member, Input::Command { ticket, command });
            }
            Up::Subscribe(subscribe) => match host.group_named(&subscribe.topic) {
                Some(group) if subscribe.group.is_none_or(|meant| meant == group) => {
                    host.deliveries
                        .insert(pipe, Delivery::new(group, subscribe));
                    self.plan_pump(member, pipe, 10);
                }
                here => self.not_here(pipe, subscribe.group, here, &subscribe.topic),
            },
            Up::Taken => {
                if let Some(delivery) = host.deliveries.get_mut(&pipe) {
                    delivery.untaken = 0;
                    self.plan_pump(member, pipe, 10);
                }
            }
        }
    }

    /// A subscription means a topic that this member does not have, or has another of its name.
    fn not_here(
        &mut self,
        pipe: PipeId,
        meant: Option<GroupId>,
        here: Option<GroupId>,
        name: &TopicName,
    ) {
        let end = match (meant, here) {
            (Some(meant), Some(here)) if here > meant => StreamEnd::Deleted { group: meant },
            (_, Some(_)) => StreamEnd::Refused(Refusal::Unavailable {
                why: "this member has not heard yet that the topic was made anew".to_owned(),
            }),
            (_, None) => StreamEnd::Refused(Refusal::NoSuchTopic {
                name: name.to_string(),
            }),
        };
        self.down(pipe, Down::End(end));
    }

    pub(crate) fn plan_pump(&mut self, member: usize, pipe: PipeId, delay: u64) {
        let Some(host) = &mut self.members[member].host else {
            return;
        };
        let Some(delivery) = host.deliveries.get_mut(&pipe) else {
            return;
        };
        if !std::mem::replace(&mut delivery.pump_planned, true) {
            self.plan_process(delay, member, Process::Pump { pipe });
        }
    }

    /// A topic's watermark has risen.
    pub(crate) fn pump_all(&mut self, member: usize, group: GroupId) {
        let Some(host) = &self.members[member].host else {
            return;
        };
        let of_group = host.deliveries.iter();
        let of_group = of_group.filter(|(_, delivery)| delivery.group == group);
        let pipes: Vec<_> = of_group.map(|(pipe, _)| *pipe).collect();
        for pipe in pipes {
            self.plan_pump(member, pipe, 20);
        }
    }

    /// A subscription's pump looks once.
    pub(crate) fn pump(&mut self, number: usize, pipe: PipeId) {
        let member = &mut self.members[number];
        let wall = member.clock.now(self.now).wall.0;
        let Some(host) = &mut member.host else {
            return;
        };
        let Some(delivery) = host.deliveries.get_mut(&pipe) else {
            return;
        };
        delivery.pump_planned = false;
        if delivery.untaken >= UNTAKEN_MAX {
            return;
        }
        let kept = host.topics.get(&delivery.group);
        let watermark = kept.and_then(|kept| kept.watermark);
        match delivery.pump(&host.storage, watermark, wall, DELIVERY_BYTES) {
            Pumped::Send(deliver) => {
                delivery.untaken += 1;
                self.down(pipe, Down::Deliver(deliver));
                self.plan_pump(number, pipe, 20);
            }
            Pumped::Wait => {}
            Pumped::End(end) => {
                host.deliveries.remove(&pipe);
                self.down(pipe, Down::End(end));
            }
            Pumped::Unreadable(why) => {
                host.deliveries.remove(&pipe);
                self.unreadable(number, &why);
                let refusal = Refusal::Unavailable { why };
                self.down(pipe, Down::End(StreamEnd::Refused(refusal)));
            }
        }
    }

    /// A topic is gone from a member.
    pub(crate) fn end_deliveries(&mut self, number: usize, group: GroupId, end: &StreamEnd) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        let of_group = host.deliveries.iter();
        let of_group = of_group.filter(|(_, delivery)| delivery.group == group);
        let pipes: Vec<_> = of_group.map(|(pipe, _)| *pipe).collect();
        for pipe in pipes {
            if let Some(host) = &mut self.members[number].host {
                host.deliveries.remove(&pipe);
            }
            self.down(pipe, Down::End(end.clone()));
        }
    }

    /// A client hears what a member said.
    fn told(&mut self, pipe: PipeId, end: End, what: Down) {
        match (end, what) {
            (End::Producer(producer), Down::Answer(answer)) => {
                self.answered(producer, pipe, &answer);
            }
            (End::Consumer(consumer), Down::Deliver(deliver)) => {
                self.delivered(consumer, pipe, deliver);
            }
            (End::Consumer(consumer), Down::End(end)) => self.ended(consumer, pipe, end),
            (End::Ask(asker), Down::Response(response)) => {
                self.close(pipe);
                self.response(asker, Some(*response));
            }
            (end, what) => unreachable!("{end:?} is told {what:?}"),
        }
    }

    fn response(&mut self, asker: Asker, response: Option<Response>) {
        match asker {
            Asker::Producer(producer, turn) => self.routed(producer, turn, response),
            Asker::Reader(reader) => self.tail_read(reader, response),
            Asker::Operator(order, turn) => self.order_answered(order, turn, response),
        }
    }

    /// Nobody has answered for long enough.
    pub(crate) fn unanswered(&mut self, pipe: PipeId) {
        if let Some(Pipe {
            end: End::Ask(asker),
            ..
        }) = self.pipes.get(&pipe)
        {
            let asker = *asker;
            self.close(pipe);
            self.response(asker, None);
        }
    }

    /// A member's process has ended, and with it its clients' ways to it.
    pub(crate) fn end_pipes(&mut self, member: usize, system_lives: bool) {
        let of_it = self.pipes.iter().filter(|(_, pipe)| pipe.member == member);
        let of_it: Vec<PipeId> = of_it.map(|(pipe, _)| *pipe).collect();
        for pipe in of_it {
            let delay = if system_lives {
                self.chance.between(100, 10_000)
            } else {
                self.chance.between(300_000, 3_000_000)
            };
            self.plan_in(delay, Event::Cut { pipe });
        }
    }

    /// A client learns that nobody is there any more.
    pub(crate) fn cut_pipe(&mut self, pipe: PipeId) {
        let Some(it) = self.pipes.get(&pipe) else {
            return;
        };
        match it.end {
            End::Producer(producer) => self.stream_lost(producer, pipe),
            End::Consumer(consumer) => self.leave(consumer),
            End::Ask(_) => self.unanswered(pipe),
        }
    }
}
