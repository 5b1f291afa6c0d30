//! Newcomers that die before they have what they were given.

use kontiki_wire::{GroupId, Member, Request, Response, Standing, Topic};

use crate::{grow::refused, world::World};

impl World {
    pub(crate) fn topic(&self) -> &Topic {
        &self.cluster().topics[0]
    }

    fn name_of(&self, number: usize) -> String {
        self.nodes[number].name.clone()
    }

    /// A topic of three members, or one, is moved away from one of them to a fourth that has just died. Whoever
    /// leads the cluster's own group stays and keeps the topic, if three do; who the leaver is.
    fn move_to_the_dead(&mut self, replicas: u8) -> usize {
        let group = self.create("a", replicas);
        self.produce(group, 50);
        self.run(1_000_000);
        let off = self.ask(&Request::SetBalance { on: false });
        assert_eq!(off, Response::Done);
        self.join("n4");
        self.until("it counts", 10_000_000, |world| {
            world.cluster().named.len() == 4 && world.waits().is_empty()
        });
        let council = self.leader(GroupId::CLUSTER).unwrap();
        let keepers = self.topic().replicas.clone();
        let leaver = keepers.iter().map(|id| *id as usize - 1);
        let leaver = leaver
            .rev()
            .find(|number| *number != council || replicas == 1);
        self.crash(3);
        self.nodes[3].is_dead = true;
        leaver.unwrap()
    }

    pub(crate) fn drain_it(&mut self, number: usize) {
        let name = self.name_of(number);
        let drained = self.ask(&Request::SetStanding {
            name,
            standing: Standing::Draining,
            force: true,
        });
        assert!(matches!(drained, Response::Member(_)), "{drained:?}");
    }
}

/// Of many topics that wait for their turn to move none is missed who is to keep nothing.
#[test]
fn a_removal_under_way_is_asked_for_again_without_force() {
    let mut world = World::new(3, 3);
    for number in 0..12 {
        world.create(&format!("t{number}"), 3);
    }
    let leaver = world.move_to_the_dead(3);
    world.run(1_000_000);
    let why = refused(world.remove(leaver, false));
    assert!(why.contains("by 2 in place of 3 members"), "{why}");
    world.let_go(leaver, true);
    world.run(1_000_000);
    let id = world.nodes[leaver].me.id.0;
    let leaves = |member: &Member| member.id == id && member.standing == Standing::Leaving;
    assert!(world.cluster().members.iter().any(leaves));
    world.let_go(leaver, false);
}

#[test]
fn a_topic_is_given_to_another_when_whom_it_was_given_to_is_dead() {
    for seed in 0..3 {
        let mut world = World::new(seed, 3);
        let leaver = world.move_to_the_dead(3);
        world.drain_it(leaver);
        world.until("the dead one is to keep it", 10_000_000, |world| {
            world.topic().coming == [4]
        });
        world.run(1_000_000);
        let told = world.council().placing;
        let told = told.iter().find(|why| why.contains("which is to copy it"));
        assert!(
            told.unwrap().contains("another takes its place"),
            "{told:?}"
        );
        let fifth = world.join("n5");
        world.until("another keeps it", 60_000_000, |world| {
            let topic = world.topic();
            topic.settled && topic.replicas.contains(&5) && topic.replicas.len() == 3
        });
        world.until("the leaver is rid of it", 10_000_000, |world| {
            world.nodes[leaver].topics.is_empty()
        });
        assert!(!world.nodes[fifth].topics.is_empty());
        world.nodes[3].is_dead = false;
        world.finish();
        assert!(world.nodes[3].topics.is_empty());
    }
}

#[test]
fn without_another_the_others_keep_it_alone_and_the_dead_one_gets_it_when_it_is_back() {
    for seed in 0..3 {
        let mut world = World::new(seed, 3);
        let leaver = world.move_to_the_dead(3);
        world.drain_it(leaver);
        world.until("the leaver is rid of it", 60_000_000, |world| {
            world.nodes[leaver].topics.is_empty()
        });
        assert_eq!(world.topic().replicas.len(), 2);
        world.nodes[3].is_dead = false;
        world.start(3);
        world.finish();
        assert!(world.topic().replicas.contains(&4));
    }
}

#[test]
fn the_last_that_has_a_topic_keeps_it_and_says_whom_it_waits_for() {
    let mut world = World::new(4, 3);
    let leaver = world.move_to_the_dead(1);
    for number in 0..3 {
        if number != leaver {
            world.drain_it(number);
        }
    }
    world.drain_it(leaver);
    world.until("the dead one is to keep it", 10_000_000, |world| {
        world.topic().coming == [4]
    });
    world.run(60_000_000);
    assert!(!world.nodes[leaver].topics.is_empty());
    let told = world.council().placing;
    let told = told.iter().find(|why| why.contains("which is to copy it"));
    let told = told.unwrap();
    assert!(
        told.contains("n4, which is to copy it, does not answer"),
        "{told}"
    );
    assert!(told.contains("let another member join"), "{told}");
    world.nodes[3].is_dead = false;
    world.start(3);
    world.finish();
    assert!(world.nodes[leaver].topics.is_empty());
}
