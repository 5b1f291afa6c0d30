//! Nobody votes for a member whose log lacks what its own one may have that is committed: of two logs the
//! newer is the one whose last term is later, and only among equal ones the longer.

use std::collections::BTreeMap;

use kontiki_broker::{Effect, Input};
use kontiki_raft::{Body, LogId, NodeId, NodeRef, Term};
use kontiki_wire::{GroupId, GroupMessage};

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// What each member was told of its term.
#[derive(Default)]
pub(super) struct VotesGoToLogsAsNew(BTreeMap<(NodeId, GroupId), Heard>);

#[derive(Default)]
struct Heard {
    term: Term,
    /// With which logs votes were asked for.
    shown: BTreeMap<NodeRef, LogId>,
    /// Who leads, if anybody does by now: what its log has grown by since is another matter.
    is_led: bool,
}

impl Promise for VotesGoToLogsAsNew {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        match seen.what {
            Observation::Took {
                input: Input::Peer { from, messages },
            } => {
                for one in messages {
                    self.hear(seen.member, *from, one);
                }
                Ok(())
            }
            Observation::Does {
                effect: Effect::Send { to, messages, .. },
            } => {
                let grants = messages
                    .iter()
                    .filter(|one| matches!(one.message.body, Body::VoteReply { granted: true }));
                for one in grants {
                    self.grant(seen.member, *to, one, before)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl VotesGoToLogsAsNew {
    fn hear(&mut self, member: NodeRef, from: NodeRef, said: &GroupMessage) {
        let body = &said.message.body;
        let leads = matches!(
            body,
            Body::Append { .. } | Body::Beat { .. } | Body::Rest { .. }
        );
        if !leads && !matches!(body, Body::Vote { .. }) {
            return;
        }
        let heard = self.0.entry((member.id, said.group)).or_default();
        if said.message.term > heard.term {
            *heard = Heard {
                term: said.message.term,
                ..Heard::default()
            };
        }
        if said.message.term < heard.term {
            return;
        }
        heard.is_led |= leads;
        if let Body::Vote { last, .. } = body {
            heard.shown.insert(from, *last);
        }
    }

    fn grant(
        &self,
        member: NodeRef,
        to: NodeRef,
        said: &GroupMessage,
        before: &Ledger,
    ) -> Result<(), String> {
        let (group, term) = (said.group, said.message.term);
        let heard = self.0.get(&(member.id, group));
        let Some(heard) = heard.filter(|heard| heard.term == term && !heard.is_led) else {
            return Ok(());
        };
        let replica = before.replica(member, group);
        let own = replica.and_then(|replica| replica.id(replica.last()));
        match (heard.shown.get(&to), own) {
            (Some(shown), Some(own)) if *shown < own => Err(format!(
                "votes in term {term} of group {group} for member {to}, whose log ends at {shown}, and its own ends at {own}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial, vote};

    /// Whose log ends at index 3 of term 2.
    fn voter() -> Trial<VotesGoToLogsAsNew> {
        let mut trial = Trial::default();
        trial.writes(1, 1, &[(1, 1), (2, 2), (3, 2)]).unwrap();
        trial
    }

    #[test]
    fn a_vote_for_a_longer_log_of_an_earlier_term_is_found() {
        let mut trial = voter();
        trial.hears(1, 2, 5, vote(9, 1)).unwrap();
        trial.says(1, 2, 5, GRANT).unwrap_err();
    }

    #[test]
    fn a_vote_for_a_shorter_log_of_the_same_term_is_found() {
        let mut trial = voter();
        trial.hears(1, 2, 5, vote(2, 2)).unwrap();
        trial.says(1, 2, 5, GRANT).unwrap_err();
    }

    #[test]
    fn a_shorter_log_of_a_later_term_may_have_the_vote() {
        let mut trial = voter();
        trial.hears(1, 2, 5, vote(2, 3)).unwrap();
        trial.says(1, 2, 5, GRANT).unwrap();
    }

    #[test]
    fn what_a_leader_of_the_same_term_brought_since_is_not_counted() {
        let mut trial = voter();
        trial.hears(1, 2, 5, vote(3, 2)).unwrap();
        let beat = Body::Beat {
            beat: 1,
            commit: kontiki_raft::Index(0),
        };
        trial.hears(1, 3, 5, beat).unwrap();
        trial.writes(1, 2, &[(4, 5)]).unwrap();
        trial.says(1, 2, 5, GRANT).unwrap();
    }
}
