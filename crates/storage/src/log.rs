//! A group's log, for readers.

use std::sync::Arc;

use kontiki_raft::{Entry, Index, Micros};
use kontiki_wire::{
    DeliveredBatch, Offset, PlacedEntry,
    limits::{FOUND_BYTES_MAX, FOUND_ENTRIES_MAX},
};

use crate::{
    Error,
    group::{Group, Stocked, Stretch},
    node::Node,
    segment::{self, Target},
    shipment::Shipment,
    walk::Walked,
};

/// Stretches that one search for entries looks into; after so many in vain it does not know.
const STRETCHES_MAX: usize = 16;

/// Bytes of one read of a walk.
const WALK_READ_BYTES: usize = 1 << 20;

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
        let (disk, recent) = (&*self.node.disk, &self.node.recent);
        let batches = segment.batches(disk, recent, (from, until), bytes_max);
        batches.map_err(|error| self.explain(error, segment.extent.first, gone))
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
        let (disk, recent) = (&*self.node.disk, &self.node.recent);
        let entries = segment.entries(disk, recent, (first, last), bytes_max);
        entries.map_err(|error| self.explain(error, segment.extent.first, gone))
    }

    /// The first committed and applied entries from `first` to at most `last` that are here, as many as
    /// one answer to a peer takes: everything before them in that range is not. Contiguous. What is
    /// sound in a damaged segment is among them. Damage that nobody knew of yet is an error and is looked
    /// into: a moment later it is known what is sound there. May block on the disk.
    pub fn placed(&self, first: Index, last: Index) -> Result<Vec<PlacedEntry>, Error> {
        let mut next = first;
        for _ in 0..STRETCHES_MAX {
            let inner = self.group.lock();
            let range = (next, last);
            let held = inner.placed_entries(range, FOUND_BYTES_MAX as u64, FOUND_ENTRIES_MAX);
            if !held.is_empty() || inner.is_removed() || next > last {
                return Ok(held);
            }
            let Some(stretch) = inner.stretch(next) else {
                return Ok(Vec::new());
            };
            drop(inner);
            next = next.max(stretch.first());
            let last = last.min(stretch.last());
            if next > last {
                return Ok(Vec::new());
            }
            let found = self.placed_in(&stretch, (next, last));
            match (found, stretch) {
                (Ok(found), _) if !found.is_empty() => return Ok(found),
                // It was found damaged just now: what is sound of it comes next.
                (Ok(_), Stretch::Whole(_)) => continue,
                (Ok(_), Stretch::Sound(..)) => {}
                // What was sound in a damaged one and is no more, nobody can give.
                (Err(error), Stretch::Sound(..)) if error.is_damage() => {}
                (Err(error), _) => return Err(error),
            }
            next = stretch.last().next();
        }
        Err(Error::Gone {
            what: "entries",
            first: next.0,
            last: last.0,
        })
    }

    /// What there is to give, from this entry on, to a peer that takes sealed segments as they are.
    #[must_use]
    pub fn stocked(&self, first: Index) -> Stocked {
        self.group.lock().stocked(first)
    }

    /// Begins to give it.
    #[must_use]
    pub fn ship(&self, first: Index) -> Shipment {
        Shipment::new(Arc::clone(&self.node), Arc::clone(&self.group), first)
    }

    /// Entries up to it are committed and applied.
    #[must_use]
    pub fn placed_upto(&self) -> Index {
        self.group.lock().placed()
    }

    /// Reads placed entries from `first` to at most `last`, as much as `bytes_max` (at least one), from
    /// the disk wherever segments have them, and tells whether they are sound; `digest` is that of the
    /// entries before. Damage that nobody knew of yet ends it: if it is met at `first` it is the error,
    /// and is looked into; a moment later a walk tells which entries are missing. May block on the disk.
    pub fn walk(
        &self,
        first: Index,
        last: Index,
        digest: u32,
        bytes_max: u64,
    ) -> Result<Walked, Error> {
        let mut walked = Walked {
            upto: first.prev(),
            digest,
            ..Walked::default()
        };
        let last = last.min(self.placed_upto());
        let mut next = first;
        while next <= last && walked.bytes < bytes_max && walked.missing.len() < STRETCHES_MAX {
            let inner = self.group.lock();
            if inner.is_removed() {
                break;
            }
            let stretch = inner
                .stretch(next)
                .filter(|stretch| stretch.first() <= last);
            let begins = match &stretch {
                Some(stretch) => stretch.first(),
                // What no segment has yet is in memory.
                None => next.max(inner.written().next()),
            };
            if next < begins {
                walked.skip(next, begins.prev().min(last));
            } else if let Some(stretch) = stretch {
                drop(inner);
                let last = last.min(stretch.last());
                let walk = self.walk_in(&stretch, (next, last), bytes_max, &mut walked);
                match walk {
                    Err(error) if walked.upto < first => return Err(error),
                    Err(error) if error.is_damage() => {
                        walked.met = Some(error.to_string());
                        break;
                    }
                    // If it lasts, the next walk fails with it.
                    Err(_) => break,
                    Ok(()) => {}
                }
            } else {
                let range = (next, last);
                let room = (bytes_max - walked.bytes).min(FOUND_BYTES_MAX as u64);
                let held = inner.placed_entries(range, room, FOUND_ENTRIES_MAX);
                drop(inner);
                for held in &held {
                    walked.add(&held.entry, held.offset, held.count);
                }
            }
            if walked.upto < next {
                // It was found damaged just now, or removed.
                break;
            }
            next = walked.upto.next();
        }
        Ok(walked)
    }

    fn walk_in(
        &self,
        stretch: &Stretch,
        (first, last): (Index, Index),
        bytes_max: u64,
        walked: &mut Walked,
    ) -> Result<(), Error> {
        let (disk, id) = (&*self.node.disk, self.group.id);
        let segment = match stretch {
            Stretch::Sound(segment, _) => *segment,
            Stretch::Whole(extent) => extent.first,
        };
        let mut walk = || {
            let mut frames = match stretch {
                Stretch::Sound(segment, piece) => {
                    segment::frames_in_piece(disk, id, *segment, piece, first)?
                }
                Stretch::Whole(extent) => {
                    let found = self.group.locate(Target::Index(first));
                    let found = found.filter(|found| found.extent.first == extent.first);
                    // It has been found damaged just now, or was removed.
                    let Some(segment) = found else {
                        return Ok(());
                    };
                    let target = Target::Index(first);
                    segment.frames(disk, &self.node.recent, target, WALK_READ_BYTES)?
                }
            };
            while walked.upto < last
                && walked.bytes < bytes_max
                && let Some(found) = frames.next()?
            {
                let header = found.header;
                if header.id.index < first {
                    continue;
                }
                frames.verify(&found)?;
                walked.add(&header.entry(found.body), header.offset, header.count);
            }
            Ok(())
        };
        walk().map_err(|error| self.suspect(error, segment))
    }

    fn placed_in(
        &self,
        stretch: &Stretch,
        range: (Index, Index),
    ) -> Result<Vec<PlacedEntry>, Error> {
        let (disk, id) = (&*self.node.disk, self.group.id);
        match stretch {
            Stretch::Sound(first, piece) => {
                segment::placed_in_piece(disk, id, *first, piece, range)
            }
            Stretch::Whole(extent) => {
                let found = self.group.locate(Target::Index(range.0));
                let Some(segment) = found.filter(|found| found.extent.first == extent.first) else {
                    return Ok(Vec::new());
                };
                let found = segment.placed(disk, &self.node.recent, range);
                found.map_err(|error| self.suspect(error, extent.first))
            }
        }
    }

    /// Has a segment looked at whose bytes are not what they were.
    fn suspect(&self, error: Error, segment: Index) -> Error {
        if error.is_damage() {
            self.node.suspect(&self.group, segment);
        }
        error
    }

    /// A file that is missing because the group was removed meanwhile is no fault of the disk.
    fn explain(&self, error: Error, segment: Index, gone: impl FnOnce() -> Error) -> Error {
        if error.is_missing() && self.group.lock().is_removed() {
            return gone();
        }
        self.suspect(error, segment)
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
        let (disk, recent) = (&*self.node.disk, &self.node.recent);
        let mut target = Target::Time(time);
        while let Some(segment) = self.group.locate(target) {
            let found = segment.offset_at(disk, recent, time);
            let found = found.map_err(|error| self.suspect(error, segment.extent.first))?;
            if let Some(offset) = found {
                return Ok(Some(offset));
            }
            // Nothing of that age in it has records: the next one.
            target = Target::Index(segment.extent.last.index.next());
        }
        Ok(self.group.lock().offset_at(time))
    }
}
