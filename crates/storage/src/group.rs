//! One group in memory: every entry that no segment keeps durably yet, and a hot tail of those that one
//! does.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kontiki_broker::Placed;
use kontiki_raft::{Entry, Index, Kind, Persist};
use kontiki_wire::{DeliveredBatch, GroupId, Offset};

/// An entry in memory.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) entry: Entry,
    /// The write that brought it; it is durable when that is.
    pub(crate) seq: u64,
    /// The offset of its first record, [`UNPLACED`] before it is placed.
    pub(crate) offset: Offset,
    /// Its records, once it is placed.
    pub(crate) count: u32,
}

/// Beyond every offset: what is not placed comes after everything that is.
const UNPLACED: Offset = Offset(u64::MAX);

/// A group's log as its readers and the two threads share it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    inner: Mutex<Inner>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Contiguous in index.
    pub(crate) held: VecDeque<Held>,
    /// The index of the first one held, or the one after the log if none is.
    first: u64,
    /// Entries up to this index have been placed.
    placed: u64,
    /// The offset after the last record placed.
    next_offset: u64,
    /// Whether the group was removed.
    pub(crate) removed: bool,
}

impl Group {
    /// A group whose segments end with `kept` and the offset before `next_offset`.
    pub(crate) fn new(id: GroupId, kept: Index, next_offset: Offset) -> Self {
        Self {
            id,
            inner: Mutex::new(Inner {
                held: VecDeque::new(),
                first: kept.0 + 1,
                placed: kept.0,
                next_offset: next_offset.0,
                removed: false,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // The guarded state is only ever changed by code that does not panic halfway, but for failed
        // assertions, and those end the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The end of the log.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.held.len() as u64 - 1
    }

    /// Follows a write. Panics if it contradicts what was written or placed: then the decider's view of
    /// this log is another one, and nothing may go on.
    pub(crate) fn persist(&mut self, seq: u64, persist: &Persist) {
        if let Some(from) = persist.truncate_from {
            assert!(
                from.0 > self.placed,
                "entry {from} is committed and cannot be truncated"
            );
            let keep = from.0.saturating_sub(self.first);
            self.held
                .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        for entry in &persist.append {
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

    /// Follows the placement of committed entries. Those before the ones held are known already: they
    /// come again after a restart. Panics if a placement contradicts an earlier one.
    pub(crate) fn place(&mut self, placed: &[Placed]) {
        let known = self.placed;
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
            self.placed += 1;
            self.next_offset += u64::from(place.count);
        }
    }

    fn position_of(&self, index: u64) -> Option<usize> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (at < self.held.len()).then_some(at)
    }

    /// How many of those held are placed; they come first.
    fn placed_count(&self) -> usize {
        (self.placed + 1 - self.first) as usize
    }

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
        let placed = self.placed_count();
        let end = |held: &Held| held.offset.0 + u64::from(held.count);
        let first = self.held.partition_point(|held| end(held) <= from.0);
        // What is before the first one held is not in memory, even if it has no records.
        if first == 0 && self.held.front().is_none_or(|held| held.offset > from) {
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

    /// The offset of the first batch held that is not older than `time`.
    pub(crate) fn offset_at(&self, time: u64) -> Option<Offset> {
        let first = self.held.partition_point(|held| held.entry.time.0 < time);
        let placed = self.placed_count();
        let mut rest = self.held.range(first.min(placed)..placed);
        rest.find(|held| held.count > 0).map(|held| held.offset)
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
}
