//! A member's term in a group never goes back, in all its lives: not what it writes, not what it says.

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::{Body, NodeRef, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The greatest term that each member wrote, and the greatest that it promised something in.
#[derive(Default)]
pub(super) struct TermsNeverGoBack(BTreeMap<(NodeRef, GroupId), Reached>);

#[derive(Clone, Copy, Default)]
struct Reached {
    written: Term,
    promised: Term,
}

impl Promise for TermsNeverGoBack {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        if matches!(seen.what, Observation::Harmed) {
            // What it forgets, it says: it counts for nothing until it has heard of a later term.
            for (_, reached) in self.0.range_mut(lives(seen.member)) {
                *reached = Reached::default();
            }
        }
        let Observation::Does { effect } = seen.what else {
            if matches!(seen.what, Observation::Died | Observation::Started { .. }) {
                // What was written and not synced may be gone, and was promised to nobody.
                for (_, reached) in self.0.range_mut(lives(seen.member)) {
                    reached.written = reached.promised;
                }
            }
            return Ok(());
        };
        match effect {
            Effect::Persist(writes) => {
                for one in &writes.writes {
                    let Some(hard) = one.persist.hard else {
                        continue;
                    };
                    let reached = self.0.entry((seen.member, one.group)).or_default();
                    behind("writes", one.group, hard.term, reached.written)?;
                    reached.written = hard.term;
                }
            }
            Effect::Send { messages, .. } => {
                for one in messages {
                    let term = one.message.term;
                    // A pre-vote speaks of a term that may never come.
                    if matches!(one.message.body, Body::PreVote { .. }) {
                        continue;
                    }
                    let reached = self.0.entry((seen.member, one.group)).or_default();
                    behind("speaks in", one.group, term, reached.promised)?;
                    if promises(&one.message.body) {
                        reached.promised = term;
                    }
                }
            }
            // What it drops it forgets: if it is given the group again, it says so.
            Effect::TopicRemoved(group) => {
                self.0.remove(&(seen.member, *group));
            }
            _ => {}
        }
        Ok(())
    }
}

fn lives(member: NodeRef) -> std::ops::RangeInclusive<(NodeRef, GroupId)> {
    (member, GroupId(0))..=(member, GroupId(u64::MAX))
}

fn behind(does: &str, group: GroupId, term: Term, reached: Term) -> Result<(), String> {
    if term >= reached {
        return Ok(());
    }
    Err(format!(
        "{does} term {term} of group {group}, after term {reached}"
    ))
}

/// Whether a message says that its term is durable.
fn promises(body: &Body) -> bool {
    matches!(
        body,
        Body::Vote { .. } | Body::VoteReply { granted: true } | Body::Appended { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial, appended};

    #[test]
    fn a_member_that_writes_an_earlier_term_is_found() {
        let mut trial = Trial::<TermsNeverGoBack>::default();
        trial.writes_hard(1, 1, 3, None).unwrap();
        trial.writes_hard(1, 2, 3, Some(2)).unwrap();
        trial.writes_hard(1, 3, 2, None).unwrap_err();
    }

    #[test]
    fn a_member_that_forgot_a_term_it_acknowledged_in_is_found() {
        let mut trial = Trial::<TermsNeverGoBack>::default();
        trial.says(1, 2, 5, appended(7)).unwrap();
        trial.dies(1).unwrap();
        trial.says(1, 2, 4, GRANT).unwrap_err();
    }

    #[test]
    fn what_was_dropped_may_begin_anew() {
        let mut trial = Trial::<TermsNeverGoBack>::default();
        trial.writes_hard(1, 1, 3, None).unwrap();
        trial.does(1, &Effect::TopicRemoved(GroupId(1))).unwrap();
        trial.writes_hard(1, 1, 0, None).unwrap();
    }

    #[test]
    fn an_unsynced_term_may_be_forgotten() {
        let mut trial = Trial::<TermsNeverGoBack>::default();
        trial.writes_hard(1, 1, 9, None).unwrap();
        trial.dies(1).unwrap();
        trial.writes_hard(1, 1, 5, None).unwrap();
    }
}
