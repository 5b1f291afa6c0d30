//! Whoever leads a term holds every entry that was committed in an earlier one (§5.4).

use std::collections::BTreeMap;

use kontiki_broker::{Effect, Placed};
use kontiki_raft::{LogId, NodeRef, Role, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The latest leader of each group.
#[derive(Default)]
pub(super) struct LeadersHoldWhatIsCommitted(BTreeMap<GroupId, (Term, NodeRef)>);

impl Promise for LeadersHoldWhatIsCommitted {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let Observation::Does { effect } = seen.what else {
            return Ok(());
        };
        match effect {
            Effect::RoleChanged {
                group,
                term,
                role: Role::Leader,
                ..
            } => {
                let latest = self.0.entry(*group).or_insert((*term, seen.member));
                if latest.0 < *term {
                    *latest = (*term, seen.member);
                }
                elected(before, seen.member, *group, *term)
            }
            Effect::Applied { group, placed, .. } => match (placed.last(), self.0.get(group)) {
                (Some(last), Some(latest)) => committed(before, seen.member, *group, last, *latest),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Logs that agree at a position agree up to it, so that the last committed entry speaks for all.
fn elected(before: &Ledger, leader: NodeRef, group: GroupId, term: Term) -> Result<(), String> {
    let committed = before.committed(group);
    let earlier = committed.partition_point(|one| one.held.term < term);
    let Some(last) = earlier.checked_sub(1).map(|at| &committed[at]) else {
        return Ok(());
    };
    let id = LogId {
        term: last.held.term,
        index: kontiki_raft::Index(earlier as u64),
    };
    let held = before
        .replica(leader, group)
        .and_then(|replica| replica.id(id.index));
    if held == Some(id) {
        return Ok(());
    }
    Err(format!(
        "leads term {term} of group {group} without the committed entry {id}, there it has {held:?}"
    ))
}

/// A late word of an earlier term's commit, when a later leader is already there.
fn committed(
    before: &Ledger,
    by: NodeRef,
    group: GroupId,
    last: &Placed,
    (term, leader): (Term, NodeRef),
) -> Result<(), String> {
    let Some(replica) = before.replica(by, group) else {
        return Ok(());
    };
    let Some(id) = replica.id(last.index).filter(|id| id.term < term) else {
        return Ok(());
    };
    let held = before
        .replica(leader, group)
        .filter(|replica| !replica.harmed && replica.leads == Some(term));
    match held.map(|replica| replica.id(id.index)) {
        None => Ok(()),
        Some(held) if held == Some(id) => Ok(()),
        Some(held) => Err(format!(
            "takes entry {id} of group {group} for committed, and member {leader}, leader of the later term {term}, has {held:?} there"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn a_leader_without_a_committed_entry_is_found() {
        let mut trial = Trial::<LeadersHoldWhatIsCommitted>::default();
        trial.writes(1, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.writes(2, 1, &[(1, 1)]).unwrap();
        trial.applies(1, &[1, 2]).unwrap();
        trial.leads(2, 2).unwrap_err();
    }

    #[test]
    fn a_leader_with_another_entry_in_its_place_is_found() {
        let mut trial = Trial::<LeadersHoldWhatIsCommitted>::default();
        trial.writes(1, 1, &[(1, 1), (2, 2)]).unwrap();
        trial.writes(2, 1, &[(1, 1), (2, 3)]).unwrap();
        trial.applies(1, &[1, 2]).unwrap();
        trial.leads(2, 4).unwrap_err();
        trial.leads(1, 5).unwrap();
    }

    #[test]
    fn an_entry_committed_beside_a_later_leader_is_found() {
        let mut trial = Trial::<LeadersHoldWhatIsCommitted>::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.leads(2, 2).unwrap();
        trial.applies(1, &[1]).unwrap_err();
    }
}
