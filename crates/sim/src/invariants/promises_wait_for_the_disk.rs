//! Whatever a message promises is durable where it comes from when it leaves: the own vote and the log
//! that a candidate shows, a grant, an acknowledged entry; and nobody leads whose own vote is not.

use kontiki_broker::Effect;
use kontiki_raft::{Body, LogId, NodeRef, Role, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::Replica};

/// Compares what is said with what the disk has.
#[derive(Default)]
pub(super) struct PromisesWaitForTheDisk;

impl Promise for PromisesWaitForTheDisk {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let nothing = Replica::default();
        let me = seen.member;
        let replica = |group| before.replica(me, group).unwrap_or(&nothing);
        match seen.what {
            Observation::Does {
                effect: Effect::Send { to, messages, .. },
            } => messages.iter().try_for_each(|one| {
                let (group, term) = (one.group, one.message.term);
                said(replica(group), me, *to, term, &one.message.body)
                    .map_err(|what| format!("in group {group} {what}"))
            }),
            Observation::Does {
                effect:
                    Effect::RoleChanged {
                        group,
                        term,
                        role: Role::Leader,
                        ..
                    },
            } => leads(replica(*group), me, *group, *term),
            _ => Ok(()),
        }
    }
}

fn said(
    replica: &Replica,
    me: NodeRef,
    to: NodeRef,
    term: Term,
    body: &Body,
) -> Result<(), String> {
    match body {
        Body::Vote { last, .. } => {
            vote_is_durable(replica, term, me)?;
            shown_is_durable(replica, *last)
        }
        Body::VoteReply { granted: true } => vote_is_durable(replica, term, to),
        Body::Appended { matched, .. } => {
            if replica.durable_hard.term < term {
                let durable = replica.durable_hard.term;
                return Err(format!(
                    "acknowledges in term {term}, and its disk has term {durable}"
                ));
            }
            if *matched > replica.durable {
                let durable = replica.durable;
                return Err(format!(
                    "acknowledges entry {matched}, and its disk has them up to {durable}"
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn vote_is_durable(replica: &Replica, term: Term, vote: NodeRef) -> Result<(), String> {
    let durable = replica.durable_hard;
    if (durable.term, durable.vote) == (term, Some(vote)) {
        return Ok(());
    }
    Err(format!(
        "speaks of a vote for member {vote} in term {term}, and its disk has {durable:?}"
    ))
}

fn shown_is_durable(replica: &Replica, last: LogId) -> Result<(), String> {
    if last.index <= replica.durable && replica.id(last.index) == Some(last) {
        return Ok(());
    }
    let durable = replica.durable;
    Err(format!(
        "asks for votes with a log that ends at {last}, and its disk has it up to {durable}"
    ))
}

fn leads(replica: &Replica, me: NodeRef, group: GroupId, term: Term) -> Result<(), String> {
    vote_is_durable(replica, term, me).map_err(|what| format!("leads group {group}, {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial, appended, vote};

    #[test]
    fn an_entry_acknowledged_before_it_is_synced_is_found() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes_hard(1, 1, 1, None).unwrap();
        trial.writes(1, 2, &[(1, 1), (2, 1)]).unwrap();
        trial.synced(1, 1).unwrap();
        trial.says(1, 2, 1, appended(1)).unwrap_err();
        trial.synced(1, 2).unwrap();
        trial.says(1, 2, 1, appended(2)).unwrap();
    }

    #[test]
    fn an_entry_that_is_about_to_be_replaced_is_not_durable() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes_hard(1, 1, 1, None).unwrap();
        trial.writes(1, 2, &[(1, 1), (2, 1)]).unwrap();
        trial.synced(1, 2).unwrap();
        trial.cuts(1, 3, 2, &[(2, 2)]).unwrap();
        trial.says(1, 2, 1, appended(2)).unwrap_err();
        trial.says(1, 2, 1, appended(1)).unwrap();
        trial.synced(1, 3).unwrap();
        trial.says(1, 2, 1, appended(2)).unwrap();
    }

    #[test]
    fn what_a_mending_brought_is_durable() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes_hard(1, 1, 1, None).unwrap();
        trial.writes(1, 2, &[(1, 1), (2, 1), (3, 1)]).unwrap();
        trial.synced(1, 1).unwrap();
        trial.dies(1).unwrap();
        trial.starts_damaged(1, 3).unwrap();
        trial.says(1, 2, 1, appended(3)).unwrap_err();
        trial.mended(1, 3, &[(1, 1)]).unwrap();
        trial.says(1, 2, 1, appended(4)).unwrap_err();
        trial.writes(1, 1, &[(4, 1)]).unwrap();
        trial.says(1, 2, 1, appended(4)).unwrap_err();
    }

    #[test]
    fn a_vote_given_before_it_is_synced_is_found() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes_hard(1, 1, 4, Some(2)).unwrap();
        trial.says(1, 2, 4, GRANT).unwrap_err();
        trial.synced(1, 1).unwrap();
        trial.says(1, 2, 4, GRANT).unwrap();
        trial.says(1, 3, 4, GRANT).unwrap_err();
    }

    #[test]
    fn a_candidate_that_shows_what_is_not_synced_is_found() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.writes_hard(1, 2, 2, Some(1)).unwrap();
        trial.synced(1, 2).unwrap();
        trial.says(1, 2, 2, vote(1, 1)).unwrap();
        trial.writes(1, 3, &[(2, 1)]).unwrap();
        trial.says(1, 2, 2, vote(2, 1)).unwrap_err();
    }

    #[test]
    fn a_leader_whose_own_vote_is_not_synced_is_found() {
        let mut trial = Trial::<PromisesWaitForTheDisk>::default();
        trial.writes_hard(1, 1, 2, Some(1)).unwrap();
        trial.leads(1, 2).unwrap_err();
        trial.synced(1, 1).unwrap();
        trial.leads(1, 2).unwrap();
    }
}
