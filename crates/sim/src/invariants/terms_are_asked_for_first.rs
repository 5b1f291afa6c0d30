//! Nobody begins a new term without a word from another member that it would have its vote, or that it
//! is to take over: one that is cut off must not come back with a term that ends everybody's.

use std::collections::BTreeSet;

use kontiki_broker::{Effect, Input};
use kontiki_raft::{Body, NodeRef, Role};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::is_quorum};

/// Who has had such a word since it began its last term.
#[derive(Default)]
pub(super) struct TermsAreAskedForFirst(BTreeSet<(NodeRef, GroupId)>);

impl Promise for TermsAreAskedForFirst {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        match seen.what {
            Observation::Took {
                input: Input::Peer { messages, .. },
            } => {
                let welcome = messages.iter().filter(|said| {
                    matches!(
                        said.message.body,
                        Body::PreVoteReply { granted: true, .. } | Body::TimeoutNow { .. }
                    )
                });
                self.0.extend(welcome.map(|said| (seen.member, said.group)));
            }
            Observation::Does {
                effect:
                    Effect::RoleChanged {
                        group,
                        term,
                        role: Role::Candidate,
                        ..
                    },
            } => {
                let welcome = self.0.remove(&(seen.member, *group));
                let others = before
                    .latest(seen.member, *group)
                    .is_some_and(|(_, config)| !is_quorum(config, |voter| voter == seen.member.id));
                if others && !welcome {
                    return Err(format!(
                        "begins term {term} of group {group}, and nobody has said that it would have a vote"
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
    use kontiki_raft::{Message, Term};
    use kontiki_wire::GroupMessage;

    use super::*;
    use crate::invariants::trial::Trial;

    fn trial() -> Trial<TermsAreAskedForFirst> {
        let mut trial = Trial::default();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        trial
    }

    fn campaigns(trial: &mut Trial<TermsAreAskedForFirst>) -> Result<(), String> {
        let effect = Effect::RoleChanged {
            group: GroupId(1),
            term: Term(2),
            role: Role::Candidate,
            why: "",
        };
        trial.does(1, &effect)
    }

    #[test]
    fn a_term_that_nobody_was_asked_about_is_found() {
        campaigns(&mut trial()).unwrap_err();
    }

    #[test]
    fn one_word_is_good_for_one_term() {
        let mut trial = trial();
        let message = Message {
            term: Term(1),
            body: Body::PreVoteReply {
                round: 1,
                granted: true,
            },
        };
        let group = GroupId(1);
        let input = Input::Peer {
            from: NodeRef::default(),
            messages: vec![GroupMessage { group, message }],
        };
        trial.takes(1, &input).unwrap();
        campaigns(&mut trial).unwrap();
        campaigns(&mut trial).unwrap_err();
    }
}
