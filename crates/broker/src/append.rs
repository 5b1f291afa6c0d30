//! A producer's batch between its arrival and its answer: admitted or refused, proposed together with
//! its neighbours, answered exactly once.

use std::collections::BTreeMap;

use kontiki_raft::{Kind, Proposal, ProposalId};
use kontiki_wire::{Acknowledged, Answer, AppendRefused, Batch, Refusal};

use crate::{input::StreamId, invariants::Ledger};

/// The appends of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Appends {
    /// Not proposed yet.
    collected: Vec<Proposal>,
    /// Collected or proposed, and not answered.
    waiting: BTreeMap<ProposalId, Waiting>,
    ledger: Ledger,
}

/// Whom to answer, and what it calls its batch.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    stream: StreamId,
    sequence: u64,
}

impl Appends {
    /// Takes a batch in; it is proposed with the next [`Appends::collected`].
    pub(crate) fn take(&mut self, id: ProposalId, stream: StreamId, batch: &Batch) {
        let sequence = batch.header().sequence;
        self.ledger.take();
        self.waiting.insert(id, Waiting { stream, sequence });
        self.collected.push(Proposal {
            id,
            kind: Kind::Batch,
            checksum: batch.checksum(),
            body: batch.bytes().clone(),
        });
    }

    /// What is to be proposed, in the order it came.
    pub(crate) fn collected(&mut self) -> Vec<Proposal> {
        std::mem::take(&mut self.collected)
    }

    /// How many are to be proposed.
    pub(crate) fn collected_count(&self) -> usize {
        self.collected.len()
    }

    /// A batch was committed, or its fate is known: the answer that its producer is owed.
    pub(crate) fn end(
        &mut self,
        id: ProposalId,
        outcome: Result<Acknowledged, Refusal>,
    ) -> Result<(StreamId, Answer), String> {
        let Some(waiting) = self.waiting.remove(&id) else {
            return Err(format!("proposal {id} has a second fate"));
        };
        self.ledger.answer();
        Ok(waiting.answer(outcome))
    }

    /// The group is gone: all that wait are owed the same answer.
    pub(crate) fn end_all(&mut self, refusal: &Refusal) -> Vec<(StreamId, Answer)> {
        self.collected.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let answer = |waiting: Waiting| {
            self.ledger.answer();
            waiting.answer(Err(refusal.clone()))
        };
        waiting.into_values().map(answer).collect()
    }

    /// Whatever was taken was answered or waits.
    pub(crate) fn balance(&self) -> Result<(), String> {
        self.ledger.balance(self.waiting.len())
    }
}

impl Waiting {
    fn answer(self, outcome: Result<Acknowledged, Refusal>) -> (StreamId, Answer) {
        let answer = outcome.map_err(|refusal| AppendRefused {
            sequence: self.sequence,
            refusal,
        });
        (self.stream, answer)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{BatchBuilder, Offset, ProducerId, Record};

    use super::*;

    fn batch(sequence: u64) -> Batch {
        let mut builder = BatchBuilder::new(256);
        builder.push(&Record::default()).unwrap();
        builder.finish(ProducerId(1), 0, sequence)
    }

    #[test]
    fn batches_are_proposed_together_in_order() {
        let mut appends = Appends::default();
        for number in 0..3 {
            appends.take(ProposalId(number), StreamId(1), &batch(number));
        }
        let ids: Vec<_> = appends.collected().iter().map(|one| one.id.0).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert!(appends.collected().is_empty());
        appends.balance().unwrap();
    }

    #[test]
    fn second_fate_of_a_proposal_is_a_broken_promise() {
        let mut appends = Appends::default();
        appends.take(ProposalId(5), StreamId(1), &batch(7));
        let outcome = Acknowledged {
            sequence: 7,
            offset: Offset(3),
            time: 4,
        };
        let answer = appends.end(ProposalId(5), Ok(outcome));
        assert_eq!(answer, Ok((StreamId(1), Ok(outcome))));
        assert!(appends.end(ProposalId(5), Err(Refusal::Unknown)).is_err());
        appends.balance().unwrap();
    }

    #[test]
    fn all_that_wait_are_answered_when_the_group_goes() {
        let mut appends = Appends::default();
        for number in 0..3 {
            appends.take(ProposalId(number), StreamId(number), &batch(number));
        }
        let answers = appends.end_all(&Refusal::Unknown);
        assert_eq!(answers.len(), 3);
        assert!(appends.collected().is_empty());
        appends.balance().unwrap();
    }
}
