//! What a committed entry means in a topic: its records get offsets, its producer is remembered. A
//! function of the entries alone, so that every replica comes to the same.

use bytes::Bytes;
use kontiki_raft::{Entry, Index, Kind, LogId};
use kontiki_wire::{
    Acknowledged, Batch, Offset, Refusal, TopicState, limits::CHECKPOINT_BYTES_MAX,
};

use crate::{
    effect::Placed,
    offsets::Offsets,
    planted::{Planted, plants},
    producers::{Producers, Verdict},
};

/// A topic's state, and how far it has come.
#[derive(Clone, Debug)]
pub(crate) struct TopicLog {
    applied: LogId,
    first: Offset,
    next: Offset,
    bytes: u64,
    producers: Producers,
    offsets: Offsets,
    since_checkpoint: Since,
    every: CheckpointEvery,
}

/// How much is applied between two checkpoints of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointEvery {
    /// Entries: what a restarted node applies again at most.
    pub entries: u64,
    /// Bytes of bodies: what a restarted node reads again at most.
    pub bytes: u64,
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self {
            entries: 4096,
            bytes: 4 << 20,
        }
    }
}

/// What was applied since the last checkpoint, and how large that was.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    entries: u64,
    bytes: u64,
    state_bytes: u64,
}

/// What came of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Applied {
    /// Where its records went.
    pub placed: Placed,
    /// What its producer is to hear, if it was a batch and the producer is one of this node's.
    pub answer: Option<Result<Acknowledged, Refusal>>,
}

impl TopicLog {
    /// Starts from a checkpoint, or from nothing; says what does not fit.
    pub(crate) fn restore(
        checkpoint: Option<&(LogId, Bytes)>,
        every: CheckpointEvery,
    ) -> Result<Self, String> {
        let (applied, state) = match checkpoint {
            None => (LogId::ORIGIN, TopicState::default()),
            Some((at, bytes)) => {
                let state =
                    kontiki_wire::decode("a topic's checkpoint", bytes, CHECKPOINT_BYTES_MAX)
                        .map_err(|malformed| malformed.to_string())?;
                (*at, state)
            }
        };
        Self::from_state(applied, state, every)
    }

    fn from_state(
        applied: LogId,
        state: TopicState,
        every: CheckpointEvery,
    ) -> Result<Self, String> {
        if state.first > state.next {
            return Err(format!(
                "a checkpoint says that its first offset is {} and its next one {}",
                state.first, state.next
            ));
        }
        Ok(Self {
            applied,
            first: state.first,
            next: state.next,
            producers: Producers::restore(state.producers)?,
            bytes: state.bytes,
            offsets: Offsets::new(applied.index, state.next, state.bytes),
            since_checkpoint: Since::default(),
            every,
        })
    }

    /// Applies the next entry. An error means that this node and the one that proposed the entry do
    /// not speak the same language, and that going on would make the replicas differ.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<Applied, String> {
        let offset = self.next;
        let (count, answer) = match entry.kind {
            Kind::Noop | Kind::Config => (0, None),
            Kind::Batch => self.apply_batch(entry)?,
            Kind::Command => {
                return Err(format!(
                    "entry {} is a command, and a topic has none",
                    entry.id
                ));
            }
        };
        self.applied = entry.id;
        self.bytes = self.bytes.saturating_add(entry.body.len() as u64);
        self.offsets.push(entry.id.index, self.next, self.bytes);
        self.since_checkpoint.entries += 1;
        self.since_checkpoint.bytes += entry.body.len() as u64;
        let index = entry.id.index;
        let placed = Placed {
            index,
            offset,
            count,
        };
        Ok(Applied { placed, answer })
    }

    fn apply_batch(
        &mut self,
        entry: &Entry,
    ) -> Result<(u32, Option<Result<Acknowledged, Refusal>>), String> {
        let batch = Batch::trusted(entry.body.clone())
            .map_err(|malformed| format!("entry {} is no batch: {malformed}", entry.id))?;
        let header = *batch.header();
        let time = entry.time.0;
        let acknowledged = |offset, time| Acknowledged {
            sequence: header.sequence,
            offset,
            time,
        };
        let verdict = match self.producers.judge(&header, self.next, time) {
            Verdict::Duplicate { .. } if plants(Planted::DuplicatePlaced) => Verdict::Accepted,
            Verdict::Duplicate { time: first, .. }
                if time.saturating_sub(first) < IN_FLIGHT && plants(Planted::JudgedAtPropose) =>
            {
                Verdict::Accepted
            }
            Verdict::Duplicate { time, .. } if plants(Planted::DuplicateAnsweredAnew) => {
                let offset = self.next;
                Verdict::Duplicate { offset, time }
            }
            judged => judged,
        };
        Ok(match verdict {
            Verdict::Accepted => {
                let answer = acknowledged(self.next, time);
                self.next = self
                    .next
                    .0
                    .checked_add(u64::from(header.count))
                    .map(Offset)
                    .ok_or_else(|| format!("offsets run out at entry {}", entry.id))?;
                (header.count, Some(Ok(answer)))
            }
            Verdict::Duplicate { offset, time } => (0, Some(Ok(acknowledged(offset, time)))),
            Verdict::Void(refusal) => (0, Some(Err(refusal))),
        })
    }

    /// The state as a checkpoint, once enough was applied since the last one. A large state is kept
    /// the more rarely, so that keeping it never costs more than a fraction of appending.
    pub(crate) fn due_checkpoint(&mut self) -> Option<(LogId, Bytes)> {
        let since = self.since_checkpoint;
        let bytes_due = self
            .every
            .bytes
            .max(CHECKPOINT_STATE_SHARE * since.state_bytes);
        let entries_due = self
            .every
            .entries
            .max(since.state_bytes / BYTES_PER_ENTRY_COST);
        if since.bytes < bytes_due && since.entries < entries_due {
            return None;
        }
        let (at, bytes) = self.checkpoint();
        self.since_checkpoint = Since {
            state_bytes: bytes.len() as u64,
            ..Since::default()
        };
        Some((at, bytes))
    }

    /// The state now.
    pub(crate) fn checkpoint(&self) -> (LogId, Bytes) {
        let state = TopicState {
            next: self.next,
            first: self.first,
            bytes: self.bytes,
            producers: match plants(Planted::ProducersNotKept) {
                true => Vec::new(),
                false => self.producers.state(),
            },
        };
        let at = LogId {
            index: Index(self.applied.index.0 + u64::from(plants(Planted::CheckpointAhead))),
            ..self.applied
        };
        (at, kontiki_wire::encode(&state).into())
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> Index {
        self.applied.index
    }

    /// The same with its term.
    pub(crate) fn position(&self) -> LogId {
        self.applied
    }

    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// An offset below which everything is in the entries up to `index`; never promises too much.
    pub(crate) fn offset_at(&self, index: Index) -> Offset {
        self.offsets.at(index).unwrap_or(self.first)
    }

    /// About how many bytes the applied entries up to `index` have.
    pub(crate) fn bytes_at(&self, index: Index) -> u64 {
        self.offsets.bytes_at(index)
    }

    /// About how many bytes of applied entries follow after `index`.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        self.bytes.saturating_sub(self.bytes_at(index))
    }
}

/// Microseconds for which a batch is proposed and not applied, as [`Planted::JudgedAtPropose`] has it.
const IN_FLIGHT: u64 = 500_000;

/// A state is kept no sooner than after so many times its own size of bodies,
const CHECKPOINT_STATE_SHARE: u64 = 4;
/// or after one entry for so many of its bytes.
const BYTES_PER_ENTRY_COST: u64 = 64;

#[cfg(test)]
mod tests {
    use kontiki_raft::{Micros, Term};
    use kontiki_wire::{BatchBuilder, ProducerId, Record};

    use super::*;

    fn entry(index: u64, kind: Kind, body: Bytes) -> Entry {
        Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind,
            time: Micros(index * 10),
            checksum: 0,
            body,
        }
    }

    fn batch(index: u64, producer: u128, sequence: u64, count: u32) -> Entry {
        let mut builder = BatchBuilder::new(1024);
        for _ in 0..count {
            builder.push(&Record::default()).unwrap();
        }
        let batch = builder.finish(ProducerId(producer), 0, sequence);
        entry(index, Kind::Batch, batch.bytes().clone())
    }

    fn new() -> TopicLog {
        TopicLog::restore(None, CheckpointEvery::default()).unwrap()
    }

    #[test]
    fn records_get_dense_offsets_and_void_batches_get_none() {
        let mut log = new();
        let mut places = Vec::new();
        for entry in [
            entry(1, Kind::Noop, Bytes::new()),
            batch(2, 1, 0, 3),
            batch(3, 1, 0, 3),
            batch(4, 1, 9, 3),
            batch(5, 1, 3, 2),
        ] {
            let placed = log.apply(&entry).unwrap().placed;
            places.push((placed.index.0, placed.offset.0, placed.count));
        }
        assert_eq!(
            places,
            [(1, 0, 0), (2, 0, 3), (3, 3, 0), (4, 3, 0), (5, 3, 2)]
        );
        assert_eq!(log.next(), Offset(5));
        assert_eq!(log.offset_at(Index(4)), Offset(3));
    }

    #[test]
    fn duplicate_is_acknowledged_at_its_first_place() {
        let mut log = new();
        let first = log.apply(&batch(1, 1, 0, 3)).unwrap().answer;
        log.apply(&batch(2, 2, 0, 3)).unwrap();
        let again = log.apply(&batch(3, 1, 0, 3)).unwrap().answer;
        assert_eq!(first, again);
        let Some(Ok(acknowledged)) = again else {
            panic!("{again:?}");
        };
        assert_eq!((acknowledged.offset, acknowledged.time), (Offset(0), 10));
    }

    #[test]
    fn entry_without_meaning_is_not_guessed_at() {
        assert!(new().apply(&entry(1, Kind::Command, Bytes::new())).is_err());
        let bytes = Bytes::from_static(b"no batch");
        assert!(new().apply(&entry(1, Kind::Batch, bytes)).is_err());
    }

    #[test]
    fn restored_checkpoint_goes_on_as_the_original_does() {
        let mut log = new();
        for index in 1..200 {
            let producer = u128::from(index % 7);
            log.apply(&batch(index, producer, (index - 1) / 7 * 2, 2))
                .unwrap();
        }
        let checkpoint = log.checkpoint();
        let mut restored =
            TopicLog::restore(Some(&checkpoint), CheckpointEvery::default()).unwrap();
        assert_eq!(restored.checkpoint(), checkpoint);
        for index in 200..300 {
            let entry = batch(index, u128::from(index % 9), index % 60, 1);
            assert_eq!(restored.apply(&entry), log.apply(&entry));
        }
        assert_eq!(restored.checkpoint(), log.checkpoint());
    }

    #[test]
    fn checkpoint_that_does_not_decode_is_refused() {
        let (at, bytes) = new().checkpoint();
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(TopicLog::restore(Some(&(at, longer.into())), CheckpointEvery::default()).is_err());
        let state = TopicState {
            first: Offset(2),
            next: Offset(1),
            ..TopicState::default()
        };
        let upside_down = kontiki_wire::encode(&state).into();
        assert!(TopicLog::restore(Some(&(at, upside_down)), CheckpointEvery::default()).is_err());
    }

    #[test]
    fn checkpoint_is_due_by_entries_and_by_bytes() {
        let mut log = new();
        let CheckpointEvery { entries, bytes } = CheckpointEvery::default();
        for index in 1..entries {
            log.apply(&entry(index, Kind::Noop, Bytes::new())).unwrap();
        }
        assert!(log.due_checkpoint().is_none());
        let last = entry(entries, Kind::Noop, Bytes::new());
        log.apply(&last).unwrap();
        assert_eq!(log.due_checkpoint().map(|(at, _)| at), Some(last.id));
        assert!(log.due_checkpoint().is_none());

        let body = vec![0; bytes as usize].into();
        let large = entry(entries + 1, Kind::Config, body);
        log.apply(&large).unwrap();
        assert!(log.due_checkpoint().is_some());
    }
}
