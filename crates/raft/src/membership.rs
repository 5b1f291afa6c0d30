//! Who counts, and since which index: a configuration takes effect when it is appended and goes when
//! it is cut off (§6).

use std::{collections::BTreeSet, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    ids::{Incarnation, Index, NodeId, NodeRef},
    input::{MEMBERS_MAX, Membership, VOTERS_MAX},
};

/// The configurations of the retained log, oldest first; the first is the one in force at its base.
///
/// Invariant: never empty, and indexes increase strictly.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ConfigHistory(Vec<(Index, Arc<Membership>)>);

impl ConfigHistory {
    /// The history of an empty log.
    pub(crate) fn new(index: Index, config: Membership) -> Self {
        Self(vec![(index, Arc::new(config))])
    }

    /// The configuration in force: the latest appended, committed or not.
    pub(crate) fn latest(&self) -> &Arc<Membership> {
        &self
            .0
            .last()
            .expect("the base's configuration is never removed")
            .1
    }

    /// Where the configuration in force was appended.
    pub(crate) fn latest_index(&self) -> Index {
        self.0
            .last()
            .expect("the base's configuration is never removed")
            .0
    }

    /// The latest that is committed, with where it was appended; the base's always is.
    pub(crate) fn committed(&self, commit: Index) -> (Index, &Arc<Membership>) {
        let past = self.0[1..].iter().rev().find(|(at, _)| *at <= commit);
        let (index, config) = past.unwrap_or(&self.0[0]);
        (*index, config)
    }

    /// The latest that is committed, and all after it: after a restart, more of them may be committed than
    /// is known.
    pub(crate) fn since(&self, commit: Index) -> impl Iterator<Item = &Membership> {
        let past = self.0.partition_point(|(at, _)| *at <= commit);
        self.0[past.saturating_sub(1)..]
            .iter()
            .map(|(_, config)| &**config)
    }

    /// Forgets those that others have replaced at or before `base`.
    pub(crate) fn compact(&mut self, base: Index) {
        let past = self.0.partition_point(|(at, _)| *at <= base);
        self.0.drain(..past.saturating_sub(1));
    }

    /// Appends those of a log that follows; the first is the one in force at its base, and is here.
    pub(crate) fn append(&mut self, after: &Self) {
        self.0.extend(after.0[1..].iter().cloned());
    }

    /// Appends one.
    pub(crate) fn push(&mut self, index: Index, config: Membership) {
        assert!(index > self.latest_index(), "a configuration out of order");
        self.0.push((index, Arc::new(config)));
    }

    /// Takes back those at and after `from`. The base's stays.
    pub(crate) fn truncate(&mut self, from: Index) {
        let kept = self.0.partition_point(|(index, _)| *index < from).max(1);
        self.0.truncate(kept);
    }

    /// How many were appended after `index`.
    pub(crate) fn after(&self, index: Index) -> usize {
        let past = self.0[1..].iter().rev();
        past.take_while(|(at, _)| *at > index).count()
    }
}

impl Membership {
    /// A plain configuration of these voters.
    pub fn of(voters: impl IntoIterator<Item = NodeRef>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the member counts, in either half.
    #[must_use]
    pub fn is_voter(&self, node: NodeRef) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everyone who is sent the log.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeRef> {
        let halves = self.voters.union(&self.outgoing);
        halves.chain(&self.learners).copied().collect()
    }

    /// Whether it names the member at all.
    #[must_use]
    pub fn names(&self, node: NodeRef) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// The joint configuration on the way from this one, which is not joint, to `target`. Whoever copies
    /// in `target` and counts until then, counts on until it is reached.
    pub(crate) fn toward(&self, target: &Self) -> Self {
        let demoted = target.learners.intersection(&self.voters);
        let learners = target.learners.difference(&self.voters);
        Self {
            voters: target.voters.clone(),
            outgoing: self.voters.clone(),
            next_learners: demoted.copied().collect(),
            learners: learners.copied().collect(),
        }
    }

    /// The configuration after this one, which is joint.
    pub(crate) fn left(&self) -> Self {
        Self {
            voters: self.voters.clone(),
            outgoing: BTreeSet::new(),
            learners: self.learners.union(&self.next_learners).copied().collect(),
            next_learners: BTreeSet::new(),
        }
    }

    /// Why this cannot be a configuration, if it cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.voters.is_empty() {
            return Err("a configuration without voters");
        }
        if self.voters.len() > VOTERS_MAX || self.outgoing.len() > VOTERS_MAX {
            return Err("a configuration with more than VOTERS_MAX voters");
        }
        if self.learners.len() > MEMBERS_MAX {
            return Err("a configuration with more than MEMBERS_MAX learners");
        }
        if self.sets().into_iter().any(names_twice) {
            return Err("a member in two incarnations that are the same kind of member");
        }
        if self.learners.iter().any(|node| self.is_voter(*node)) {
            return Err("a learner that is also a voter");
        }
        if !self.next_learners.is_subset(&self.outgoing)
            || !self.next_learners.is_disjoint(&self.voters)
        {
            return Err("a voter to be demoted that is not in the outgoing half alone");
        }
        Ok(())
    }

    /// The bytes of a [`crate::Kind::Config`] entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let sets = self.sets();
        let count: usize = sets.iter().map(|set| set.len()).sum();
        let mut out = BytesMut::with_capacity(1 + 4 * sets.len() + NODE_BYTES * count);
        out.put_u8(FORMAT);
        for set in sets {
            out.put_u32_le(set.len() as u32);
            for node in set {
                out.put_u64_le(node.id.0);
                out.put_u64_le(node.incarnation.0);
            }
        }
        out.freeze()
    }

    /// Reads what [`Membership::encode`] wrote; `None` if it did not write this or if it is no
    /// configuration.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, mut rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let config = Self {
            voters: take_set(&mut rest)?,
            outgoing: take_set(&mut rest)?,
            learners: take_set(&mut rest)?,
            next_learners: take_set(&mut rest)?,
        };
        (rest.is_empty() && config.check().is_ok()).then_some(config)
    }

    fn sets(&self) -> [&BTreeSet<NodeRef>; 4] {
        [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.next_learners,
        ]
    }
}

/// Whether one member is there in two incarnations, which stand beside each other.
fn names_twice(set: &BTreeSet<NodeRef>) -> bool {
    set.iter()
        .zip(set.iter().skip(1))
        .any(|(one, next)| one.id == next.id)
}

/// Takes a count and as many members, which must increase strictly.
fn take_set(rest: &mut &[u8]) -> Option<BTreeSet<NodeRef>> {
    let (count, after) = rest.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MEMBERS_MAX {
        return None;
    }
    *rest = after;
    let mut set = BTreeSet::new();
    for _ in 0..count {
        let node = NodeRef {
            id: NodeId(take_u64(rest)?),
            incarnation: Incarnation(take_u64(rest)?),
        };
        if set.last().is_some_and(|last| *last >= node) {
            return None;
        }
        set.insert(node);
    }
    Some(set)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

/// The layout's number, first in every configuration.
const FORMAT: u8 = 1;
/// A member: its number and its incarnation.
const NODE_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn of(voters: &[u64]) -> Membership {
        Membership::of(voters.iter().map(|id| NodeRef {
            id: NodeId(*id),
            incarnation: Incarnation(*id),
        }))
    }

    #[test]
    fn a_history_is_what_is_left_of_a_log() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut history = ConfigHistory::new(Index(3), of(&[0]));
            let mut plain = vec![(3, of(&[0]))];
            for step in 1..40 {
                let latest = plain[plain.len() - 1].0;
                if random.up_to(3) < 3 {
                    let index = latest + random.up_to(4);
                    history.push(Index(index), of(&[step]));
                    plain.push((index, of(&[step])));
                } else {
                    let from = 4 + random.up_to(latest + 2);
                    history.truncate(Index(from));
                    plain.retain(|(index, _)| *index < from);
                }
                let (index, config) = &plain[plain.len() - 1];
                assert_eq!(history.latest_index(), Index(*index));
                assert_eq!(&**history.latest(), config);
                let past = 3 + random.up_to(8);
                let after = plain.iter().filter(|(index, _)| *index > past).count();
                assert_eq!(history.after(Index(past)), after);
            }
        }
    }

    #[test]
    fn the_configuration_of_the_base_cannot_be_cut() {
        let mut history = ConfigHistory::new(Index(3), of(&[1]));
        history.truncate(Index(1));
        assert_eq!(**history.latest(), of(&[1]));
    }

    #[test]
    fn bytes_that_are_cut_short_or_too_long_are_no_configuration() {
        let config = of(&[1, 2, 3]);
        let bytes = config.encode();
        assert_eq!(Membership::decode(&bytes), Some(config));
        for end in 0..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..end]), None, "{end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Membership::decode(&longer), None);
        let crowded = of(&(0..=VOTERS_MAX as u64).collect::<Vec<_>>());
        assert_eq!(Membership::decode(&crowded.encode()), None);
    }
}
