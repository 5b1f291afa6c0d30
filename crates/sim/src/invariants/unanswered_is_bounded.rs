//! To a peer that does not answer, a leader sends a window's worth of appends, and then no more than a
//! question now and then: neither memory nor the network fills up.

use std::collections::BTreeMap;

use kontiki_broker::{Effect, Input};
use kontiki_raft::{Body, Micros, NodeId};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The appends of a window, at most.
const WINDOW: u64 = 64;
/// Between two questions to one that does not answer, at least.
const QUESTIONS_EVERY: u64 = 10_000;

/// Appends with entries sent by one member to another and not answered, and since when.
#[derive(Default)]
pub(super) struct UnansweredIsBounded(BTreeMap<(NodeId, NodeId, GroupId), (u64, Micros)>);

impl Promise for UnansweredIsBounded {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let me = seen.member.id;
        match seen.what {
            Observation::Started { .. } => self.0.retain(|(from, _, _), _| *from != me),
            Observation::Took {
                input: Input::Peer { from, messages },
            } => {
                for one in messages {
                    self.0.remove(&(me, from.id, one.group));
                }
            }
            // A link that was made anew is a window anew.
            Observation::Took {
                input: Input::Reachable { peer, .. },
            } => self
                .0
                .retain(|(from, to, _), _| (*from, *to) != (me, *peer)),
            Observation::Does {
                effect: Effect::Send { to, messages, .. },
            } => {
                for one in messages {
                    let Body::Append { entries, .. } = &one.message.body else {
                        continue;
                    };
                    if entries.is_empty() {
                        continue;
                    }
                    let key = (me, to.id, one.group);
                    let (count, since) = self.0.entry(key).or_insert((0, seen.at));
                    *count += 1;
                    let waited = seen.at.since(*since);
                    if *count > WINDOW + waited.0 / QUESTIONS_EVERY {
                        return Err(format!(
                            "sends append {count} to member {to} in group {}, which has not answered for {} us",
                            one.group, waited.0
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{AppendHead, Entry, Index, Kind, LogId, Session, Term};

    use super::*;
    use crate::invariants::trial::{Trial, appended};

    fn append() -> Body {
        let id = LogId {
            term: Term(1),
            index: Index(1),
        };
        Body::Append {
            head: AppendHead {
                session: Session(1),
                prev: LogId::ORIGIN,
                commit: Index(0),
            },
            entries: vec![Entry {
                id,
                kind: Kind::Noop,
                time: Micros(0),
                checksum: 0,
                body: bytes::Bytes::new(),
            }],
        }
    }

    #[test]
    fn a_window_without_an_end_is_found() {
        let mut trial = Trial::<UnansweredIsBounded>::default();
        for _ in 0..WINDOW {
            trial.says(1, 2, 1, append()).unwrap();
        }
        trial.says(1, 3, 1, append()).unwrap();
        trial.says(1, 2, 1, append()).unwrap_err();
    }

    #[test]
    fn an_answer_makes_room() {
        let mut trial = Trial::<UnansweredIsBounded>::default();
        for _ in 0..3 * WINDOW {
            trial.says(1, 2, 1, append()).unwrap();
            trial.hears(1, 2, 1, appended(1)).unwrap();
        }
    }

    #[test]
    fn a_question_now_and_then_is_allowed() {
        let mut trial = Trial::<UnansweredIsBounded>::default();
        for at in 0..3 * WINDOW {
            trial.at = at * 50_000;
            trial.says(1, 2, 1, append()).unwrap();
        }
    }
}
