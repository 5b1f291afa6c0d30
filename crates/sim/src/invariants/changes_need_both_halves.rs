//! A leader changes who counts by way of a joint configuration, and leaves that only when a majority of each
//! half has it.

use kontiki_raft::{LogId, Membership, NodeRef};
use kontiki_wire::GroupId;

use crate::invariants::{
    Ledger, Promise, Sighting,
    ledger::{config, is_quorum},
};

/// Compares each configuration with the one before.
#[derive(Default)]
pub(super) struct ChangesNeedBothHalves;

impl Promise for ChangesNeedBothHalves {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        for write in seen.writes() {
            let replica = before.replica(seen.member, write.group);
            let leads = replica.and_then(|replica| replica.leads);
            let own = |id: LogId| leads == Some(id.term);
            let appended = write.persist.append.iter().filter(|entry| own(entry.id));
            for (_, next) in appended.filter_map(config) {
                follows(before, seen.member, write.group, &next)?;
            }
        }
        Ok(())
    }
}

fn follows(
    before: &Ledger,
    leader: NodeRef,
    group: GroupId,
    next: &Membership,
) -> Result<(), String> {
    let Some((at, now)) = before.latest(leader, group) else {
        return Ok(());
    };
    let held = before
        .replica(leader, group)
        .and_then(|replica| replica.id(at));
    let is_kept = held.is_some_and(|id| is_quorum(now, |voter| before.kept(voter, group, id)));
    let wrong = match (now.is_joint(), next.is_joint()) {
        (false, true) if now.voters != next.outgoing => "whose old half is another",
        (true, false) if now.voters != next.voters => "which is not its new half",
        (true, true) => "while it is joint",
        (false, false) => "without a joint one between",
        (_, _) if is_kept || at.0 == 0 => return Ok(()),
        _ => "before a majority of each half had it",
    };
    Err(format!(
        "goes on from the configuration of {at} of group {group} to {next:?}, {wrong}"
    ))
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Incarnation, NodeId};

    use super::*;
    use crate::invariants::trial::Trial;

    fn set(ids: &[u64]) -> Membership {
        Membership::of(ids.iter().map(|id| NodeRef {
            id: NodeId(*id),
            incarnation: Incarnation(*id),
        }))
    }

    fn joint(new: &[u64], old: &[u64]) -> Membership {
        Membership {
            outgoing: set(old).voters,
            ..set(new)
        }
    }

    /// Three that have a joint configuration in their logs, and one that leads.
    fn trial() -> Trial<ChangesNeedBothHalves> {
        let mut trial = Trial::default();
        for member in 1..=3 {
            trial.keeps(member, &[1, 2, 3]).unwrap();
        }
        trial.leads(1, 1).unwrap();
        for member in 1..=3 {
            trial
                .configures(member, 1, 1, &joint(&[1, 2], &[1, 2, 3]))
                .unwrap();
        }
        trial
    }

    #[test]
    fn what_is_left_after_both_halves_have_it_is_left_rightly() {
        let mut trial = trial();
        for member in 1..=2 {
            trial.synced(member, 1).unwrap();
        }
        trial.configures(1, 2, 2, &set(&[1, 2])).unwrap();
    }

    #[test]
    fn what_is_left_before_the_new_half_has_it_is_found() {
        let mut trial = trial();
        trial.synced(1, 1).unwrap();
        trial.synced(3, 1).unwrap();
        trial.configures(1, 2, 2, &set(&[1, 2])).unwrap_err();
    }

    #[test]
    fn a_change_without_a_joint_configuration_is_found() {
        let mut trial: Trial<ChangesNeedBothHalves> = Trial::default();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        trial.leads(1, 1).unwrap();
        trial.configures(1, 1, 1, &set(&[1, 2])).unwrap_err();
    }
}
