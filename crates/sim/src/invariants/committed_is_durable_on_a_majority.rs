//! When an entry is applied for the first time, anywhere, a majority of its group's voters have it on
//! their disks.

use kontiki_broker::Effect;
use kontiki_raft::{LogId, NodeRef};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::is_quorum};

/// Counts disks.
#[derive(Default)]
pub(super) struct CommittedIsDurableOnAMajority;

impl Promise for CommittedIsDurableOnAMajority {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let Observation::Does {
            effect: Effect::Applied { group, placed, .. },
        } = seen.what
        else {
            return Ok(());
        };
        // Logs that hold the last entry hold those before it.
        let Some(last) = placed.last() else {
            return Ok(());
        };
        if before.committed_at(*group, last.index).is_some() {
            return Ok(());
        }
        let replica = before.replica(seen.member, *group);
        match replica.and_then(|replica| replica.id(last.index)) {
            Some(id) => count(before, seen.member, *group, id),
            None => Err(format!(
                "applies entry {} of group {group}, which it does not have",
                last.index
            )),
        }
    }
}

fn count(before: &Ledger, by: NodeRef, group: GroupId, id: LogId) -> Result<(), String> {
    let keeps = |voter| before.kept(voter, group, id);
    // It may have been committed by any that was in force since, each of which its leader had.
    let counted = before.counted(by, group, id.index);
    if counted.iter().any(|(_, config)| is_quorum(config, keeps)) {
        return Ok(());
    }
    let Some((at, config)) = counted.first() else {
        return Ok(());
    };
    let voters = config.voters.union(&config.outgoing);
    let kept = voters.clone().filter(|voter| keeps(voter.id));
    let kept: Vec<_> = kept.map(|voter| voter.id.0).collect();
    let of = voters.count();
    Err(format!(
        "member {by} takes entry {id} of group {group} for committed, and of {of} voters since {at} only {kept:?} have it on their disks"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    fn trial() -> Trial<CommittedIsDurableOnAMajority> {
        let mut trial = Trial::default();
        for member in 1..=3 {
            trial.keeps(member, &[1, 2, 3]).unwrap();
            trial.writes(member, 1, &[(1, 1)]).unwrap();
        }
        trial
    }

    #[test]
    fn an_entry_applied_before_a_majority_has_synced_it_is_found() {
        let mut trial = trial();
        trial.synced(1, 1).unwrap();
        trial.applies(1, &[1]).unwrap_err();
    }

    #[test]
    fn the_appliers_own_disk_need_not_be_of_the_majority() {
        let mut trial = trial();
        trial.synced(2, 1).unwrap();
        trial.synced(3, 1).unwrap();
        trial.applies(1, &[1]).unwrap();
    }

    #[test]
    fn what_was_durable_when_the_disk_was_harmed_counts() {
        let mut trial = trial();
        trial.synced(2, 1).unwrap();
        trial.synced(3, 1).unwrap();
        trial.harmed(2).unwrap();
        trial.starts(2, 0, &[]).unwrap();
        trial.applies(1, &[1]).unwrap();
    }

    #[test]
    fn what_was_replaced_does_not_count() {
        let mut trial = trial();
        trial.synced(2, 1).unwrap();
        trial.synced(1, 1).unwrap();
        trial.cuts(2, 2, 1, &[(1, 2)]).unwrap();
        trial.applies(1, &[1]).unwrap_err();
    }
}
