//! Clusters that grow and shrink while they serve.

use std::collections::BTreeSet;

use kontiki_broker::Input;
use kontiki_wire::{
    Admission, ClusterCommand, ClusterState, GroupId, Refusal, Request, Response, Role, Standing,
    TokenId, TokenSpec, TopicSettings, Versions,
};

use crate::world::{CALM, Faults, Node, World};

/// Whoever has not been heard of for so long is dead to the leader of the cluster.
const DEAD_AFTER: u64 = 31_000_000;

/// Why it was not done.
pub(crate) fn refused(response: Response) -> String {
    let Response::Refused(Refusal::Unfit { why }) = response else {
        panic!("it was done: {response:?}");
    };
    why
}

const ROUGH: Faults = Faults {
    lost: 20,
    doubled: 20,
    delay_max: 6_000,
    sync_max: 9_000,
};

impl World {
    /// Asks whoever leads the cluster until it is answered with something else than to ask again.
    pub(crate) fn ask(&mut self, request: &Request) -> Response {
        for attempt in 0..400 {
            let number = self.leader(GroupId::CLUSTER);
            let number = number.unwrap_or(attempt % self.nodes.len());
            let ticket = self.request(number, request.clone());
            self.run(100_000);
            let response = ticket.and_then(|ticket| self.responses.get(&ticket));
            match response {
                Some(Response::Refused(refusal)) if refusal.is_retryable() => {}
                Some(response) => return response.clone(),
                None => {}
            }
            self.restart_some();
        }
        panic!("{request:?} was never answered");
    }

    /// Somebody brings back what is down or parted, sooner or later.
    pub(crate) fn restart_some(&mut self) {
        if self.chance.permille(20) {
            self.cut.clear();
        }
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_down() && self.chance.permille(300) {
                self.start(number);
            }
        }
    }

    /// A new member of this name comes.
    pub(crate) fn join(&mut self, name: &str) -> usize {
        let number = self.admit(name);
        self.start(number);
        number
    }

    /// A new member of this name is admitted, and does not run.
    pub(crate) fn admit(&mut self, name: &str) -> usize {
        let number = self.nodes.len();
        let token = TokenId(number as u64);
        let made = self.ask(&Request::CreateToken(TokenSpec {
            id: token,
            hash: [7; 32],
            role: Role::Node,
            topics: Vec::new(),
            life_seconds: 3600,
        }));
        assert!(matches!(made, Response::Token(_)), "{made:?}");
        let node = Node::new(number, name.to_owned(), &mut self.chance);
        let command = ClusterCommand::Admit(Admission {
            token,
            name: name.to_owned(),
            incarnation: node.me.incarnation.0,
            address: format!("clients {number}"),
            peer_address: format!("peers {number}"),
            versions: Versions::MINE,
        });
        for _ in 0..400 {
            // Any member takes it to the leader.
            let at = self.chance.between(0, number as u64) as usize;
            let ticket = self.submit(at, &command);
            self.run(300_000);
            let response = ticket.and_then(|ticket| self.responses.get(&ticket));
            match response {
                Some(Response::Admitted(member) | Response::Member(member)) => {
                    assert_eq!(member.id, node.me.id.0);
                    self.nodes.push(node);
                    return number;
                }
                Some(Response::Refused(refusal)) if !refusal.is_retryable() => {
                    panic!("{name} is not admitted: {refusal}")
                }
                _ => self.restart_some(),
            }
        }
        panic!("{name} was never admitted");
    }

    pub(crate) fn submit(
        &mut self,
        number: usize,
        command: &ClusterCommand,
    ) -> Option<kontiki_broker::Ticket> {
        let ticket = self.ticket(number)?;
        let command = command.clone();
        self.input(number, Input::Command { ticket, command });
        Some(ticket)
    }

    pub(crate) fn remove(&mut self, number: usize, force: bool) -> Response {
        let name = self.nodes[number].name.clone();
        self.ask(&Request::RemoveMember { name, force })
    }

    /// The same, where nothing speaks against it.
    pub(crate) fn let_go(&mut self, number: usize, force: bool) {
        let removed = self.remove(number, force);
        assert!(matches!(removed, Response::Member(_)), "{removed:?}");
    }

    fn replace(&mut self, number: usize, with: usize) -> Response {
        let [name, with] = [number, with].map(|number| self.nodes[number].name.clone());
        let force = false;
        self.ask(&Request::ReplaceMember { name, with, force })
    }

    pub(crate) fn edit(&mut self, name: &str, replicas: u8) {
        let edited = self.ask(&Request::EditTopic {
            name: name.parse().unwrap(),
            settings: TopicSettings { replicas },
        });
        assert!(matches!(edited, Response::Topic(_)), "{edited:?}");
    }

    /// The cluster as somebody knows it who knows the most.
    pub(crate) fn cluster(&self) -> &ClusterState {
        let brokers = self.nodes.iter().filter_map(|node| node.broker.as_ref());
        let latest = brokers.max_by_key(|broker| broker.state(GroupId::CLUSTER).map(|(at, _)| at));
        latest.unwrap().cluster()
    }

    /// Whether everything is as it was asked to be.
    pub(crate) fn is_placed(&self) -> bool {
        let state = self.cluster();
        let stays = state
            .members
            .iter()
            .all(|member| member.standing != Standing::Leaving);
        let active = state.members.iter();
        let active = active
            .filter(|member| member.standing == Standing::Active)
            .count();
        stays
            && state.topics.iter().all(|topic| {
                let due = usize::from(topic.settings.replicas).min(active.max(1));
                topic.settled && topic.leaving.is_empty() && topic.replicas.len() == due
            })
            && self.waits().is_empty()
    }

    /// What groups wait for, as their leaders say.
    pub(crate) fn waits(&self) -> Vec<String> {
        let brokers = self.nodes.iter().enumerate();
        let told = brokers.filter_map(|(number, node)| {
            let status = node.broker.as_ref()?.status(self.now_at(number));
            Some(status.groups.into_iter().filter_map(|group| group.waits))
        });
        told.flatten().collect()
    }

    /// The same with one member away, for which nothing can wait.
    fn placed_but_for(&mut self, away: usize) {
        let name = self.nodes[away].name.clone();
        self.until("all else is placed", 60_000_000, |world| {
            let members = &world.cluster().members;
            let topics = &world.cluster().topics;
            members
                .iter()
                .all(|member| member.standing != Standing::Leaving)
                && topics.iter().all(|topic| topic.settled)
                && world.waits().iter().all(|why| why.contains(&name))
        });
    }

    pub(crate) fn placed(&mut self) {
        self.until("all is placed", 60_000_000, Self::is_placed);
    }

    /// Waits until everything is as it was asked to be, and checks every promise.
    pub(crate) fn finish(&mut self) {
        self.heal();
        self.placed();
        self.until("leavers know it", 20_000_000, |world| {
            let members = &world.cluster().members;
            let is_member = |node: &Node| members.iter().any(|one| one.id == node.me.id.0);
            let mut nodes = world.nodes.iter().filter(|node| !node.is_dead);
            nodes.all(|node| is_member(node) || node.expelled.is_some())
        });
        self.settle();
        let state = self.cluster().clone();
        for (node, topics) in self.nodes.iter().map(|node| (node, &node.topics)) {
            if node.broker.is_some() {
                let kept = state.topics.iter();
                let kept = kept.filter(|topic| topic.replicas.contains(&node.me.id.0));
                let kept: BTreeSet<GroupId> = kept.map(|topic| topic.group).collect();
                assert_eq!(*topics, kept, "{}", node.name);
            }
        }
    }

    pub(crate) fn members(&self) -> Vec<String> {
        let members = self.cluster().members.iter();
        members.map(|member| member.name.clone()).collect()
    }
}

/// One member becomes three, five, and three again, under load.
fn grow_and_shrink(seed: u64, faults: Faults) -> World {
    let mut world = World::new(seed, 1);
    let groups = [
        world.create("a", 3),
        world.create("b", 1),
        world.create("c", 5),
    ];
    for group in groups {
        world.produce(group, 300);
        world.subscribe(group);
    }
    world.faults = faults;
    world.join("n2");
    world.join("n3");
    world.placed();
    assert_eq!(world.members(), ["n1", "n2", "n3"]);
    world.join("n4");
    world.join("n5");
    world.placed();
    for group in groups {
        world.produce(group, 100);
    }
    // Three copies are enough from now on. Whoever leads the cluster goes, and somebody else.
    world.edit("c", 3);
    let leader = world.leader(GroupId::CLUSTER).unwrap();
    let other = (leader + 2) % 5;
    for number in [leader, other] {
        world.let_go(number, false);
    }
    world.finish();
    assert_eq!(world.cluster().members.len(), 3);
    assert!(world.nodes[leader].expelled.is_some() && world.nodes[other].expelled.is_some());
    world
}

#[test]
fn one_becomes_three_and_five_and_three_again_and_nothing_is_lost() {
    for seed in 0..4 {
        let world = grow_and_shrink(seed, CALM);
        assert!(world.oracle.acknowledged_count >= 1_200, "seed {seed}");
    }
}

#[test]
fn the_same_on_a_network_that_loses_doubles_and_delays() {
    for seed in 10..14 {
        grow_and_shrink(seed, ROUGH);
    }
}

#[test]
fn a_dead_member_is_removed_and_replaced_by_one_of_its_name() {
    for seed in 0..4 {
        let (mut world, group) = World::writing(seed, 3, 3, 200);
        world.run(500_000);
        world.crash(1);
        world.nodes[1].is_dead = true;
        // It may come back: until it is taken for dead its copies count.
        world.run(1_000_000);
        let why = refused(world.remove(1, false));
        assert!(why.contains("by 2 in place of 3 members"), "{why}");
        assert!(why.contains("n2 does not answer"), "{why}");
        world.run(DEAD_AFTER);
        world.let_go(1, false);
        world.placed();
        assert_eq!(world.members(), ["n1", "n3"]);
        world.produce(group, 100);
        let number = world.join("n2");
        world.placed();
        assert_eq!(world.members(), ["n1", "n3", "n2"]);
        assert!(world.nodes[number].topics.contains(&group));
        // The dead one comes back after all, and is told.
        world.nodes[1].is_dead = false;
        world.start(1);
        world.finish();
        let why = world.nodes[1].expelled.as_ref().unwrap();
        assert!(why.contains("let it join with a new token"), "{why}");
    }
}

#[test]
fn a_member_whose_going_leaves_no_majority_that_answers_is_not_removed_without_force() {
    let (mut world, _) = World::writing(5, 3, 3, 50);
    world.run(2_000_000);
    let leader = world.leader(GroupId::CLUSTER).unwrap();
    let (dead, healthy) = ((leader + 1) % 3, (leader + 2) % 3);
    world.crash(dead);
    world.nodes[dead].is_dead = true;
    world.run(1_000_000);
    let why = refused(world.remove(healthy, false));
    assert!(why.contains(&format!("n{} do not", dead + 1)), "{why}");
    world.run(DEAD_AFTER);
    world.let_go(dead, false);
    world.placed();
    assert_eq!(world.cluster().members.len(), 2);
}

#[test]
fn a_member_that_lives_is_not_removed_while_its_copies_would_be_missed() {
    let mut world = World::new(9, 3);
    world.create("a", 3);
    world.create("b", 3);
    world.create("c", 1);
    world.run(2_000_000);
    let why = refused(world.remove(2, false));
    assert!(
        why.contains("topic a would be kept by 2 in place of 3 members, and 1 more"),
        "{why}"
    );
    assert!(!why.contains("does not answer"), "{why}");
    // With a fourth that has come to run there are as many copies without it.
    let absent = world.admit("n4");
    world.run(2_000_000);
    let why = refused(world.remove(2, false));
    assert!(why.contains("by 2 in place of 3 members"), "{why}");
    let why = refused(world.replace(2, absent));
    assert!(why.contains("by 2 in place of 3 members"), "{why}");
    assert!(why.contains("n4 makes up for that only if it"), "{why}");
    world.start(absent);
    world.placed();
    world.let_go(2, false);
    world.placed();
    assert_eq!(world.members(), ["n1", "n2", "n4"]);
    let why = refused(world.remove(1, false));
    assert!(why.contains("by 2 in place of 3 members"), "{why}");
    world.let_go(1, true);
    world.finish();
    assert_eq!(world.members(), ["n1", "n4"]);
}

#[test]
fn a_member_that_keeps_nothing_or_of_which_nothing_is_asked_is_removed() {
    let mut world = World::new(10, 3);
    world.create("a", 3);
    world.run(2_000_000);
    world.drain_it(2);
    world.let_go(2, false);
    world.placed();
    world.edit("a", 1);
    world.let_go(1, false);
    world.finish();
    assert_eq!(world.members(), ["n1"]);
}

#[test]
fn who_comes_to_take_a_place_takes_it_though_there_are_fewer_members_than_copies() {
    for seed in 0..3 {
        let (mut world, group) = World::writing(seed, 1, 3, 100);
        for (leaver, name) in [(0, "n2"), (1, "n3")] {
            let newcomer = world.join(name);
            world.placed();
            let why = refused(world.remove(leaver, false));
            assert!(why.contains("by 1 in place of 2 members"), "{why}");
            let why = refused(world.replace(newcomer, leaver));
            assert!(why.contains("by 1 in place of 2 members"), "{why}");
            let replaced = world.replace(leaver, newcomer);
            assert!(matches!(replaced, Response::Member(_)), "{replaced:?}");
            world.placed();
            assert_eq!(world.members(), [name]);
        }
        world.produce(group, 50);
        world.finish();
    }
}

#[test]
fn a_member_that_was_away_while_all_others_were_replaced_comes_home() {
    for seed in 0..3 {
        let (mut world, group) = World::writing(seed, 3, 3, 100);
        world.run(1_000_000);
        world.crash(2);
        world.nodes[2].is_dead = true;
        for name in ["n4", "n5"] {
            world.join(name);
            world.placed_but_for(2);
        }
        for number in [0, 1] {
            world.let_go(number, true);
            world.placed_but_for(2);
        }
        world.produce(group, 100);
        world.run(1_000_000);
        world.nodes[2].is_dead = false;
        world.start(2);
        world.finish();
        assert_eq!(world.members(), ["n3", "n4", "n5"]);
        assert_eq!(world.nodes[2].expelled, None);
    }
}

#[test]
fn a_topic_is_kept_by_more_and_by_fewer_as_it_is_asked() {
    for seed in 0..4 {
        let (mut world, group) = World::writing(seed, 5, 1, 400);
        world.subscribe(group);
        world.faults = ROUGH;
        for replicas in [3, 5, 2, 1] {
            world.edit("a", replicas);
            world.placed();
            let kept = world.cluster().topics[0].replicas.len();
            assert_eq!(kept, usize::from(replicas));
        }
        world.finish();
    }
}

#[test]
fn a_drained_member_keeps_nothing_and_stays_a_member() {
    let mut world = World::new(6, 4);
    for name in ["a", "b", "c", "d"] {
        let group = world.create(name, 3);
        world.produce(group, 50);
    }
    world.run(1_000_000);
    let drained = world.ask(&Request::SetStanding {
        name: "n2".to_owned(),
        standing: Standing::Draining,
        force: false,
    });
    assert!(matches!(drained, Response::Member(_)), "{drained:?}");
    world.until("it keeps nothing", 30_000_000, |world| {
        world.is_placed() && world.nodes[1].topics.is_empty()
    });
    world.finish();
    assert_eq!(world.members().len(), 4);
    let counts = world
        .cluster()
        .topics
        .iter()
        .map(|topic| topic.replicas.len());
    assert_eq!(counts.collect::<Vec<_>>(), [3; 4]);
}

/// What befalls members and their cluster is drawn.
fn turbulent_story(seed: u64) -> World {
    let mut world = World::new(seed, 3);
    let groups = [world.create("a", 3), world.create("b", 3)];
    for group in groups {
        world.produce(group, 250);
        world.subscribe(group);
    }
    world.faults = ROUGH;
    for _ in 0..14 {
        while world.nodes.iter().all(|node| node.broker.is_none()) {
            world.restart_some();
        }
        let nodes = world.nodes.len() as u64;
        let number = world.chance.between(0, nodes) as usize;
        let members = world.cluster().members.len();
        match world.chance.between(0, 8) {
            0 | 1 if members < 6 => {
                let name = format!("n{}", nodes + 1);
                world.join(&name);
            }
            2 if members > 3 && world.nodes[number].expelled.is_none() => {
                world.remove(number, true);
            }
            3 => {
                let replicas = world.chance.between(2, 6) as u8;
                world.edit("b", replicas);
            }
            4 | 5 => world.crash(number),
            6 => {
                let other = (number + 1) % nodes as usize;
                world.cut.insert((number.min(other), number.max(other)));
            }
            _ => world.cut.clear(),
        }
        for _ in 0..6 {
            let pause = world.chance.between(5_000, 150_000);
            world.run(pause);
            world.shoot(groups[1]);
        }
        world.restart_some();
    }
    world.finish();
    world
}

#[test]
fn members_come_and_go_among_losses_cuts_and_crashes_and_nothing_acknowledged_is_lost() {
    for seed in 0..25 {
        let world = turbulent_story(seed);
        assert!(world.oracle.acknowledged_count > 480, "seed {seed}");
    }
}
