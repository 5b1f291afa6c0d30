//! A leader never cuts or replaces entries of its own log (§5.3).

use crate::invariants::{Ledger, Promise, Sighting};

/// Looks at who writes.
#[derive(Default)]
pub(super) struct LeadersNeverCut;

impl Promise for LeadersNeverCut {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        for one in seen.writes() {
            let Some(from) = one.persist.truncate_from else {
                continue;
            };
            let Some(replica) = before.replica(seen.member, one.group) else {
                continue;
            };
            let term = one.persist.hard.unwrap_or(replica.hard).term;
            if replica.leads == Some(term) {
                return Err(format!(
                    "cuts group {} from entry {from} on in term {term}, which it leads",
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
    fn a_leader_that_cuts_is_found() {
        let mut trial = Trial::<LeadersNeverCut>::default();
        trial.writes_hard(1, 1, 2, Some(1)).unwrap();
        trial.leads(1, 2).unwrap();
        trial.writes(1, 2, &[(1, 2), (2, 2)]).unwrap();
        trial.cuts(1, 3, 2, &[(2, 2)]).unwrap_err();
    }

    #[test]
    fn who_led_an_earlier_term_may_cut() {
        let mut trial = Trial::<LeadersNeverCut>::default();
        trial.writes_hard(1, 1, 2, Some(1)).unwrap();
        trial.leads(1, 2).unwrap();
        trial.writes(1, 2, &[(1, 2)]).unwrap();
        trial.writes_hard(1, 3, 3, None).unwrap();
        trial.cuts(1, 4, 1, &[(1, 3)]).unwrap();
    }
}
