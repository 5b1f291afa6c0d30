//! A member that has halted, or died, does nothing any more.

use std::collections::BTreeSet;

use kontiki_broker::Effect;
use kontiki_raft::NodeId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// Those who have come to their end.
#[derive(Default)]
pub(super) struct SilentAfterTheEnd(BTreeSet<NodeId>);

impl Promise for SilentAfterTheEnd {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let member = seen.member.id;
        match seen.what {
            Observation::Started { .. } => {
                self.0.remove(&member);
            }
            Observation::Died => {
                self.0.insert(member);
            }
            Observation::Does { effect } => {
                if self.0.contains(&member) {
                    return Err(format!("does {effect:?} after its end"));
                }
                if matches!(effect, Effect::Halt { .. }) {
                    self.0.insert(member);
                }
            }
            Observation::Took { .. } | Observation::Has { .. } | Observation::Harmed => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial};

    #[test]
    fn a_member_that_speaks_after_it_halted_is_found() {
        let mut trial = Trial::<SilentAfterTheEnd>::default();
        trial.says(1, 2, 1, GRANT).unwrap();
        trial.halts(1).unwrap();
        trial.says(1, 2, 1, GRANT).unwrap_err();
        trial.starts(1, 0, &[]).unwrap();
        trial.says(1, 2, 1, GRANT).unwrap();
    }

    #[test]
    fn a_dead_member_that_speaks_is_found() {
        let mut trial = Trial::<SilentAfterTheEnd>::default();
        trial.dies(1).unwrap();
        trial.says(1, 2, 1, GRANT).unwrap_err();
    }
}
