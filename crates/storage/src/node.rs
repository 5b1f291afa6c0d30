//! What both threads and all readers share.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use kontiki_raft::Index;
use kontiki_wire::{GroupId, Offset};

use crate::{Error, Event, Settings, disk::Disk, group::Group};

/// Called from storage's threads.
pub(crate) type Events = Arc<dyn Fn(Event) + Send + Sync>;

pub(crate) struct Node {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    groups: RwLock<Groups>,
    events: Events,
    /// Writes up to this one are durable in the journal.
    durable: AtomicU64,
    poisoned: AtomicBool,
    /// Bytes of bodies that were handed over and are not durable yet.
    pub(crate) queued_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Groups {
    by_id: HashMap<GroupId, Arc<Group>>,
    /// Never given twice, so what is in here stays in here.
    removed: HashSet<GroupId>,
}

impl Node {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        settings: Settings,
        events: Events,
        groups: impl IntoIterator<Item = Arc<Group>>,
    ) -> Self {
        let by_id = groups.into_iter().map(|group| (group.id, group)).collect();
        Self {
            disk,
            settings,
            groups: RwLock::new(Groups {
                by_id,
                removed: HashSet::new(),
            }),
            events,
            durable: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            queued_bytes: AtomicU64::new(0),
        }
    }

    /// The group, born empty if it is new; `None` if it was removed.
    pub(crate) fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.by_id.get(&id) {
            return Some(Arc::clone(group));
        }
        drop(groups);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups.removed.contains(&id) {
            return None;
        }
        let born = || Arc::new(Group::new(id, Index(0), Offset(0)));
        Some(Arc::clone(groups.by_id.entry(id).or_insert_with(born)))
    }

    /// Forgets the group for good.
    pub(crate) fn remove(&self, id: GroupId) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.removed.insert(id);
        if let Some(group) = groups.by_id.remove(&id) {
            group.lock().removed = true;
        }
    }

    /// Writes up to this one are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn persisted(&self, upto: u64) {
        self.durable.store(upto, Ordering::Release);
        (self.events)(Event::Persisted { upto });
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Something failed that must not be tried again. The first time is told to the host.
    pub(crate) fn poison(&self, error: Error) {
        if !self.poisoned.swap(true, Ordering::AcqRel) {
            (self.events)(Event::Failed(error));
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("disk", &self.disk)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
