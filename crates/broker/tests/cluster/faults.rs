//! Stories in which things go wrong.

use std::collections::BTreeSet;

use kontiki_wire::{GroupId, Refusal, Request, Response, TopicSettings};

use crate::world::{CALM, Faults, World};

const ROUGH: Faults = Faults {
    lost: 30,
    doubled: 30,
    delay_max: 8_000,
    sync_max: 12_000,
};

/// Loses, cuts, crashes for a while, then heals and checks every promise.
fn rough_story(seed: u64, members: usize) -> World {
    let mut world = World::new(seed, members);
    let groups = [world.create("a", 3), world.create("b", 3)];
    for group in groups {
        world.produce(group, 120);
        world.produce(group, 120);
        world.subscribe(group);
        world.subscribe(group);
    }
    world.faults = ROUGH;
    for _ in 0..12 {
        let number = world.chance.between(0, members as u64) as usize;
        match world.chance.between(0, 4) {
            0 => world.crash(number),
            1 => {
                let other = (number + 1) % members;
                world.cut.insert((number.min(other), number.max(other)));
            }
            2 => world.cut.clear(),
            _ => {
                if let Some(leader) = world.leader(groups[0]) {
                    world.crash(leader);
                }
            }
        }
        for _ in 0..10 {
            let pause = world.chance.between(5_000, 90_000);
            world.run(pause);
            world.shoot(groups[1]);
        }
        for number in 0..members {
            if world.nodes[number].broker.is_none() && world.chance.permille(600) {
                world.start(number);
            }
        }
    }
    world.heal();
    world.settle();
    world
}

#[test]
fn acknowledged_records_survive_losses_cuts_and_crashes() {
    for (seed, members) in (0..30)
        .map(|seed| (seed, 3))
        .chain((30..40).map(|seed| (seed, 5)))
    {
        let world = rough_story(seed, members);
        assert!(world.oracle.acknowledged_count > 480, "seed {seed}");
        assert!(world.oracle.denied_count > 10, "seed {seed}");
    }
}

#[test]
fn same_seed_is_the_same_story() {
    let told = |seed| {
        let world = rough_story(seed, 3);
        let sent: Vec<_> = world
            .nodes
            .iter()
            .map(|node| (node.sends, node.persists, node.wakes))
            .collect();
        (world.now, sent, world.state(0, GroupId(1)))
    };
    assert_eq!(told(99), told(99));
}

#[test]
fn killing_each_leader_in_turn_loses_and_doubles_nothing() {
    let (mut world, group) = World::writing(7, 3, 3, 400);
    for _ in 0..6 {
        world.until("someone leads", 5_000_000, |world| {
            world.leader(group).is_some()
        });
        world.run(30_000);
        let leader = world.leader(group).unwrap();
        world.crash(leader);
        world.run(1_500_000);
        world.start(leader);
    }
    world.settle();
    assert!(world.producers[0].resent > 0);
}

#[test]
fn power_cut_of_all_members_at_once_loses_nothing_acknowledged() {
    for seed in 0..6 {
        let (mut world, _) = World::writing(seed, 3, 3, 500);
        for _ in 0..3 {
            let pause = world.chance.between(20_000, 800_000);
            world.run(pause);
            for number in 0..3 {
                world.crash(number);
            }
            for number in 0..3 {
                world.start(number);
            }
        }
        world.settle();
    }
}

#[test]
fn topics_come_and_go_among_crashes_and_every_member_agrees() {
    let mut removed_count = 0;
    for seed in 0..10 {
        let mut world = World::new(seed, 3);
        world.create("kept", 3);
        world.faults = Faults {
            lost: 10,
            doubled: 10,
            ..CALM
        };
        let mut removed = BTreeSet::new();
        for round in 0..40 {
            let name = format!("t{}", world.chance.between(0, 6));
            let name = name.parse().unwrap();
            let request = if world.chance.permille(600) {
                Request::CreateTopic {
                    name,
                    settings: TopicSettings { replicas: 3 },
                }
            } else {
                Request::DeleteTopic { name }
            };
            let number = world.leader(GroupId::CLUSTER).unwrap_or(round % 3);
            world.request(number, request);
            if round % 7 == 3 {
                let number = world.chance.between(0, 3) as usize;
                world.crash(number);
            }
            let pause = world.chance.between(1_000, 300_000);
            world.run(pause);
            for number in 0..3 {
                if world.nodes[number].broker.is_none() {
                    world.start(number);
                }
            }
        }
        world.heal();
        world.run(3_000_000);
        world.agree();
        let cluster = world.nodes[0].broker.as_ref().unwrap().cluster().clone();
        let there: BTreeSet<GroupId> = cluster.topics.iter().map(|topic| topic.group).collect();
        for group in (1..cluster.next_group).map(GroupId) {
            if !there.contains(&group) {
                removed.insert(group);
            }
        }
        removed_count += removed.len();
        for node in &world.nodes {
            assert_eq!(node.topics, there);
        }
        world.verify(&removed);
        for group in there {
            assert!(world.leader(group).is_some(), "group {group} has no leader");
        }
    }
    assert!(removed_count > 40, "{removed_count}");
}

#[test]
fn batches_waiting_at_a_deposed_leader_are_answered_unknown() {
    let mut world = World::new(3, 3);
    let group = world.create("a", 3);
    world.until("someone leads", 5_000_000, |world| {
        world.leader(group).is_some()
    });
    let leader = world.leader(group).unwrap();
    for other in (0..3).filter(|other| *other != leader) {
        world.cut.insert((leader.min(other), leader.max(other)));
    }
    let ticket = world.request(
        leader,
        Request::DeleteTopic {
            name: "a".parse().unwrap(),
        },
    );
    world.produce(group, 20);
    world.producers[0].node = (leader + 2) % 3;
    world.run(2_000_000);
    // The leader without a quorum stepped down, and nobody was left waiting.
    if let Some(ticket) = ticket
        && let Some(response) = world.responses.get(&ticket)
    {
        assert!(matches!(
            response,
            Response::Refused(Refusal::Unknown | Refusal::NotLeader { .. }) | Response::Done
        ));
    }
    world.heal();
    world.run(3_000_000);
    for node in &world.nodes {
        assert_eq!(node.halted, None);
    }
}
