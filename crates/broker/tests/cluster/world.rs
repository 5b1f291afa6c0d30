//! Nodes, a network and one clock: what is planned, and what happens next.

mod clients;
mod hosting;
mod judging;

use std::collections::{BTreeMap, BTreeSet};

use kontiki_broker::{Broker, Input, Members, StreamId, Ticket};
use kontiki_raft::{Incarnation, Index, NodeId, NodeRef};
use kontiki_wire::{Answer, ClusterCommand, GroupId, GroupMessage, MemberBeat, Offset, Response};

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
    /// A node dials its peers, those of its links that were closed at least.
    Dial {
        node: usize,
        life: u64,
    },
    Beat {
        to: usize,
        from: NodeRef,
        beat: MemberBeat,
    },
    Relay {
        to: usize,
        from: NodeRef,
        command: ClusterCommand,
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
    pub(crate) name: String,
    /// Whom it has links to, and takes them from.
    pub(crate) members: Members,
    /// Why it is a member no more.
    pub(crate) expelled: Option<String>,
    /// Whether it stays down until somebody says otherwise.
    pub(crate) is_dead: bool,
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
    /// The first nodes, which the cluster was born with.
    pub(crate) founders: usize,
    happenings: BTreeMap<(u64, u64), Happening>,
    streams: BTreeMap<StreamId, (usize, u64, usize)>,
    counter: u64,
}

impl Node {
    pub(crate) fn new(number: usize, name: String, chance: &mut Chance) -> Self {
        Self {
            me: NodeRef {
                id: NodeId(number as u64 + 1),
                incarnation: Incarnation(100 + number as u64),
            },
            name,
            members: Members::default(),
            expelled: None,
            is_dead: false,
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
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed);
        let founders = nodes;
        let nodes = (0..nodes).map(|number| {
            let name = format!("n{}", number + 1);
            Node::new(number, name, &mut chance)
        });
        let nodes = nodes.collect();
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
            founders,
            happenings: BTreeMap::new(),
            streams: BTreeMap::new(),
            counter: 0,
        };
        for number in 0..world.nodes.len() {
            world.start(number);
        }
        world
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.counter += 1;
        self.happenings.insert((time, self.counter), happening);
    }

    fn in_a_while(&mut self, most: u64, happening: Happening) {
        let time = self.now + self.chance.between(1, most.max(2));
        self.at(time, happening);
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

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { to, from, messages } => {
                if self.admits(to, from) {
                    self.input(to, Input::Peer { from, messages });
                }
            }
            Happening::Beat { to, from, beat } => {
                if self.admits(to, from) {
                    self.input(to, Input::Beat { from, beat });
                }
            }
            Happening::Relay { to, from, command } => {
                if self.admits(to, from) {
                    self.input(to, Input::Relayed { from, command });
                }
            }
            Happening::Synced { node, life, upto } if self.nodes[node].life == life => {
                if self.nodes[node].broker.is_some() {
                    self.nodes[node].disk.sync(upto);
                    self.input(node, Input::Persisted { upto });
                    for group in self.nodes[node].disk.gone() {
                        self.input(node, Input::Removed { group });
                    }
                }
            }
            Happening::Wake { node, life } if self.nodes[node].life == life => {
                if self.nodes[node].wake_at == Some(self.now) {
                    self.nodes[node].wake_at = None;
                    self.nodes[node].wakes += 1;
                    self.input(node, Input::Timer);
                }
            }
            Happening::Dial { node, life } if self.nodes[node].life == life => self.dial(node),
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
            Happening::Synced { .. }
            | Happening::Wake { .. }
            | Happening::Dial { .. }
            | Happening::Drain { .. } => {}
        }
    }
}
