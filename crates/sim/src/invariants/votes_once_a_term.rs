//! A member votes for one candidate in a term, in all its lives (§5.2).

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::{Body, NodeRef, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// Each member's latest vote in each group. The member that asks votes for itself.
#[derive(Default)]
pub(super) struct VotesOnceATerm(BTreeMap<(NodeRef, GroupId), (Term, NodeRef)>);

impl Promise for VotesOnceATerm {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        let Observation::Does {
            effect: Effect::Send { to, messages, .. },
        } = seen.what
        else {
            return Ok(());
        };
        for one in messages {
            let choice = match one.message.body {
                Body::Vote { .. } => seen.member,
                Body::VoteReply { granted: true } => *to,
                _ => continue,
            };
            let (group, term) = (one.group, one.message.term);
            let vote = self.0.entry((seen.member, group)).or_insert((term, choice));
            if vote.0 == term && vote.1 != choice {
                let other = vote.1;
                return Err(format!(
                    "votes for member {choice} in term {term} of group {group}, and voted for member {other}"
                ));
            }
            if vote.0 < term {
                *vote = (term, choice);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial, VOTE};

    #[test]
    fn a_second_grant_in_a_term_is_found() {
        let mut trial = Trial::<VotesOnceATerm>::default();
        trial.says(1, 2, 3, GRANT).unwrap();
        trial.says(1, 2, 3, GRANT).unwrap();
        trial.dies(1).unwrap();
        trial.says(1, 3, 4, GRANT).unwrap();
        trial.says(1, 2, 4, GRANT).unwrap_err();
    }

    #[test]
    fn a_candidate_that_grants_another_is_found() {
        let mut trial = Trial::<VotesOnceATerm>::default();
        trial.says(1, 2, 3, VOTE).unwrap();
        trial.says(1, 3, 3, VOTE).unwrap();
        trial.says(1, 2, 3, GRANT).unwrap_err();
    }
}
