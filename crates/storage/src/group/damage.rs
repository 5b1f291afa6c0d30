//! What is known of a group whose segments are damaged, until they are whole again.

use kontiki_raft::{Index, LogId};
use kontiki_wire::Offset;

use crate::{
    group::Inner,
    segment::{Broken, Extent, GroupSegments},
};

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
}
