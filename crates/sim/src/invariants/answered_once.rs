//! Every batch and every request is answered at most once, and nothing else is answered. That each *is*
//! answered, the story's end tells.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_broker::{Effect, Input, StreamId, Ticket};
use kontiki_raft::NodeId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// What each member owes in its present life.
#[derive(Default)]
pub(super) struct AnsweredOnce(BTreeMap<NodeId, Owed>);

#[derive(Default)]
struct Owed {
    batches: BTreeMap<(StreamId, u64), u32>,
    requests: BTreeSet<Ticket>,
}

impl Promise for AnsweredOnce {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let owed = self.0.entry(seen.member.id).or_default();
        match seen.what {
            Observation::Started { .. } | Observation::Died => *owed = Owed::default(),
            Observation::Took {
                input: Input::Append { stream, batch, .. },
            } => {
                let key = (*stream, batch.header().sequence);
                *owed.batches.entry(key).or_default() += 1;
            }
            Observation::Took {
                input: Input::Request { ticket, .. } | Input::Command { ticket, .. },
            } => {
                owed.requests.insert(*ticket);
            }
            Observation::Does {
                effect: Effect::Answer { stream, answer },
            } => {
                let sequence = match answer {
                    Ok(acknowledged) => acknowledged.sequence,
                    Err(refused) => refused.sequence,
                };
                return owed.answer(*stream, sequence);
            }
            Observation::Does {
                effect: Effect::Respond { ticket, response },
            } if !owed.requests.remove(ticket) => {
                return Err(format!(
                    "responds {response:?} to request {}, which it does not owe",
                    ticket.0
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Owed {
    fn answer(&mut self, stream: StreamId, sequence: u64) -> Result<(), String> {
        let key = (stream, sequence);
        match self.batches.get_mut(&key) {
            None => Err(format!(
                "answers sequence {sequence} of stream {}, which it does not owe",
                stream.0
            )),
            Some(1) => {
                self.batches.remove(&key);
                Ok(())
            }
            Some(count) => {
                *count -= 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn a_batch_answered_twice_is_found() {
        let mut trial = Trial::<AnsweredOnce>::default();
        trial.asks(1, 0, 2).unwrap();
        trial.acknowledges(1, 0, 0).unwrap();
        trial.acknowledges(1, 0, 0).unwrap_err();
    }

    #[test]
    fn a_batch_sent_twice_is_answered_twice() {
        let mut trial = Trial::<AnsweredOnce>::default();
        trial.asks(1, 0, 2).unwrap();
        trial.asks(1, 0, 2).unwrap();
        trial.acknowledges(1, 0, 0).unwrap();
        trial.acknowledges(1, 0, 0).unwrap();
    }

    #[test]
    fn an_answer_to_nobody_is_found() {
        let mut trial = Trial::<AnsweredOnce>::default();
        trial.responds(1, 7).unwrap_err();
        trial.requests(1, 7).unwrap();
        trial.responds(1, 7).unwrap();
        trial.responds(1, 7).unwrap_err();
    }
}
