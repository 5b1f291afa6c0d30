//! Nothing that is committed anywhere is ever cut from a log that holds it.

use kontiki_raft::Index;

use crate::invariants::{Ledger, Promise, Sighting};

/// Looks at what is cut.
#[derive(Default)]
pub(super) struct CommittedIsNeverCut;

impl Promise for CommittedIsNeverCut {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        for one in seen.writes() {
            let Some(from) = one.persist.truncate_from else {
                continue;
            };
            let Some(replica) = before.replica(seen.member, one.group) else {
                continue;
            };
            let held = replica.held(from).map(|held| held.term);
            let agreed = before.committed_at(one.group, from);
            if held.is_some() && held == agreed.map(|one| one.held.term) {
                let end = Index(before.committed(one.group).len() as u64);
                return Err(format!(
                    "cuts group {} from entry {from} on, which is committed, as is all up to {end}",
                    one.group
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
    fn a_committed_entry_that_is_cut_is_found() {
        let mut trial = Trial::<CommittedIsNeverCut>::default();
        trial.writes(1, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.writes(2, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.applies(1, &[1]).unwrap();
        trial.cuts(2, 2, 2, &[(2, 2)]).unwrap();
        trial.cuts(2, 3, 1, &[(1, 3)]).unwrap_err();
    }

    #[test]
    fn what_stands_where_another_entry_was_committed_is_cut() {
        let mut trial = Trial::<CommittedIsNeverCut>::default();
        trial.writes(1, 1, &[(1, 2)]).unwrap();
        trial.writes(2, 1, &[(1, 1)]).unwrap();
        trial.applies(1, &[1]).unwrap();
        trial.cuts(2, 2, 1, &[(1, 2)]).unwrap();
    }
}
