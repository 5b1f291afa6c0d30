//! Producers that try again, subscribers, and whoever makes topics.

use kontiki_broker::{Input, StreamId};
use kontiki_wire::{Answer, Batch, GroupId, Request, Response, TopicSettings};

use crate::{
    producer::Producer,
    subscriber::Subscriber,
    world::{Happening, World},
};

impl World {
    /// So many nodes with a topic, kept by so many of them, to which so many batches are written.
    pub(crate) fn writing(seed: u64, nodes: usize, replicas: u8, batches: u32) -> (Self, GroupId) {
        let mut world = Self::new(seed, nodes);
        let group = world.create("a", replicas);
        world.produce(group, batches);
        (world, group)
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
    pub(crate) fn begin(&mut self, producer: usize, leader: Option<&str>) {
        let named = |name: &str| self.nodes.iter().rposition(|node| node.name == name);
        let known = leader.and_then(named);
        let nodes = self.nodes.len();
        let it = &mut self.producers[producer];
        it.node = match known {
            Some(number) => number,
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

    pub(crate) fn look(&mut self, producer: usize) {
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

    fn append(&mut self, producer: usize, batch: Batch) {
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

    pub(crate) fn answered(&mut self, stream: StreamId, answer: &Answer) {
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
}

/// The numbers of producers that append once begin here.
pub(crate) const SHOTS: u128 = 1 << 64;
