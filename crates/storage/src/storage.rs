//! The door: open and recover, then hand writes to the one thread that writes.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use kontiki_broker::{Placed, Writes};
use kontiki_raft::{Entry, Hard, Index, LogId, Membership, Term};
use kontiki_wire::{DeliveredBatch, GroupId, Offset};

use crate::Error;

/// Sizes and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of one journal file; preallocated and recycled.
    pub journal_file_bytes: u64,
    /// Bytes after which a segment is sealed.
    pub segment_bytes: u64,
    /// Bytes of entries, over all topics, kept in memory for subscribers after they are in segments.
    pub hot_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            journal_file_bytes: 64 << 20,
            segment_bytes: 256 << 20,
            hot_bytes_max: 64 << 20,
        }
    }
}

/// What storage tells the driver, from its own threads.
#[derive(Debug)]
pub enum Event {
    /// All writes up to and including this one are durable.
    Persisted {
        /// [`Writes::seq`].
        upto: u64,
    },
    /// A write or sync failed: storage is poisoned.
    Failed(Error),
}

/// What the disk held.
#[derive(Debug)]
pub struct Recovered {
    /// Every group that has anything on disk.
    pub groups: Vec<RecoveredGroup>,
    /// Damage below what was known durable, one sentence each: the node must not vote, acknowledge or
    /// lead until it is repaired. A torn tail is not damage.
    pub damage: Vec<String>,
    /// What was cut off as a torn tail, for the log; `None` after a clean stop.
    pub torn: Option<String>,
}

/// One group as the disk held it. The fields are those of [`kontiki_raft::Boot`].
#[derive(Debug)]
pub struct RecoveredGroup {
    /// Which.
    pub group: GroupId,
    /// Term and vote.
    pub hard: Hard,
    /// Entries up to it are gone.
    pub base: LogId,
    /// Runs of terms after `base`, to the end of the log.
    pub terms: Vec<(Index, Term)>,
    /// Configuration entries after `base` and up to the checkpoint, by index.
    pub configs: BTreeMap<Index, Membership>,
    /// The end of the log.
    pub last: Index,
    /// Known committed.
    pub commit: Index,
    /// The latest checkpoint that the log reaches.
    pub checkpoint: Option<(LogId, Bytes)>,
    /// Every entry after the checkpoint.
    pub tail: Vec<Entry>,
}

/// The node's disk. Cheap to clone; writes go through one queue to one thread.
#[derive(Clone, Debug)]
pub struct Storage {}

impl Storage {
    /// Opens a data directory, making it if it is empty, and recovers. Holds a lock on it. `events` is
    /// called from storage's threads and must not block.
    pub fn open(
        _dir: &Path,
        _settings: Settings,
        _events: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<(Self, Recovered), Error> {
        unreachable!("skeleton")
    }

    /// Queues a write; [`Event::Persisted`] or [`Event::Failed`] follows. Whatever is queued when the
    /// writer comes back from the disk goes out with one sync.
    pub fn persist(&self, _writes: Writes) {}

    /// These entries are committed and this is where their records went: they may move to segments.
    /// Every entry named has been given to [`Storage::persist`] before.
    pub fn applied(&self, _group: GroupId, _placed: &[Placed]) {}

    /// Keeps a group's small state, once its segments reach it.
    pub fn checkpoint(&self, _group: GroupId, _at: LogId, _state: Bytes) {}

    /// Removes everything of a group, in the background.
    pub fn remove(&self, _group: GroupId) {}

    /// A group's log, for readers.
    #[must_use]
    pub fn log(&self, _group: GroupId) -> Option<Log> {
        None
    }

    /// Writes out what is queued, seals the journal cleanly and stops the threads. Blocks.
    pub fn close(self) -> Result<(), Error> {
        Ok(())
    }
}

/// One group's log, for reading. Cheap to clone, from any thread.
#[derive(Clone, Debug)]
pub struct Log {}

impl Log {
    /// Batches from `from` up to `until` (which is at most the watermark) if they are in memory, as
    /// much as `bytes_max` (at least one batch). The first may begin before `from`. Never blocks.
    #[must_use]
    pub fn read_hot(
        &self,
        _from: Offset,
        _until: Offset,
        _bytes_max: usize,
    ) -> Option<Vec<DeliveredBatch>> {
        None
    }

    /// The same from wherever they are. May block on the disk.
    pub fn read(
        &self,
        _from: Offset,
        _until: Offset,
        _bytes_max: usize,
    ) -> Result<Vec<DeliveredBatch>, Error> {
        unreachable!("skeleton")
    }

    /// Entries for a follower: from `first` to at most `last`, as much as `bytes_max` bodies (at least
    /// one entry). May block on the disk.
    pub fn entries(
        &self,
        _first: Index,
        _last: Index,
        _bytes_max: u64,
    ) -> Result<Vec<Entry>, Error> {
        unreachable!("skeleton")
    }

    /// The first offset there is.
    #[must_use]
    pub fn first(&self) -> Offset {
        Offset(0)
    }

    /// The first offset whose batch was appended at or after `time` (microseconds since the Unix
    /// epoch), or `None` if every committed one is older. May block on the disk.
    pub fn offset_at(&self, _time: u64) -> Result<Option<Offset>, Error> {
        unreachable!("skeleton")
    }
}
