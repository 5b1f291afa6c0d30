//! Topics and leaderships that are spread evenly, by and by.

use std::collections::BTreeMap;

use kontiki_wire::{GroupId, Request, Response};

use crate::world::World;

impl World {
    /// How many topics each member keeps, and is to lead.
    fn loads(&self) -> (BTreeMap<u64, usize>, BTreeMap<u64, usize>) {
        let (mut kept, mut led) = (BTreeMap::new(), BTreeMap::new());
        for topic in &self.cluster().topics {
            for id in &topic.replicas {
                *kept.entry(*id).or_default() += 1;
            }
            *led.entry(topic.preferred).or_default() += 1;
        }
        (kept, led)
    }

    /// Whether every topic is led by whom is to lead it.
    fn is_led_as_it_is_to_be(&self) -> bool {
        let mut topics = self.cluster().topics.iter();
        topics.all(|topic| {
            let leader = self.leader(topic.group);
            leader.is_some_and(|number| self.nodes[number].me.id.0 == topic.preferred)
        })
    }

    fn placements(&self) -> u64 {
        let topics = self.cluster().topics.iter();
        topics.map(|topic| topic.placement).sum()
    }
}

#[test]
fn a_newcomer_gets_its_share_of_topics_and_leads_some_and_then_all_is_calm() {
    for seed in 0..2 {
        let mut world = World::new(seed, 3);
        let groups: Vec<GroupId> = (0..12)
            .map(|number| world.create(&format!("t{number}"), 3))
            .collect();
        for group in groups {
            world.produce(group, 20);
        }
        world.run(2_000_000);
        world.join("n4");
        world.until("the newcomer keeps its share", 120_000_000, |world| {
            let (kept, led) = world.loads();
            let mut counts = kept.values();
            world.is_placed()
                && kept.len() == 4
                && counts.all(|count| (8..=10).contains(count))
                && led.len() == 4
        });
        world.until(
            "it leads what it is to lead",
            120_000_000,
            World::is_led_as_it_is_to_be,
        );
        let before = world.placements();
        assert!(before <= 24, "{before} placements");
        world.run(60_000_000);
        assert_eq!(world.placements(), before, "nothing moves for nothing");
        world.finish();
    }
}

#[test]
fn a_newcomer_gets_its_share_while_one_is_away_and_another_pauses_now_and_then() {
    for seed in 0..2 {
        let mut world = World::new(seed, 5);
        for number in 0..12 {
            world.create(&format!("t{number}"), 3);
        }
        world.run(2_000_000);
        world.crash(4);
        world.nodes[4].is_dead = true;
        world.join("n6");
        let mut pauses = 0;
        while world.loads().0.get(&6).is_none_or(|kept| *kept < 3) {
            assert!(pauses < 12, "it has {:?} after a minute", world.loads());
            let council = world.leader(GroupId::CLUSTER).unwrap();
            let pauser = if council == 3 { 2 } else { 3 };
            let pair = (council.min(pauser), council.max(pauser));
            // Long enough for it to be missed at a look, of which there is one a second.
            world.cut.insert(pair);
            world.run(1_400_000);
            world.cut.remove(&pair);
            world.run(3_600_000);
            pauses += 1;
        }
    }
}

#[test]
fn who_comes_back_leads_again_what_it_is_to_lead_but_not_at_once() {
    let mut world = World::new(3, 3);
    let groups = ["a", "b", "c"].map(|name| world.create(name, 3));
    world.run(2_000_000);
    assert!(world.is_led_as_it_is_to_be());
    world.crash(1);
    world.until("others lead", 10_000_000, |world| {
        groups.iter().all(|group| world.leader(*group).is_some())
    });
    world.start(1);
    world.run(5_000_000);
    assert!(!world.is_led_as_it_is_to_be());
    world.until("it leads again", 60_000_000, World::is_led_as_it_is_to_be);
}

#[test]
fn who_leads_in_place_of_another_and_is_chosen_by_a_person_leads_on_when_that_one_is_back() {
    let mut world = World::new(3, 3);
    let group = world.create("a", 3);
    world.run(2_000_000);
    let first = world.leader(group).unwrap();
    world.crash(first);
    world.until("another one leads", 10_000_000, |world| {
        let leader = |group| world.leader(group).filter(|leader| *leader != first);
        leader(group).is_some() && leader(GroupId::CLUSTER).is_some()
    });
    let chosen = world.leader(group).unwrap();
    let request = Request::TransferLeader {
        topic: Some("a".parse().unwrap()),
        to: world.nodes[chosen].name.clone(),
    };
    let ticket = world.request(chosen, request).unwrap();
    world.run(1_000_000);
    assert_eq!(world.responses.get(&ticket), Some(&Response::Done));
    world.start(first);
    world.run(60_000_000);
    assert_eq!(world.leader(group), Some(chosen));
    assert!(world.is_led_as_it_is_to_be());
}

/// That a person had just chosen another one kept a leader from ever handing over to that one.
#[test]
fn who_was_chosen_and_died_at_once_leads_when_it_is_back() {
    let mut met = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        let group = world.create("a", 3);
        world.run(2_000_000);
        let first = world.leader(group).unwrap();
        let chosen = (first + 1) % 3;
        let request = Request::TransferLeader {
            topic: Some("a".parse().unwrap()),
            to: world.nodes[chosen].name.clone(),
        };
        world.request(first, request).unwrap();
        world.until("the choice is known", 1_000_000, |world| {
            world.cluster().topics[0].preferred == world.nodes[chosen].me.id.0
        });
        world.crash(chosen);
        world.until("another one leads", 10_000_000, |world| {
            world.leader(group).is_some_and(|leader| leader != chosen)
        });
        met += usize::from(world.leader(group) == Some(first));
        world.start(chosen);
        world.until(
            "the chosen one leads",
            90_000_000,
            World::is_led_as_it_is_to_be,
        );
    }
    assert!(met > 0, "the first leader never leads again");
}

#[test]
fn nothing_is_spread_while_that_is_switched_off() {
    let mut world = World::new(4, 3);
    for number in 0..8 {
        world.create(&format!("t{number}"), 3);
    }
    let off = world.ask(&Request::SetBalance { on: false });
    assert_eq!(off, Response::Done);
    world.join("n4");
    world.run(40_000_000);
    assert_eq!(world.placements(), 0);
    let on = world.ask(&Request::SetBalance { on: true });
    assert_eq!(on, Response::Done);
    world.until("it is spread", 120_000_000, |world| {
        world.loads().0.get(&4).is_some_and(|kept| *kept >= 5)
    });
    world.finish();
}

#[test]
fn a_leader_that_a_person_has_chosen_stays() {
    let mut world = World::new(5, 3);
    let groups = ["a", "b", "c"].map(|name| world.create(name, 3));
    world.run(2_000_000);
    let council = world.leader(GroupId::CLUSTER);
    let mut chosen = Vec::new();
    // Of three topics whose leaders are three, two are not led where the cluster's own group is.
    for (group, topic) in groups.into_iter().zip(["a", "b", "c"]) {
        let leader = world.leader(group).unwrap();
        let to = (leader + 1) % 3;
        let name = world.nodes[to].name.clone();
        let request = Request::TransferLeader {
            topic: Some(topic.parse().unwrap()),
            to: name,
        };
        let ticket = world.request(leader, request).unwrap();
        world.run(3_000_000);
        assert_eq!(world.responses.get(&ticket), Some(&Response::Done));
        chosen.push((leader, group, to));
    }
    assert!(chosen.iter().any(|(leader, ..)| Some(*leader) != council));
    world.run(60_000_000);
    for (_, group, to) in chosen {
        assert_eq!(world.leader(group), Some(to));
    }
    assert!(world.is_led_as_it_is_to_be());
}

#[test]
fn a_choice_that_is_not_heard_at_once_is_told_until_it_is() {
    for seed in 0..3 {
        let mut world = World::new(seed, 3);
        let groups = ["a", "b", "c"].map(|name| world.create(name, 3));
        world.run(12_000_000);
        let council = world.leader(GroupId::CLUSTER).unwrap();
        let names = ["a", "b", "c"].into_iter();
        let others = groups.into_iter().zip(names);
        let mut others = others.map(|(group, name)| (group, name, world.leader(group).unwrap()));
        let (group, name, leader) = others.find(|(_, _, leader)| *leader != council).unwrap();
        let to = (0..3).find(|number| *number != council && *number != leader);
        let to = to.unwrap();
        // What it says to whom leads the cluster's own group is lost for a while.
        world.cut.insert((leader.min(council), leader.max(council)));
        let request = Request::TransferLeader {
            topic: Some(name.parse().unwrap()),
            to: world.nodes[to].name.clone(),
        };
        let ticket = world.request(leader, request).unwrap();
        world.run(4_000_000);
        assert_eq!(world.responses.get(&ticket), Some(&Response::Done));
        assert!(!world.is_led_as_it_is_to_be(), "nobody has heard it yet");
        world.cut.clear();
        world.run(60_000_000);
        assert_eq!(world.leader(group), Some(to));
        assert!(world.is_led_as_it_is_to_be());
    }
}
