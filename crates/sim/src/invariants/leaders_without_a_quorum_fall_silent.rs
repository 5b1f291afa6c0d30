//! A leader that has not heard of a quorum for long neither beats nor sends appends: whoever follows it
//! is free to elect another.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_broker::{Effect, Input};
use kontiki_raft::{Body, Micros, NodeId, Role};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::is_quorum};

/// Longer than any election timeout that is configured, several times.
const LONG: Micros = Micros(5_000_000);
/// A member that does nothing for so long stands still, and is told what happened when it wakes.
const ASLEEP: Micros = Micros(200_000);

/// When whom was heard by whom.
#[derive(Default)]
pub(super) struct LeadersWithoutAQuorumFallSilent(BTreeMap<NodeId, Ear>);

#[derive(Default)]
struct Ear {
    awake_since: Micros,
    awake_at: Micros,
    heard: BTreeMap<GroupId, BTreeMap<NodeId, Micros>>,
    /// Who said last that it rests: its member's beats are its own from then on.
    resting: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// The last beat of this member that each has answered.
    answered: BTreeMap<NodeId, Option<(u64, u64)>>,
    led_since: BTreeMap<GroupId, Micros>,
}

impl Promise for LeadersWithoutAQuorumFallSilent {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let ear = self.0.entry(seen.member.id).or_default();
        if seen.at.since(ear.awake_at) > ASLEEP {
            ear.awake_since = seen.at;
        }
        ear.awake_at = seen.at;
        match seen.what {
            Observation::Started { .. } => *ear = Ear::default(),
            Observation::Took {
                input: Input::Peer { from, messages },
            } => {
                for one in messages {
                    let heard = ear.heard.entry(one.group).or_default();
                    heard.insert(from.id, seen.at);
                    let resting = ear.resting.entry(one.group).or_default();
                    match one.message.body {
                        Body::Resting { .. } => resting.insert(from.id),
                        _ => resting.remove(&from.id),
                    };
                }
            }
            Observation::Took {
                input: Input::Beat { from, beat },
            } if ear.answered.insert(from.id, beat.heard) != Some(beat.heard) => {
                let resting = ear.resting.iter();
                for (group, _) in resting.filter(|(_, resting)| resting.contains(&from.id)) {
                    let heard = ear.heard.entry(*group).or_default();
                    heard.insert(from.id, seen.at);
                }
            }
            Observation::Does {
                effect:
                    Effect::RoleChanged {
                        group,
                        role: Role::Leader,
                        ..
                    },
            } => {
                ear.led_since.insert(*group, seen.at);
            }
            Observation::Does {
                effect: Effect::Send { messages, .. },
            } => {
                for one in messages {
                    if leads(&one.message.body) {
                        ear.speaks(seen, one.group, before)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether only a leader says it.
fn leads(body: &Body) -> bool {
    matches!(
        body,
        Body::Beat { .. } | Body::Rest { .. } | Body::Append { .. }
    )
}

impl Ear {
    fn speaks(&self, seen: Sighting<'_>, group: GroupId, before: &Ledger) -> Result<(), String> {
        let applied = before.replica(seen.member, group).map(|one| one.applied);
        let counted = before.counted(seen.member, group, applied.unwrap_or_default());
        let Some((_, config)) = counted.last() else {
            return Ok(());
        };
        let led_since = self.led_since.get(&group).copied().unwrap_or(seen.at);
        let excused = self.awake_since.max(led_since);
        if seen.at.since(excused) <= LONG {
            return Ok(());
        }
        let heard = self.heard.get(&group);
        let lately = |voter| {
            let at = heard.and_then(|heard| heard.get(&voter));
            voter == seen.member.id || at.is_some_and(|at| seen.at.since(*at) <= LONG)
        };
        if counted.iter().any(|(_, config)| is_quorum(config, lately)) {
            return Ok(());
        }
        let voters = config.voters.union(&config.outgoing);
        let count = voters.clone().filter(|voter| lately(voter.id)).count();
        Err(format!(
            "still leads group {group}, having heard of {count} of {} voters for {} s",
            voters.count(),
            LONG.0 / 1_000_000
        ))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::MemberBeat;

    use super::*;
    use crate::invariants::trial::{Trial, node};

    const BEAT: Body = Body::Beat {
        beat: 1,
        commit: kontiki_raft::Index(0),
    };
    const REPLY: Body = Body::BeatReply { beat: 1 };

    fn beats(
        trial: &mut Trial<LeadersWithoutAQuorumFallSilent>,
        from: u64,
        to: u64,
    ) -> Option<u64> {
        (from..to).find(|at| {
            trial.at = at * 100_000;
            trial.says(1, 2, 1, BEAT).is_err()
        })
    }

    fn leader() -> Trial<LeadersWithoutAQuorumFallSilent> {
        let mut trial = Trial::<LeadersWithoutAQuorumFallSilent>::default();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        trial.leads(1, 1).unwrap();
        trial
    }

    #[test]
    fn a_leader_that_beats_unheard_is_found() {
        let mut trial = leader();
        trial.hears(1, 2, 1, REPLY).unwrap();
        assert_eq!(beats(&mut trial, 0, 100), Some(51));
    }

    #[test]
    fn one_of_two_others_is_enough() {
        let mut trial = leader();
        for second in 0..10 {
            assert_eq!(beats(&mut trial, second * 10, second * 10 + 10), None);
            trial.hears(1, 3, 1, REPLY).unwrap();
        }
    }

    #[test]
    fn answers_to_members_beats_count_where_their_groups_rest_alone() {
        let beaten = |said: Body, answers: bool| {
            let mut trial = leader();
            trial.hears(1, 2, 1, said).unwrap();
            (0..10).find_map(|second| {
                let beat = MemberBeat {
                    heard: answers.then_some((1, second)),
                    ..MemberBeat::default()
                };
                let from = node(2);
                trial.takes(1, &Input::Beat { from, beat }).unwrap();
                beats(&mut trial, second * 10, second * 10 + 10)
            })
        };
        assert_eq!(beaten(Body::Resting { beat: 1 }, true), None);
        assert!(beaten(Body::Resting { beat: 1 }, false).is_some());
        assert_eq!(beaten(REPLY, true), Some(51));
    }

    #[test]
    fn one_that_stood_still_has_time_to_find_out() {
        let mut trial = leader();
        assert_eq!(beats(&mut trial, 0, 40), None);
        assert_eq!(beats(&mut trial, 90, 130), None);
    }
}
