//! One group in memory: every entry that no segment keeps durably yet, a hot tail of those that one
//! does, and where the rest is. This file has what there is and how it follows the decider; what each step
//! makes of it is in a file of its own.

mod damage;
mod homes;
mod reading;
mod settling;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kontiki_broker::Placed;
use kontiki_raft::{Entry, Index, Kind, LogId, Persist};
use kontiki_wire::{GroupId, Offset};

use crate::{
    planted::{Planted, plants},
    segment::{Broken, Extent, GroupSegments, Marks, Piece, SegmentRead, Target},
};

pub use reading::Stocked;
pub(crate) use reading::Stretch;
pub(crate) use settling::Run;

/// Beyond every offset: what is not placed comes after everything that is.
const UNPLACED: Offset = Offset(u64::MAX);

/// An entry in memory.
#[derive(Debug)]
struct Held {
    entry: Entry,
    /// The write that brought it, unless an earlier process did; it is durable when that is.
    seq: Option<u64>,
    /// The offset of its first record, [`UNPLACED`] before it is placed.
    offset: Offset,
    /// Its records, once it is placed.
    count: u32,
    /// Where the journal has its body, once that is staged; it is there when the entry is durable.
    body: Option<BodyPlace>,
}

/// Where the body of an entry is.
#[derive(Clone, Copy, Debug)]
struct BodyPlace {
    file: u32,
    /// The byte of the file where it begins.
    at: u32,
}

/// A journal file that holds entries of the group, the last of them, and about how many bytes they have: those
/// that were cut count as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    pub(crate) file: u32,
    pub(crate) last: u64,
    pub(crate) bytes: u64,
}

/// A group's log as its readers and the two threads share it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    inner: Mutex<Inner>,
}

/// What the lock guards.
///
/// `base ≤ kept ≤ written ≤ placed ≤ last`, and entries after `kept` are always held.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Contiguous in index.
    held: VecDeque<Held>,
    /// The index of the first one held, or the one after the log if none is.
    first: u64,
    /// Entries up to this one have been placed.
    placed: u64,
    /// The offset after the last record placed.
    next_offset: u64,
    /// Entries up to this one are in segments.
    written: u64,
    /// Entries up to this one are durable there.
    kept: u64,
    /// Bytes of entries that are placed and not written.
    waiting_bytes: u64,
    /// Whether the settler has been told of them.
    waiting_told: bool,
    /// So many of them may stay where they are; 0 if none.
    staying_bytes_max: u64,
    /// The latest write of this process.
    last_seq: Option<u64>,
    /// Oldest first.
    homes: VecDeque<Home>,
    base: LogId,
    base_offset: Offset,
    sealed: Vec<Extent>,
    tail: Option<(Extent, Marks)>,
    removed: bool,
    /// Nothing is written to its segments, because some are damaged.
    closed: bool,
    /// What is sound in segments that are damaged, by their first entry.
    pieces: BTreeMap<Index, Vec<Piece>>,
    /// Segments that a reader has found damaged and nobody has looked at yet.
    suspected: BTreeSet<Index>,
}

/// What a placement brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placing {
    /// Bytes that wait for a segment now and did not before.
    pub(crate) bytes: u64,
    /// Whether the settler is to be told.
    pub(crate) tell: bool,
}

impl Group {
    /// A group that has nothing yet.
    pub(crate) fn born(id: GroupId) -> Self {
        Self::new(
            id,
            LogId::ORIGIN,
            Offset(0),
            Vec::new(),
            None,
            LogId::ORIGIN,
            Offset(0),
        )
    }

    /// A group as it was found, and what of it is damaged.
    pub(crate) fn found(
        id: GroupId,
        base: LogId,
        base_offset: Offset,
        segments: GroupSegments,
    ) -> (Self, Vec<Broken>) {
        let group = Self::new(
            id,
            base,
            base_offset,
            segments.sealed,
            segments.tail,
            segments.last,
            segments.end_offset,
        );
        for broken in &segments.broken {
            group.lock().close(broken);
        }
        (group, segments.broken)
    }

    fn new(
        id: GroupId,
        base: LogId,
        base_offset: Offset,
        sealed: Vec<Extent>,
        tail: Option<(Extent, Marks)>,
        kept: LogId,
        next_offset: Offset,
    ) -> Self {
        let kept = kept.index.0;
        let inner = Inner {
            held: VecDeque::new(),
            first: kept + 1,
            placed: kept,
            next_offset: next_offset.0,
            written: kept,
            kept,
            waiting_bytes: 0,
            waiting_told: false,
            staying_bytes_max: 0,
            last_seq: None,
            homes: VecDeque::new(),
            base,
            base_offset,
            sealed,
            tail,
            removed: false,
            closed: false,
            pieces: BTreeMap::new(),
            suspected: BTreeSet::new(),
        };
        Self {
            id,
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // The guarded state is only ever changed by code that does not panic halfway, but for failed
        // assertions, and those end the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment to read from for this target, or `None` if no segment has it.
    pub(crate) fn locate(&self, target: Target) -> Option<SegmentRead> {
        let inner = self.lock();
        let before = |extent: &Extent| match target {
            Target::Index(index) => extent.last.index < index,
            Target::Offset(offset) if plants(Planted::BorderOffByOne) => extent.end_offset < offset,
            Target::Offset(offset) => extent.end_offset <= offset,
            Target::Time(time) => extent.last_time < time,
        };
        let at = inner.sealed.partition_point(before);
        if let Some(&extent) = inner.sealed.get(at) {
            return Some(SegmentRead {
                group: self.id,
                extent,
                mark: None,
                sealed: true,
            });
        }
        let (extent, marks) = inner.tail.as_ref().filter(|(extent, _)| !before(extent))?;
        Some(SegmentRead {
            group: self.id,
            extent: *extent,
            mark: target.mark_in(marks),
            sealed: false,
        })
    }
}

/// Following what the decider says.
impl Inner {
    /// The end of the log.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.held.len() as u64 - 1
    }

    /// Follows a write. Panics if it contradicts what was written or placed: then the decider's view of
    /// this log is another one, and nothing may go on.
    pub(crate) fn persist(&mut self, seq: u64, persist: &Persist) {
        self.last_seq = Some(seq);
        if let Some(from) = persist.truncate_from {
            assert!(
                from.0 > self.placed,
                "entry {from} is committed and cannot be truncated"
            );
            let keep = match plants(Planted::CacheNotInvalidated) {
                true => u64::MAX,
                false => from.0.saturating_sub(self.first),
            };
            self.held
                .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        self.hold(Some(seq), &persist.append);
    }

    /// Holds entries that follow the last one.
    pub(crate) fn hold(&mut self, seq: Option<u64>, entries: &[Entry]) {
        for entry in entries {
            if entry.id.index.0 <= self.last() && plants(Planted::CacheNotInvalidated) {
                continue;
            }
            assert_eq!(
                entry.id.index.0,
                self.last() + 1,
                "entries are appended one after the other"
            );
            self.held.push_back(Held {
                entry: entry.clone(),
                seq,
                offset: UNPLACED,
                count: 0,
                body: None,
            });
        }
    }

    /// Follows the placement of committed entries, of which so many bytes are worth moving to a segment. Those up to
    /// the last one placed are known: they come again after a restart. Panics if a placement contradicts the log.
    pub(crate) fn place(&mut self, placed: &[Placed], settle_bytes_min: u64) -> Placing {
        let known = if self.removed { u64::MAX } else { self.placed };
        let mut bytes = 0;
        for place in placed.iter().filter(|place| place.index.0 > known) {
            assert_eq!(
                place.index.0,
                self.placed + 1,
                "entries are placed in order"
            );
            assert_eq!(place.offset.0, self.next_offset, "offsets are dense");
            let at = self.position_of(place.index.0);
            let held = at.and_then(|at| self.held.get_mut(at));
            let held = held.expect("what is placed was written before");
            assert!(
                place.count == 0 || held.entry.kind == Kind::Batch,
                "only batches have records"
            );
            held.offset = place.offset;
            held.count = place.count;
            bytes += held.entry.body.len() as u64;
            self.placed += 1;
            self.next_offset += u64::from(place.count);
        }
        self.waiting_bytes += bytes;
        let tell = !self.waiting_told
            && self.waiting_bytes >= settle_bytes_min.max(self.staying_bytes_max);
        self.waiting_told |= tell;
        Placing { bytes, tell }
    }

    fn position_of(&self, index: u64) -> Option<usize> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (at < self.held.len()).then_some(at)
    }

    /// A group that has nothing begins after this entry, which segments keep.
    pub(crate) fn begin_after(&mut self, last: LogId, end_offset: Offset) {
        assert!(self.last() == 0, "what begins elsewhere has nothing here");
        let kept = last.index.0;
        (self.placed, self.written, self.kept) = (kept, kept, kept);
        self.first = kept + 1;
        self.next_offset = end_offset.0;
    }

    pub(crate) fn base(&self) -> (LogId, Offset) {
        (self.base, self.base_offset)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(crate) fn remove(&mut self) {
        self.removed = true;
    }
}
