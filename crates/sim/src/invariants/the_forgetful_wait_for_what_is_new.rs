//! A member that may have forgotten what it promised counts again only when it holds a committed entry
//! that nobody had when it began to recover: what it has forgotten was promised before that one.

use std::collections::BTreeMap;

use kontiki_broker::Effect;
use kontiki_raft::{LogId, NodeId};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// The newest entry that there was when each began to recover.
#[derive(Default)]
pub(super) struct TheForgetfulWaitForWhatIsNew(BTreeMap<(NodeId, GroupId), LogId>);

impl Promise for TheForgetfulWaitForWhatIsNew {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let me = seen.member.id;
        match seen.what {
            Observation::Started { groups } => {
                self.0.retain(|(member, _), _| *member != me);
                let forgot = groups
                    .iter()
                    .filter(|found| found.boot.forgot || found.boot.hard.recovering);
                let newest = forgot.map(|found| ((me, found.group), before.newest(found.group)));
                self.0.extend(newest);
                Ok(())
            }
            Observation::Does {
                effect: Effect::Persist(writes),
            } => {
                for one in &writes.writes {
                    let comes_home = one.persist.hard.is_some_and(|hard| !hard.recovering);
                    let Some(newest) = self.0.get(&(me, one.group)).copied().filter(|_| comes_home)
                    else {
                        continue;
                    };
                    self.0.remove(&(me, one.group));
                    let replica = before.replica(seen.member, one.group);
                    // Of one whose log was not whole when it started too little is known.
                    let replica = replica.filter(|replica| !replica.harmed);
                    let Some(replica) = replica else { continue };
                    let has = replica.id(replica.applied);
                    if has.is_none_or(|has| has <= newest) {
                        let group = one.group;
                        return Err(format!(
                            "is done with recovering in group {group}, where it has applied {has:?}, and there was {newest} already when it began"
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    /// One that begins to recover when there are two entries.
    fn recovering() -> Trial<TheForgetfulWaitForWhatIsNew> {
        let mut trial = Trial::default();
        trial.writes(2, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.starts_forgetful(1).unwrap();
        trial
    }

    #[test]
    fn one_that_has_nothing_new_is_found() {
        let mut trial = recovering();
        trial.writes(1, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.applies(1, &[1, 2]).unwrap();
        trial.writes_hard(1, 2, 1, None).unwrap_err();
    }

    #[test]
    fn one_that_has_not_applied_what_is_new_is_found() {
        let mut trial = recovering();
        trial.writes(1, 1, &[(1, 1), (2, 1), (3, 1)]).unwrap();
        trial.applies(1, &[1, 2]).unwrap();
        trial.writes_hard(1, 2, 1, None).unwrap_err();
    }

    #[test]
    fn with_a_new_entry_it_may_count_again() {
        let mut trial = recovering();
        trial.writes(1, 1, &[(1, 1), (2, 1), (3, 1)]).unwrap();
        trial.applies(1, &[1, 2, 3]).unwrap();
        trial.writes_hard(1, 2, 1, None).unwrap();
    }
}
