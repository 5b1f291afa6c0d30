//! What must be true of a whole group at every moment, known from outside.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    hash::{DefaultHasher, Hash, Hasher},
};

use kontiki_raft::{
    Body, ChangeEnd, Committed, Entry, Fate, Kind, Membership, Message, NodeId, NodeRef,
    ProposalId, ReadId, Status, Term,
};

use crate::{disk::Disk, turmoil::changes};

/// All that was ever promised.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Who led each term.
    leaders: BTreeMap<Term, NodeRef>,
    /// What was written at each index in each term, and the term of the entry before.
    written: BTreeMap<(u64, Term), (u64, Term)>,
    /// The one order, each entry with the term in which it was first seen committed.
    committed: Vec<(Entry, Term)>,
    /// Bodies in `committed`; each proposal's is its own.
    bodies: BTreeSet<u64>,
    /// Proposals and reads that have not come back: who was asked, and for reads how much was
    /// committed when it was asked.
    proposals: BTreeMap<ProposalId, NodeId>,
    reads: BTreeMap<ReadId, (NodeId, usize)>,
    refused: BTreeSet<u64>,
    pub(crate) acknowledged: usize,
    /// Changes of the configuration that have not come back, and how many were done.
    changes: BTreeMap<ProposalId, NodeId>,
    pub(crate) changed: usize,
}

impl Oracle {
    /// The length of the one order.
    pub(crate) fn len(&self) -> usize {
        self.committed.len()
    }

    /// Election safety, and the leader's log has all that was committed before its term.
    pub(crate) fn leads(&mut self, term: Term, node: NodeRef, log: &[Entry]) {
        match self.leaders.entry(term) {
            btree_map::Entry::Occupied(known) => {
                assert_eq!(*known.get(), node, "two leaders in term {term}");
            }
            btree_map::Entry::Vacant(new) => {
                new.insert(node);
                for (entry, seen) in &self.committed {
                    let held = log.get(entry.id.index.0 as usize - 1);
                    assert!(
                        *seen >= term || held == Some(entry),
                        "the leader of term {term} lacks {}",
                        entry.id
                    );
                }
            }
        }
    }

    /// Log matching: whoever holds an index in a term holds the same, and the same before it.
    pub(crate) fn holds(&mut self, entry: &Entry, before: Term) {
        let mut hasher = DefaultHasher::new();
        entry.hash(&mut hasher);
        let now = (hasher.finish(), before);
        let key = (entry.id.index.0, entry.id.term);
        let first = *self.written.entry(key).or_insert(now);
        assert_eq!(first, now, "two entries at {}", entry.id);
    }

    /// The latest configuration that was committed, and where.
    pub(crate) fn config(&self) -> Option<(u64, Membership)> {
        let entries = self.committed.iter().rev();
        entries.map(|(entry, _)| entry).find_map(changes::config)
    }

    pub(crate) fn changes(&mut self, id: ProposalId, at: NodeId) {
        self.changes.insert(id, at);
    }

    /// One end each; what is done is committed.
    pub(crate) fn changed(&mut self, id: ProposalId, end: &ChangeEnd, by: NodeId) {
        assert_eq!(self.changes.remove(&id), Some(by), "{id} had an end");
        if let ChangeEnd::Done { .. } = end {
            self.changed += 1;
        }
    }

    /// One order, durable on a majority before anyone hears of it. Whoever has lost it meanwhile, for a
    /// while or for good, is one of the few that a group can spare.
    pub(crate) fn commits(
        &mut self,
        what: &Committed,
        by: NodeId,
        status: &Status,
        disks: &BTreeMap<NodeRef, &Disk>,
    ) {
        let entry = &what.entry;
        let at = entry.id.index.0 as usize - 1;
        match self.committed.get(at) {
            Some((known, _)) => assert_eq!(known, entry, "{by} committed another entry"),
            None => {
                assert_eq!(at, self.committed.len(), "{by} committed across a gap");
                let held = |disk: &&Disk| disk.is_forgetful() || disk.log.get(at) == Some(entry);
                for half in [&status.config.voters, &status.config.outgoing] {
                    let on = half
                        .iter()
                        .filter(|n| disks.get(n).is_none_or(held))
                        .count();
                    let enough = half.is_empty() || on * 2 > half.len();
                    assert!(enough, "{} is on few disks", entry.id);
                }
                if let Some(body) = number(&entry.body).filter(|_| entry.kind == Kind::Batch) {
                    assert!(self.bodies.insert(body), "proposal {body} came twice");
                    assert!(
                        !self.refused.contains(&body),
                        "{body} was refused, and came"
                    );
                }
                self.committed.push((entry.clone(), status.term));
            }
        }
        if let Some(id) = what.proposal {
            assert_eq!(number(&entry.body), Some(id.0), "another's proposal");
            assert_eq!(self.proposals.remove(&id), Some(by), "{id} had a fate");
            self.acknowledged += 1;
        }
    }

    pub(crate) fn proposes(&mut self, id: ProposalId, to: NodeId) {
        self.proposals.insert(id, to);
    }

    /// One fate each, and what was refused never comes.
    pub(crate) fn fate(&mut self, id: ProposalId, fate: Fate, by: NodeId) {
        assert_eq!(self.proposals.remove(&id), Some(by), "{id} had a fate");
        if matches!(fate, Fate::Refused(_)) {
            assert!(!self.bodies.contains(&id.0), "{id} came, and was refused");
            self.refused.insert(id.0);
        }
    }

    pub(crate) fn reads(&mut self, id: ReadId, at: NodeId) {
        self.reads.insert(id, (at, self.committed.len()));
    }

    /// A read sees all that anyone knew to be committed when it was asked.
    pub(crate) fn read(&mut self, id: ReadId, index: Option<u64>, by: NodeId) {
        let (at, floor) = self.reads.remove(&id).expect("each read comes back once");
        assert_eq!(at, by, "another's read");
        if let Some(index) = index {
            assert!(index as usize >= floor, "read {id} saw {index} of {floor}");
        }
    }

    /// What it was asked will never come back.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.proposals.retain(|_, at| *at != node);
        self.changes.retain(|_, at| *at != node);
        self.reads.retain(|_, (at, _)| *at != node);
    }

    /// Nothing asked is left without an answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.proposals.is_empty() && self.reads.is_empty() && self.changes.is_empty()
    }

    /// Whatever a message promises is on its sender's disk.
    pub(crate) fn sends(from: NodeRef, to: NodeRef, message: &Message, disk: &Disk) {
        let Message { term, body } = message;
        let last = disk.log.last().map(|entry| entry.id).unwrap_or_default();
        let kept = match body {
            Body::Vote { last: told, .. } => disk.hard.vote == Some(from) && *told == last,
            Body::VoteReply { granted: true } => disk.hard.vote == Some(to),
            Body::Appended { matched, .. } => *matched <= last.index,
            Body::Append { .. } | Body::Beat { .. } | Body::Rest { .. } => {
                disk.hard.vote == Some(from)
            }
            _ => return,
        };
        assert!(
            kept && disk.hard.term == *term,
            "{from} promises {to} what it may forget: {message:?}"
        );
    }
}

fn number(body: &[u8]) -> Option<u64> {
    let first = body.first_chunk()?;
    Some(u64::from_le_bytes(*first))
}
