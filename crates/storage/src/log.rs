//! A group's log, for readers.

use std::sync::Arc;

use kontiki_raft::{Entry, Index};
use kontiki_wire::{DeliveredBatch, Offset};

use crate::{Error, group::Group};

/// One group's log, for reading. Cheap to clone, from any thread.
#[derive(Clone, Debug)]
pub struct Log {
    group: Arc<Group>,
}

impl Log {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self { group }
    }

    /// Batches from `from` up to `until` (which is at most the watermark) if they are in memory, as
    /// much as `bytes_max` (at least one batch). The first may begin before `from`. Never blocks.
    #[must_use]
    pub fn read_hot(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Option<Vec<DeliveredBatch>> {
        self.group.lock().batches(from, until, bytes_max)
    }

    /// The same from wherever they are. May block on the disk.
    pub fn read(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<DeliveredBatch>, Error> {
        let hot = self.read_hot(from, until, bytes_max);
        hot.ok_or(Error::Gone {
            first: from.0,
            last: until.0,
        })
    }

    /// Entries for a follower: from `first` to at most `last`, as much as `bytes_max` bodies (at least
    /// one entry). May block on the disk.
    pub fn entries(&self, first: Index, last: Index, bytes_max: u64) -> Result<Vec<Entry>, Error> {
        let held = self.group.lock().entries(first, last, bytes_max);
        held.ok_or(Error::Gone {
            first: first.0,
            last: last.0,
        })
    }

    /// The first offset there is.
    #[must_use]
    pub fn first(&self) -> Offset {
        Offset(0)
    }

    /// The first offset whose batch was appended at or after `time` (microseconds since the Unix
    /// epoch), or `None` if every committed one is older. May block on the disk.
    pub fn offset_at(&self, time: u64) -> Result<Option<Offset>, Error> {
        Ok(self.group.lock().offset_at(time))
    }
}
