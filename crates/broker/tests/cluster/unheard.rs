//! Newcomers that the cluster hears of, and whoever leads what they are to copy does not.

use kontiki_wire::{GroupId, Request, Response};

use crate::world::World;

/// Who is who in a story of a topic that is moved.
struct Cast {
    group: GroupId,
    /// Leads the topic, and not the cluster.
    leader: usize,
    /// Is to be rid of it.
    leaver: usize,
    newcomer: usize,
}

impl World {
    /// A topic of three members is to be moved from one of them to a fourth, which does not hear whoever leads it.
    fn move_to_the_unheard(&mut self) -> Cast {
        let group = self.create("a", 3);
        self.produce(group, 50);
        self.run(1_000_000);
        let off = self.ask(&Request::SetBalance { on: false });
        assert_eq!(off, Response::Done);
        let newcomer = self.join("n4");
        self.until("it counts", 10_000_000, |world| {
            world.cluster().named.len() == 4 && world.waits().is_empty()
        });
        let council = self.leader(GroupId::CLUSTER).unwrap();
        let leader = (council + 1) % 3;
        if let Some(led) = self.leader(group).filter(|led| *led != leader) {
            let request = Request::TransferLeader {
                topic: Some("a".parse().unwrap()),
                to: self.nodes[leader].name.clone(),
            };
            self.request(led, request);
        }
        self.until("the other leads it", 10_000_000, |world| {
            world.leader(group) == Some(leader)
        });
        self.cut.insert((leader, newcomer));
        let leaver = (council + 2) % 3;
        self.drain_it(leaver);
        self.until("the newcomer is to keep it", 10_000_000, |world| {
            world.topic().coming == [4]
        });
        Cast {
            group,
            leader,
            leaver,
            newcomer,
        }
    }

    fn is_rid_of_it(&self, number: usize) -> bool {
        self.nodes[number].topics.is_empty()
    }

    fn says(&self, what: &str) -> bool {
        self.council().placing.iter().any(|why| why.contains(what))
    }
}

#[test]
fn a_topic_is_given_to_another_when_its_leader_does_not_hear_whom_it_was_given_to() {
    for seed in 0..3 {
        let mut world = World::new(seed, 3);
        let cast = world.move_to_the_unheard();
        let fifth = world.join("n5");
        world.run(15_000_000);
        assert_eq!(world.topic().coming, [4], "it may be heard yet");
        world.until("another keeps it", 30_000_000, |world| {
            let topic = world.topic();
            topic.settled && topic.replicas.contains(&5) && topic.replicas.len() == 3
        });
        world.until("the leaver is rid of it", 10_000_000, |world| {
            world.is_rid_of_it(cast.leaver)
        });
        assert_eq!(world.leader(cast.group), Some(cast.leader), "seed {seed}");
        assert!(world.is_rid_of_it(cast.newcomer) && !world.is_rid_of_it(fifth));
        assert!(!world.cut.is_empty(), "nobody has mended it");
        world.finish();
    }
}

#[test]
fn without_another_it_is_kept_by_fewer_and_said_why_until_the_newcomer_is_heard() {
    for seed in 0..3 {
        let mut world = World::new(seed, 3);
        let cast = world.move_to_the_unheard();
        world.until("the leaver is rid of it", 60_000_000, |world| {
            world.is_rid_of_it(cast.leaver)
        });
        assert!(world.topic().replicas.len() == 2 || world.topic().coming == [4]);
        // There is nobody else who could keep it as a third.
        world.until("it is given to it again", 10_000_000, |world| {
            world.topic().coming == [4]
        });
        world.until("it is said that it is in vain", 40_000_000, |world| {
            world.topic().stuck == [4]
        });
        world.run(60_000_000);
        assert_eq!(
            (&world.topic().coming[..], world.waits().len()),
            (&[4][..], 1)
        );
        assert!(world.says("n4, which is to copy it, answers, but not to whoever leads it"));
        let waits = &world.waits()[0];
        assert!(
            waits.contains("n4 gets nowhere: see that it and n"),
            "{waits}"
        );
        world.cut.clear();
        world.until("it copies it", 10_000_000, |world| {
            world.topic().settled && world.topic().replicas.contains(&4)
        });
        assert_eq!(world.topic().stuck, [] as [u64; 0]);
        world.finish();
    }
}
