//! Messages for groups that this node has not heard of yet: a peer applied the topic's making sooner.

use std::collections::VecDeque;

use kontiki_raft::{Body, Message, NodeRef};
use kontiki_wire::GroupId;

/// A bounded store; whatever is dropped is sent again by those who need it answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Early {
    kept: VecDeque<(GroupId, NodeRef, Message)>,
    bytes: usize,
}

impl Early {
    /// Keeps a message, at the cost of the oldest.
    pub(crate) fn keep(&mut self, group: GroupId, from: NodeRef, message: Message) {
        self.bytes += bytes_of(&message);
        self.kept.push_back((group, from, message));
        while self.kept.len() > EARLY_MESSAGES_MAX || self.bytes > EARLY_BYTES_MAX {
            let Some((_, _, dropped)) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= bytes_of(&dropped);
        }
    }

    /// Takes out what was kept for a group, in the order it came.
    pub(crate) fn take(&mut self, group: GroupId) -> Vec<(NodeRef, Message)> {
        let mut taken = Vec::new();
        for (of, from, message) in std::mem::take(&mut self.kept) {
            if of == group {
                self.bytes -= bytes_of(&message);
                taken.push((from, message));
            } else {
                self.kept.push_back((of, from, message));
            }
        }
        taken
    }
}

fn bytes_of(message: &Message) -> usize {
    match &message.body {
        Body::Append { entries, .. } => entries.iter().map(|entry| entry.body.len()).sum(),
        _ => 0,
    }
}

/// Messages kept, over all groups.
const EARLY_MESSAGES_MAX: usize = 1024;
/// Bytes of bodies kept, over all groups.
const EARLY_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use kontiki_raft::{AppendHead, Entry, Index, Kind, LogId, Micros, Session, Term};

    use super::*;

    fn beat(beat: u64) -> Message {
        Message {
            term: Term(1),
            body: Body::Beat {
                beat,
                commit: Index(0),
            },
        }
    }

    fn append(bytes: usize) -> Message {
        Message {
            term: Term(1),
            body: Body::Append {
                head: AppendHead {
                    session: Session(1),
                    prev: LogId::ORIGIN,
                    commit: Index(0),
                },
                entries: vec![Entry {
                    id: LogId::ORIGIN,
                    kind: Kind::Batch,
                    time: Micros(0),
                    checksum: 0,
                    body: vec![0; bytes].into(),
                }],
            },
        }
    }

    #[test]
    fn kept_messages_come_out_in_order_and_once() {
        let mut early = Early::default();
        let from = NodeRef::default();
        for number in 0..6 {
            early.keep(GroupId(number % 2), from, beat(number));
        }
        let odd: Vec<_> = [1, 3, 5].map(|number| (from, beat(number))).into();
        assert_eq!(early.take(GroupId(1)), odd);
        assert_eq!(early.take(GroupId(1)), []);
        assert_eq!(early.take(GroupId(0)).len(), 3);
    }

    #[test]
    fn oldest_are_dropped_by_count_and_by_bytes() {
        let mut early = Early::default();
        let from = NodeRef::default();
        for number in 0..2 * EARLY_MESSAGES_MAX as u64 {
            early.keep(GroupId(1), from, beat(number));
        }
        let kept = early.take(GroupId(1));
        assert_eq!(kept.len(), EARLY_MESSAGES_MAX);
        assert_eq!(kept[0].1, beat(EARLY_MESSAGES_MAX as u64));

        for _ in 0..20 {
            early.keep(GroupId(1), from, append(1 << 20));
        }
        assert_eq!(early.take(GroupId(1)).len(), EARLY_BYTES_MAX >> 20);
        assert_eq!(early.bytes, 0);
    }
}
