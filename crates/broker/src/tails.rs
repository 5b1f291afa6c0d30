//! What groups keep of their logs in memory for followers: all together no more than [`TAILS_BYTES_MAX`]. Who has
//! gone longest without a new entry gives all of it up first.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Tail;
use kontiki_wire::GroupId;

use crate::broker::Broker;

/// Bytes of durable, applied entries that all groups of a node keep in memory for followers.
const TAILS_BYTES_MAX: u64 = 32 << 20;

/// Invariant: `bytes` is the sum over `of`, and `by_use` has each group of `of` once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails {
    bytes: u64,
    /// Grows with each use.
    uses: u64,
    of: BTreeMap<GroupId, (u64, Tail)>,
    by_use: BTreeSet<(u64, GroupId)>,
}

impl Tails {
    /// A group keeps so much now.
    fn note(&mut self, id: GroupId, tail: Tail) {
        if self.of.get(&id).is_some_and(|(_, known)| *known == tail) {
            return;
        }
        self.forget(id);
        if tail.bytes > 0 {
            self.uses += 1;
            self.bytes += tail.bytes;
            self.of.insert(id, (self.uses, tail));
            self.by_use.insert((self.uses, id));
        }
    }

    /// A group keeps nothing any more.
    pub(crate) fn forget(&mut self, id: GroupId) {
        if let Some((used, tail)) = self.of.remove(&id) {
            self.by_use.remove(&(used, id));
            self.bytes -= tail.bytes;
        }
    }

    /// Who is to give up what it keeps, if it is too much of all.
    fn excess(&self) -> Option<GroupId> {
        let (_, oldest) = self.by_use.first()?;
        (self.bytes > TAILS_BYTES_MAX).then_some(*oldest)
    }
}

impl Broker {
    /// After a group may have come to keep more.
    pub(crate) fn bound_tails(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get(&id) {
            self.tails.note(id, group.tail());
        }
        while let Some(oldest) = self.tails.excess() {
            self.tails.forget(oldest);
            if let Some(group) = self.groups.get_mut(&oldest) {
                group.forget_tail();
            }
        }
    }
}
