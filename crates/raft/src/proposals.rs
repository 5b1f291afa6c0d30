//! Whose proposal each waiting entry carries: a queue that runs beside the log.

use std::collections::VecDeque;

use crate::ids::{Index, ProposalId};

/// The proposals of this member's entries from `first` on; entries without one have `None`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Proposals {
    first: Index,
    ids: VecDeque<Option<ProposalId>>,
}

impl Proposals {
    /// The entry at `index`, which is after all before it, carries `id`.
    pub(crate) fn push(&mut self, index: Index, id: Option<ProposalId>) {
        if self.ids.is_empty() {
            self.first = index;
        }
        let gap = index.0 - self.first.0 - self.ids.len() as u64;
        self.ids.extend((0..gap).map(|_| None));
        self.ids.push_back(id);
    }

    /// The entry at `index` is committed; each index is asked for once, in order.
    pub(crate) fn take(&mut self, index: Index) -> Option<ProposalId> {
        if index < self.first || self.ids.is_empty() {
            return None;
        }
        assert_eq!(index, self.first, "a proposal was passed over");
        self.first = index.next();
        self.ids.pop_front().flatten()
    }

    /// Takes back the proposals of the entries after `commit`, whose fate this member will not see.
    pub(crate) fn abandon_after(&mut self, commit: Index) -> impl Iterator<Item = ProposalId> {
        let kept = (commit.next().0.saturating_sub(self.first.0) as usize).min(self.ids.len());
        self.ids.split_off(kept).into_iter().flatten()
    }

    /// One after the last entry that is kept here.
    pub(crate) fn end(&self) -> Option<Index> {
        let count = self.ids.len() as u64;
        (count > 0).then(|| Index(self.first.0 + count))
    }
}
