//! What a member's process does: take a turn, and have the effects done.

use kontiki_broker::{Broker, Effect, Input};
use kontiki_raft::{Micros, Role};
use kontiki_wire::{AppendRefused, Offset, PeerLane, Refusal, Response, StreamEnd};

use crate::{
    event::Process,
    invariants::Observation,
    member::{Kept, Waiting},
    pipe::Down,
    world::World,
};

/// Inputs that one turn takes.
const INPUTS_PER_TURN_MAX: usize = 256;

impl World {
    /// Something for the driver's queue.
    pub(crate) fn input(&mut self, member: usize, input: Input) {
        if let Some(host) = &mut self.members[member].host {
            host.inbox.push_back(input);
            self.plan_turn(member);
        }
    }

    /// The driver looks at its clock.
    pub(crate) fn wake_driver(&mut self, member: usize) {
        self.plan_turn(member);
    }

    pub(crate) fn plan_turn(&mut self, member: usize) {
        let Some(host) = &mut self.members[member].host else {
            return;
        };
        if !std::mem::replace(&mut host.turn_planned, true) {
            let delay = self.members[member].chance.between(5, 120);
            self.plan_process(delay, member, Process::Turn);
        }
    }

    pub(crate) fn alarm(&mut self, member: usize) {
        let now = self.now;
        if let Some(host) = &mut self.members[member].host
            && host.alarm.is_some_and(|at| at <= now)
        {
            host.alarm = None;
            self.plan_turn(member);
        }
    }

    /// One turn of the driver.
    pub(crate) fn turn(&mut self, number: usize) {
        let member = &mut self.members[number];
        let now = member.clock.now(self.now);
        let Some(host) = &mut member.host else {
            return;
        };
        host.turn_planned = false;
        let mut taken = 0;
        let seen = self.now;
        let mut finding = None;
        let mut handle = |broker: &mut Broker, input: Input| {
            let took = Observation::Took { input: &input };
            let seen = self.invariants.observe(Micros(seen), member.me, &took);
            finding = finding.take().or_else(|| seen.err());
            broker.handle(now, input);
        };
        while taken < INPUTS_PER_TURN_MAX
            && let Some(input) = host.inbox.pop_front()
        {
            handle(&mut host.broker, input);
            taken += 1;
        }
        let due = host.broker.next_deadline();
        let is_due = due.is_some_and(|at| at <= now.monotonic);
        if is_due {
            handle(&mut host.broker, Input::Timer);
        }
        if let Some(finding) = finding {
            self.find(|| finding.to_string());
            return;
        }
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        let mut effects = Vec::new();
        host.broker.drain(now, &mut effects);
        let next = host.broker.next_deadline();
        if is_due && next.is_some_and(|at| at <= now.monotonic) {
            self.find(|| format!("n{} was woken, and wants to have been again", number + 1));
            return;
        }
        self.trace.note(
            self.now,
            4,
            (number as u64) << 32 | (taken as u64) << 16 | effects.len() as u64,
        );
        for effect in effects {
            self.observe(number, &Observation::Does { effect: &effect });
            self.perform(number, effect);
            if self.members[number].host.is_none() {
                return;
            }
        }
        self.set_alarm(number);
    }

    fn set_alarm(&mut self, number: usize) {
        let now = self.now;
        let member = &mut self.members[number];
        let Some(host) = &mut member.host else {
            return;
        };
        if !host.inbox.is_empty() {
            self.plan_turn(number);
            return;
        }
        let Some(deadline) = host.broker.next_deadline() else {
            return;
        };
        let at = member.clock.moment(deadline.0).max(now + 1);
        if host.alarm.is_none_or(|alarm| at < alarm || alarm <= now) {
            host.alarm = Some(at);
            self.plan_process(at - now, number, Process::Timer);
        }
    }

    fn perform(&mut self, number: usize, effect: Effect) {
        let at = self.now;
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        match effect {
            Effect::Persist(writes) => {
                self.trace.note(at, 5, writes.seq);
                host.storage.persist(writes);
                self.plan_write(number);
            }
            Effect::Send { to, lane, messages } => self.send(number, to, lane, messages),
            Effect::Beat { to, beat } => {
                let from = self.members[number].me;
                self.say(number, to, PeerLane::Beats, Input::Beat { from, beat });
            }
            Effect::SendLog { group, send } => {
                let delay = 50 + self.members[number].chance.around(200);
                let send = Box::new(send);
                self.plan_process(delay, number, Process::Read { group, send });
            }
            Effect::Applied {
                group,
                placed,
                watermark,
            } => {
                self.trace.note(at, 6, group.0 << 48 | watermark.0);
                host.storage.applied(group, &placed);
                self.raise(number, group, watermark);
                self.plan_settle(number);
            }
            Effect::Checkpoint {
                group,
                at: upto,
                state,
            } => {
                self.trace.note(at, 7, group.0 << 48 | upto.index.0);
                host.storage.checkpoint(group, upto, state);
                self.plan_settle(number);
            }
            Effect::Answer { stream, answer } => self.down(stream.0, Down::Answer(answer)),
            Effect::Respond { ticket, response } => {
                if let Some(waiting) = host.tickets.remove(&ticket) {
                    self.respond(waiting, response);
                }
            }
            Effect::TopicMade(topic) => {
                let kept = Kept {
                    name: topic.name,
                    watermark: None,
                };
                host.topics.entry(topic.group).or_insert(kept);
                host.storage.revive(topic.group);
            }
            Effect::TopicRemoved(group) => {
                host.topics.remove(&group);
                host.stop_fetching(group);
                host.storage.remove(group);
                self.end_deliveries(number, group, &StreamEnd::Deleted { group });
                self.plan_write(number);
                self.plan_settle(number);
            }
            Effect::TopicClosed(group) => {
                host.topics.remove(&group);
                self.end_deliveries(number, group, &StreamEnd::Moving);
            }
            Effect::Ask { to, missing } => {
                let from = self.members[number].me;
                self.say(number, to, PeerLane::Log, Input::Asked { from, missing });
            }
            Effect::Find { to, missing } => self.find_and_send(number, to, missing),
            Effect::Mend { group, entries } => {
                host.storage.mend(group, entries);
                self.plan_settle(number);
            }
            Effect::Mending { note, .. } | Effect::Fetching { note, .. } => {
                self.trace.tell(at, || note)
            }
            Effect::Inquire { to, inquiry } => {
                let from = self.members[number].me;
                self.say(number, to, PeerLane::Log, Input::Inquired { from, inquiry });
            }
            Effect::Stocktake { to, inquiry } => self.tell_stock(number, to, inquiry),
            Effect::Fetch { group, from } => self.begin_fetch(number, group, from),
            Effect::Adopt { group, forgot } => self.adopt(number, group, forgot),
            Effect::Forgo(group) => {
                host.stop_fetching(group);
                host.storage.forgo(group);
                self.plan_settle(number);
            }
            Effect::Relay { to, command } => {
                let from = self.members[number].me;
                self.say(number, to, PeerLane::Log, Input::Relayed { from, command });
            }
            Effect::Members(members) => {
                host.members = members;
                self.hang_up(number);
            }
            // Nobody shows a certificate here.
            Effect::Trust(_) => {}
            Effect::Expelled { why } => {
                self.trace.tell(at, || why);
                self.members[number].is_out = true;
                self.end_process(number, true);
            }
            Effect::RoleChanged {
                group,
                term,
                role,
                why,
            } => {
                self.trace.note(at, 8, group.0 << 32 | term.0);
                let name = &self.members[number].name;
                self.trace.tell(at, || {
                    let role = match role {
                        Role::Follower { leader: None } => "follows nobody".to_owned(),
                        Role::Follower {
                            leader: Some(leader),
                        } => format!("follows n{}", leader.id),
                        Role::PreCandidate => "asks for pre-votes".to_owned(),
                        Role::Candidate => "asks for votes".to_owned(),
                        Role::Leader => "leads".to_owned(),
                    };
                    format!("{name} {role} in term {term} of group {group}: {why}")
                });
            }
            Effect::Halt { reason } => {
                self.find(|| format!("n{} stops itself: {reason}", number + 1));
            }
        }
    }

    fn raise(&mut self, number: usize, group: kontiki_wire::GroupId, to: Offset) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        let Some(kept) = host.topics.get_mut(&group) else {
            return;
        };
        let before = kept.watermark.replace(to);
        if before.is_some_and(|before| before > to) {
            self.find(|| {
                format!(
                    "n{}: the watermark of group {group} fell to {to}",
                    number + 1
                )
            });
            return;
        }
        if before != Some(to) {
            self.pump_all(number, group);
        }
    }

    /// Somebody who asked gets the response.
    fn respond(&mut self, waiting: Waiting, response: Response) {
        match waiting {
            Waiting::Client(pipe) => self.down(pipe, Down::Response(Box::new(response))),
            Waiting::Elsewhere { pipe, sequence } => {
                let refusal = match response {
                    Response::Topic(info) => Refusal::NotLeader {
                        leader: info.leader,
                    },
                    Response::Refused(refusal) => refusal,
                    _ => Refusal::NoSuchTopic {
                        name: String::new(),
                    },
                };
                let refused = AppendRefused { sequence, refusal };
                self.down(pipe, Down::Answer(Err(refused)));
            }
        }
    }
}
