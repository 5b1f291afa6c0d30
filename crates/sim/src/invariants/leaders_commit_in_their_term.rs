//! A leader takes an entry of an earlier term for committed only with one of its own behind it (§5.4.2):
//! until then a later leader may replace it, on however many disks it is.

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::NodeRef;
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// What a leader seems to have done. It may have followed a later one by then, and says so within the
/// same drain.
#[derive(Default)]
pub(super) struct LeadersCommitInTheirTerm(BTreeMap<(NodeRef, GroupId), String>);

impl Promise for LeadersCommitInTheirTerm {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        match seen.what {
            Observation::Does {
                effect: Effect::Applied { group, placed, .. },
            } => {
                let replica = before.replica(seen.member, *group);
                let last = placed.last().zip(replica);
                if let Some((last, replica)) = last
                    && let (Some(id), Some(term)) = (replica.id(last.index), replica.leads)
                    && id.term < term
                {
                    let what = format!(
                        "leads term {term} of group {group}, and takes entry {id} for committed with nothing of its own"
                    );
                    self.0.insert((seen.member, *group), what);
                }
                Ok(())
            }
            Observation::Does {
                effect: Effect::RoleChanged { group, .. },
            } => {
                self.0.remove(&(seen.member, *group));
                Ok(())
            }
            Observation::Does { .. } => Ok(()),
            _ => match self
                .0
                .iter()
                .find(|((member, _), _)| *member == seen.member)
            {
                Some((_, what)) => Err(what.clone()),
                None => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    fn trial() -> Trial<LeadersCommitInTheirTerm> {
        let mut trial = Trial::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.leads(1, 2).unwrap();
        trial.writes(1, 2, &[(2, 2)]).unwrap();
        trial
    }

    #[test]
    fn an_earlier_terms_entry_committed_alone_is_found() {
        let mut trial = trial();
        trial.applies(1, &[1]).unwrap();
        trial.synced(1, 2).unwrap_err();
    }

    #[test]
    fn an_earlier_terms_entry_goes_with_one_of_the_leaders() {
        let mut trial = trial();
        trial.applies(1, &[1, 2]).unwrap();
        trial.synced(1, 2).unwrap();
    }

    #[test]
    fn who_follows_by_the_end_of_the_drain_has_heard_it_from_the_leader() {
        let mut trial = trial();
        trial.applies(1, &[1]).unwrap();
        trial.leads(1, 3).unwrap();
        trial.synced(1, 2).unwrap();
    }
}
