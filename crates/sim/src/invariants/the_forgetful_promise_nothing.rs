//! A member that may have forgotten what it promised gives no vote, does not campaign, does not lead and
//! keeps nobody leading, until its way home is over and that is on its disk.

use kontiki_broker::Effect;
use kontiki_raft::{Body, Role};

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// Looks at what members say and become.
#[derive(Default)]
pub(super) struct TheForgetfulPromiseNothing;

impl Promise for TheForgetfulPromiseNothing {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let Observation::Does { effect } = seen.what else {
            return Ok(());
        };
        let recovers = |group| {
            let replica = before.replica(seen.member, group);
            replica.is_some_and(|replica| replica.recovering)
        };
        match effect {
            Effect::Send { messages, .. } => {
                for one in messages {
                    if promises(&one.message.body) && recovers(one.group) {
                        let (group, body) = (one.group, &one.message.body);
                        return Err(format!("says {body:?} in group {group}, and is recovering"));
                    }
                }
                Ok(())
            }
            Effect::RoleChanged { group, role, .. }
                if !matches!(role, Role::Follower { .. }) && recovers(*group) =>
            {
                Err(format!("is {role:?} in group {group}, and is recovering"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a message may help somebody to lead, or to go on leading.
fn promises(body: &Body) -> bool {
    matches!(
        body,
        Body::PreVote { .. }
            | Body::PreVoteReply { granted: true, .. }
            | Body::Vote { .. }
            | Body::VoteReply { granted: true }
            | Body::BeatReply { .. }
            | Body::Resting { .. }
            | Body::Appended { counts: true, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::{GRANT, Trial};

    #[test]
    fn a_grant_of_one_that_forgot_is_found() {
        let mut trial = Trial::<TheForgetfulPromiseNothing>::default();
        trial.says(1, 2, 1, GRANT).unwrap();
        trial.starts_forgetful(1).unwrap();
        trial.says(1, 2, 1, GRANT).unwrap_err();
    }

    #[test]
    fn it_may_promise_again_when_its_disk_says_that_it_is_whole() {
        let mut trial = Trial::<TheForgetfulPromiseNothing>::default();
        trial.starts_forgetful(1).unwrap();
        trial.writes_hard(1, 1, 3, Some(2)).unwrap();
        trial.says(1, 2, 3, GRANT).unwrap_err();
        trial.synced(1, 1).unwrap();
        trial.says(1, 2, 3, GRANT).unwrap();
    }

    #[test]
    fn one_that_forgot_and_leads_is_found() {
        let mut trial = Trial::<TheForgetfulPromiseNothing>::default();
        trial.starts_forgetful(1).unwrap();
        trial.leads(1, 3).unwrap_err();
    }
}
