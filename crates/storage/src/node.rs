//! What both threads and all readers share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{
    Error, Event, Settings, command::Task, disk::Disk, group::Group, journal::Position,
    segment::Recent,
};

/// Called from storage's threads.
pub(crate) type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Bytes of placed entries that may wait for segments before the journal waits for those.
const UNSETTLED_BYTES_MAX: u64 = 256 << 20;

/// How long each write waits for them at most.
const WAIT_MAX: Duration = Duration::from_millis(100);

pub(crate) struct Node {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: Settings,
    pub(crate) recent: Recent,
    groups: RwLock<Groups>,
    events: Events,
    /// To the settler, from readers that find damage.
    tasks: Sender<Task>,
    /// Writes before this one are durable in the journal.
    durable_end: AtomicU64,
    poisoned: AtomicBool,
    /// The journal file that is written, and how far.
    journal: Mutex<Position>,
    /// Bytes of bodies that were handed over and are not durable yet.
    pub(crate) queued_bytes: AtomicU64,
    /// Bytes of bodies that were handed over.
    pub(crate) given_bytes: AtomicU64,
    unsettled: Mutex<Unsettled>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Groups {
    by_id: BTreeMap<GroupId, Arc<Group>>,
    /// Those that were removed and were not born anew since, and whether their files are gone.
    removed: BTreeMap<GroupId, bool>,
}

/// What is placed and not in segments yet.
#[derive(Debug, Default)]
struct Unsettled {
    bytes: u64,
    /// Nothing will settle any more.
    ended: bool,
}

impl Node {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        settings: Settings,
        events: Events,
        tasks: Sender<Task>,
        groups: impl IntoIterator<Item = Arc<Group>>,
        removed: impl IntoIterator<Item = GroupId>,
    ) -> Self {
        let by_id = groups.into_iter().map(|group| (group.id, group)).collect();
        let removed = removed.into_iter().map(|group| (group, true)).collect();
        Self {
            disk,
            settings,
            recent: Recent::default(),
            groups: RwLock::new(Groups { by_id, removed }),
            events,
            tasks,
            durable_end: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            journal: Mutex::default(),
            queued_bytes: AtomicU64::new(0),
            given_bytes: AtomicU64::new(0),
            unsettled: Mutex::default(),
            settled: Condvar::new(),
        }
    }

    fn read_groups(&self) -> RwLockReadGuard<'_, Groups> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_groups(&self) -> RwLockWriteGuard<'_, Groups> {
        self.groups.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group, born empty if it is new; `None` if it was removed.
    pub(crate) fn group(&self, id: GroupId) -> Option<Arc<Group>> {
        let groups = self.read_groups();
        if groups.removed.contains_key(&id) {
            return None;
        }
        if let Some(group) = groups.by_id.get(&id) {
            return Some(Arc::clone(group));
        }
        drop(groups);
        let mut groups = self.write_groups();
        let group = groups.by_id.entry(id);
        Some(Arc::clone(
            group.or_insert_with(|| Arc::new(Group::born(id))),
        ))
    }

    /// The group, if it has been heard of and was not removed.
    pub(crate) fn known_group(&self, id: GroupId) -> Option<Arc<Group>> {
        let groups = self.read_groups();
        let group = groups.by_id.get(&id).cloned();
        group.filter(|_| !groups.removed.contains_key(&id))
    }

    /// Every group that has files, those being removed included.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.read_groups().by_id.values().cloned().collect()
    }

    /// Takes a group from its readers and writers.
    pub(crate) fn remove(&self, id: GroupId) {
        let mut groups = self.write_groups();
        groups.removed.insert(id, false);
        if let Some(group) = groups.by_id.get(&id) {
            group.lock().remove();
        }
    }

    /// Forgets a group that was removed and whose files go.
    pub(crate) fn forget(&self, id: GroupId) -> Option<Arc<Group>> {
        self.write_groups().by_id.remove(&id)
    }

    /// The files of a group that was removed are gone.
    pub(crate) fn gone(&self, id: GroupId) {
        if let Some(gone) = self.write_groups().removed.get_mut(&id) {
            *gone = true;
        }
    }

    /// A group that was removed, and whose files are gone, may be born anew.
    pub(crate) fn revive(&self, id: GroupId) {
        if self.read_groups().removed.get(&id) == Some(&true) {
            self.write_groups().removed.remove(&id);
        }
    }

    /// Writes before this one are durable.
    pub(crate) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    pub(crate) fn persisted(&self, upto: u64) {
        self.durable_end.store(upto + 1, Ordering::Release);
        (self.events)(Event::Persisted { upto });
    }

    /// Tells the host.
    pub(crate) fn tell(&self, event: Event) {
        (self.events)(event);
    }

    /// Has a segment looked at in which a reader found damage.
    pub(crate) fn suspect(&self, group: &Arc<Group>, segment: Index) {
        if group.lock().suspect(segment) {
            let group = Arc::clone(group);
            // Who has ended looks at nothing, and neither does the next start of this process.
            let _ = self.tasks.send(Task::Examine(group, segment));
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Something failed that must not be tried again. The first time is told to the host.
    pub(crate) fn poison(&self, error: Error) {
        if !self.poisoned.swap(true, Ordering::AcqRel) {
            self.end_settling();
            (self.events)(Event::Failed(error));
        }
    }

    /// Poisons if a write or sync has failed, and says what to tell whoever wanted it.
    pub(crate) fn poison_by(&self, error: Error) -> Error {
        match error {
            Error::Io { .. } if !error.is_damage() => {
                self.poison(error);
                Error::Poisoned
            }
            other => other,
        }
    }

    /// Poisons if this thread panics while the alarm lives: nobody would ever hear from it again.
    pub(crate) fn alarm(self: &Arc<Self>) -> Alarm {
        Alarm(Arc::clone(self))
    }

    fn lock_unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// So much more waits for segments.
    pub(crate) fn add_unsettled(&self, bytes: u64) {
        self.lock_unsettled().bytes += bytes;
    }

    /// The journal is written up to here.
    pub(crate) fn journal_reached(&self, end: Position) {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// How far the journal was written when that was last said.
    pub(crate) fn journal_end(&self) -> Position {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much waits for segments.
    pub(crate) fn unsettled_bytes(&self) -> u64 {
        self.lock_unsettled().bytes
    }

    /// So much less does.
    pub(crate) fn take_unsettled(&self, bytes: u64) {
        self.lock_unsettled().bytes -= bytes;
        self.settled.notify_all();
    }

    /// Nobody shall wait for segments any more.
    pub(crate) fn end_settling(&self) {
        self.lock_unsettled().ended = true;
        self.settled.notify_all();
    }

    /// Waits a while if too much waits for segments. Not for ever: what waits may itself be waiting to
    /// become durable.
    pub(crate) fn wait_for_segments(&self) {
        let unsettled = self.lock_unsettled();
        let full =
            |unsettled: &mut Unsettled| unsettled.bytes > UNSETTLED_BYTES_MAX && !unsettled.ended;
        let waited = self.settled.wait_timeout_while(unsettled, WAIT_MAX, full);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// See [`Node::alarm`].
pub(crate) struct Alarm(Arc<Node>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(Error::Poisoned);
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
