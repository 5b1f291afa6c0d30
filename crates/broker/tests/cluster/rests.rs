//! Groups in which all is said beat no more: what happens then.

use std::collections::BTreeMap;

use kontiki_broker::Now;
use kontiki_raft::Micros;
use kontiki_wire::{GroupId, Request};

use crate::world::World;

/// Longer than the longest rest, twice.
const SECONDS: u64 = 1_000_000;

/// Topics that have had something to say, and have nothing more.
fn at_rest(seed: u64, topics: usize) -> (World, Vec<GroupId>) {
    let mut world = World::new(seed, 3);
    let groups: Vec<_> = (0..topics)
        .map(|topic| world.create(&format!("t{topic}"), 3))
        .collect();
    for group in &groups {
        world.produce(*group, 5);
    }
    world.until("all producers are done", 5 * SECONDS, |world| {
        world.producers.iter().all(|one| one.is_done)
    });
    world.run(3 * SECONDS);
    (world, groups)
}

fn terms(world: &World) -> BTreeMap<GroupId, u64> {
    let node = &world.nodes[0];
    let now = Now {
        monotonic: Micros(world.now),
        wall: Micros(0),
    };
    let status = node.broker.as_ref().unwrap().status(now);
    let terms = status.groups.iter().map(|one| (one.group, one.term));
    terms.collect()
}

fn sends(world: &mut World, micros: u64) -> Vec<u64> {
    let before: Vec<_> = world.nodes.iter().map(|node| node.sends).collect();
    world.run(micros);
    let nodes = world.nodes.iter().zip(before);
    nodes.map(|(node, before)| node.sends - before).collect()
}

#[test]
fn a_hundred_topics_at_rest_cost_no_more_than_one() {
    let [mut one, mut many] = [1, 100].map(|topics| at_rest(60, topics).0);
    let one = sends(&mut one, 20 * SECONDS);
    let many = sends(&mut many, 20 * SECONDS);
    // Each second twenty beats of the cluster's own group and twenty of the member to each of two, with answers;
    // and now and then rests end, those of many groups together.
    let most = one.iter().max().unwrap() + 20 * 20;
    assert!(many.iter().all(|sends| *sends < most), "{one:?} {many:?}");
}

#[test]
fn nobody_is_elected_while_all_rest() {
    let (mut world, groups) = at_rest(61, 12);
    let before = terms(&world);
    world.run(60 * SECONDS);
    assert_eq!(terms(&world), before);
    // And what rested for long takes what comes as if it had not.
    for group in &groups {
        world.produce(*group, 5);
    }
    world.until("all producers are done", SECONDS, |world| {
        world.producers.iter().all(|one| one.is_done)
    });
    assert_eq!(terms(&world), before);
    world.settle();
}

#[test]
fn what_a_dead_member_led_at_rest_is_led_by_others_as_soon_as_ever() {
    for seed in 0..20 {
        let (mut world, groups) = at_rest(100 + seed, 9);
        let pause = world.chance.between(0, 100_000);
        world.run(pause);
        let led = |world: &World, by| {
            let of = groups.iter().filter(|group| world.leader(**group) == by);
            of.copied().collect::<Vec<_>>()
        };
        let lost = led(&world, Some(0));
        assert!(!lost.is_empty());
        world.crash(0);
        // The longest that anybody waits for a leader, and as much again for one vote that is split.
        world.until("others lead", 1_300_000, |world| {
            led(world, None).is_empty()
        });
        world.start(0);
        world.settle();
    }
}

#[test]
fn whoever_is_cut_off_leads_nothing_that_rested() {
    let (mut world, groups) = at_rest(62, 9);
    let led = |world: &World, number: usize| {
        let node = &world.nodes[number];
        let status = node.broker.as_ref().unwrap().status(world.now_at(number));
        let name = Some(&node.name);
        let groups = status.groups.iter();
        groups.filter(|one| one.leader.as_ref() == name).count()
    };
    assert!(led(&world, 0) > 1);
    world.cut.extend([(0, 1), (0, 2)]);
    world.run(1_300_000);
    assert_eq!(led(&world, 0), 0);
    assert!(led(&world, 1) + led(&world, 2) >= groups.len());
    world.heal();
    world.settle();
}

#[test]
fn restarted_members_rest_again() {
    let (mut world, groups) = at_rest(63, 30);
    let before = sends(&mut world, 5 * SECONDS);
    for number in 0..3 {
        world.crash(number);
        world.run(50_000);
        world.start(number);
        world.run(5 * SECONDS);
    }
    let after = sends(&mut world, 5 * SECONDS);
    let all = |sends: &[u64]| sends.iter().sum::<u64>();
    assert!(all(&after) < all(&before) + 100, "{before:?} {after:?}");
    assert!(groups.iter().all(|group| world.leader(*group).is_some()));
}

#[test]
fn what_is_deleted_at_rest_is_beaten_for_no_more() {
    let (mut world, _) = at_rest(64, 2);
    for topic in ["t0", "t1"] {
        let name = topic.parse().unwrap();
        let leader = world.leader(GroupId::CLUSTER).unwrap();
        world.request(leader, Request::DeleteTopic { name });
        world.run(SECONDS);
    }
    world.run(SECONDS);
    let sent = sends(&mut world, 10 * SECONDS);
    // Twenty beats a second of the cluster's own group to two, or the answers to them.
    assert!(sent.iter().all(|sends| *sends <= 2 * 20 * 10), "{sent:?}");
}

#[test]
fn whoever_was_cut_off_for_a_moment_rests_again() {
    let (mut world, _) = at_rest(65, 30);
    let before = sends(&mut world, 5 * SECONDS);
    // Long enough for votes to be asked for, and no link is opened anew.
    world.cut.extend([(0, 1), (0, 2)]);
    world.run(SECONDS);
    world.cut.clear();
    world.run(5 * SECONDS);
    let after = sends(&mut world, 5 * SECONDS);
    let all = |sends: &[u64]| sends.iter().sum::<u64>();
    assert!(all(&after) < all(&before) + 100, "{before:?} {after:?}");
}
