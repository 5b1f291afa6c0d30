//! A topic's state without a broker around it: for a host that has a log and no checkpoint, and cannot
//! hold all of the log until a broker applies it.

use bytes::Bytes;
use kontiki_raft::{Entry, LogId};
use kontiki_wire::Offset;

use crate::apply::{CheckpointEvery, TopicLog};

/// What a topic's committed entries come to, given one after the other.
#[derive(Clone, Debug)]
pub struct Rebuild {
    log: TopicLog,
}

impl Rebuild {
    /// Starts from a checkpoint, or from nothing; says what does not fit.
    pub fn new(checkpoint: Option<&(LogId, Bytes)>) -> Result<Self, String> {
        let log = TopicLog::restore(checkpoint, CheckpointEvery::default())?;
        Ok(Self { log })
    }

    /// Applies the next committed entry; says why it is not the next, or what does not fit.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        let next = self.log.applied().next();
        if entry.id.index != next {
            return Err(format!(
                "entry {} comes where entry {next} is next",
                entry.id
            ));
        }
        self.log.apply(entry).map(|_| ())
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> LogId {
        self.log.position()
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.log.next()
    }

    /// The checkpoint that a broker would make here.
    #[must_use]
    pub fn checkpoint(&self) -> (LogId, Bytes) {
        self.log.checkpoint()
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Index, Kind, Micros, Term};
    use kontiki_wire::{BatchBuilder, ProducerId, Record};

    use super::*;

    fn batch(index: u64) -> Entry {
        let mut builder = BatchBuilder::new(1024);
        builder.push(&Record::default()).unwrap();
        let sequence = index - 1;
        let body = builder.finish(ProducerId(7), 0, sequence).bytes().clone();
        Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Batch,
            time: Micros(index),
            checksum: 0,
            body,
        }
    }

    #[test]
    fn rebuilt_in_pieces_is_what_is_rebuilt_at_once() {
        let mut whole = Rebuild::new(None).unwrap();
        let mut piece = whole.clone();
        for index in 1..=30 {
            whole.apply(&batch(index)).unwrap();
            piece.apply(&batch(index)).unwrap();
            if index % 7 == 0 {
                piece = Rebuild::new(Some(&piece.checkpoint())).unwrap();
            }
        }
        assert_eq!(piece.checkpoint(), whole.checkpoint());
        assert_eq!(whole.checkpoint().0, batch(30).id);
    }

    #[test]
    fn entry_that_is_not_the_next_is_refused() {
        let mut rebuild = Rebuild::new(None).unwrap();
        rebuild.apply(&batch(1)).unwrap();
        assert!(rebuild.apply(&batch(1)).is_err());
        let why = rebuild.apply(&batch(3)).unwrap_err();
        assert!(why.ends_with("comes where entry 2 is next"), "{why}");
    }
}
