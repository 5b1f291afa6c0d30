//! Stories in which nothing goes wrong.

use kontiki_broker::{Input, Now, StreamId};
use kontiki_raft::Micros;
use kontiki_wire::{BatchBuilder, GroupId, ProducerId, Record, Refusal, Request, Response};

use crate::world::World;

#[test]
fn topic_is_led_by_its_preferred_member_at_once() {
    let mut world = World::new(1, 3);
    let mut leaders = Vec::new();
    for name in ["a", "b", "c"] {
        let group = world.create(name, 3);
        world.until("someone leads", 100_000, |world| {
            world.leader(group).is_some()
        });
        leaders.push(world.leader(group).unwrap());
    }
    leaders.sort_unstable();
    assert_eq!(leaders, [0, 1, 2]);
}

#[test]
fn topic_with_fewer_replicas_is_kept_by_so_many() {
    let mut world = World::new(2, 3);
    for (name, replicas) in [("one", 1), ("two", 2), ("many", 9)] {
        let group = world.create(name, replicas);
        world.run(200_000);
        let kept = world
            .nodes
            .iter()
            .filter(|node| node.topics.contains(&group))
            .count();
        assert_eq!(kept, usize::from(replicas).min(3));
        world.produce(group, 20);
    }
    world.until("all producers are done", 5_000_000, |world| {
        world.producers.iter().all(|one| one.is_done)
    });
}

/// How much all members keep: what their states look like, whatever numbers are in them.
fn kept(world: &World) -> usize {
    let state =
        |broker: &_| format!("{broker:?}").replace(|letter: char| letter.is_ascii_digit(), "");
    world
        .nodes
        .iter()
        .map(|node| state(&node.broker).len())
        .sum()
}

#[test]
fn idle_members_keep_no_more_as_time_passes() {
    let mut world = World::new(5, 3);
    for topic in 0..4 {
        let group = world.create(&format!("t{topic}"), 3);
        world.produce(group, 20);
    }
    world.until("all producers are done", 5_000_000, |world| {
        world.producers.iter().all(|one| one.is_done)
    });
    world.run(2_000_000);
    // Beats come and go: the most of many looks. In the twenty seconds that follow there are some four
    // hundred of them for each group: whoever kept a letter of each would be found.
    let mut most = || {
        let looks = (0..20).map(|_| {
            world.run(70_001);
            kept(&world)
        });
        looks.max().expect("there are some")
    };
    let before = most();
    let later: Vec<_> = (0..15).map(|_| most()).collect();
    assert!(
        later.iter().all(|most| *most < before + 200),
        "{before} at first, then {later:?}"
    );
}

#[test]
fn idle_groups_share_their_beats() {
    let mut world = World::new(4, 3);
    for topic in 0..60 {
        world.create(&format!("t{topic}"), 3);
    }
    world.run(3_000_000);
    let before: Vec<_> = world
        .nodes
        .iter()
        .map(|node| (node.sends, node.persists, node.wakes))
        .collect();
    world.run(1_000_000);
    for (node, (sends, persists, wakes)) in world.nodes.iter().zip(before) {
        // Twenty beats of twenty groups to two peers, and as many answers, would be 1,600.
        let sends = node.sends - sends;
        assert!(sends < 700, "{sends}");
        assert_eq!(node.persists - persists, 0);
        let wakes = node.wakes - wakes;
        assert!(wakes <= 200, "{wakes}");
    }
}

#[test]
fn leadership_is_handed_over_on_request() {
    let (mut world, group) = World::writing(5, 3, 3, 300);
    world.until("someone leads", 1_000_000, |world| {
        world.leader(group).is_some()
    });
    let leader = world.leader(group).unwrap();
    let target = (leader + 1) % 3;
    let transfer = |to: &str| Request::TransferLeader {
        topic: Some("a".parse().unwrap()),
        to: to.to_owned(),
    };
    let name = format!("n{}", target + 1);
    let done = world.request(leader, transfer(&name)).unwrap();
    let elsewhere = world.request(target, transfer(&name)).unwrap();
    let nobody = world.request(leader, transfer("n9")).unwrap();
    world.run(500_000);
    assert_eq!(world.responses[&done], Response::Done);
    assert_eq!(
        world.responses[&elsewhere],
        Response::Refused(Refusal::NotLeader {
            leader: Some(format!("n{}", leader + 1))
        })
    );
    let Response::Refused(Refusal::NoSuchMember { known, .. }) = &world.responses[&nobody] else {
        panic!("{:?}", world.responses[&nobody]);
    };
    assert_eq!(known.len(), 3);
    assert_eq!(world.leader(group), Some(target));
    world.settle();
}

#[test]
fn restarted_member_goes_on_from_its_checkpoint() {
    let mut world = World::new(6, 3);
    let group = world.create("a", 3);
    world.produce_large(group, 300, 20_000);
    world.until("all producers are done", 10_000_000, |world| {
        world.producers.iter().all(|one| one.is_done)
    });
    for number in 0..3 {
        world.nodes[number].disk.keep_checkpoints();
        world.crash(number);
        let me = world.nodes[number].me;
        let boots = world.nodes[number].disk.boots(me);
        let boot = boots.iter().find(|boot| boot.group == group).unwrap();
        assert!(boot.checkpoint.is_some() && boot.boot.tail.len() < 200);
        world.run(10_000);
        world.start(number);
        world.run(1_000_000);
    }
    world.produce(group, 100);
    world.settle();
    let state = world.state(0, group);
    assert!(state.is_some());
    assert_eq!(state, world.state(1, group));
    assert_eq!(state, world.state(2, group));
}

#[test]
fn failed_write_answers_whoever_waits_and_stops_the_node() {
    let mut world = World::new(8, 1);
    let group = world.create("a", 1);
    world.run(200_000);
    let mut builder = BatchBuilder::new(64);
    builder.push(&Record::default()).unwrap();
    let batch = builder.finish(ProducerId(1), 0, 0);
    let mut broker = world.nodes[0].broker.take().unwrap();
    let now = Now {
        monotonic: Micros(u64::MAX / 4),
        wall: Micros(5),
    };
    let stream = StreamId(1);
    broker.handle(
        now,
        Input::Append {
            stream,
            group,
            batch: batch.clone(),
        },
    );
    broker.handle(now, Input::PersistFailed);
    let mut effects = Vec::new();
    broker.drain(now, &mut effects);
    let told = effects.iter().any(|effect| {
        matches!(effect, kontiki_broker::Effect::Answer { answer: Err(refused), .. }
            if refused.refusal == Refusal::Unknown)
    });
    assert!(told, "{effects:?}");
    assert!(matches!(
        effects.last(),
        Some(kontiki_broker::Effect::Halt { .. })
    ));
    effects.clear();
    broker.handle(now, Input::Timer);
    broker.drain(now, &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn leader_says_who_is_behind_and_by_how_much() {
    let (mut world, group) = World::writing(10, 3, 3, 20);
    world.settle();
    let before = world.oracle.end(group).0;
    let leader = world.leader(group).unwrap();
    let follower = (leader + 1) % 3;
    world.crash(follower);
    world.produce(group, 20);
    world.run(2_000_000);
    let ticket = world.request(leader, Request::Status).unwrap();
    world.run(1_000);
    let Response::Status(status) = &world.responses[&ticket] else {
        panic!("status");
    };
    let status = status.groups.iter().find(|one| one.group == group);
    let name = format!("n{}", follower + 1);
    let replicas = &status.unwrap().replicas;
    let replica = replicas.iter().find(|one| one.name == name).unwrap();
    assert_eq!(replica.state, "unreachable");
    assert_eq!(replica.match_offset.0, before);
    assert_eq!(replica.lag, world.oracle.end(group).0 - before);
    assert!(replica.lag > 0);
}

#[test]
fn metadata_topic_and_status_are_answered_anywhere() {
    let (mut world, group) = World::writing(9, 3, 3, 10);
    world.settle();
    let name = || "a".parse().unwrap();
    for number in 0..3 {
        let metadata = world.request(number, Request::Metadata).unwrap();
        let alone = world.request(number, Request::Members).unwrap();
        let topic = world.request(number, Request::Topic { name: name() });
        let status = world.request(number, Request::Status).unwrap();
        let time = Request::OffsetAt {
            topic: name(),
            time: 0,
        };
        let offset = world.request(number, time).unwrap();
        world.run(10_000);
        let Response::Metadata {
            members, topics, ..
        } = &world.responses[&metadata]
        else {
            panic!("metadata");
        };
        assert_eq!((members.len(), topics.len()), (3, 1));
        let Response::Metadata {
            members, topics, ..
        } = &world.responses[&alone]
        else {
            panic!("members");
        };
        assert_eq!((members.len(), topics.len()), (3, 0));
        let Response::Topic(topic) = &world.responses[&topic.unwrap()] else {
            panic!("topic");
        };
        assert_eq!(topic.next, world.oracle.end(group));
        assert!(topic.leader.is_some());
        let Response::Status(status) = &world.responses[&status] else {
            panic!("status");
        };
        assert_eq!(status.groups.len(), 2);
        for one in &status.groups {
            let leads = one.leader.as_ref() == Some(&status.member.name);
            assert_eq!(one.replicas.len(), if leads { 3 } else { 0 });
            for replica in &one.replicas {
                assert_eq!((replica.match_offset, replica.lag), (one.next, 0));
                let word = if replica.name == status.member.name {
                    "leader"
                } else {
                    "follower"
                };
                assert_eq!(replica.state, word);
            }
        }
        assert!(matches!(
            world.responses[&offset],
            Response::Refused(Refusal::Unavailable { .. })
        ));
    }
    assert_eq!(world.leader(GroupId(77)), None);
}

#[test]
fn leader_that_is_cut_off_tells_no_end_that_may_be_stale() {
    let (mut world, group) = World::writing(21, 3, 3, 5);
    world.settle();
    let leader = world.leader(group).unwrap();
    for other in (0..3).filter(|other| *other != leader) {
        world.cut.insert((leader.min(other), leader.max(other)));
    }
    let name = "a".parse().unwrap();
    let asked = world.request(leader, Request::Topic { name }).unwrap();
    world.run(2_000_000);
    let response = &world.responses[&asked];
    let refused = matches!(response, Response::Refused(Refusal::NotLeader { .. }));
    assert!(refused, "{response:?}");
}
