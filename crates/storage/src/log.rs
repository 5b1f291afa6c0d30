//! A group's log, for readers.

use std::sync::Arc;

use kontiki_raft::{Entry, Index, Micros};
use kontiki_wire::{DeliveredBatch, Offset};

use crate::{Error, group::Group, node::Node, segment::Target};

/// One group's log, for reading. Cheap to clone, from any thread.
#[derive(Clone, Debug)]
pub struct Log {
    node: Arc<Node>,
    group: Arc<Group>,
}

impl Log {
    pub(crate) fn new(node: Arc<Node>, group: Arc<Group>) -> Self {
        Self { node, group }
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
        if let Some(batches) = self.read_hot(from, until, bytes_max) {
            return Ok(batches);
        }
        let segment = self.group.locate(Target::Offset(from));
        let segment = segment.filter(|segment| segment.extent.base_offset <= from);
        let gone = || Error::Gone {
            what: "offsets",
            first: from.0,
            last: until.0,
        };
        let segment = segment.ok_or_else(gone)?;
        let (disk, indexes) = (&*self.node.disk, &self.node.indexes);
        let batches = segment.batches(disk, indexes, (from, until), bytes_max);
        batches.map_err(|error| self.explain(error, gone))
    }

    /// Entries for a follower: from `first` to at most `last`, as much as `bytes_max` bodies (at least
    /// one entry). May block on the disk.
    pub fn entries(&self, first: Index, last: Index, bytes_max: u64) -> Result<Vec<Entry>, Error> {
        let held = self.group.lock().entries(first, last, bytes_max);
        if let Some(entries) = held {
            return Ok(entries);
        }
        let segment = self.group.locate(Target::Index(first));
        let segment = segment.filter(|segment| segment.extent.first <= first && first <= last);
        let gone = || Error::Gone {
            what: "entries",
            first: first.0,
            last: last.0,
        };
        let segment = segment.ok_or_else(gone)?;
        let (disk, indexes) = (&*self.node.disk, &self.node.indexes);
        let entries = segment.entries(disk, indexes, (first, last), bytes_max);
        entries.map_err(|error| self.explain(error, gone))
    }

    /// A file that is missing because the group was removed meanwhile is no fault of the disk.
    fn explain(&self, error: Error, gone: impl FnOnce() -> Error) -> Error {
        if error.is_missing() && self.group.lock().is_removed() {
            return gone();
        }
        error
    }

    /// The first offset there is.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.group.lock().base().1
    }

    /// The first offset whose batch was appended at or after `time` (microseconds since the Unix
    /// epoch), or `None` if every committed one is older. May block on the disk.
    pub fn offset_at(&self, time: u64) -> Result<Option<Offset>, Error> {
        let time = Micros(time);
        let (disk, indexes) = (&*self.node.disk, &self.node.indexes);
        let mut target = Target::Time(time);
        while let Some(segment) = self.group.locate(target) {
            if let Some(offset) = segment.offset_at(disk, indexes, time)? {
                return Ok(Some(offset));
            }
            // Nothing of that age in it has records: the next one.
            target = Target::Index(segment.extent.last.index.next());
        }
        Ok(self.group.lock().offset_at(time))
    }
}
