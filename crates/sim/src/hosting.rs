//! What a member's machine and process do: start, take a turn, have the effects done, and end.

use kontiki_broker::{Broker, Effect, GroupBoot, Input};
use kontiki_raft::{Micros, Role};
use kontiki_storage::Event as Told;
use kontiki_wire::{AppendRefused, Offset, PeerLane, Refusal, Response, StreamEnd};

use crate::{
    event::{Event, Process},
    invariants::Observation,
    member::{Host, Kept, NoStart, Waiting},
    pipe::Down,
    world::World,
};

/// Inputs that one turn takes.
const INPUTS_PER_TURN_MAX: usize = 256;
/// A process that did not come up or stopped itself is started again after about this long.
const RESTART: u64 = 400_000;
/// How long nothing is written before the journal writes a mark.
const QUIET: u64 = 100_000;
/// How long after it syncs that mark.
const QUIET_AGAIN: u64 = 1_000_000;
/// How often the background looks again.
const LOOK_AGAIN: u64 = 50_000;

impl World {
    /// Starts a member's process, unless it runs or something holds it down.
    pub(crate) fn start(&mut self, number: usize) {
        let members = self.members.iter().map(|member| member.known()).collect();
        let at = self.now;
        let member = &mut self.members[number];
        if member.host.is_some() || member.held_down > 0 {
            return;
        }
        match member.start(at, &self.plan.tuning, members) {
            Ok(groups) => {
                self.trace.note(at, 2, number as u64);
                let name = &member.name;
                let damage = member.host.as_ref().map_or(0, |host| host.damage.len());
                self.trace.tell(at, || match damage {
                    0 => format!("{name} starts"),
                    damage => format!("{name} starts, {damage} damages found"),
                });
                let groups = &groups;
                self.observe(number, &Observation::Started { groups });
                self.check_restored(number, groups);
                self.check_damage(number);
                self.plan_turn(number);
                self.open_links(number);
            }
            Err(NoStart::Broker(why)) => {
                self.find(|| format!("n{} does not start from its disk: {why}", number + 1));
            }
            Err(NoStart::Disk(error)) => self.did_not_open(number, &error),
        }
    }

    /// What a checkpoint kept is what the broker has made of it.
    fn check_restored(&mut self, number: usize, groups: &[GroupBoot]) {
        for found in groups.iter().filter(|found| found.checkpoint.is_some()) {
            let host = self.members[number].host.as_ref();
            let state = host.and_then(|host| host.broker.state(found.group));
            if let Some((at, state)) = state {
                let (group, state) = (found.group, &state);
                self.observe(number, &Observation::Has { group, at, state });
            }
        }
    }

    /// A disk that nobody damaged is not found to be damaged.
    fn check_damage(&mut self, number: usize) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        if !self.members[number].is_harmed
            && let Some(damage) = host.damage.first().cloned()
        {
            self.find(|| format!("n{} finds damage that nobody did: {damage}", number + 1));
        }
    }

    fn did_not_open(&mut self, number: usize, error: &kontiki_storage::Error) {
        self.trace.note(self.now, 3, number as u64);
        let at = self.now;
        let member = &mut self.members[number];
        let name = &member.name;
        self.trace
            .tell(at, || format!("{name} does not start: {error}"));
        if member.disk.has_ended() {
            member.lose_power();
        } else if !member.disk.took_fault() {
            self.find(|| {
                format!(
                    "n{}: a disk without a fault does not open: {error}",
                    number + 1
                )
            });
            return;
        }
        let delay = RESTART / 2 + self.chance.around(RESTART / 2);
        self.plan_in(delay, Event::Start { member: number });
    }

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

    fn plan_turn(&mut self, member: usize) {
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
            }
            Effect::TopicRemoved(group) => {
                host.topics.remove(&group);
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
            Effect::Mending { note, .. } => self.trace.tell(at, || note),
            Effect::Members(_) => {}
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

    /// The writer begins with what is queued, as soon as it is free. What comes while it writes waits for
    /// the next write.
    pub(crate) fn plan_write(&mut self, number: usize) {
        let slow = self.disk_delay(number);
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if !host.is_writing && host.hands.take() {
            host.is_writing = true;
            self.plan_process(slow, number, Process::Written);
        }
    }

    pub(crate) fn plan_settle(&mut self, number: usize) {
        let delay = self.members[number].chance.between(100, 3_000);
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if !std::mem::replace(&mut host.is_settling, true) {
            self.plan_process(delay, number, Process::Settle);
        }
    }

    fn disk_delay(&mut self, number: usize) -> u64 {
        let sync = self.plan.sync;
        let now = self.now;
        let member = &mut self.members[number];
        let (until, slow) = member.slow_disk;
        let slow = if now < until { slow } else { 0 };
        30 + member.chance.around(sync + slow)
    }

    pub(crate) fn written(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.is_writing = false;
        let wrote = host.hands.write();
        if wrote {
            host.writes += 1;
            let writes = host.writes;
            let again = false;
            self.plan_write(number);
            self.plan_settle(number);
            self.plan_process(QUIET, number, Process::Quiet { writes, again });
        }
        self.hear_storage(number);
    }

    pub(crate) fn settle(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.is_settling = false;
        if host.hands.settle() {
            let looks_again = std::mem::replace(&mut host.looks_again, true);
            self.plan_settle(number);
            self.plan_write(number);
            if !looks_again {
                self.plan_process(LOOK_AGAIN, number, Process::LookAgain);
            }
        }
        self.hear_storage(number);
    }

    pub(crate) fn quiet(&mut self, number: usize, writes: u64, again: bool) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if host.writes != writes || host.is_writing {
            return;
        }
        host.hands.idle();
        if !again {
            let again = true;
            self.plan_process(QUIET_AGAIN, number, Process::Quiet { writes, again });
        }
        self.hear_storage(number);
    }

    pub(crate) fn look_again(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.looks_again = false;
        if !host.is_settling {
            host.hands.look_again();
            self.plan_write(number);
        }
        self.hear_storage(number);
    }

    /// What storage has told in its last step; and whether the power went in the middle of it.
    pub(crate) fn hear_storage(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(host) = &mut member.host else {
            return;
        };
        let heard = host.heard();
        if member.disk.has_ended() {
            self.lose_power(number);
            return;
        }
        for told in heard {
            match told {
                Told::Persisted { upto } => {
                    self.trace.note(self.now, 9, (number as u64) << 32 | upto);
                    self.input(number, Input::Persisted { upto });
                }
                Told::Damaged {
                    group,
                    missing,
                    what,
                } => {
                    if !self.members[number].is_harmed {
                        self.find(|| {
                            format!("n{} reads damage that nobody did: {what}", number + 1)
                        });
                    }
                    let damaged = Input::Damaged {
                        group,
                        missing,
                        what,
                    };
                    self.input(number, damaged);
                }
                Told::Mending {
                    group,
                    missing,
                    refused,
                } => {
                    let mending = Input::Mending {
                        group,
                        missing,
                        refused,
                    };
                    self.input(number, mending);
                }
                Told::Mended(group) => {
                    let boot = group.into_boot(self.members[number].me);
                    self.input(number, Input::Mended(Box::new(boot)));
                }
                Told::Failed(error) => {
                    self.failed(number, &error);
                    return;
                }
            }
        }
    }

    /// The disk failed: the process ends at once, as the server's does. Its system lives on.
    fn failed(&mut self, number: usize, error: &kontiki_storage::Error) {
        if !self.members[number].disk.took_fault() {
            self.find(|| format!("n{}: a disk without a fault fails: {error}", number + 1));
            return;
        }
        let name = &self.members[number].name;
        self.trace
            .tell(self.now, || format!("{name} stops itself: {error}"));
        self.end_process(number, true);
        let delay = RESTART / 2 + self.chance.around(RESTART / 2);
        self.plan_in(delay, Event::Start { member: number });
    }

    /// The process ends. Those it talked with learn of it soon if its system lives on, and late if not.
    pub(crate) fn end_process(&mut self, number: usize, system_lives: bool) -> Option<Host> {
        let member = &mut self.members[number];
        let host = member.host.take()?;
        member.paused_until = 0;
        self.observe(number, &Observation::Died);
        self.trace.note(self.now, 10, number as u64);
        self.close_links(number, system_lives);
        self.end_pipes(number, system_lives);
        Some(host)
    }

    /// The power goes, with what of the disk was not synced; it comes back after a while.
    pub(crate) fn lose_power(&mut self, number: usize) {
        let name = &self.members[number].name;
        self.trace
            .tell(self.now, || format!("{name} loses its power"));
        self.end_process(number, false);
        self.members[number].lose_power();
        if self.members.iter().all(|member| member.host.is_none()) {
            self.history.outages.push(Micros(self.now));
        }
        let delay = RESTART / 2 + self.chance.around(RESTART);
        self.plan_in(delay, Event::Start { member: number });
    }
}
