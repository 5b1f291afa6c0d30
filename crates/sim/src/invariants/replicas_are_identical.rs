//! At equal positions the state of a group (offsets, producers, topics) is byte for byte the same on all
//! members, in all lives.

use std::collections::BTreeMap;

use kontiki_broker::{Effect, GroupBoot};
use kontiki_raft::{Index, LogId};
use kontiki_wire::{GroupId, entry_checksum};

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The checkpoints seen: where, and of what bytes.
#[derive(Default)]
pub(super) struct ReplicasAreIdentical(BTreeMap<(GroupId, Index), (LogId, usize, u32)>);

impl Promise for ReplicasAreIdentical {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        match seen.what {
            Observation::Does {
                effect: Effect::Checkpoint { group, at, state },
            } => self.compare(*group, *at, state),
            Observation::Has { group, at, state } => self.compare(*group, *at, state),
            Observation::Started { groups } => {
                let held = groups.iter().filter_map(checkpoint);
                for (group, at, state) in held {
                    self.compare(group, at, state)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn checkpoint(boot: &GroupBoot) -> Option<(GroupId, LogId, &[u8])> {
    let (at, state) = boot.checkpoint.as_ref()?;
    Some((boot.group, *at, state))
}

impl ReplicasAreIdentical {
    fn compare(&mut self, group: GroupId, at: LogId, state: &[u8]) -> Result<(), String> {
        let here = (at, state.len(), entry_checksum(state));
        let known = self.0.entry((group, at.index)).or_insert(here);
        if *known == here {
            return Ok(());
        }
        Err(format!(
            "has another state of group {group} at {at} than was seen before at {}",
            known.0
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn a_state_that_is_another_than_the_one_that_was_kept_is_found() {
        let mut trial = Trial::<ReplicasAreIdentical>::default();
        trial.checkpoints(1, 4, b"one").unwrap();
        trial.has(1, 4, b"one").unwrap();
        trial.has(2, 4, b"eno").unwrap_err();
    }

    #[test]
    fn two_states_at_one_position_are_found() {
        let mut trial = Trial::<ReplicasAreIdentical>::default();
        trial.checkpoints(1, 4, b"one").unwrap();
        trial.checkpoints(2, 5, b"two").unwrap();
        trial.checkpoints(2, 4, b"one").unwrap();
        trial.checkpoints(3, 5, b"too").unwrap_err();
    }
}
