//! What was promised, and whether it is kept: every acknowledged record once, at its offset, the same
//! on all replicas and at all times.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_broker::{Placed, StreamId, Ticket};
use kontiki_raft::{Entry, Index, LogId, Term};
use kontiki_wire::{
    Acknowledged, Answer, Batch, DeliveredBatch, GroupId, Offset, ProducerId, Response,
};

/// A batch where it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    offset: Offset,
    count: u32,
    id: LogId,
    time: u64,
    body: Bytes,
}

/// All that was seen of one group, by any replica in any of its lives.
#[derive(Clone, Debug, Default)]
struct Seen {
    places: BTreeMap<Index, Place>,
    /// The entries that have records, by offset.
    offsets: BTreeMap<Offset, Index>,
    /// Each state at its position.
    states: BTreeMap<Index, (LogId, Bytes)>,
    leaders: BTreeMap<Term, usize>,
    acknowledged: Vec<(ProducerId, Acknowledged)>,
    /// Producers that sent one batch once and were told that certainly nothing happened.
    denied: BTreeSet<ProducerId>,
    /// When each batch was first asked for, and when it was first acknowledged.
    spans: BTreeMap<(ProducerId, u64), (u64, Option<u64>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    groups: BTreeMap<GroupId, Seen>,
    owed_answers: BTreeMap<(StreamId, u64), u32>,
    owed_responses: BTreeSet<Ticket>,
    pub(crate) acknowledged_count: usize,
    pub(crate) denied_count: usize,
}

impl Oracle {
    /// A replica says where an entry's records went.
    pub(crate) fn placed(&mut self, group: GroupId, placed: &Placed, entry: &Entry) {
        let place = Place {
            offset: placed.offset,
            count: placed.count,
            id: entry.id,
            time: entry.time.0,
            body: entry.body.clone(),
        };
        let seen = self.groups.entry(group).or_default();
        if placed.count > 0 {
            seen.offsets.insert(placed.offset, placed.index);
        }
        let known = seen
            .places
            .entry(placed.index)
            .or_insert_with(|| place.clone());
        assert!(
            *known == place,
            "replicas differ in group {group}: {} at {} and {} at {}",
            known.id,
            known.offset,
            place.id,
            place.offset
        );
    }

    /// A replica's state after an entry, or a checkpoint of it.
    pub(crate) fn state(&mut self, group: GroupId, at: LogId, state: Bytes) {
        let states = &mut self.groups.entry(group).or_default().states;
        let known = states
            .entry(at.index)
            .or_insert_with(|| (at, state.clone()));
        assert_eq!(known.0, at, "logs differ in group {group}");
        assert!(known.1 == state, "states differ in group {group} at {at}");
    }

    pub(crate) fn led(&mut self, group: GroupId, term: Term, node: usize) {
        let leaders = &mut self.groups.entry(group).or_default().leaders;
        let leader = leaders.entry(term).or_insert(node);
        assert_eq!(*leader, node, "two leaders of group {group} in term {term}");
    }

    pub(crate) fn asked(
        &mut self,
        now: u64,
        stream: StreamId,
        producer: ProducerId,
        group: GroupId,
        sequence: u64,
    ) {
        let spans = &mut self.groups.entry(group).or_default().spans;
        spans.entry((producer, sequence)).or_insert((now, None));
        *self.owed_answers.entry((stream, sequence)).or_default() += 1;
    }

    pub(crate) fn requested(&mut self, ticket: Ticket) {
        assert!(self.owed_responses.insert(ticket));
    }

    /// A broker answers a batch.
    pub(crate) fn answered(
        &mut self,
        now: u64,
        stream: StreamId,
        producer: ProducerId,
        group: GroupId,
        is_shot: bool,
        answer: &Answer,
    ) {
        let sequence = match answer {
            Ok(acknowledged) => acknowledged.sequence,
            Err(refused) => refused.sequence,
        };
        let owed = self.owed_answers.get_mut(&(stream, sequence));
        let owed = owed.expect("an answer to a batch that was taken");
        *owed -= 1;
        if *owed == 0 {
            self.owed_answers.remove(&(stream, sequence));
        }
        let seen = self.groups.entry(group).or_default();
        match answer {
            Ok(acknowledged) => {
                self.acknowledged_count += 1;
                let span = seen.spans.get_mut(&(producer, sequence)).unwrap();
                span.1.get_or_insert(now);
                seen.acknowledged.push((producer, *acknowledged));
            }
            Err(refused) if is_shot && refused.refusal.certainly_nothing_happened() => {
                self.denied_count += 1;
                seen.denied.insert(producer);
            }
            Err(_) => {}
        }
    }

    pub(crate) fn responded(&mut self, ticket: Ticket, response: &Response) {
        assert!(
            self.owed_responses.remove(&ticket),
            "{response:?} to a request that was answered or never taken"
        );
    }

    /// The process died: what these streams and tickets are owed will never come.
    pub(crate) fn died(&mut self, is_of: impl Fn(StreamId) -> bool, tickets: &[Ticket]) {
        self.owed_answers.retain(|(stream, _), _| !is_of(*stream));
        for ticket in tickets {
            self.owed_responses.remove(ticket);
        }
    }

    /// At the end, with everyone up and quiet: all that was taken is answered, and every group's order
    /// is what was promised of it.
    pub(crate) fn verify(&self, removed: &BTreeSet<GroupId>) {
        assert_eq!(self.owed_answers, BTreeMap::new(), "batches never answered");
        assert_eq!(
            self.owed_responses,
            BTreeSet::new(),
            "requests never answered"
        );
        for (group, seen) in &self.groups {
            if *group != GroupId::CLUSTER && !removed.contains(group) {
                seen.verify();
            }
        }
    }

    /// A subscriber is given a batch.
    pub(crate) fn delivered(&self, group: GroupId, batch: &DeliveredBatch) {
        let seen = &self.groups[&group];
        let place = &seen.places[&seen.offsets[&batch.offset]];
        assert_eq!((place.time, &place.body), (batch.time, &batch.batch));
    }

    /// Where a group's records end.
    pub(crate) fn end(&self, group: GroupId) -> Offset {
        let seen = self.groups.get(&group);
        let last = seen.and_then(|seen| seen.places.last_key_value());
        last.map_or(Offset(0), |(_, place)| {
            Offset(place.offset.0 + u64::from(place.count))
        })
    }
}

impl Seen {
    /// What was acknowledged before something else was asked for stands before it.
    fn verify_real_time(&self, batches: &BTreeMap<(ProducerId, u64), (Offset, u64)>) {
        let mut by_offset: Vec<_> = batches
            .iter()
            .map(|(batch, (offset, _))| (*offset, self.spans[batch]))
            .collect();
        by_offset.sort_unstable();
        let mut latest_asked = 0;
        for (offset, (asked, acknowledged)) in by_offset {
            latest_asked = latest_asked.max(asked);
            assert!(
                acknowledged.is_none_or(|acknowledged| acknowledged >= latest_asked),
                "the batch at {offset} was acknowledged before one that precedes it was asked for"
            );
        }
    }

    fn verify(&self) {
        let mut next = (Index(1), Offset(0), 0);
        // By producer: the next sequence, and every batch's place.
        let mut sequences: BTreeMap<ProducerId, u64> = BTreeMap::new();
        let mut batches = BTreeMap::new();
        for (index, place) in &self.places {
            assert_eq!((*index, place.offset), (next.0, next.1), "a hole");
            assert!(place.time >= next.2, "time goes back at {}", place.id);
            let end = place.offset.0 + u64::from(place.count);
            next = (index.next(), Offset(end), place.time);
            if place.count == 0 {
                continue;
            }
            let batch = Batch::verify(place.body.clone()).unwrap();
            let header = batch.header();
            assert_eq!(header.count, place.count);
            let sequence = sequences.entry(header.producer).or_default();
            assert_eq!(header.sequence, *sequence, "a producer's order");
            *sequence += u64::from(header.count);
            let place = (place.offset, place.time);
            batches.insert((header.producer, header.sequence), place);
        }
        self.verify_real_time(&batches);
        for (producer, _) in batches.keys() {
            let denied = self.denied.contains(producer);
            assert!(!denied, "denied to producer {producer:?}, and there");
        }
        for (producer, acknowledged) in &self.acknowledged {
            let place = batches.get(&(*producer, acknowledged.sequence));
            assert_eq!(
                place,
                Some(&(acknowledged.offset, acknowledged.time)),
                "acknowledged and not there"
            );
        }
    }
}
