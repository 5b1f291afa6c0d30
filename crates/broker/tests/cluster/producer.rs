//! A producer that follows the leader, resends what was not acknowledged, and never gives up.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_wire::{Answer, Batch, BatchBuilder, GroupId, ProducerId, Record, Refusal};

/// One producer of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) id: ProducerId,
    pub(crate) group: GroupId,
    /// The node it asks.
    pub(crate) node: usize,
    /// Batches made and not acknowledged, by sequence.
    unacknowledged: BTreeMap<u64, Batch>,
    next: u64,
    /// How many batches it will make in all.
    left: u32,
    /// Of each record, besides what tells it from all others.
    filling: usize,
    /// Counts its streams: an answer to an earlier one means nothing.
    pub(crate) stream: u64,
    pub(crate) is_waiting: bool,
    pub(crate) is_done: bool,
    pub(crate) resent: u32,
}

impl Producer {
    pub(crate) fn new(id: u128, group: GroupId, batches: u32, filling: usize) -> Self {
        Self {
            id: ProducerId(id),
            group,
            node: 0,
            unacknowledged: BTreeMap::new(),
            next: 0,
            left: batches,
            filling,
            stream: 0,
            is_waiting: false,
            is_done: false,
            resent: 0,
        }
    }

    /// The next batch, unless enough are under way.
    pub(crate) fn make(&mut self, records: u32) -> Option<Batch> {
        if self.left == 0 || self.unacknowledged.len() >= IN_FLIGHT {
            return None;
        }
        self.left -= 1;
        let mut builder = BatchBuilder::new(1024);
        for number in 0..records {
            let number = self.next + u64::from(number);
            let value = format!("{}/{number}{}", self.id.0, " ".repeat(self.filling));
            let record = Record {
                value: Bytes::from(value),
                ..Record::default()
            };
            builder.push(&record).unwrap();
        }
        let batch = builder.finish(self.id, 0, self.next);
        self.unacknowledged.insert(self.next, batch.clone());
        self.next += u64::from(records);
        Some(batch)
    }

    /// Everything to be sent again, in order.
    pub(crate) fn unacknowledged(&self) -> Vec<Batch> {
        self.unacknowledged.values().cloned().collect()
    }

    /// Takes an answer; the name of another member to ask if it says so, `Err` if it must begin anew.
    pub(crate) fn hear(&mut self, answer: &Answer) -> Result<(), Option<String>> {
        match answer {
            Ok(acknowledged) => {
                self.unacknowledged.remove(&acknowledged.sequence);
                self.is_done = self.left == 0 && self.unacknowledged.is_empty();
                Ok(())
            }
            Err(refused) => match &refused.refusal {
                Refusal::NotLeader { leader } => Err(leader.clone()),
                Refusal::Busy
                | Refusal::Unknown
                | Refusal::SequenceGap { .. }
                | Refusal::NoSuchTopic { .. }
                | Refusal::Unavailable { .. } => Err(None),
                other => panic!("a producer is told {other:?}"),
            },
        }
    }
}

/// Batches under way at once.
const IN_FLIGHT: usize = 8;
