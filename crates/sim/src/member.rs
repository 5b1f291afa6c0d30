//! A machine with its disk and its clocks, and the process on it: the shipping broker over the shipping
//! storage, whose threads' work is done when the story says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use kontiki_broker::{Broker, GroupBoot, Input, Members, Settings, Ticket};
use kontiki_raft::{Incarnation, Index, NodeId, NodeRef};
use kontiki_storage::{Hands, Incoming, SimDisk, Storage};
use kontiki_wire::{ClusterId, ClusterState, Epoch, GroupId, Member as Known, Offset, TopicName};

use crate::{
    chance::Chance,
    clock::Clock,
    delivery::Delivery,
    event::{Life, PipeId},
    fetching::Fetch,
    tuning::Tuning,
};

/// One machine.
pub(crate) struct Member {
    pub(crate) me: NodeRef,
    pub(crate) name: String,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Clock,
    /// Whether a process of it has ever started.
    pub(crate) started: bool,
    /// Counts the starts.
    pub(crate) life: Life,
    pub(crate) host: Option<Host>,
    /// Its process stands still until then.
    pub(crate) paused_until: u64,
    /// Until then its disk takes so much longer.
    pub(crate) slow_disk: (u64, u64),
    /// Its disk was damaged at some time.
    pub(crate) is_harmed: bool,
    /// Its whole disk was lost, and storage does not know yet.
    pub(crate) has_lost_all: bool,
    /// Faults that keep its process from starting.
    pub(crate) held_down: u32,
    /// Whether the cluster was born with it.
    pub(crate) is_founder: bool,
    /// It was told that it is a member no more: its process never starts again.
    pub(crate) is_out: bool,
    /// Why its process stopped itself, if it did: for the trace.
    pub(crate) chance: Chance,
}

/// Why a process did not come up.
pub(crate) enum NoStart {
    /// The disk did not open: what a machine tries again.
    Disk(kontiki_storage::Error),
    /// The broker does not start from what the disk held.
    Broker(String),
}

/// What storage tells, to be looked at after each of its steps.
type Told = Arc<Mutex<Vec<kontiki_storage::Event>>>;

/// A process.
pub(crate) struct Host {
    pub(crate) broker: Broker,
    pub(crate) storage: Storage,
    pub(crate) hands: Hands,
    told: Told,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) turn_planned: bool,
    /// The moment of the alarm that is set.
    pub(crate) alarm: Option<u64>,
    pub(crate) is_writing: bool,
    pub(crate) is_settling: bool,
    pub(crate) looks_again: bool,
    pub(crate) writes: u64,
    pub(crate) topics: BTreeMap<GroupId, Kept>,
    /// Logs on their way, and those that are here.
    pub(crate) fetches: BTreeMap<GroupId, Fetch>,
    pub(crate) fetched: BTreeMap<GroupId, Incoming>,
    /// Who is a member, as far as the process knows.
    pub(crate) members: Members,
    pub(crate) tickets: BTreeMap<Ticket, Waiting>,
    last_ticket: u64,
    pub(crate) deliveries: BTreeMap<PipeId, Delivery>,
    /// What the disk held that was wrong, if it said so.
    pub(crate) damage: Vec<String>,
}

/// A topic that the process serves.
pub(crate) struct Kept {
    pub(crate) name: TopicName,
    /// `None` until the group has said.
    pub(crate) watermark: Option<Offset>,
}

/// Who waits for a response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiting {
    /// A client.
    Client(PipeId),
    /// A producer's batch whose topic is not kept here.
    Elsewhere { pipe: PipeId, sequence: u64 },
}

impl Member {
    pub(crate) fn new(number: usize, chance: Chance) -> Self {
        let me = NodeRef {
            id: NodeId(number as u64 + 1),
            incarnation: Incarnation(100 + number as u64),
        };
        let name = format!("n{}", number + 1);
        Self {
            is_founder: true,
            ..Self::joined(me, name, chance)
        }
    }

    /// One that has been admitted and not started yet.
    pub(crate) fn joined(me: NodeRef, name: String, mut chance: Chance) -> Self {
        let drift = chance.between(0, 200) as i64 - 100;
        let ahead = chance.between(0, 100_000) as i64 - 50_000;
        let clock = Clock::new(chance.between(0, 1 << 30), drift, ahead);
        Self {
            me,
            name,
            disk: SimDisk::seeded(chance.next()),
            clock,
            started: false,
            life: 0,
            host: None,
            paused_until: 0,
            slow_disk: (0, 0),
            is_harmed: false,
            has_lost_all: false,
            held_down: 0,
            is_founder: false,
            is_out: false,
            chance,
        }
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            id: self.me.id.0,
            incarnation: self.me.incarnation.0,
            name: self.name.clone(),
            address: String::new(),
            peer_address: String::new(),
            ..Known::default()
        }
    }

    /// Starts a process from what the disk holds.
    pub(crate) fn start(
        &mut self,
        at: u64,
        tuning: &Tuning,
        members: Vec<Known>,
    ) -> Result<Vec<GroupBoot>, NoStart> {
        let told = Told::default();
        let tell = {
            let told = Arc::clone(&told);
            Arc::new(move |event| lock(&told).push(event))
        };
        let disk = Arc::new(self.disk.clone());
        let storage = kontiki_storage::Settings {
            begun: self.started,
            lost: (self.started && self.has_lost_all).then(|| "the disk is another one".to_owned()),
            ..tuning.storage.clone()
        };
        let opened = Storage::open_by_hand(disk, storage, tell);
        let (storage, hands, recovered) = opened.map_err(NoStart::Disk)?;
        // From now on storage knows.
        self.has_lost_all = false;
        let mut damage = recovered.damage.clone();
        for group in &recovered.groups {
            damage.extend(group.damage.iter().cloned());
            damage.extend((!group.missing.is_empty()).then(|| {
                format!(
                    "entries {:?} of group {} are missing",
                    group.missing, group.group
                )
            }));
        }
        if !damage.is_empty() && !self.is_harmed {
            let damage = damage.join("; ");
            return Err(NoStart::Broker(format!("nobody damaged it, and {damage}")));
        }
        let damage = recovered.damage.clone();
        let settings = Settings {
            cluster: ClusterId(7),
            epoch: Epoch::FIRST,
            me: self.me,
            raft: tuning.raft.clone(),
            birth: ClusterState {
                members,
                next_group: 1,
                ..ClusterState::default()
            },
            checkpoints: tuning.checkpoints,
            fetch_bytes_min: 1,
            damage: (!damage.is_empty()).then(|| damage.join("; ")),
            seed: self.chance.next(),
        };
        let boots = recovered.into_boots(self.me, self.started);
        let broker = Broker::new(settings, boots.clone(), self.clock.now(at));
        let broker = broker.map_err(NoStart::Broker)?;
        self.started = true;
        self.life += 1;
        self.host = Some(Host {
            broker,
            storage,
            hands,
            told,
            inbox: VecDeque::new(),
            turn_planned: false,
            alarm: None,
            is_writing: false,
            is_settling: false,
            looks_again: false,
            writes: 0,
            topics: BTreeMap::new(),
            fetches: BTreeMap::new(),
            fetched: BTreeMap::new(),
            members: Members::default(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            deliveries: BTreeMap::new(),
            damage,
        });
        Ok(boots)
    }

    /// What of the topics that it is to keep cannot be read, if there is any.
    pub(crate) fn unread(&self) -> Option<String> {
        let Some(host) = &self.host else {
            return Some(format!("{} is up", self.name));
        };
        let topics = host.broker.cluster().topics.iter();
        let kept = topics.filter(|topic| topic.replicas.contains(&self.me.id.0));
        let groups = kept.map(|topic| topic.group).chain([GroupId::CLUSTER]);
        groups.into_iter().find_map(|group| {
            let Some((applied, _)) = host.broker.state(group) else {
                return Some(format!("{} has mended group {group}", self.name));
            };
            let log = host.storage.log(group)?;
            let mut first = Index(1);
            while first <= applied.index {
                match log.entries(first, applied.index, 64 << 10) {
                    Ok(entries) => first = entries.last()?.id.index.next(),
                    Err(error) => return Some(format!("{} can read: {error}", self.name)),
                }
            }
            None
        })
    }

    /// What a power cut leaves of the disk: of what was not synced anything or nothing.
    pub(crate) fn lose_power(&mut self) {
        // Mostly all or nothing survives in some places; every mixture may.
        let kept = *self.chance.pick(&[0, 500, 500, 900, 1_000]);
        let chance = &mut self.chance;
        self.disk = self.disk.after_crash(|_| chance.permille(kept));
    }
}

impl Host {
    /// What storage has told since the last call.
    pub(crate) fn heard(&self) -> Vec<kontiki_storage::Event> {
        std::mem::take(&mut *lock(&self.told))
    }

    /// A number for a response that somebody waits for.
    pub(crate) fn ticket(&mut self, waiting: Waiting) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, waiting);
        ticket
    }

    /// Nothing more is wanted of a group's log.
    pub(crate) fn stop_fetching(&mut self, group: GroupId) {
        self.fetches.remove(&group);
        self.fetched.remove(&group);
    }

    /// The group of the topic that bears this name here.
    pub(crate) fn group_named(&self, name: &TopicName) -> Option<GroupId> {
        // Of two, the later one: the earlier is on its way out.
        let named = |(_, kept): &(&GroupId, &Kept)| kept.name == *name;
        self.topics
            .iter()
            .rev()
            .find(named)
            .map(|(group, _)| *group)
    }
}

fn lock(
    told: &Mutex<Vec<kontiki_storage::Event>>,
) -> std::sync::MutexGuard<'_, Vec<kontiki_storage::Event>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
