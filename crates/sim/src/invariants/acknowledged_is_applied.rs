//! A producer is told an offset only when its batch has been applied there by whoever tells it.

use std::collections::BTreeMap;

use kontiki_broker::{Effect, Input, StreamId};
use kontiki_raft::NodeRef;
use kontiki_wire::{Acknowledged, GroupId};

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// What was asked for and not answered, and the watermarks.
#[derive(Default)]
pub(super) struct AcknowledgedIsApplied {
    asked: BTreeMap<(NodeRef, StreamId, u64), (GroupId, u32)>,
    watermarks: BTreeMap<(NodeRef, GroupId), u64>,
}

impl Promise for AcknowledgedIsApplied {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let me = seen.member;
        match seen.what {
            Observation::Started { .. } => {
                self.asked.retain(|(member, _, _), _| *member != me);
                self.watermarks.retain(|(member, _), _| *member != me);
            }
            Observation::Took {
                input:
                    Input::Append {
                        stream,
                        group,
                        batch,
                    },
            } => {
                let header = batch.header();
                let asked = (*group, header.count);
                self.asked.insert((me, *stream, header.sequence), asked);
            }
            Observation::Does {
                effect: Effect::Applied {
                    group, watermark, ..
                },
            } => {
                self.watermarks.insert((me, *group), watermark.0);
            }
            Observation::Does {
                effect: Effect::Answer { stream, answer },
            } => {
                let sequence = match answer {
                    Ok(acknowledged) => acknowledged.sequence,
                    Err(refused) => refused.sequence,
                };
                let asked = self.asked.remove(&(me, *stream, sequence));
                if let (Ok(acknowledged), Some(asked)) = (answer, asked) {
                    return self.acknowledged(me, asked, *acknowledged);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl AcknowledgedIsApplied {
    fn acknowledged(
        &self,
        me: NodeRef,
        (group, count): (GroupId, u32),
        told: Acknowledged,
    ) -> Result<(), String> {
        let end = told.offset.0.saturating_add(count.into());
        let watermark = self.watermarks.get(&(me, group)).copied();
        if end <= watermark.unwrap_or(0) {
            return Ok(());
        }
        Err(format!(
            "acknowledges sequence {} in group {group} up to offset {end}, and has applied up to {watermark:?}",
            told.sequence
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn an_acknowledgement_ahead_of_the_application_is_found() {
        let mut trial = Trial::<AcknowledgedIsApplied>::default();
        trial.asks(1, 0, 2).unwrap();
        trial.asks(1, 2, 1).unwrap();
        trial.raises(1, &[(1, 0, 2)], 2).unwrap();
        trial.acknowledges(1, 0, 0).unwrap();
        trial.acknowledges(1, 2, 2).unwrap_err();
    }

    #[test]
    fn what_another_member_has_applied_does_not_count() {
        let mut trial = Trial::<AcknowledgedIsApplied>::default();
        trial.asks(1, 0, 2).unwrap();
        trial.raises(2, &[(1, 0, 2)], 2).unwrap();
        trial.acknowledges(1, 0, 0).unwrap_err();
    }
}
