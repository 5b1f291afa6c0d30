//! One story from its beginning to its end: it suffers, it is healed, it must recover, and what its
//! clients and replicas saw is judged.

use kontiki_wire::GroupId;

use crate::{
    checker::{self, Report},
    faults::Counts,
    history::History,
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
            Self::has_leaders,
        );
        let more = self.now + 1_000_000;
        self.run_to(more);
        for producer in 0..self.producers.len() {
            self.producers[producer].is_ending = true;
        }
        self.until(
            "everything that was asked for has its fate",
            FATES_WITHIN,
            |world| {
                world.producers.iter().all(|producer| producer.is_idle())
                    && world.orders.iter().all(|order| order.is_done)
            },
        );
        self.read_everything();
        self.until("all replicas are equal", EQUAL_WITHIN, Self::are_equal);
        self.until(
            "all consumers have everything",
            EQUAL_WITHIN,
            Self::have_consumed,
        );
    }

    /// What is damaged and was not looked at yet is found, and mended.
    fn read_everything(&mut self) {
        let end = self.now + EQUAL_WITHIN;
        while self.finding.is_none() {
            let mut unread: Option<String> = None;
            for number in 0..self.members.len() {
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

    fn until(&mut self, what: &str, within: u64, holds: impl Fn(&Self) -> bool) {
        let end = self.now + within;
        while self.finding.is_none() && !holds(self) {
            if self.now >= end {
                self.find(|| format!("not within {} s: {what}", within / 1_000_000));
                return;
            }
            let next = self.now + LOOK;
            self.run_to(next);
        }
    }

    /// Every group that anybody keeps is led by somebody.
    fn has_leaders(&self) -> bool {
        let mut wanted = std::collections::BTreeSet::new();
        let mut led = std::collections::BTreeSet::new();
        for member in &self.members {
            let Some(host) = &member.host else {
                return false;
            };
            for group in host.broker.status(member.clock.now(self.now)).groups {
                wanted.insert(group.group);
                if group.leader.as_ref() == Some(&member.name) {
                    led.insert(group.group);
                }
            }
        }
        wanted == led
    }

    /// All that keep a group have the same state of it.
    fn are_equal(&self) -> bool {
        let groups: Vec<GroupId> = self.groups();
        groups.iter().all(|group| {
            let hosts = self
                .members
                .iter()
                .filter_map(|member| member.host.as_ref());
            let mut states = hosts.filter_map(|host| host.broker.state(*group));
            let first = states.next();
            states.all(|state| Some(&state) == first.as_ref())
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

    fn have_consumed(&self) -> bool {
        let end = |group: GroupId| {
            let hosts = self
                .members
                .iter()
                .filter_map(|member| member.host.as_ref());
            let kept = hosts.filter_map(|host| host.topics.get(&group));
            kept.filter_map(|kept| kept.watermark).max()
        };
        self.consumers.iter().all(|consumer| {
            consumer.has_ended || end(consumer.group).is_none_or(|end| consumer.next >= end.0)
        })
    }
}
