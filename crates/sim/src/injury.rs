//! Faults at work: what each does to the world, and what is undone at its end.

use kontiki_storage::Fault as DiskFault;
use kontiki_wire::Standing;

use crate::{
    chance::Chance,
    damage,
    event::{Event, Process},
    faults::{Fault, Kind},
    invariants::Observation,
    member::Host,
    network::Quality,
    plan::{Load, Topic},
    world::World,
};

/// What a fault's end undoes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injury {
    cuts: Vec<(usize, usize)>,
    worse: Vec<(usize, usize, Quality)>,
    client_cuts: Vec<usize>,
    held_down: Vec<usize>,
    is_death: bool,
    full: Vec<usize>,
    drifting: Vec<usize>,
    /// Somebody who is to keep topics and to vote again, by name.
    stood_down: Option<String>,
    unbalanced: bool,
}

impl Injury {
    /// A member is kept from starting until the end of the fault.
    pub(crate) fn hold_down(&mut self, member: usize) {
        self.held_down.push(member);
        self.is_death = true;
    }

    /// Whether this member is to stand up again when the fault is over.
    pub(crate) fn has_stood_down(&self, name: &str) -> bool {
        self.stood_down.as_deref() == Some(name)
    }

    /// Whether a member is as good as dead.
    pub(crate) fn holds_down(&self) -> bool {
        self.is_death
    }
}

/// Topics at a time.
const TOPICS_MAX: usize = 6;
/// A power cut comes within so many calls of a disk,
const CALLS_MAX: u64 = 60;
/// and after this long at the latest.
const POWER_OFF_BY: u64 = 200_000;

impl World {
    /// A fault sets in.
    pub(crate) fn begin_fault(&mut self, number: usize) {
        if self.is_healed {
            return;
        }
        let fault = self.plan.faults[number];
        let mut chance = Chance::new(fault.seed);
        let mut injury = Injury::default();
        let hit = self.injure(fault, &mut chance, &mut injury);
        let Some(hit) = hit else {
            return;
        };
        self.count(fault.kind);
        self.trace
            .note(self.now, 20 + fault.kind as u64, number as u64);
        self.trace.tell(self.now, || {
            let lasts = (fault.until - fault.at) as f64 / 1e6;
            format!(
                "FAULT {number} {}: {hit}, for {lasts:.3} s",
                fault.kind.name()
            )
        });
        self.injuries.insert(number, injury);
        self.plan_at(fault.until, Event::End { fault: number });
    }

    /// Does it, and says to whom; `None` if there is nothing that it could be done to.
    fn injure(&mut self, fault: Fault, chance: &mut Chance, injury: &mut Injury) -> Option<String> {
        match fault.kind {
            Kind::SlowLinks
            | Kind::LostMessages
            | Kind::DoubledMessages
            | Kind::OvertakenMessages => Some(self.worsen(fault.kind, chance, injury)),
            Kind::OneWay | Kind::Bridge | Kind::Isolated | Kind::Split => {
                Some(self.cut_apart(fault.kind, chance, injury))
            }
            Kind::Clog => Some(self.clog(fault.until, chance)),
            Kind::BrokenLinks => Some(self.break_links(chance)),
            Kind::ClientsCut => Some(self.cut_clients(chance, injury)),
            Kind::Pause => self.stand_still(fault.until, chance),
            Kind::Kill | Kind::RestartAll | Kind::Stop | Kind::StateLost => {
                self.end_processes(fault.kind, chance, injury)
            }
            Kind::SegmentDamaged | Kind::JournalDamaged | Kind::Wiped => {
                self.harm(fault.kind, chance, injury)
            }
            Kind::PowerOne | Kind::PowerMinority | Kind::PowerMajority | Kind::PowerAll => {
                self.cut_power(fault.kind, chance, injury)
            }
            Kind::SlowDisk | Kind::FailingDisk | Kind::FullDisk => {
                Some(self.hurt_disk(fault, chance, injury))
            }
            Kind::WallJump | Kind::Drift => Some(self.turn_clock(fault.kind, chance, injury)),
            Kind::TopicMade | Kind::TopicDeleted | Kind::Transfer => {
                self.order_something(fault.kind, chance)
            }
            Kind::MemberJoined | Kind::MemberRemoved | Kind::MemberReplaced => {
                self.change_members(fault, chance, injury)
            }
            Kind::MemberDrained | Kind::MemberDemoted => {
                let member = self.stand_down(fault.kind, chance)?;
                injury.stood_down = Some(member.clone());
                Some(member)
            }
            Kind::Unheard => self.leave_unheard(chance, injury),
            Kind::BalanceOff => {
                self.order_balance(false);
                injury.unbalanced = true;
                Some("everybody".to_owned())
            }
        }
    }

    fn worsen(&mut self, kind: Kind, chance: &mut Chance, injury: &mut Injury) -> String {
        let by = match kind {
            Kind::SlowLinks => Quality {
                delay: *chance.pick(&[3_000, 20_000, 80_000, 300_000]),
                ..Quality::default()
            },
            Kind::LostMessages => Quality {
                lost: chance.between(10, 400),
                ..Quality::default()
            },
            Kind::DoubledMessages => Quality {
                doubled: chance.between(10, 500),
                ..Quality::default()
            },
            _ => Quality {
                overtaken: chance.between(10, 500),
                ..Quality::default()
            },
        };
        let links = self.some_links(chance);
        for (from, to) in &links {
            self.network.worsen(*from, *to, by);
            injury.worse.push((*from, *to, by));
        }
        format!("{} links, {by:?}", links.len())
    }

    /// One link, all of one member, or all.
    fn some_links(&self, chance: &mut Chance) -> Vec<(usize, usize)> {
        let count = self.members.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let all: Vec<_> = all.filter(|(from, to)| from != to).collect();
        let member = chance.below(count);
        match chance.below(3) {
            0 => vec![*chance.pick(&all)],
            1 => {
                let of_it = |link: &&(usize, usize)| link.0 == member || link.1 == member;
                all.iter().filter(of_it).copied().collect()
            }
            _ => all,
        }
    }

    fn cut_apart(&mut self, kind: Kind, chance: &mut Chance, injury: &mut Injury) -> String {
        let count = self.members.len();
        let two = chance.some_of(count, 2);
        let leading = self.somebody(chance);
        let one = leading.unwrap_or(two[0]);
        let other = if two[0] == one { two[1] } else { two[0] };
        let cuts: Vec<(usize, usize)> = match kind {
            Kind::OneWay => vec![(one, other)],
            Kind::Bridge => vec![(one, other), (other, one)],
            Kind::Isolated => {
                let others = (0..count).filter(|number| *number != one);
                let ways = chance.below(4);
                others
                    .flat_map(|number| match ways {
                        0 => vec![(one, number)],
                        1 => vec![(number, one)],
                        _ => vec![(one, number), (number, one)],
                    })
                    .collect()
            }
            _ => {
                let size = chance.between(1, count as u64) as usize;
                let part = chance.some_of(count, size);
                let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
                pairs
                    .filter(|(from, to)| part.contains(from) != part.contains(to))
                    .collect()
            }
        };
        for (from, to) in &cuts {
            self.network.cut(self.now, *from, *to);
            self.watch_silence(*from, *to);
        }
        let told = format!("{cuts:?}");
        injury.cuts = cuts;
        told
    }

    /// A member's topics are to move, and of those who do not keep one of them yet somebody and whoever leads it
    /// do not hear each other, or one of the two the other.
    fn leave_unheard(&mut self, chance: &mut Chance, injury: &mut Injury) -> Option<String> {
        let (leader, newcomer, leaver) = self.draw_move(chance)?;
        let (there, back) = ((leader, newcomer), (newcomer, leader));
        let cuts = match chance.below(3) {
            0 => vec![there],
            1 => vec![back],
            _ => vec![there, back],
        };
        for (from, to) in &cuts {
            self.network.cut(self.now, *from, *to);
            self.watch_silence(*from, *to);
        }
        let told = format!("{cuts:?} while {leaver} drains");
        injury.cuts = cuts;
        self.order_standing(leaver.clone(), Standing::Draining);
        injury.stood_down = Some(leaver);
        Some(told)
    }

    fn clog(&mut self, until: u64, chance: &mut Chance) -> String {
        let links = self.some_links(chance);
        for (from, to) in &links {
            self.network.clog(*from, *to, until);
        }
        format!("{} links", links.len())
    }

    fn break_links(&mut self, chance: &mut Chance) -> String {
        let member = chance.below(self.members.len());
        for other in (0..self.members.len()).filter(|other| *other != member) {
            for (from, to) in [(member, other), (other, member)] {
                let number = self.network.link(from, to).number;
                self.plan_process(0, from, Process::LinkLost { to, number });
            }
        }
        self.members[member].name.clone()
    }

    fn cut_clients(&mut self, chance: &mut Chance, injury: &mut Injury) -> String {
        let many = chance.between(1, self.members.len() as u64 + 1) as usize;
        let members = chance.some_of(self.members.len(), many);
        for member in &members {
            self.network.cut_clients(*member);
        }
        let told = self.names(&members);
        injury.client_cuts = members;
        told
    }

    fn stand_still(&mut self, until: u64, chance: &mut Chance) -> Option<String> {
        let member = self.somebody(chance)?;
        self.members[member].paused_until = until;
        Some(self.members[member].name.clone())
    }

    /// A running member; rather one that suffers already, or leads something.
    fn somebody(&self, chance: &mut Chance) -> Option<usize> {
        let running = |number: &usize| self.members[*number].host.is_some();
        let running: Vec<usize> = (0..self.members.len()).filter(running).collect();
        let leading = |number: &&usize| self.leads_something(**number);
        let leading: Vec<usize> = running.iter().filter(leading).copied().collect();
        let is_slow = |number: &&usize| self.members[**number].slow_disk.0 > self.now;
        let slow: Vec<usize> = running.iter().filter(is_slow).copied().collect();
        if running.is_empty() {
            return None;
        }
        if !slow.is_empty() && chance.permille(400) {
            return Some(*chance.pick(&slow));
        }
        if !leading.is_empty() && chance.permille(500) {
            return Some(*chance.pick(&leading));
        }
        Some(*chance.pick(&running))
    }

    fn leads_something(&self, number: usize) -> bool {
        let member = &self.members[number];
        let Some(host) = &member.host else {
            return false;
        };
        let status = host.broker.status(member.clock.now(self.now));
        let leads = |group: &kontiki_wire::GroupStatus| group.leader.as_ref() == Some(&member.name);
        status.groups.iter().any(leads)
    }

    fn end_processes(
        &mut self,
        kind: Kind,
        chance: &mut Chance,
        injury: &mut Injury,
    ) -> Option<String> {
        let members = match kind {
            Kind::RestartAll => (0..self.members.len()).collect(),
            _ => vec![self.somebody(chance)?],
        };
        for number in &members {
            if let Some(host) = self.end_process(*number, true)
                && kind == Kind::Stop
            {
                self.close_disk(*number, host);
            }
            if kind == Kind::StateLost {
                damage::lose_state(&self.members[*number].disk);
            }
            self.members[*number].held_down += 1;
        }
        let told = self.names(&members);
        injury.held_down = members;
        Some(told)
    }

    /// A member's disk is damaged while it is down.
    fn harm(&mut self, kind: Kind, chance: &mut Chance, injury: &mut Injury) -> Option<String> {
        let harm = self.plan.harm;
        let allowed = |number: &usize| harm.allows(kind, *number);
        let allowed: Vec<usize> = (0..self.members.len()).filter(allowed).collect();
        if allowed.is_empty() {
            return None;
        }
        let number = *chance.pick(&allowed);
        if self.members[number].disk.has_ended() {
            return None;
        }
        self.end_process(number, true);
        let member = &mut self.members[number];
        let what = match kind {
            Kind::SegmentDamaged => self.atlas.damage_segment(number, &member.disk, chance),
            Kind::JournalDamaged => self.atlas.damage_journal(number, &member.disk, chance),
            _ => {
                member.disk = damage::wipe(chance);
                member.has_lost_all = true;
                Some("everything is lost".to_owned())
            }
        };
        self.members[number].held_down += 1;
        injury.held_down = vec![number];
        if let Some(what) = what {
            self.members[number].is_harmed = true;
            self.observe(number, &Observation::Harmed);
            return Some(format!("{}: {what}", self.members[number].name));
        }
        Some(format!(
            "{}: there was nothing to damage",
            self.members[number].name
        ))
    }

    /// The disk is left as a clean stop leaves it.
    fn close_disk(&mut self, number: usize, host: Host) {
        let closed = host.hands.close();
        let disk = &self.members[number].disk;
        if let Err(error) = closed
            && !disk.took_fault()
            && !disk.has_ended()
        {
            self.find(|| format!("n{} does not close its disk: {error}", number + 1));
        }
    }

    fn cut_power(
        &mut self,
        kind: Kind,
        chance: &mut Chance,
        injury: &mut Injury,
    ) -> Option<String> {
        let count = self.members.len();
        let members = match kind {
            Kind::PowerOne => vec![self.somebody(chance)?],
            Kind::PowerMinority => chance.some_of(count, (count - 1) / 2),
            Kind::PowerMajority => chance.some_of(count, count / 2 + 1),
            _ => (0..count).collect(),
        };
        if members.is_empty() {
            return None;
        }
        // All at one instant, or each within the next few calls of its disk.
        let at_once = chance.permille(400);
        for number in &members {
            self.members[*number].held_down += 1;
            if at_once {
                if self.members[*number].host.is_some() {
                    self.lose_power(*number);
                }
                continue;
            }
            let calls = chance.between(0, CALLS_MAX);
            self.members[*number].disk.end_after(calls);
            let life = self.members[*number].life;
            let delay = chance.between(0, POWER_OFF_BY);
            self.plan_in(
                delay,
                Event::PowerOff {
                    member: *number,
                    life,
                },
            );
        }
        let told = self.names(&members);
        injury.held_down = members;
        Some(told)
    }

    fn hurt_disk(&mut self, fault: Fault, chance: &mut Chance, injury: &mut Injury) -> String {
        let anybody = chance.below(self.members.len());
        let number = self.somebody(chance).unwrap_or(anybody);
        let member = &mut self.members[number];
        match fault.kind {
            Kind::SlowDisk => {
                let slow = *chance.pick(&[5_000, 50_000, 400_000]);
                member.slow_disk = (fault.until, slow);
            }
            Kind::FailingDisk => {
                let how = *chance.pick(&[DiskFault::Broken, DiskFault::Full]);
                member.disk.fail_after(chance.between(0, 200), how);
            }
            _ => {
                let room = chance.between(0, 64 << 10);
                member.disk.limit(Some(member.disk.bytes() + room));
                injury.full.push(number);
            }
        }
        member.name.clone()
    }

    fn turn_clock(&mut self, kind: Kind, chance: &mut Chance, injury: &mut Injury) -> String {
        let number = chance.below(self.members.len());
        let member = &mut self.members[number];
        if kind == Kind::WallJump {
            const HOUR: i64 = 3_600_000_000;
            let by = *chance.pick(&[
                HOUR,
                -HOUR,
                90_000,
                -90_000,
                10 * 8_760 * HOUR,
                -10 * 8_760 * HOUR,
            ]);
            member.clock.jump(by);
            return format!("{} by {by} us", member.name);
        }
        let drift = chance.between(0, 200_000) as i64 - 100_000;
        member.clock.drift(self.now, drift);
        injury.drifting.push(number);
        let name = member.name.clone();
        // The alarm that is set was set by the clock as it was.
        self.wake_driver(number);
        format!("{name} by {drift} ppm")
    }

    fn order_something(&mut self, kind: Kind, chance: &mut Chance) -> Option<String> {
        let first = self.plan.topics.len();
        let topics = self.topics.iter().enumerate();
        let alive: Vec<usize> = topics
            .filter(|(_, topic)| topic.group.is_some() && !topic.is_deleted)
            .map(|(number, _)| number)
            .collect();
        match kind {
            Kind::TopicMade => {
                if alive.len() >= TOPICS_MAX {
                    return None;
                }
                let load = Load {
                    gap: 150_000,
                    records_max: 3,
                    filling_max: 50,
                    in_flight: 4,
                    patience: 10_000_000,
                    leaves_at: u64::MAX,
                };
                self.order_another_topic(Topic {
                    replicas: 3,
                    producers: vec![load],
                    consumers: 1,
                    readers: 1,
                });
                Some(format!("t{}", self.topics.len() - 1))
            }
            Kind::TopicDeleted => {
                let transient: Vec<_> = alive.into_iter().filter(|it| *it >= first).collect();
                if transient.is_empty() {
                    return None;
                }
                let topic = *chance.pick(&transient);
                self.delete_topic(topic);
                Some(self.topics[topic].name.to_string())
            }
            _ => {
                let to = chance.below(self.members.len());
                let cluster = alive.is_empty() || chance.permille(300);
                let topic = (!cluster).then(|| *chance.pick(&alive));
                self.transfer(topic, to);
                Some(format!("{topic:?} to {}", self.members[to].name))
            }
        }
    }

    fn names(&self, members: &[usize]) -> String {
        let names: Vec<_> = members.iter().map(|it| &*self.members[*it].name).collect();
        names.join(", ")
    }

    /// A fault is over.
    pub(crate) fn end_fault(&mut self, number: usize) {
        let Some(injury) = self.injuries.remove(&number) else {
            return;
        };
        self.trace
            .tell(self.now, || format!("fault {number} is over"));
        for (from, to) in injury.cuts {
            self.network.join(from, to);
        }
        for (from, to, by) in injury.worse {
            self.network.mend(from, to, by);
        }
        for member in injury.client_cuts {
            self.network.join_clients(member);
        }
        for member in injury.full {
            self.members[member].disk.limit(None);
        }
        for member in injury.drifting {
            self.members[member].clock.drift(self.now, 0);
            self.wake_driver(member);
        }
        // Whoever is told to stay after all leaves its name to nobody.
        if let Some(member) = injury.stood_down.filter(|name| !self.awaits(name)) {
            self.order_standing(member, Standing::Active);
        }
        if injury.unbalanced {
            self.order_balance(true);
        }
        for member in injury.held_down {
            self.members[member].held_down -= 1;
            let delay = self.chance.between(1_000, 300_000);
            self.plan_in(delay, Event::Start { member });
        }
    }

    /// All faults are over, and none sets in any more.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        let faults: Vec<usize> = self.injuries.keys().copied().collect();
        for fault in faults {
            self.end_fault(fault);
        }
        self.network.heal();
        for number in 0..self.members.len() {
            let member = &mut self.members[number];
            member.disk.heal();
            member.slow_disk = (0, 0);
            member.paused_until = member.paused_until.min(self.now);
            if member.host.is_none() {
                self.plan_in(1_000, Event::Start { member: number });
            }
        }
        self.trace
            .tell(self.now, || "everything is healed".to_owned());
    }
}
