//! A member starts with everything that its disk had confirmed: the log as far as it was durable, with its
//! configurations, term and vote, and every group that was not removed. Only harm done to the disk excuses
//! less, and then the member knows that it may have forgotten something: unless nothing is gone but its last
//! write, which the disk cannot tell from one that was torn. A group that was mended while the member ran comes back
//! with the configurations of those of its entries that it has again.

use kontiki_broker::{GroupBoot, Input};
use kontiki_raft::{Index, Membership, Term};
use kontiki_wire::GroupId;

use crate::invariants::{
    Ledger, Observation, Promise, Sighting,
    ledger::{Replica, config},
};

/// Compares what is found with what was confirmed.
#[derive(Clone, Default)]
pub(super) struct WhatWasSyncedIsKept;

impl Promise for WhatWasSyncedIsKept {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let Some(member) = before.member(seen.member) else {
            return Ok(());
        };
        let groups = match seen.what {
            Observation::Started { groups } => groups,
            Observation::Took {
                input: Input::Mended(found),
            } => {
                let mut replicas = member.replicas();
                return match replicas.find(|(group, _)| *group == found.group) {
                    Some((_, had)) => mended(had, found),
                    None => Ok(()),
                };
            }
            _ => return Ok(()),
        };
        let knows = |found: &GroupBoot| {
            found.boot.forgot || found.boot.hard.recovering || !found.missing.is_empty()
        };
        let knows = groups.iter().any(knows);
        for (group, replica) in member.replicas() {
            if replica.harmed {
                if !knows && !replica.unknown {
                    witnessed(group, replica, groups)?;
                }
                continue;
            }
            match groups.iter().find(|boot| boot.group == group) {
                // Entries that the disk does not give are fetched before anything else.
                Some(boot) if !boot.missing.is_empty() => {}
                Some(boot) => kept(replica, boot)?,
                None if replica.durable.0 == 0 && replica.durable_hard.term.0 == 0 => {}
                None => {
                    return Err(format!(
                        "starts without group {group}, of which it had entries up to {}",
                        replica.durable
                    ));
                }
            }
        }
        Ok(())
    }
}

/// It says nothing of harm: then it has what its disk knew to have been synced.
fn witnessed(group: GroupId, replica: &Replica, groups: &[GroupBoot]) -> Result<(), String> {
    let (durable, hard) = replica.witnessed;
    let nothing = durable.0 == 0 && hard.term.0 == 0;
    let found = groups.iter().find(|found| found.group == group);
    let found = found.map(|found| (found.boot.last, found.boot.hard.term));
    if nothing || found.is_some_and(|(last, term)| last >= durable && term >= hard.term) {
        return Ok(());
    }
    Err(format!(
        "starts group {group} with {found:?}, its harmed disk had witnessed {durable} in {}, and it does not say that it forgot anything",
        hard.term
    ))
}

fn kept(replica: &Replica, boot: &GroupBoot) -> Result<(), String> {
    let (group, found) = (boot.group, &boot.boot);
    if !boot.missing.is_empty() {
        return Err(format!(
            "starts group {group} without {:?}, and nobody harmed its disk",
            boot.missing
        ));
    }
    let hard = replica.durable_hard;
    let vote_kept = found.hard.term > hard.term
        || (found.hard.term == hard.term && (hard.vote.is_none() || hard.vote == found.hard.vote));
    if !vote_kept {
        return Err(format!(
            "starts group {group} with {:?}, its disk had confirmed {hard:?}",
            found.hard
        ));
    }
    let durable = replica.durable;
    let had = replica.held(durable).map(|held| held.term);
    let lost_some = had.is_some() && had != term_at(boot, durable) && durable > found.base.index;
    if found.last < durable || lost_some {
        return Err(lost(group, replica, boot));
    }
    let forgotten = |(at, had): &(Index, &Membership)| *at <= durable && !tells(boot, *at, had);
    match replica.configs_after(found.base.index).find(forgotten) {
        Some((at, _)) => Err(format!(
            "starts group {group} with another configuration in entry {at} than its disk had confirmed, or none"
        )),
        None => Ok(()),
    }
}

/// It has the configurations of those entries that it had before and has again.
fn mended(replica: &Replica, boot: &GroupBoot) -> Result<(), String> {
    let (group, found) = (boot.group, &boot.boot);
    let has = |at: Index| {
        let had = replica.held(at).map(|held| held.term);
        at <= found.last && had == term_at(boot, at)
    };
    let forgotten = |(at, had): &(Index, &Membership)| has(*at) && !tells(boot, *at, had);
    match replica.configs_after(found.base.index).find(forgotten) {
        Some((at, _)) => Err(format!(
            "takes up group {group}, which was mended, with another configuration in entry {at} than it had, or none"
        )),
        None => Ok(()),
    }
}

/// The term of an entry that was found.
fn term_at(boot: &GroupBoot, at: Index) -> Option<Term> {
    let run = boot.boot.terms.iter().rfind(|(first, _)| *first <= at);
    run.map(|(_, term)| *term)
}

/// Whether this configuration is found in that entry.
fn tells(boot: &GroupBoot, at: Index, had: &Membership) -> bool {
    let found = &boot.boot;
    let read = found.tail.iter().find(|entry| entry.id.index == at);
    let read = read.and_then(config).map(|(_, config)| config);
    read.as_ref().or_else(|| found.configs.get(&at)) == Some(had)
}

fn lost(group: GroupId, replica: &Replica, boot: &GroupBoot) -> String {
    let last = boot.boot.last;
    format!(
        "starts group {group} with entries up to {last}, its disk had confirmed {:?}",
        replica.id(replica.durable)
    )
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Index, Membership};

    use super::*;
    use crate::invariants::trial::{Trial, node};

    fn trial() -> Trial<WhatWasSyncedIsKept> {
        let mut trial = Trial::default();
        trial.writes(1, 1, &[(1, 1), (2, 2)]).unwrap();
        trial.writes(1, 2, &[(3, 2)]).unwrap();
        trial.synced(1, 1).unwrap();
        trial.dies(1).unwrap();
        trial
    }

    #[test]
    fn a_log_that_lost_its_synced_end_is_found() {
        trial().starts(1, 2, &[(1, 1), (2, 2)]).unwrap();
        trial().starts(1, 3, &[(1, 1), (2, 2)]).unwrap();
        trial().starts(1, 1, &[(1, 1)]).unwrap_err();
        trial().starts(1, 0, &[]).unwrap_err();
    }

    #[test]
    fn a_log_that_is_another_than_the_synced_one_is_found() {
        trial().starts(1, 2, &[(1, 1)]).unwrap_err();
    }

    #[test]
    fn a_configuration_that_is_forgotten_is_found() {
        let config = Membership::of([node(1), node(2)]);
        let mut trial = trial();
        trial.configures(1, 3, 4, &config).unwrap();
        trial.synced(1, 2).unwrap();
        let told = |configs: &[u64]| {
            let configs = configs.iter().map(|at| (Index(*at), config.clone()));
            configs.collect()
        };
        let mut early = trial.clone();
        early
            .starts_with(1, 4, &[(1, 1), (2, 2), (4, 1)], told(&[]))
            .unwrap();
        trial.synced(1, 3).unwrap();
        let mut sound = trial.clone();
        sound
            .starts_with(1, 4, &[(1, 1), (2, 2), (4, 1)], told(&[4]))
            .unwrap();
        trial
            .starts_with(1, 4, &[(1, 1), (2, 2), (4, 1)], told(&[3]))
            .unwrap_err();
    }

    #[test]
    fn a_configuration_that_is_forgotten_by_who_mends_is_found() {
        let config = Membership::of([node(1), node(2)]);
        let mut trial = trial();
        trial.configures(1, 3, 4, &config).unwrap();
        trial.synced(1, 3).unwrap();
        trial.harmed(1).unwrap();
        trial.starts_damaged(1, 4).unwrap();
        let mended = |last: u64, terms: &[(u64, u64)], at: &[u64]| {
            let configs = at.iter().map(|at| (Index(*at), config.clone()));
            trial.clone().mended_with(1, last, terms, configs.collect())
        };
        mended(4, &[(1, 1), (2, 2), (4, 1)], &[4]).unwrap();
        mended(4, &[(1, 1), (2, 2), (4, 1)], &[]).unwrap_err();
        mended(3, &[(1, 1), (2, 2)], &[]).unwrap();
        mended(4, &[(1, 1), (2, 2), (4, 3)], &[]).unwrap();
    }

    #[test]
    fn a_group_that_is_gone_is_found() {
        trial().starts_without(1).unwrap_err();
    }

    #[test]
    fn a_forgotten_vote_is_found() {
        let mut trial = Trial::<WhatWasSyncedIsKept>::default();
        trial.writes_hard(1, 1, 3, Some(2)).unwrap();
        trial.synced(1, 1).unwrap();
        trial.starts(1, 0, &[]).unwrap_err();
    }

    #[test]
    fn harm_excuses_what_is_missing_in_one_that_knows_of_it() {
        let mut trial = trial();
        trial.synced(1, 2).unwrap();
        trial.harmed(1).unwrap();
        trial.starts_forgetful(1).unwrap();
    }

    #[test]
    fn after_harm_the_last_write_alone_may_be_gone_in_silence() {
        let mut trial = trial();
        trial.synced(1, 2).unwrap();
        trial.harmed(1).unwrap();
        trial.starts(1, 2, &[(1, 1), (2, 2)]).unwrap();
    }

    #[test]
    fn after_harm_less_than_the_disk_had_witnessed_is_found() {
        let mut trial = trial();
        trial.synced(1, 2).unwrap();
        trial.harmed(1).unwrap();
        trial.starts(1, 1, &[(1, 1)]).unwrap_err();
    }
}
