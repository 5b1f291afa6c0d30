//! A watermark is where the applied records end: it never passes them, and never goes back in a life.

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::NodeRef;
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The watermarks that each member has raised in its present life, and where each group's records end,
/// as far as anyone has applied them.
#[derive(Default)]
pub(super) struct WatermarkNeverPassesCommit {
    raised: BTreeMap<(NodeRef, GroupId), u64>,
    ends: BTreeMap<GroupId, u64>,
}

impl Promise for WatermarkNeverPassesCommit {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let (group, placed, watermark) = match seen.what {
            Observation::Started { .. } => {
                self.raised.retain(|(member, _), _| *member != seen.member);
                return Ok(());
            }
            // If it keeps the group again, that is another life of it.
            Observation::Does {
                effect: Effect::TopicRemoved(group),
            } => {
                self.raised.remove(&(seen.member, *group));
                return Ok(());
            }
            Observation::Does {
                effect:
                    Effect::Applied {
                        group,
                        placed,
                        watermark,
                    },
            } => (*group, placed, watermark.0),
            _ => return Ok(()),
        };
        let end = self.ends.entry(group).or_default();
        if let Some(last) = placed.last() {
            let here = last.offset.0.saturating_add(last.count.into());
            *end = (*end).max(here);
            if watermark > here {
                return Err(format!(
                    "raises the watermark of group {group} to {watermark}, its records end at {here}"
                ));
            }
        }
        if watermark > *end {
            return Err(format!(
                "raises the watermark of group {group} to {watermark}, nobody's records reach beyond {end}"
            ));
        }
        let raised = self.raised.entry((seen.member, group)).or_default();
        if watermark < *raised {
            return Err(format!(
                "lowers the watermark of group {group} from {raised} to {watermark}"
            ));
        }
        *raised = watermark;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn a_watermark_past_the_records_is_found() {
        let mut trial = Trial::<WatermarkNeverPassesCommit>::default();
        trial.raises(1, &[(1, 0, 2)], 2).unwrap();
        trial.raises(1, &[(2, 2, 1)], 4).unwrap_err();
    }

    #[test]
    fn a_watermark_without_records_is_one_that_was_known() {
        let mut trial = Trial::<WatermarkNeverPassesCommit>::default();
        trial.raises(1, &[(1, 0, 2)], 2).unwrap();
        trial.starts(1, 0, &[]).unwrap();
        trial.raises(1, &[], 2).unwrap();
        trial.raises(2, &[], 3).unwrap_err();
    }

    #[test]
    fn a_group_that_is_kept_again_may_begin_below() {
        let mut trial = Trial::<WatermarkNeverPassesCommit>::default();
        trial.raises(1, &[(1, 0, 2)], 2).unwrap();
        trial.does(1, &Effect::TopicRemoved(GroupId(1))).unwrap();
        trial.raises(1, &[], 0).unwrap();
        trial.raises(1, &[], 3).unwrap_err();
    }

    #[test]
    fn a_watermark_that_goes_back_is_found() {
        let mut trial = Trial::<WatermarkNeverPassesCommit>::default();
        trial.raises(1, &[(1, 0, 2)], 2).unwrap();
        trial.raises(1, &[], 1).unwrap_err();
    }
}
