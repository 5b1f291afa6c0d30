//! One group in memory: every entry that no segment keeps durably yet, a hot tail of those that one
//! does, and where the rest is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kontiki_broker::Placed;
use kontiki_raft::{Entry, Index, Kind, LogId, Micros, Persist};
use kontiki_wire::{DeliveredBatch, GroupId, Offset, PlacedEntry};

use crate::{
    planted::{Planted, plants},
    segment::{Broken, Extent, GroupSegments, Marks, Piece, SegmentRead, Target},
};

/// Bytes of placed entries at which a group's segment is worth writing.
pub(crate) const WORTH_WRITING_BYTES: u64 = 1 << 20;

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
}

/// A journal file that holds entries of the group, and the last of them.
#[derive(Clone, Copy, Debug)]
struct Home {
    file: u32,
    last: u64,
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

/// What there is to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stocked {
    /// The last entry in a sealed segment; 0 if there is none.
    pub last: Index,
    /// Bytes of frames from the entry asked for on.
    pub bytes: u64,
}

/// What a placement brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placing {
    /// Bytes that wait for a segment now and did not before.
    pub(crate) bytes: u64,
    /// Whether the settler is to be told.
    pub(crate) tell: bool,
}

/// Placed entries that are not in a segment, and where they go.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) entries: Vec<PlacedEntry>,
    pub(crate) bytes: u64,
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
            });
        }
    }

    /// Follows the placement of committed entries. Those up to the last one placed are known: they come
    /// again after a restart. Panics if a placement contradicts the log.
    pub(crate) fn place(&mut self, placed: &[Placed]) -> Placing {
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
        let tell = !self.waiting_told && self.waiting_bytes >= WORTH_WRITING_BYTES;
        self.waiting_told |= tell;
        Placing { bytes, tell }
    }

    fn position_of(&self, index: u64) -> Option<usize> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (at < self.held.len()).then_some(at)
    }
}

/// Moving to segments.
impl Inner {
    /// Whether anything is placed that no segment has, and at least `bytes_min` of it. If not, the
    /// settler is told again when there is more.
    pub(crate) fn awaits(&mut self, bytes_min: u64) -> bool {
        self.waiting_told = false;
        self.placed > self.written && (self.waiting_bytes >= bytes_min || bytes_min <= 1)
    }

    /// Placed entries that follow what is in segments and whose write is durable, as much as
    /// `bytes_max`, at least one if there is one.
    pub(crate) fn run(&mut self, durable_end: u64, bytes_max: u64) -> Run {
        let mut run = Run {
            entries: Vec::new(),
            bytes: 0,
        };
        let from = (self.written + 1 - self.first) as usize;
        let to = (self.placed + 1 - self.first) as usize;
        for held in self.held.range(from..to) {
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

    /// The segment that was written is sealed.
    pub(crate) fn sealed(&mut self) {
        self.sealed
            .extend(self.tail.take().map(|(extent, _)| extent));
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

    pub(crate) fn base(&self) -> (LogId, Offset) {
        (self.base, self.base_offset)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(crate) fn remove(&mut self) {
        self.removed = true;
    }

    /// Bytes of entries that are placed and not written.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }
}

/// Where entries are in segments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stretch {
    /// In a whole one.
    Whole(Extent),
    /// Among what is sound in the damaged one that begins with this entry.
    Sound(Index, Piece),
}

impl Stretch {
    pub(crate) fn first(&self) -> Index {
        match self {
            Self::Whole(extent) => extent.first,
            Self::Sound(_, piece) => piece.first,
        }
    }

    pub(crate) fn last(&self) -> Index {
        match self {
            Self::Whole(extent) => extent.last.index,
            Self::Sound(_, piece) => piece.last,
        }
    }
}

/// While segments are damaged.
impl Inner {
    /// A segment is damaged: until it is written anew, nothing else is.
    pub(crate) fn close(&mut self, broken: &Broken) {
        self.closed = true;
        self.pieces.insert(broken.first, broken.pieces().to_vec());
    }

    /// What was damaged lacked nothing, and was written anew before anybody heard of it.
    pub(crate) fn open_again(&mut self) {
        self.closed = false;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A reader has found a segment damaged; true if that is news.
    pub(crate) fn suspect(&mut self, segment: Index) -> bool {
        !self.removed && !self.pieces.contains_key(&segment) && self.suspected.insert(segment)
    }

    /// What is known of a segment that is suspected, unless it is being mended already. For whoever
    /// looks at it now.
    pub(crate) fn suspicion(&mut self, segment: Index) -> Option<(Extent, bool)> {
        self.suspected.remove(&segment);
        if self.removed || self.pieces.contains_key(&segment) {
            return None;
        }
        let tail = self.tail.iter().map(|(extent, _)| (*extent, false));
        let mut all = self.sealed.iter().map(|extent| (*extent, true)).chain(tail);
        all.find(|(extent, _)| extent.first == segment)
    }

    /// What was known of a segment before it was damaged.
    pub(crate) fn extent(&self, segment: Index) -> Option<Extent> {
        let tail = self.tail.iter().map(|(extent, _)| *extent);
        let mut all = self.sealed.iter().copied().chain(tail);
        all.find(|extent| extent.first == segment)
    }

    /// The entry before this one, which a segment begins with, and the offset after it.
    pub(crate) fn before(&self, segment: Index) -> Option<(LogId, Offset)> {
        if segment == self.base.index.next() {
            return Some((self.base, self.base_offset));
        }
        let before = |extent: &&Extent| extent.last.index.next() == segment;
        let extent = self.sealed.iter().find(before)?;
        Some((extent.last, extent.end_offset))
    }

    /// A segment is whole again.
    pub(crate) fn mended(&mut self, extent: Extent) {
        self.pieces.remove(&extent.first);
        if self.extent(extent.first).is_none() {
            let at = self
                .sealed
                .partition_point(|known| known.first < extent.first);
            self.sealed.insert(at, extent);
        }
    }

    /// All segments are whole again, and these are they; or what does not fit.
    pub(crate) fn reopen(&mut self, segments: GroupSegments) -> Result<(), String> {
        if segments.last.index.0 != self.kept {
            return Err(format!(
                "its segments end with entry {}, and kept entry {}",
                segments.last.index, self.kept
            ));
        }
        if self.placed == self.kept {
            self.next_offset = segments.end_offset.0;
        }
        self.sealed = segments.sealed;
        self.tail = segments.tail;
        self.pieces.clear();
        self.closed = false;
        Ok(())
    }

    /// A group that has nothing begins after this entry, which segments keep.
    pub(crate) fn begin_after(&mut self, last: LogId, end_offset: Offset) {
        assert!(self.last() == 0, "what begins elsewhere has nothing here");
        let kept = last.index.0;
        (self.placed, self.written, self.kept) = (kept, kept, kept);
        self.first = kept + 1;
        self.next_offset = end_offset.0;
    }

    /// All entries that segments do not keep.
    pub(crate) fn after_kept(&self) -> Vec<Entry> {
        let from = (self.kept + 1 - self.first) as usize;
        self.held
            .range(from..)
            .map(|held| held.entry.clone())
            .collect()
    }

    /// Entries up to it are in segments.
    pub(crate) fn written(&self) -> Index {
        Index(self.written)
    }

    /// Entries up to it are placed.
    pub(crate) fn placed(&self) -> Index {
        Index(self.placed)
    }

    /// What sealed segments give from `first` on without a gap. While something is damaged, nothing.
    pub(crate) fn stocked(&self, first: Index) -> Stocked {
        if self.closed || self.removed {
            return Stocked::default();
        }
        let mut wanted = self
            .sealed
            .iter()
            .filter(|extent| extent.last.index >= first);
        let bytes = wanted.clone().map(|extent| extent.end).sum();
        let last = wanted
            .next_back()
            .map_or(Index(0), |extent| extent.last.index);
        Stocked { last, bytes }
    }

    /// The first stretch of segments that reaches this entry or one after it.
    pub(crate) fn stretch(&self, index: Index) -> Option<Stretch> {
        let broken = self.pieces.iter();
        let sound = broken.flat_map(|(segment, pieces)| {
            pieces.iter().map(|piece| Stretch::Sound(*segment, *piece))
        });
        let tail = self.tail.iter().map(|(extent, _)| extent);
        let whole = self.sealed.iter().chain(tail);
        let whole = whole.filter(|extent| !self.pieces.contains_key(&extent.first));
        let all = sound.chain(whole.map(|extent| Stretch::Whole(*extent)));
        all.filter(|stretch| stretch.last() >= index)
            .min_by_key(Stretch::first)
    }

    /// Placed entries from `first` to at most `last`, if the first of them is in memory.
    pub(crate) fn placed_entries(
        &self,
        (first, last): (Index, Index),
        bytes_max: u64,
        count_max: usize,
    ) -> Vec<PlacedEntry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let last = last.0.min(self.placed);
        let Some(at) = self.position_of(first.0) else {
            return entries;
        };
        for held in self.held.range(at..) {
            bytes += held.entry.body.len() as u64;
            let full = (bytes > bytes_max && !entries.is_empty()) || entries.len() == count_max;
            if full || held.entry.id.index.0 > last {
                break;
            }
            entries.push(PlacedEntry {
                entry: held.entry.clone(),
                offset: held.offset,
                count: held.count,
            });
        }
        entries
    }
}

/// Which journal files are needed.
impl Inner {
    /// Entries from `first` on are gone from the log.
    pub(crate) fn leave_homes(&mut self, first: u64) {
        while let Some(home) = self.homes.pop_back() {
            let before = self.homes.back().map_or(0, |home| home.last);
            let last = home.last.min(first.saturating_sub(1));
            if last > before {
                self.homes.push_back(Home { last, ..home });
                return;
            }
        }
    }

    /// Entries up to `last`, which follow the ones before, went to journal file `file`.
    pub(crate) fn settle_home(&mut self, file: u32, last: u64) {
        match self.homes.back_mut().filter(|home| home.file == file) {
            Some(home) => home.last = last,
            None => self.homes.push_back(Home { file, last }),
        }
    }

    /// All entries that segments do not keep went to journal file `file`.
    pub(crate) fn move_home(&mut self, file: u32) {
        self.homes.clear();
        let last = self.last();
        if last > self.kept {
            self.homes.push_back(Home { file, last });
        }
    }

    /// The first journal file with entries that segments do not keep.
    pub(crate) fn first_home(&mut self) -> Option<u32> {
        while self
            .homes
            .front()
            .is_some_and(|home| home.last <= self.kept)
        {
            self.homes.pop_front();
        }
        self.homes.front().map(|home| home.file)
    }

    /// All entries that segments do not keep, if nothing of this group was queued since write `seq`.
    pub(crate) fn unkept(&self, seq: u64) -> Option<Vec<Entry>> {
        if self.last_seq >= Some(seq) {
            return None;
        }
        Some(self.after_kept())
    }
}

/// Reading.
impl Inner {
    /// Batches from `from` to `until`, if the first of them is in memory.
    pub(crate) fn batches(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Option<Vec<DeliveredBatch>> {
        if from >= until || from.0 >= self.next_offset {
            return Some(Vec::new());
        }
        let placed = (self.placed + 1 - self.first) as usize;
        // Those that are not placed end beyond every offset.
        let end = |held: &Held| held.offset.0.saturating_add(u64::from(held.count));
        let first = self.held.partition_point(|held| end(held) <= from.0);
        // What is before the first one held is not in memory.
        let later = |held: &Held| held.offset > from && !plants(Planted::GapAtHandover);
        if first == 0 && self.held.front().is_none_or(later) {
            return None;
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        for held in self.held.range(first..placed) {
            if held.offset >= until {
                break;
            }
            if held.count == 0 {
                continue;
            }
            bytes += held.entry.body.len();
            if bytes > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(DeliveredBatch {
                offset: held.offset,
                time: held.entry.time.0,
                batch: held.entry.body.clone(),
            });
        }
        Some(batches)
    }

    /// Entries from `first` to at most `last`, if the first of them is in memory.
    pub(crate) fn entries(&self, first: Index, last: Index, bytes_max: u64) -> Option<Vec<Entry>> {
        let at = self.position_of(first.0)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for held in self.held.range(at..) {
            bytes += held.entry.body.len() as u64;
            let full = bytes > bytes_max && !entries.is_empty();
            if full || held.entry.id.index > last {
                break;
            }
            entries.push(held.entry.clone());
        }
        Some(entries)
    }

    /// The offset of the first batch held that is not older than `time`.
    pub(crate) fn offset_at(&self, time: Micros) -> Option<Offset> {
        let first = self.held.partition_point(|held| held.entry.time < time);
        let placed = (self.placed + 1 - self.first) as usize;
        let mut rest = self.held.range(first.min(placed)..placed);
        rest.find(|held| held.count > 0).map(|held| held.offset)
    }
}
