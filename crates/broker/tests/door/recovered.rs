//! A member that goes on alone in another epoch: with what it has, and without anybody else.

use kontiki_broker::{Effect, GroupBoot, Input, remains};
use kontiki_raft::{Index, Kind, Micros, NodeId};
use kontiki_wire::{Epoch, GroupId, Offset, Recovery, Request, Response};

use crate::hand::{Hand, appended, batch, boot, command, create_command, entry, settings};

const EPOCH: Epoch = Epoch { number: 1, mark: 9 };

/// What the first of three has: topic `a` with a record that was never known to be committed, and topic `b`
/// of which the others have everything.
fn left() -> Vec<GroupBoot> {
    let commands = vec![
        command(1, &create_command("a", &[1, 2, 3])),
        command(2, &create_command("b", &[2, 3])),
    ];
    let record = entry(1, Kind::Batch, batch(7, 0, 1).bytes().clone());
    vec![boot(0, commands), boot(1, vec![record])]
}

/// What the takeover makes of it.
fn taken_over() -> Vec<GroupBoot> {
    let (mut boots, settings) = (left(), settings(3));
    let remains = remains(&settings.birth, settings.me, &boots).unwrap();
    let recovery = remains.record(Recovery {
        epoch: EPOCH,
        ..Recovery::default()
    });
    for write in remains.takeover(&recovery, Micros(5)) {
        let found = boots.iter_mut().find(|boot| boot.group == write.group);
        let boot = &mut found.unwrap().boot;
        let first = write.persist.append[0].id;
        boot.terms.push((first.index, first.term));
        boot.tail.extend(write.persist.append);
        boot.last = Index(boot.tail.len() as u64);
        boot.hard = write.persist.hard.unwrap();
    }
    boots
}

#[test]
fn survivor_leads_all_that_it_has_and_takes_what_comes() {
    let mut settings = settings(3);
    settings.epoch = EPOCH;
    let mut hand = Hand::new(settings, taken_over()).unwrap();
    let state = hand.broker.cluster().clone();
    let names: Vec<&str> = state.topics.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((names, state.members.len()), (vec!["a"], 1));
    let last = hand.seen.iter().rev().find_map(|effect| match effect {
        Effect::Members(members) => Some(members.clone()),
        _ => None,
    });
    let members = last.unwrap();
    assert!(members.is_gone(2) && members.is_gone(3), "{members:?}");

    let answers = hand.append(GroupId(1), vec![batch(8, 0, 1)]);
    assert_eq!(answers[0].as_ref().unwrap().offset, Offset(1));
    let made = hand.create("c");
    assert_eq!(made, GroupId(3), "a number is given once, lost or not");
    let Response::Recoveries(recoveries) = hand.request(Request::Recoveries) else {
        panic!("no list")
    };
    assert_eq!(recoveries[0].given_up, ["n2", "n3"]);
    assert_eq!(recoveries[0].lost_topics, ["b"]);
    let Response::Topic(topic) = hand.request(Request::Topic {
        name: "a".parse().unwrap(),
    }) else {
        panic!("no topic")
    };
    assert_eq!(topic.epoch, 1);
}

#[test]
fn who_is_told_of_a_later_epoch_stops_and_says_what_to_do() {
    let mut hand = Hand::new(settings(3), left()).unwrap();
    hand.now += A_WHILE;
    let why = expelled(hand.give(Input::Outdated { by: NodeId(2) })).unwrap();
    assert!(
        why.contains("n2 says that the cluster was recovered"),
        "{why}"
    );
    assert!(why.contains("a new token and an empty directory"), "{why}");
}

#[test]
fn nobody_s_word_alone_stops_a_member_of_a_cluster_that_goes_on() {
    for told in [
        || Input::Outdated { by: NodeId(2) },
        || Input::Disowned { by: NodeId(2) },
    ] {
        let mut follower = Hand::new(settings(3), left()).unwrap();
        follower.now += A_WHILE;
        follower.give(appended(0, 0, Vec::new()));
        assert_eq!(expelled(follower.give(told())), None, "one says so");
        follower.now += A_WHILE;
        let why = expelled(follower.give(told()));
        assert!(why.is_some(), "it hears no leader any more");
    }
}

#[test]
fn who_has_just_come_back_stops_though_others_who_came_back_elected_a_leader() {
    let mut hand = Hand::new(settings(3), left()).unwrap();
    hand.now += 2_000_000;
    hand.give(appended(0, 0, Vec::new()));
    let told = hand.give(Input::Outdated { by: NodeId(2) });
    assert!(expelled(told).is_some());
}

/// Longer than a leader is believed to live that is not heard, and than a return takes.
const A_WHILE: u64 = 70_000_000;

fn expelled(effects: Vec<Effect>) -> Option<String> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Expelled { why } => Some(why),
        _ => None,
    })
}
