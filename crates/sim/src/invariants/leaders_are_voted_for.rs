//! Whoever leads has been given the votes of a majority in that very term: a vote is for one term, however
//! late it comes.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_broker::{Effect, Input};
use kontiki_raft::{Body, NodeId, Role, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::is_quorum};

/// The votes that each member was given in the latest term of which any came.
#[derive(Default)]
pub(super) struct LeadersAreVotedFor(BTreeMap<(NodeId, GroupId), (Term, BTreeSet<NodeId>)>);

impl Promise for LeadersAreVotedFor {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let me = seen.member.id;
        match seen.what {
            Observation::Started { .. } => self.0.retain(|(member, _), _| *member != me),
            Observation::Took {
                input: Input::Peer { from, messages },
            } => {
                let grants = messages
                    .iter()
                    .filter(|one| matches!(one.message.body, Body::VoteReply { granted: true }));
                for one in grants {
                    let votes = self.0.entry((me, one.group)).or_default();
                    if one.message.term > votes.0 {
                        *votes = (one.message.term, BTreeSet::new());
                    }
                    if one.message.term == votes.0 {
                        votes.1.insert(from.id);
                    }
                }
            }
            Observation::Does {
                effect:
                    Effect::RoleChanged {
                        group,
                        term,
                        role: Role::Leader,
                        ..
                    },
            } => {
                let Some((at, config)) = before.latest(seen.member, *group) else {
                    return Ok(());
                };
                let votes = self.0.get(&(me, *group));
                let votes = votes.filter(|(of, _)| of == term).map(|(_, votes)| votes);
                let voted =
                    |voter| voter == me || votes.is_some_and(|votes| votes.contains(&voter));
                if !is_quorum(config, voted) {
                    let voters = config.voters.union(&config.outgoing);
                    let count = voters.clone().filter(|voter| voted(voter.id)).count();
                    return Err(format!(
                        "leads term {term} of group {group} with the votes of {count} of {} voters since {at}, its own among them",
                        voters.count()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial};

    fn trial() -> Trial<LeadersAreVotedFor> {
        let mut trial = Trial::default();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        trial
    }

    #[test]
    fn a_vote_of_an_earlier_term_does_not_count() {
        let mut trial = trial();
        trial.hears(1, 2, 3, GRANT).unwrap();
        trial.leads(1, 3).unwrap();
        trial.leads(1, 4).unwrap_err();
    }

    #[test]
    fn a_vote_given_twice_counts_once() {
        let mut trial = Trial::<LeadersAreVotedFor>::default();
        trial.keeps(1, &[1, 2, 3, 4, 5]).unwrap();
        trial.hears(1, 2, 3, GRANT).unwrap();
        trial.hears(1, 2, 3, GRANT).unwrap();
        trial.leads(1, 3).unwrap_err();
        trial.hears(1, 5, 3, GRANT).unwrap();
        trial.leads(1, 3).unwrap();
    }

    #[test]
    fn votes_given_before_a_restart_are_gone() {
        let mut trial = trial();
        trial.hears(1, 2, 3, GRANT).unwrap();
        trial.starts(1, 0, &[]).unwrap();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        trial.leads(1, 3).unwrap_err();
    }
}
