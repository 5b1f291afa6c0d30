//! Loads that come closer to each other, in few moves, and then stay.

use kontiki_wire::{GroupId, MemberRef, TopicSettings};

use super::*;

fn topic(group: u64, replicas: &[u64]) -> Topic {
    let founders = replicas.iter().map(|id| MemberRef {
        id: *id,
        incarnation: 1,
    });
    Topic::founded(
        format!("t{group}").parse().unwrap(),
        GroupId(group),
        TopicSettings::default(),
        founders.collect(),
        replicas[0],
    )
}

fn homes(members: &[u64]) -> Homes {
    Homes {
        standing: members.to_vec(),
        ready: members.to_vec(),
        answering: members.to_vec(),
        late: Vec::new(),
    }
}

/// So many topics as they are placed among these members.
fn placed(members: &[u64], replicas: usize, count: u64) -> (Loads, Vec<Topic>) {
    let mut loads = Loads::default();
    let make = |group| {
        let placement = loads.place(members, replicas).unwrap();
        loads.add(&placement.replicas, placement.preferred);
        topic(group, &placement.replicas)
    };
    let topics = (1..=count).map(make).collect();
    (loads, topics)
}

type Better = fn(&Loads, &Topic, &Homes) -> Option<Placement>;

/// Moves as long as it is worth it, and says how often.
fn moves(loads: &mut Loads, topics: &mut [Topic], homes: &Homes, better: Better) -> usize {
    let mut count = 0;
    while let Some((at, placement)) = topics
        .iter()
        .enumerate()
        .find_map(|(at, topic)| Some((at, better(loads, topic, homes)?)))
    {
        let topic = &mut topics[at];
        loads.remove(&topic.replicas, topic.preferred);
        loads.add(&placement.replicas, placement.preferred);
        assert!(placement.replicas.contains(&placement.preferred));
        topic.replicas = placement.replicas;
        topic.preferred = placement.preferred;
        count += 1;
        assert!(count < 10_000, "it never ends");
    }
    count
}

fn apart(members: &[u64], load: impl Fn(u64) -> u64) -> u64 {
    let counts = members.iter().map(|id| load(*id));
    counts.clone().max().unwrap() - counts.min().unwrap()
}

#[test]
fn a_newcomer_gets_its_share_in_no_more_moves_than_that_takes_and_nothing_moves_after() {
    for (before, replicas, count) in [(3, 3, 40), (3, 3, 8), (4, 2, 100), (5, 3, 1000), (1, 1, 9)] {
        let old: Vec<u64> = (1..=before).collect();
        let all: Vec<u64> = (1..=before + 1).collect();
        let (mut loads, mut topics) = placed(&old, replicas, count);
        let homes = homes(&all);
        let made = moves(&mut loads, &mut topics, &homes, Loads::spread);
        let share = count * replicas as u64 / (before + 1);
        assert!(made as u64 <= share, "{made} moves for a share of {share}");
        let spread = apart(&all, |id| loads.kept_by(id));
        assert!(spread <= (share / 10).max(2), "{loads:?}");
        assert_eq!(moves(&mut loads, &mut topics, &homes, Loads::spread), 0);
        moves(&mut loads, &mut topics, &homes, Loads::lead_evenly);
        assert!(loads.led_by(before + 1) > 0 || count < 10, "{loads:?}");
        assert_eq!(
            moves(&mut loads, &mut topics, &homes, Loads::lead_evenly),
            0
        );
    }
}

#[test]
fn what_is_even_enough_stays() {
    let (loads, topics) = placed(&[1, 2, 3, 4], 3, 50);
    let homes = homes(&[1, 2, 3, 4]);
    assert!(topics.iter().all(|it| loads.spread(it, &homes).is_none()));
    assert!(
        topics
            .iter()
            .all(|it| loads.lead_evenly(it, &homes).is_none())
    );
}

#[test]
fn nothing_is_moved_to_or_away_from_where_nobody_answers() {
    let (loads, topics) = placed(&[1, 2, 3], 3, 20);
    let mut silent = homes(&[1, 2, 3, 4]);
    silent.answering = vec![1, 2, 3];
    assert!(topics.iter().all(|it| loads.spread(it, &silent).is_none()));
    silent.answering = vec![1, 2, 4];
    assert!(topics.iter().all(|it| loads.spread(it, &silent).is_none()));
    assert!(loads.spread(&topics[0], &homes(&[1, 2, 3, 4])).is_some());
}

#[test]
fn who_has_dropped_a_topic_may_get_it_again() {
    let (loads, mut topics) = placed(&[1, 2, 3], 3, 20);
    topics[0].parted = vec![4];
    let moved = loads.spread(&topics[0], &homes(&[1, 2, 3, 4])).unwrap();
    assert!(moved.replicas.contains(&4));
}

#[test]
fn a_leader_that_a_person_has_chosen_among_few_topics_stays() {
    let (mut loads, topics) = placed(&[1, 2, 3], 3, 3);
    let replicas = &topics[0].replicas;
    loads.remove(replicas, topics[0].preferred);
    loads.add(replicas, topics[1].preferred);
    let homes = homes(&[1, 2, 3]);
    assert!(
        topics
            .iter()
            .all(|it| loads.lead_evenly(it, &homes).is_none())
    );
}
