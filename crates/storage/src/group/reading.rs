//! What readers get of a group: subscribers, followers, and peers that have lost something.

use kontiki_raft::{Entry, Index, Micros};
use kontiki_wire::{DeliveredBatch, Offset, PlacedEntry};

use crate::{
    group::{Held, Inner},
    planted::{Planted, plants},
    segment::{Extent, Piece},
};

/// What there is to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stocked {
    /// The last entry in a sealed segment; 0 if there is none.
    pub last: Index,
    /// Bytes of frames from the entry asked for on.
    pub bytes: u64,
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
