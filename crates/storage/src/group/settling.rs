//! How placed entries move to segments.

use kontiki_raft::{Index, LogId};
use kontiki_wire::{Offset, PlacedEntry};

use crate::{
    group::{Held, Inner},
    planted::{Planted, plants},
    segment::{Extent, Marks},
};

/// Placed entries that are not in a segment, and where they go.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) entries: Vec<PlacedEntry>,
    pub(crate) bytes: u64,
}

impl Inner {
    /// Whether anything is placed that no segment has, and at least `bytes_min` of it. If not, the
    /// settler is told again when there is more.
    pub(crate) fn awaits(&mut self, bytes_min: u64) -> bool {
        self.waiting_told = false;
        self.staying_bytes_max = 0;
        self.placed > self.written && (self.waiting_bytes >= bytes_min || bytes_min <= 1)
    }

    /// Placed entries that follow what is in segments and whose write is durable, up to `last` and as much as
    /// `bytes_max`, at least one if there is one.
    pub(crate) fn run(&mut self, durable_end: u64, last: Index, bytes_max: u64) -> Run {
        let mut run = Run {
            entries: Vec::new(),
            bytes: 0,
        };
        let from = (self.written + 1 - self.first) as usize;
        let to = (self.placed + 1 - self.first) as usize;
        let upto = |held: &&Held| held.entry.id.index <= last;
        for held in self.held.range(from..to).take_while(upto) {
            let bytes = held.entry.body.len() as u64;
            let full = run.bytes + bytes > bytes_max && !run.entries.is_empty();
            let durable = held.seq.is_none_or(|seq| seq < durable_end);
            if full || !(durable || plants(Planted::SegmentAheadOfJournal)) {
                break;
            }
            run.bytes += bytes;
            run.entries.push(PlacedEntry {
                entry: held.entry.clone(),
                offset: held.offset,
                count: held.count,
            });
        }
        run
    }

    /// Bytes and number of the entries up to `last` that no segment has, if all of them are placed and their writes
    /// are durable.
    pub(crate) fn ready_upto(&self, last: u64, durable_end: u64) -> Option<(u64, u64)> {
        if last > self.placed {
            return None;
        }
        let from = (self.written + 1 - self.first) as usize;
        let to = (last + 1 - self.first) as usize;
        let mut ready = (0, 0);
        for held in self.held.range(from..to) {
            if held.seq.is_some_and(|seq| seq >= durable_end) {
                return None;
            }
            ready.0 += held.entry.body.len() as u64;
            ready.1 += 1;
        }
        Some(ready)
    }

    /// What waits stays for now: the settler is told again when there is so much more.
    pub(crate) fn stay(&mut self, bytes: u64) {
        self.waiting_told = false;
        self.staying_bytes_max = self.waiting_bytes + bytes;
    }

    /// The end of what is in segments, and the offset after it.
    pub(crate) fn segments_end(&self) -> (LogId, Offset) {
        let tail = self.tail.as_ref().map(|(extent, _)| extent);
        let last = tail.or_else(|| self.sealed.last());
        last.map_or((self.base, self.base_offset), |extent| {
            (extent.last, extent.end_offset)
        })
    }

    /// The segment that is written.
    pub(crate) fn tail(&self) -> Option<&(Extent, Marks)> {
        self.tail.as_ref()
    }

    /// A segment was begun.
    pub(crate) fn begun(&mut self, extent: Extent) {
        assert!(self.tail.is_none(), "one segment is written at a time");
        self.tail = Some((extent, Marks::new()));
    }

    /// A run was written.
    pub(crate) fn wrote(&mut self, extent: Extent, marks: Marks, bytes: u64) {
        let (tail, known) = self.tail.as_mut().expect("a run is written to the tail");
        *tail = extent;
        known.extend(marks);
        self.written = extent.last.index.0;
        self.waiting_bytes -= bytes;
    }

    /// A whole segment was written and is durable.
    pub(crate) fn set_apart(&mut self, extent: Extent, bytes: u64) {
        assert!(self.tail.is_none(), "one segment is written at a time");
        self.sealed.push(extent);
        self.written = extent.last.index.0;
        self.waiting_bytes -= bytes;
        // What comes next is another file's.
        self.staying_bytes_max = 0;
    }

    /// Lets go of a segment that was begun and has no entry: another takes its name. Whether one is left that has.
    pub(crate) fn drop_empty_tail(&mut self) -> bool {
        self.tail = self
            .tail
            .take()
            .filter(|(extent, _)| extent.last.index >= extent.first);
        self.tail.is_some()
    }

    /// The segment that was written is sealed.
    pub(crate) fn sealed(&mut self) {
        let (extent, _) = self.tail.take().expect("the one that is written");
        assert!(extent.last.index >= extent.first, "it has an entry");
        self.sealed.push(extent);
    }

    /// Everything in segments is durable. Gives back the bytes that may be forgotten now and might not
    /// before.
    pub(crate) fn keep(&mut self) -> u64 {
        let from = (self.kept + 1 - self.first) as usize;
        let to = (self.written + 1 - self.first) as usize;
        let bodies = self.held.range(from..to).map(|held| held.entry.body.len());
        self.kept = self.written;
        bodies.sum::<usize>() as u64
    }

    /// Entries up to this one are durable in segments.
    pub(crate) fn kept(&self) -> Index {
        Index(self.kept)
    }

    /// Forgets entries up to `upto`, which segments keep.
    pub(crate) fn forget(&mut self, upto: Index) {
        assert!(upto.0 <= self.kept, "what is forgotten is kept elsewhere");
        while self.first <= upto.0 {
            self.held.pop_front();
            self.first += 1;
        }
    }

    /// Entries up to it are in segments.
    pub(crate) fn written(&self) -> Index {
        Index(self.written)
    }

    /// Entries up to it are placed.
    pub(crate) fn placed(&self) -> Index {
        Index(self.placed)
    }

    /// Bytes of entries that are placed and not written.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }
}
