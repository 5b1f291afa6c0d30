//! One story from its beginning to its end: it suffers, it is healed, it must recover, and what its
//! clients and replicas saw is judged.

use std::collections::BTreeSet;

use kontiki_wire::GroupId;

use crate::{
    checker::{self, Report},
    faults::Counts,
    history::History,
    member::Member,
    plan::Plan,
    trace::Trace,
    world::World,
};

/// What came of a story.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was told.
    pub plan: Plan,
    /// What was found to be wrong, if anything.
    pub finding: Option<String>,
    /// What happened.
    pub trace: Trace,
    /// How often each kind of fault came about.
    pub counts: Counts,
    /// The figures of what was asked for.
    pub report: Report,
    /// How long the story was, in microseconds.
    pub lasted: u64,
    /// What its clients and replicas saw.
    pub history: History,
}

/// After it was healed, everybody knows a leader within this.
const LEADERS_WITHIN: u64 = 8_000_000;
/// After that, everything that is waited for has its fate within this.
const FATES_WITHIN: u64 = 70_000_000;
/// After that, whoever is to go has gone, and topics are kept where they are to be, within this.
const PLACED_WITHIN: u64 = 90_000_000;
/// After that, replicas are equal and consumers have everything within this.
const EQUAL_WITHIN: u64 = 30_000_000;
/// How often it is looked.
const LOOK: u64 = 50_000;

/// Tells a story.
#[must_use]
pub fn tell(plan: Plan, keeps_lines: bool) -> Told {
    let until = plan.suffers;
    let mut world = World::new(plan, keeps_lines);
    world.run_to(until);
    conclude(world)
}

/// The second half of a story, and what is to be said of it.
pub(crate) fn conclude(mut world: World) -> Told {
    world.heal();
    world.recover();
    world.dump();
    let verdict = checker::check(&world.history);
    if let Some(violation) = verdict.violations.first() {
        world.find(|| violation.to_string());
    }
    Told {
        plan: (*world.plan).clone(),
        report: verdict.report,
        finding: world.finding,
        trace: world.trace,
        counts: world.counts,
        lasted: world.now,
        history: world.history,
    }
}

impl World {
    /// The second half: progress is due.
    fn recover(&mut self) {
        self.until(
            "every group has a leader",
            LEADERS_WITHIN,
            Self::without_leader,
        );
        let more = self.now + 1_000_000;
        self.run_to(more);
        for producer in 0..self.producers.len() {
            self.producers[producer].is_ending = true;
        }
        self.until(
            "everything that was asked for has its fate",
            FATES_WITHIN,
            Self::without_fate,
        );
        self.until(
            "members and topics are where they are to be",
            PLACED_WITHIN,
            Self::unplaced,
        );
        self.read_everything();
        self.until("all replicas are equal", EQUAL_WITHIN, Self::different);
        self.until(
            "all consumers have everything, and all replicas are equal still",
            EQUAL_WITHIN,
            |world| world.without_all().or_else(|| world.different()),
        );
    }

    /// What is damaged and was not looked at yet is found, and mended.
    fn read_everything(&mut self) {
        let end = self.now + EQUAL_WITHIN;
        while self.finding.is_none() {
            let mut unread: Option<String> = None;
            let here = |number: &usize| !self.members[*number].is_out;
            let here: Vec<usize> = (0..self.members.len()).filter(here).collect();
            for number in here {
                if let Some(what) = self.members[number].unread() {
                    unread.get_or_insert(what);
                    self.plan_settle(number);
                }
                self.hear_storage(number);
            }
            let Some(unread) = unread else { return };
            if self.now >= end {
                self.find(|| format!("not within {} s: {unread}", EQUAL_WITHIN / 1_000_000));
                return;
            }
            let next = self.now + 10 * LOOK;
            self.run_to(next);
        }
    }

    /// Goes on until nothing is `lacking` any more.
    fn until(&mut self, what: &str, within: u64, lacking: impl Fn(&Self) -> Option<String>) {
        let end = self.now + within;
        while self.finding.is_none()
            && let Some(lacking) = lacking(self)
        {
            if self.now >= end {
                self.find(|| format!("not within {} s: {what}: {lacking}", within / 1_000_000));
                return;
            }
            let next = self.now + LOOK;
            self.run_to(next);
        }
    }

    /// A group that somebody keeps and nobody leads, or a member that does not run.
    fn without_leader(&self) -> Option<String> {
        let mut wanted = BTreeSet::new();
        let mut led = BTreeSet::new();
        for member in self.members.iter().filter(|member| !member.is_out) {
            let Some(host) = &member.host else {
                return Some(format!("{} does not run", member.name));
            };
            for group in host.broker.status(member.clock.now(self.now)).groups {
                wanted.insert(group.group);
                if group.leader.as_ref() == Some(&member.name) {
                    led.insert(group.group);
                }
            }
        }
        let group = wanted.difference(&led).next()?;
        Some(format!("nobody leads group {group}"))
    }

    /// Something that was asked for and has not ended.
    fn without_fate(&self) -> Option<String> {
        let producer = self
            .producers
            .iter()
            .position(|producer| !producer.is_idle());
        let producer = producer.map(|number| format!("producer {number} waits"));
        let order = || self.orders.iter().position(|order| !order.is_done);
        producer.or_else(|| order().map(|at| format!("order {at} waits: {:?}", self.orders[at])))
    }

    /// Two replicas of a group that have not the same state of it.
    fn different(&self) -> Option<String> {
        self.groups().into_iter().find_map(|group| {
            let state = |member: &Member| member.host.as_ref()?.broker.state(group);
            let mut states = self
                .members
                .iter()
                .filter_map(|member| Some((member, state(member)?)));
            let (first, known) = states.next()?;
            let (other, state) = states.find(|(_, state)| *state != known)?;
            Some(format!(
                "group {group} is at {} on {} and at {} on {}",
                known.0, first.name, state.0, other.name
            ))
        })
    }

    /// Every group there is.
    pub(crate) fn groups(&self) -> Vec<GroupId> {
        let hosts = self
            .members
            .iter()
            .filter_map(|member| member.host.as_ref());
        let kept = hosts.flat_map(|host| host.topics.keys().copied());
        let mut groups: Vec<GroupId> = kept.chain([GroupId::CLUSTER]).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// A consumer that has not got everything.
    fn without_all(&self) -> Option<String> {
        let end = |group: GroupId| {
            let hosts = self
                .members
                .iter()
                .filter_map(|member| member.host.as_ref());
            let kept = hosts.filter_map(|host| host.topics.get(&group));
            kept.filter_map(|kept| kept.watermark).max()
        };
        self.consumers.iter().find_map(|consumer| {
            let end = end(consumer.group).filter(|_| !consumer.has_ended)?;
            (consumer.next < end.0).then(|| {
                let (next, group) = (consumer.next, consumer.group);
                format!("one of group {group} is at {next} and its end is {end}")
            })
        })
    }
}
