//! Waiting until something holds, and whether everything does in the end.

use std::collections::BTreeSet;

use bytes::Bytes;
use kontiki_broker::Now;
use kontiki_raft::{Index, Micros};
use kontiki_wire::GroupId;

use crate::{
    subscriber::Subscriber,
    world::{CALM, Node, World},
};

impl World {
    /// Lets time pass until something holds; panics if it never does.
    pub(crate) fn until(&mut self, what: &str, micros: u64, holds: impl Fn(&Self) -> bool) {
        let end = self.now + micros;
        while !holds(self) {
            assert!(
                self.now < end,
                "not within {micros} µs: {what}{}",
                self.told()
            );
            self.run(20_000);
        }
    }

    /// Who leads what and how far everyone has come, for the one who reads a failure.
    fn told(&self) -> String {
        let mut told = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(broker) = &node.broker else {
                told += &format!("\n{}: down", node.me);
                continue;
            };
            for one in broker.status(self.now_at(number)).groups {
                let at = broker.state(one.group).map(|(at, _)| at);
                let (group, leader, term) = (one.group, one.leader, one.term);
                told += &format!(
                    "\n{}: group {group} term {term} leader {leader:?} applied {at:?} {:?} {:?}",
                    node.me, one.replicas, one.waits
                );
            }
            for sentence in broker.status(self.now_at(number)).placing {
                told += &format!("\n{}: {sentence}", node.me);
            }
        }
        told
    }

    /// The node that leads a group, as it believes itself.
    pub(crate) fn leader(&self, group: GroupId) -> Option<usize> {
        let leads = |node: &&Node| {
            let name = node.name.clone();
            let broker = node.broker.as_ref();
            broker.is_some_and(|broker| {
                let now = Now {
                    monotonic: Micros(node.origin + self.now),
                    wall: Micros(0),
                };
                let status = broker.status(now);
                status
                    .groups
                    .iter()
                    .any(|one| one.group == group && one.leader.as_ref() == Some(&name))
            })
        };
        let found = self.nodes.iter().find(leads)?;
        Some(found.me.id.0 as usize - 1)
    }

    /// Everyone is up, hears everyone, and nothing is lost any more.
    pub(crate) fn heal(&mut self) {
        self.faults = CALM;
        self.cut.clear();
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_down() {
                self.start(number);
            }
        }
    }

    /// Waits until all producers are done and all replicas equal, then checks every promise.
    pub(crate) fn settle(&mut self) {
        self.until("all producers are done", 60_000_000, |world| {
            world.producers.iter().all(|one| one.is_done)
        });
        self.run(1_000_000);
        self.agree();
        self.until("all subscribers have read all", 10_000_000, |world| {
            let read = |one: &Subscriber| one.next == world.oracle.end(one.group);
            world.subscribers.iter().all(read)
        });
        self.verify(&BTreeSet::new());
    }

    /// Waits until all members have applied the same of everything.
    pub(crate) fn agree(&mut self) {
        self.until("all replicas are equal", 20_000_000, |world| {
            let groups = world.nodes.iter().flat_map(|node| &node.topics);
            let groups: BTreeSet<GroupId> = groups.copied().collect();
            std::iter::once(GroupId::CLUSTER)
                .chain(groups)
                .all(|group| world.are_equal(group))
        });
    }

    /// Whether all that keep a group have the same state of it.
    fn are_equal(&self, group: GroupId) -> bool {
        let states = (0..self.nodes.len()).filter_map(|number| self.state(number, group));
        let states: Vec<_> = states.collect();
        states.iter().all(|state| *state == states[0])
    }

    pub(crate) fn verify(&self, removed: &BTreeSet<GroupId>) {
        for node in &self.nodes {
            assert_eq!(node.halted, None);
        }
        self.oracle.verify(removed);
    }

    pub(crate) fn state(&self, number: usize, group: GroupId) -> Option<(Index, Bytes)> {
        let (at, state) = self.nodes[number].broker.as_ref()?.state(group)?;
        Some((at.index, state))
    }
}
