//! Offsets are given without a gap: each applied entry's first record gets the one after the last record
//! of the entry before it, and entries are applied without one left out.

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::{Index, NodeRef};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The last entry that each member has applied in its present life, and the offset after it.
#[derive(Default)]
pub(super) struct OffsetsAreDense(BTreeMap<(NodeRef, GroupId), (Index, u64)>);

impl Promise for OffsetsAreDense {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let (group, placed) = match seen.what {
            Observation::Started { .. } => {
                self.0.retain(|(member, _), _| *member != seen.member);
                return Ok(());
            }
            // If it keeps the group again, that is another life of it, which begins where what it fetched ends.
            Observation::Does {
                effect: Effect::TopicRemoved(group),
            } => {
                self.0.remove(&(seen.member, *group));
                return Ok(());
            }
            Observation::Does {
                effect: Effect::Applied { group, placed, .. },
            } => (*group, placed),
            _ => return Ok(()),
        };
        for one in placed {
            let (index, offset) = (one.index, one.offset.0);
            let end = offset.saturating_add(one.count.into());
            let last = self.0.insert((seen.member, group), (index, end));
            let Some((before, next)) = last else { continue };
            if index != before.next() {
                return Err(format!(
                    "applies entry {index} of group {group} after entry {before}"
                ));
            }
            if offset != next && group != GroupId::CLUSTER {
                return Err(format!(
                    "gives entry {index} of group {group} the offset {offset}, the next one is {next}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn an_offset_left_out_or_given_twice_is_found() {
        for wrong in [3, 1] {
            let mut trial = Trial::<OffsetsAreDense>::default();
            trial.places(1, &[(1, 0, 2)]).unwrap();
            trial.places(1, &[(2, wrong, 1)]).unwrap_err();
        }
    }

    #[test]
    fn an_entry_left_out_is_found() {
        let mut trial = Trial::<OffsetsAreDense>::default();
        trial.places(1, &[(1, 0, 2), (3, 2, 2)]).unwrap_err();
    }

    #[test]
    fn a_new_life_begins_wherever_its_checkpoint_was() {
        let mut trial = Trial::<OffsetsAreDense>::default();
        trial.places(1, &[(1, 0, 2), (2, 2, 2)]).unwrap();
        trial.starts(1, 0, &[]).unwrap();
        trial.places(1, &[(2, 2, 2)]).unwrap();
    }

    #[test]
    fn a_group_that_is_kept_again_begins_wherever_what_was_fetched_ends() {
        let mut trial = Trial::<OffsetsAreDense>::default();
        trial.places(1, &[(1, 0, 2)]).unwrap();
        trial.does(1, &Effect::TopicRemoved(GroupId(1))).unwrap();
        trial.places(1, &[(7, 20, 2)]).unwrap();
        trial.places(1, &[(9, 22, 2)]).unwrap_err();
    }
}
