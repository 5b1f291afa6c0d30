//! The brokers' host, network and clocks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_broker::{Broker, Effect, Input, Now, Settings, StreamId, Ticket};
use kontiki_raft::{Body, Incarnation, Index, Message, Micros, NodeId, NodeRef, Role, SendLog};
use kontiki_wire::{
    Answer, ClusterId, ClusterState, DeliveredBatch, GroupId, GroupMessage, Member, Offset,
    Request, Response, TopicSettings,
};

use crate::{
    chance::Chance, disk::Disk, oracle::Oracle, producer::Producer, subscriber::Subscriber,
};

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Of a thousand sends.
    pub(crate) lost: u64,
    /// Of a thousand sends.
    pub(crate) doubled: u64,
    pub(crate) delay_max: u64,
    pub(crate) sync_max: u64,
}

pub(crate) const CALM: Faults = Faults {
    lost: 0,
    doubled: 0,
    delay_max: 1_000,
    sync_max: 2_000,
};

#[derive(Clone, Debug)]
enum Happening {
    Deliver {
        to: usize,
        from: NodeRef,
        messages: Vec<GroupMessage>,
    },
    Synced {
        node: usize,
        life: u64,
        upto: u64,
    },
    Wake {
        node: usize,
        life: u64,
    },
    Drain {
        node: usize,
        life: u64,
    },
    Answered {
        stream: StreamId,
        answer: Answer,
    },
    /// A producer begins a new stream, to the member of that name if it was told one.
    Begin {
        producer: usize,
        leader: Option<String>,
    },
    /// A subscriber reads.
    Poll {
        subscriber: usize,
    },
    /// A producer looks whether its stream is still alive.
    Look {
        producer: usize,
        stream: u64,
        unacknowledged: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) me: NodeRef,
    pub(crate) broker: Option<Broker>,
    pub(crate) disk: Disk,
    pub(crate) life: u64,
    pub(crate) topics: BTreeSet<GroupId>,
    pub(crate) watermarks: BTreeMap<GroupId, u64>,
    /// Which entry holds the records from an offset on; what segments know across lives.
    placed: BTreeMap<GroupId, BTreeMap<Offset, Index>>,
    pub(crate) halted: Option<String>,
    pub(crate) sends: u64,
    pub(crate) persists: u64,
    pub(crate) wakes: u64,
    origin: u64,
    skew: u64,
    wake_at: Option<u64>,
    drain_due: bool,
    synced_at: u64,
    tickets: Vec<Ticket>,
}

impl Node {
    /// A few batches from the one that holds `from` on.
    pub(crate) fn read(&self, group: GroupId, from: Offset, until: Offset) -> Vec<DeliveredBatch> {
        let placed = &self.placed[&group];
        let first = placed.range(..=from).next_back().unwrap();
        let rest = placed.range(*first.0..until).take(5);
        let batch = |(offset, index): (&Offset, &Index)| {
            let entry = self.disk.entry(group, *index).unwrap();
            DeliveredBatch {
                offset: *offset,
                time: entry.time.0,
                batch: entry.body.clone(),
            }
        };
        rest.map(batch).collect()
    }
}

pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) producers: Vec<Producer>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) oracle: Oracle,
    pub(crate) faults: Faults,
    /// Pairs that do not hear each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) responses: BTreeMap<Ticket, Response>,
    happenings: BTreeMap<(u64, u64), Happening>,
    streams: BTreeMap<StreamId, (usize, u64, usize)>,
    counter: u64,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed);
        let node = |number: usize, chance: &mut Chance| Node {
            me: NodeRef {
                id: NodeId(number as u64 + 1),
                incarnation: Incarnation(100 + number as u64),
            },
            broker: None,
            disk: Disk::default(),
            life: 0,
            topics: BTreeSet::new(),
            watermarks: BTreeMap::new(),
            placed: BTreeMap::new(),
            halted: None,
            sends: 0,
            persists: 0,
            wakes: 0,
            origin: chance.between(0, 1 << 30),
            skew: chance.between(0, 50_000),
            wake_at: None,
            drain_due: false,
            synced_at: 0,
            tickets: Vec::new(),
        };
        let nodes = (0..nodes).map(|number| node(number, &mut chance)).collect();
        let mut world = Self {
            chance,
            now: 1_000_000,
            nodes,
            producers: Vec::new(),
            subscribers: Vec::new(),
            oracle: Oracle::default(),
            faults: CALM,
            cut: BTreeSet::new(),
            responses: BTreeMap::new(),
            happenings: BTreeMap::new(),
            streams: BTreeMap::new(),
            counter: 0,
        };
        for number in 0..world.nodes.len() {
            world.start(number);
        }
        world
    }

    fn settings(&mut self, number: usize) -> Settings {
        let member = |node: &Node| Member {
            id: node.me.id.0,
            incarnation: node.me.incarnation.0,
            name: format!("n{}", node.me.id),
            address: String::new(),
            peer_address: String::new(),
        };
        Settings {
            cluster: ClusterId(7),
            me: self.nodes[number].me,
            raft: kontiki_raft::Settings::default(),
            birth: ClusterState {
                members: self.nodes.iter().map(member).collect(),
                ..ClusterState::default()
            },
            checkpoints: kontiki_broker::CheckpointEvery::default(),
            damage: None,
            seed: self.chance.next(),
        }
    }

    pub(crate) fn start(&mut self, number: usize) {
        let settings = self.settings(number);
        let now = self.now_at(number);
        let node = &mut self.nodes[number];
        assert!(node.broker.is_none());
        let boots = node.disk.boots(node.me);
        node.life += 1;
        node.topics.clear();
        node.watermarks.clear();
        node.wake_at = None;
        node.drain_due = false;
        node.broker = Some(Broker::new(settings, boots, now).unwrap());
        self.soon(number);
        self.links(number, true);
    }

    /// The links of a node break when it dies and are made again when it is back.
    fn links(&mut self, number: usize, open: bool) {
        let peer = self.nodes[number].me.id;
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            self.input(other, Input::Reachable { peer, open });
        }
    }

    /// The power goes at one node.
    pub(crate) fn crash(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.broker.take().is_none() {
            return;
        }
        node.disk.crash(&mut self.chance);
        let tickets = std::mem::take(&mut node.tickets);
        let life = node.life;
        let streams = &self.streams;
        let is_of = |stream: StreamId| streams[&stream].0 == number && streams[&stream].1 == life;
        self.oracle.died(is_of, &tickets);
        self.links(number, false);
    }

    fn now_at(&self, number: usize) -> Now {
        let node = &self.nodes[number];
        Now {
            monotonic: Micros(node.origin + self.now),
            wall: Micros(1_700_000_000_000_000 + self.now + node.skew),
        }
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.counter += 1;
        self.happenings.insert((time, self.counter), happening);
    }

    fn in_a_while(&mut self, most: u64, happening: Happening) {
        let time = self.now + self.chance.between(1, most.max(2));
        self.at(time, happening);
    }

    /// The node is drained in a moment; until then its inputs pile up.
    fn soon(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].drain_due, true) {
            return;
        }
        let life = self.nodes[node].life;
        self.in_a_while(100, Happening::Drain { node, life });
    }

    pub(crate) fn input(&mut self, number: usize, input: Input) {
        let now = self.now_at(number);
        if let Some(broker) = &mut self.nodes[number].broker {
            broker.handle(now, input);
            self.soon(number);
        }
    }

    pub(crate) fn request(&mut self, number: usize, request: Request) -> Option<Ticket> {
        self.nodes[number].broker.as_ref()?;
        self.counter += 1;
        let ticket = Ticket(self.counter);
        self.oracle.requested(ticket);
        self.nodes[number].tickets.push(ticket);
        self.input(number, Input::Request { ticket, request });
        Some(ticket)
    }

    /// Adds a producer and starts it.
    pub(crate) fn produce(&mut self, group: GroupId, batches: u32) {
        self.produce_large(group, batches, 0);
    }

    /// The same with so many bytes in each record.
    pub(crate) fn produce_large(&mut self, group: GroupId, batches: u32, filling: usize) {
        let producer = self.producers.len();
        let id = producer as u128 + 1;
        self.producers
            .push(Producer::new(id, group, batches, filling));
        let leader = None;
        self.at(self.now, Happening::Begin { producer, leader });
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        while let Some((&(time, number), _)) = self.happenings.first_key_value()
            && time <= end
        {
            self.now = time;
            let happening = self.happenings.remove(&(time, number)).unwrap();
            self.happen(happening);
        }
        self.now = end;
    }

    /// Lets time pass until something holds; panics if it never does.
    pub(crate) fn until(&mut self, what: &str, micros: u64, holds: impl Fn(&Self) -> bool) {
        let end = self.now + micros;
        while !holds(self) {
            assert!(
                self.now < end,
                "not within {micros} µs: {what}{}",
                self.told()
            );
            self.run(20_000);
        }
    }

    /// Who leads what and how far everyone has come, for the one who reads a failure.
    fn told(&self) -> String {
        let mut told = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(broker) = &node.broker else {
                told += &format!("\n{}: down", node.me);
                continue;
            };
            for one in broker.status(self.now_at(number)).groups {
                let at = broker.state(one.group).map(|(at, _)| at);
                let (group, leader, term) = (one.group, one.leader, one.term);
                told += &format!(
                    "\n{}: group {group} term {term} leader {leader:?} applied {at:?} {:?}",
                    node.me, one.replicas
                );
            }
        }
        told
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { to, from, messages } => {
                self.input(to, Input::Peer { from, messages });
            }
            Happening::Synced { node, life, upto } if self.nodes[node].life == life => {
                if self.nodes[node].broker.is_some() {
                    self.nodes[node].disk.sync(upto);
                    self.input(node, Input::Persisted { upto });
                }
            }
            Happening::Wake { node, life } if self.nodes[node].life == life => {
                if self.nodes[node].wake_at == Some(self.now) {
                    self.nodes[node].wake_at = None;
                    self.nodes[node].wakes += 1;
                    self.input(node, Input::Timer);
                }
            }
            Happening::Drain { node, life } if self.nodes[node].life == life => self.drain(node),
            Happening::Answered { stream, answer } => self.answered(stream, &answer),
            Happening::Begin { producer, leader } => self.begin(producer, leader.as_deref()),
            Happening::Look {
                producer,
                stream,
                unacknowledged,
            } => {
                let it = &self.producers[producer];
                if it.stream == stream && !it.is_done {
                    if it.unacknowledged().len() == unacknowledged {
                        self.begin(producer, None);
                    } else {
                        self.look(producer);
                    }
                }
            }
            Happening::Poll { subscriber } => {
                self.subscribers[subscriber].poll(&self.nodes, &self.oracle);
                self.in_a_while(20_000, Happening::Poll { subscriber });
            }
            // Of an earlier life.
            Happening::Synced { .. } | Happening::Wake { .. } | Happening::Drain { .. } => {}
        }
    }

    fn drain(&mut self, number: usize) {
        let now = self.now_at(number);
        self.nodes[number].drain_due = false;
        let Some(broker) = &mut self.nodes[number].broker else {
            return;
        };
        let mut effects = Vec::new();
        broker.drain(now, &mut effects);
        let mut applied = BTreeSet::new();
        for effect in effects {
            if let Effect::Applied { group, .. } = &effect {
                assert!(applied.insert(*group), "one application for each group");
            }
            self.perform(number, effect);
        }
        let node = &self.nodes[number];
        let broker = node.broker.as_ref().unwrap();
        for group in applied {
            if let Some((at, state)) = broker.state(group) {
                self.oracle.state(group, at, state);
            }
        }
        let deadline = broker.next_deadline().map(|at| {
            let at = at.0.saturating_sub(node.origin);
            at.max(self.now + 1)
        });
        if let Some(deadline) = deadline
            && node.wake_at.is_none_or(|at| deadline < at)
        {
            let life = node.life;
            self.nodes[number].wake_at = Some(deadline);
            let node = number;
            self.at(deadline, Happening::Wake { node, life });
        }
    }

    fn perform(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Persist(writes) => {
                let upto = writes.seq;
                let sync_max = self.faults.sync_max;
                let node = &mut self.nodes[number];
                node.disk.queue(writes);
                node.persists += 1;
                let synced_at = (self.now + self.chance.between(50, sync_max)).max(node.synced_at);
                node.synced_at = synced_at;
                let life = node.life;
                let node = number;
                self.at(synced_at, Happening::Synced { node, life, upto });
            }
            Effect::Send { to, messages, .. } => self.send(number, to, messages),
            Effect::SendLog { group, send } => self.send_log(number, group, &send),
            Effect::Applied {
                group,
                placed,
                watermark,
            } => {
                let node = &mut self.nodes[number];
                for one in &placed {
                    let entry = node.disk.entry(group, one.index);
                    let entry = entry.expect("whatever is applied was given to the disk");
                    self.oracle.placed(group, one, entry);
                    if one.count > 0 {
                        let placed = node.placed.entry(group).or_default();
                        placed.insert(one.offset, one.index);
                    }
                }
                let before = node.watermarks.insert(group, watermark.0);
                assert!(before.is_none_or(|before| before <= watermark.0));
            }
            Effect::Checkpoint { group, at, state } => {
                self.oracle.state(group, at, state.clone());
                self.nodes[number].disk.checkpoint(group, at, state);
            }
            Effect::Answer { stream, answer } => {
                let (_, _, producer) = self.streams[&stream];
                let it = &self.producers[producer];
                let is_shot = it.id.0 >= SHOTS;
                self.oracle
                    .answered(self.now, stream, it.id, it.group, is_shot, &answer);
                let delay_max = self.faults.delay_max;
                self.in_a_while(delay_max, Happening::Answered { stream, answer });
            }
            Effect::Respond { ticket, response } => {
                self.oracle.responded(ticket, &response);
                self.responses.insert(ticket, response);
            }
            Effect::TopicMade(topic) => {
                assert!(self.nodes[number].topics.insert(topic.group));
            }
            Effect::TopicRemoved(group) => {
                let node = &mut self.nodes[number];
                node.topics.remove(&group);
                node.watermarks.remove(&group);
                node.disk.remove(group, &mut self.chance);
            }
            Effect::RoleChanged {
                group, term, role, ..
            } => {
                if role == Role::Leader {
                    self.oracle.led(group, term, number);
                }
            }
            Effect::TopicClosed(_)
            | Effect::Ask { .. }
            | Effect::Find { .. }
            | Effect::Mend { .. }
            | Effect::Mending { .. } => panic!("no disk here loses anything: {effect:?}"),
            Effect::Halt { reason } => self.nodes[number].halted = Some(reason),
            Effect::Members(_) => {}
        }
    }

    fn send(&mut self, number: usize, to: NodeRef, messages: Vec<GroupMessage>) {
        self.nodes[number].sends += 1;
        let from = self.nodes[number].me;
        let to = to.id.0 as usize - 1;
        let pair = (number.min(to), number.max(to));
        if self.cut.contains(&pair) || self.chance.permille(self.faults.lost) {
            return;
        }
        let copies = 1 + u64::from(self.chance.permille(self.faults.doubled));
        for _ in 0..copies {
            let messages = messages.clone();
            let delay_max = self.faults.delay_max;
            self.in_a_while(delay_max, Happening::Deliver { to, from, messages });
        }
    }

    fn send_log(&mut self, number: usize, group: GroupId, send: &SendLog) {
        let first = send.head.prev.index.next();
        let entries = self.nodes[number].disk.entries(group, first, send.last);
        if entries.is_empty() {
            return;
        }
        let body = Body::Append {
            head: send.head,
            entries,
        };
        let message = Message {
            term: send.term,
            body,
        };
        self.send(number, send.to, vec![GroupMessage { group, message }]);
    }

    /// Adds a subscriber from the topic's beginning on.
    pub(crate) fn subscribe(&mut self, group: GroupId) {
        let subscriber = self.subscribers.len();
        self.subscribers.push(Subscriber::new(group));
        self.at(self.now, Happening::Poll { subscriber });
    }

    /// Somebody appends one batch somewhere and never comes back, whatever the answer is.
    pub(crate) fn shoot(&mut self, group: GroupId) {
        let producer = self.producers.len();
        let mut shot = Producer::new(SHOTS + producer as u128, group, 1, 0);
        shot.node = self.chance.between(0, self.nodes.len() as u64) as usize;
        self.counter += 1;
        shot.stream = self.counter;
        shot.is_waiting = true;
        shot.is_done = true;
        let batch = shot.make(3).unwrap();
        self.producers.push(shot);
        self.append(producer, batch);
    }

    /// A producer opens a stream and sends all that is not acknowledged.
    fn begin(&mut self, producer: usize, leader: Option<&str>) {
        let known = leader.and_then(|name| name.strip_prefix('n')?.parse::<usize>().ok());
        let nodes = self.nodes.len();
        let it = &mut self.producers[producer];
        it.node = match known {
            Some(id) => id - 1,
            None => (it.node + 1) % nodes,
        };
        self.counter += 1;
        it.stream = self.counter;
        it.is_waiting = false;
        let again = it.unacknowledged();
        it.resent += again.len() as u32;
        for batch in again {
            self.append(producer, batch);
        }
        self.make(producer);
        self.look(producer);
    }

    fn look(&mut self, producer: usize) {
        let it = &self.producers[producer];
        let happening = Happening::Look {
            producer,
            stream: it.stream,
            unacknowledged: it.unacknowledged().len(),
        };
        self.at(self.now + 700_000, happening);
    }

    fn make(&mut self, producer: usize) {
        loop {
            let records = self.chance.between(1, 5) as u32;
            let Some(batch) = self.producers[producer].make(records) else {
                return;
            };
            self.append(producer, batch);
        }
    }

    fn append(&mut self, producer: usize, batch: kontiki_wire::Batch) {
        let it = &self.producers[producer];
        let (number, group, stream) = (it.node, it.group, StreamId(it.stream));
        let node = &self.nodes[number];
        if node.broker.is_none() {
            return;
        }
        self.streams.insert(stream, (number, node.life, producer));
        let (producer, sequence) = (it.id, batch.header().sequence);
        self.oracle
            .asked(self.now, stream, producer, group, sequence);
        self.input(
            number,
            Input::Append {
                stream,
                group,
                batch,
            },
        );
    }

    fn answered(&mut self, stream: StreamId, answer: &Answer) {
        let (_, _, producer) = self.streams[&stream];
        let it = &mut self.producers[producer];
        if it.stream != stream.0 {
            return;
        }
        match it.hear(answer) {
            Ok(()) => self.make(producer),
            // It begins anew already, or never will.
            Err(_) if it.is_waiting => {}
            Err(leader) => {
                it.is_waiting = true;
                self.in_a_while(50_000, Happening::Begin { producer, leader });
            }
        }
    }

    /// The node that leads a group, as it believes itself.
    pub(crate) fn leader(&self, group: GroupId) -> Option<usize> {
        let leads = |node: &&Node| {
            let name = format!("n{}", node.me.id);
            let broker = node.broker.as_ref();
            broker.is_some_and(|broker| {
                let now = Now {
                    monotonic: Micros(node.origin + self.now),
                    wall: Micros(0),
                };
                let status = broker.status(now);
                status
                    .groups
                    .iter()
                    .any(|one| one.group == group && one.leader.as_ref() == Some(&name))
            })
        };
        let found = self.nodes.iter().find(leads)?;
        Some(found.me.id.0 as usize - 1)
    }

    /// Asks until a topic is made.
    pub(crate) fn create(&mut self, name: &str, replicas: u8) -> GroupId {
        for attempt in 0..100 {
            let request = Request::CreateTopic {
                name: name.parse().unwrap(),
                settings: TopicSettings { replicas },
            };
            let node = self.leader(GroupId::CLUSTER);
            let node = node.unwrap_or(attempt % self.nodes.len());
            let ticket = self.request(node, request);
            self.run(100_000);
            let response = ticket.and_then(|ticket| self.responses.get(&ticket));
            if let Some(Response::Topic(topic) | Response::Exists(topic)) = response {
                return topic.group;
            }
        }
        panic!("topic {name} was never made");
    }

    /// Everyone is up, hears everyone, and nothing is lost any more.
    pub(crate) fn heal(&mut self) {
        self.faults = CALM;
        self.cut.clear();
        for number in 0..self.nodes.len() {
            if self.nodes[number].broker.is_none() {
                self.start(number);
            }
        }
    }

    /// Waits until all producers are done and all replicas equal, then checks every promise.
    pub(crate) fn settle(&mut self) {
        self.until("all producers are done", 60_000_000, |world| {
            world.producers.iter().all(|one| one.is_done)
        });
        self.run(1_000_000);
        self.agree();
        self.until("all subscribers have read all", 10_000_000, |world| {
            let read = |one: &Subscriber| one.next == world.oracle.end(one.group);
            world.subscribers.iter().all(read)
        });
        self.verify(&BTreeSet::new());
    }

    /// Waits until all members have applied the same of everything.
    pub(crate) fn agree(&mut self) {
        self.until("all replicas are equal", 20_000_000, |world| {
            let groups = world.nodes.iter().flat_map(|node| &node.topics);
            let groups: BTreeSet<GroupId> = groups.copied().collect();
            std::iter::once(GroupId::CLUSTER)
                .chain(groups)
                .all(|group| world.are_equal(group))
        });
    }

    /// Whether all that keep a group have the same state of it.
    fn are_equal(&self, group: GroupId) -> bool {
        let states = (0..self.nodes.len()).filter_map(|number| self.state(number, group));
        let states: Vec<_> = states.collect();
        states.iter().all(|state| *state == states[0])
    }

    pub(crate) fn verify(&self, removed: &BTreeSet<GroupId>) {
        for node in &self.nodes {
            assert_eq!(node.halted, None);
        }
        self.oracle.verify(removed);
    }

    pub(crate) fn state(&self, number: usize, group: GroupId) -> Option<(Index, Bytes)> {
        let (at, state) = self.nodes[number].broker.as_ref()?.state(group)?;
        Some((at.index, state))
    }
}

/// The numbers of producers that append once begin here.
const SHOTS: u128 = 1 << 64;
