//! In each term of a group at most one member leads (§5.2).

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::{NodeRef, Role, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// Who led.
#[derive(Default)]
pub(super) struct OneLeaderATerm(BTreeMap<(GroupId, Term), NodeRef>);

impl Promise for OneLeaderATerm {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let Observation::Does {
            effect:
                Effect::RoleChanged {
                    group,
                    term,
                    role: Role::Leader,
                    ..
                },
        } = seen.what
        else {
            return Ok(());
        };
        let leader = *self.0.entry((*group, *term)).or_insert(seen.member);
        if leader == seen.member {
            return Ok(());
        }
        Err(format!(
            "leads group {group} in term {term}, as member {leader} did"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn a_second_leader_of_a_term_is_found() {
        let mut trial = Trial::<OneLeaderATerm>::default();
        trial.leads(1, 3).unwrap();
        trial.leads(2, 4).unwrap();
        trial.leads(1, 3).unwrap();
        trial.leads(2, 3).unwrap_err();
    }
}
