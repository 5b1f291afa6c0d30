//! Members that are to vote no more, or have never begun to.

use kontiki_wire::{GroupId, MemberStatus, Request, Response, Standing, TopicSettings};

use crate::world::World;

impl World {
    fn stand(&mut self, number: usize, standing: Standing, force: bool) -> Response {
        let name = self.nodes[number].name.clone();
        self.ask(&Request::SetStanding {
            name,
            standing,
            force,
        })
    }

    fn demote(&mut self, number: usize) {
        let demoted = self.stand(number, Standing::Demoted, false);
        assert!(matches!(demoted, Response::Member(_)), "{demoted:?}");
    }

    /// What whoever leads the cluster's own group knows.
    pub(crate) fn council(&self) -> MemberStatus {
        let number = self.leader(GroupId::CLUSTER).unwrap();
        let broker = self.nodes[number].broker.as_ref().unwrap();
        broker.status(self.now_at(number))
    }

    /// What is said of topics that have lost their majority.
    fn forsaken(&self) -> Vec<String> {
        let said = self
            .leader(GroupId::CLUSTER)
            .map(|_| self.council().placing);
        let mut said = said.unwrap_or_default();
        said.retain(|why| why.contains("no majority"));
        said
    }

    /// The voters of the cluster's own group, by name.
    fn voters(&self) -> Vec<String> {
        let own = self.council().groups.swap_remove(0);
        let voters = own.replicas.into_iter();
        let voters = voters.filter(|one| one.state != "learner" && one.state != "unreachable");
        let mut names: Vec<String> = voters.map(|one| one.name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_demoted_member_votes_nowhere_and_keeps_nothing_until_it_is_promoted() {
    for seed in 0..4 {
        let mut world = World::new(seed, 4);
        for name in ["a", "b"] {
            let group = world.create(name, 3);
            world.produce(group, 50);
        }
        world.run(1_000_000);
        // Whoever leads hands over, too.
        let leader = world.leader(GroupId::CLUSTER).unwrap();
        world.demote(leader);
        world.placed();
        let name = world.nodes[leader].name.clone();
        world.until("it has no vote, and no topic", 10_000_000, |world| {
            let led = world.leader(GroupId::CLUSTER).is_some();
            let waits = led.then(|| world.council().groups.swap_remove(0).waits);
            assert_ne!(
                waits.flatten().as_deref(),
                Some(""),
                "a wait without a reason"
            );
            let votes = led.then(|| world.voters().len());
            votes == Some(3) && world.nodes[leader].topics.is_empty()
        });
        assert!(!world.voters().contains(&name));
        assert_ne!(world.leader(GroupId::CLUSTER), Some(leader));
        assert_eq!(world.nodes[leader].expelled, None);
        assert_eq!(world.members().len(), 4);

        let promoted = world.stand(leader, Standing::Active, false);
        assert!(matches!(promoted, Response::Member(_)), "{promoted:?}");
        world.until("it votes", 10_000_000, |world| {
            world.leader(GroupId::CLUSTER).is_some() && world.voters().len() == 4
        });
        world.finish();
    }
}

#[test]
fn of_two_that_are_sent_away_at_once_the_second_is_judged_without_the_first() {
    let away = |name: &str| {
        let (name, force) = (name.to_owned(), false);
        let stand = |standing| Request::SetStanding {
            name: name.clone(),
            standing,
            force,
        };
        [
            stand(Standing::Draining),
            stand(Standing::Demoted),
            Request::RemoveMember {
                name: name.clone(),
                force,
            },
        ]
    };
    for which in 0..3 {
        let mut world = World::new(7, 4);
        let group = world.create("a", 3);
        world.produce(group, 10);
        world.placed();
        world.run(2_000_000);
        let leader = world.leader(GroupId::CLUSTER).unwrap();
        let others = [(leader + 1) % 4, (leader + 2) % 4];
        let names = others.map(|number| world.nodes[number].name.clone());
        // Another entry under way keeps nobody waiting.
        world.request(leader, Request::SetBalance { on: true });
        let tickets = names.each_ref().map(|name| {
            let request = away(name)[which].clone();
            world.request(leader, request).unwrap()
        });
        world.run(1_000_000);
        let [first, second] = tickets.map(|ticket| world.responses[&ticket].clone());
        assert!(matches!(first, Response::Member(_)), "{first:?}");
        let Response::Refused(refusal) = second else {
            panic!("{second:?}");
        };
        assert!(refusal.is_retryable(), "{refusal}");
        // Whoever asks again is told what it would cost.
        let Response::Refused(refusal) = world.ask(&away(&names[1])[which]) else {
            panic!("it is let go as well");
        };
        let why = refusal.to_string();
        assert!(why.contains("would be kept by 2 in place of 3"), "{why}");
        world.finish();
    }
}

#[test]
fn who_leaves_and_votes_still_is_not_counted_on() {
    let mut world = World::new(11, 4);
    let group = world.create("a", 3);
    world.produce(group, 10);
    world.placed();
    world.run(2_000_000);
    let leader = world.leader(GroupId::CLUSTER).unwrap();
    let [dead, leaver, other] = [1, 2, 3].map(|step| (leader + step) % 4);
    world.crash(dead);
    world.nodes[dead].is_dead = true;
    world.run(1_000_000);
    let mut remove = |number: usize, force| {
        let name = world.nodes[number].name.clone();
        world.ask(&Request::RemoveMember { name, force })
    };
    let removed = remove(leaver, true);
    assert!(matches!(removed, Response::Member(_)), "{removed:?}");
    let Response::Refused(refusal) = remove(other, false) else {
        panic!("one of the two that are left answers");
    };
    let why = refusal.to_string();
    assert!(
        why.contains("a majority of 2 members would have to answer"),
        "{why}"
    );
}

#[test]
fn who_is_to_lose_a_vote_is_named_while_that_is_waited_for() {
    let mut world = World::new(5, 3);
    world.run(2_000_000);
    let leader = world.leader(GroupId::CLUSTER).unwrap();
    let demoted = (leader + 1) % 3;
    let name = world.nodes[demoted].name.clone();
    let (standing, force) = (Standing::Demoted, false);
    world.request(
        leader,
        Request::SetStanding {
            name,
            standing,
            force,
        },
    );
    let mut said = Vec::new();
    for _ in 0..1_000 {
        said.push(world.council().groups.swap_remove(0).waits);
        world.run(100);
    }
    said.dedup();
    let still = format!("n{} has a vote still", demoted + 1);
    assert!(said.contains(&Some(still)), "{said:?}");
}

#[test]
fn a_demotion_that_leaves_no_majority_that_answers_takes_force_and_the_last_vote_stays() {
    let mut world = World::new(3, 3);
    world.run(2_000_000);
    let leader = world.leader(GroupId::CLUSTER).unwrap();
    let (dead, healthy) = ((leader + 1) % 3, (leader + 2) % 3);
    world.crash(dead);
    world.nodes[dead].is_dead = true;
    world.run(1_000_000);
    let refused = world.stand(healthy, Standing::Demoted, false);
    let Response::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    let why = refusal.to_string();
    assert!(why.contains(&format!("n{}", dead + 1)), "{why}");
    world.demote(dead);
    world.demote(healthy);
    let refused = world.stand(leader, Standing::Demoted, true);
    let Response::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    let why = refusal.to_string();
    assert!(
        why.contains("the last member that stays and votes"),
        "{why}"
    );
}

#[test]
fn a_drain_that_leaves_fewer_copies_takes_force_another_member_or_the_word_that_fewer_are_enough() {
    let mut world = World::new(7, 3);
    world.create("a", 3);
    world.create("b", 3);
    world.create("c", 1);
    world.run(2_000_000);
    // Who is to stay is not advised to be replaced.
    let refusals = [
        (world.stand(1, Standing::Draining, false), false),
        (world.stand(1, Standing::Demoted, false), false),
        (world.remove(1, false), true),
    ];
    for (refused, goes) in refusals {
        let Response::Refused(refusal) = refused else {
            panic!("{refused:?}");
        };
        let why = refusal.to_string();
        assert!(
            why.contains("topic a would be kept by 2 in place of 3 members, and 1 more"),
            "{why}"
        );
        assert_eq!(why.contains("member replace n2 --with"), goes, "{why}");
        assert!(!why.contains("does not answer"), "{why}");
    }
    for name in ["a", "b"] {
        let edited = world.ask(&Request::EditTopic {
            name: name.parse().unwrap(),
            settings: TopicSettings { replicas: 2 },
        });
        assert!(matches!(edited, Response::Topic(_)), "{edited:?}");
    }
    let drained = world.stand(1, Standing::Draining, false);
    assert!(matches!(drained, Response::Member(_)), "{drained:?}");
    world.until("it keeps nothing", 60_000_000, |world| {
        world
            .cluster()
            .topics
            .iter()
            .all(|topic| !topic.replicas.contains(&2) && topic.settled)
    });

    let mut world = World::new(8, 3);
    world.create("a", 3);
    world.join("n4");
    world.run(20_000_000);
    let drained = world.stand(1, Standing::Draining, false);
    assert!(matches!(drained, Response::Member(_)), "{drained:?}");
    world.until("it keeps nothing", 60_000_000, |world| {
        let topic = &world.cluster().topics[0];
        topic.replicas == [1, 3, 4] && topic.settled
    });
    let forced = world.stand(2, Standing::Draining, true);
    assert!(matches!(forced, Response::Member(_)), "{forced:?}");
}

/// Whoever had died half a minute ago or less was counted on as the one that would take a copy.
#[test]
fn a_drain_does_not_count_on_whom_nobody_has_heard_of_just_now() {
    let mut world = World::new(8, 4);
    world.create("a", 3);
    world.run(20_000_000);
    let keepers = world.cluster().topics[0].replicas.clone();
    let is_spare = |number: &usize| !keepers.contains(&world.nodes[*number].me.id.0);
    let spare = (0..4).find(is_spare).unwrap();
    world.crash(spare);
    world.nodes[spare].is_dead = true;
    world.run(5_000_000);
    let council = world.leader(GroupId::CLUSTER).unwrap();
    let keeps = |number: &usize| *number != spare && *number != council;
    let keeper = (0..4).find(keeps).unwrap();
    let refused = world.stand(keeper, Standing::Draining, false);
    let Response::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    let why = refusal.to_string();
    assert!(why.contains("by 2 in place of 3 members"), "{why}");
}

#[test]
fn a_member_that_was_admitted_and_never_ran_gets_no_topic() {
    let mut world = World::new(4, 1);
    let before = world.create("before", 3);
    world.produce(before, 50);
    world.run(1_000_000);
    let absent = world.admit("n2");
    world.run(3_000_000);
    let after = world.create("after", 3);
    world.produce(after, 50);
    world.run(3_000_000);
    for topic in &world.cluster().topics {
        assert_eq!(topic.replicas, [1], "{}", topic.name);
        assert!(topic.settled, "{}", topic.name);
    }
    let said = world.council().placing;
    let waits = said
        .iter()
        .any(|why| why.starts_with("n2 gets topics when"));
    assert!(waits, "{said:?}");
    world.start(absent);
    world.finish();
    for topic in &world.cluster().topics {
        assert_eq!(topic.replicas, [1, 2], "{}", topic.name);
    }
}

#[test]
fn who_was_admitted_and_never_ran_keeps_nobody_from_going() {
    for seed in 0..3 {
        let (mut world, _) = World::writing(seed, 3, 3, 100);
        world.run(1_000_000);
        let absent = world.admit("n4");
        world.edit("a", 2);
        world.let_go(2, false);
        world.until("n3 is gone", 40_000_000, |world| {
            world.members() == ["n1", "n2", "n4"]
        });
        assert_eq!(world.voters(), ["n1", "n2"]);
        // And of the two that are left another one.
        world.let_go(1, true);
        world.until("n2 is gone", 40_000_000, |world| {
            world.members() == ["n1", "n4"]
        });
        world.start(absent);
        world.finish();
        assert_eq!(world.voters(), ["n1", "n4"]);
    }
}

#[test]
fn a_topic_without_a_majority_is_told_of_with_what_can_be_done_while_the_cluster_goes_on() {
    let mut world = World::new(6, 5);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        world.create(name, 3);
    }
    world.run(1_000_000);
    assert_eq!(world.forsaken(), [""; 0]);
    let council = world.leader(GroupId::CLUSTER).unwrap();
    let dead = [(council + 1) % 5, (council + 2) % 5];
    for number in dead {
        world.crash(number);
        world.nodes[number].is_dead = true;
    }
    let topics = &world.cluster().topics;
    let dead_ids = dead.map(|number| world.nodes[number].me.id.0);
    let lost = topics
        .iter()
        .find(|topic| dead_ids.iter().all(|id| topic.replicas.contains(id)));
    let lost = lost.unwrap().name.to_string();
    world.until("it is told", 20_000_000, |world| {
        let told = world.forsaken();
        let mut told = told.iter();
        told.any(|why| why.starts_with(&format!("topic {lost} has no majority")))
    });
    // It is told, too, when somebody who died is to go, and the topic to be kept by others.
    world.let_go(dead[0], true);
    world.until("it is told still", 40_000_000, |world| {
        let told = world.forsaken();
        let mut told = told.iter();
        told.any(|why| why.starts_with(&format!("topic {lost} moves, and seems to have no")))
    });
    // What is said to be done ends it.
    for name in names {
        world.ask(&Request::DeleteTopic {
            name: name.parse().unwrap(),
        });
    }
    world.until("the dead one is gone", 40_000_000, |world| {
        world.members().len() == 4
    });
    assert_eq!(world.forsaken(), [""; 0]);
}
