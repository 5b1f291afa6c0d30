//! A leader that tells where a topic ends has heard of a quorum since it was asked: another may lead by
//! now, and have acknowledged more.

use std::collections::BTreeMap;

use kontiki_broker::{Effect, Input, Ticket};
use kontiki_raft::{Body, NodeId, NodeRef, Term};
use kontiki_wire::{GroupId, Request, Response, TopicInfo};

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::is_quorum};

/// What each member has said to its followers, and been asked by readers.
#[derive(Default)]
pub(super) struct ReadsAreConfirmed(BTreeMap<NodeId, Asked>);

#[derive(Default)]
struct Asked {
    name: Option<String>,
    /// Beats of the groups that it leads.
    beats: BTreeMap<GroupId, Beats>,
    /// Questions, and each group's last beat when it was asked.
    open: BTreeMap<Ticket, BTreeMap<GroupId, (Term, u64)>>,
}

#[derive(Default)]
struct Beats {
    term: Term,
    last: u64,
    /// Each follower's last answer: the term and the beat.
    answered: BTreeMap<NodeId, (Term, u64)>,
}

impl Promise for ReadsAreConfirmed {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let asked = self.0.entry(seen.member.id).or_default();
        match seen.what {
            Observation::Started { .. } => *asked = Asked::default(),
            Observation::Took {
                input:
                    Input::Request {
                        ticket,
                        request: Request::Topic { .. },
                    },
            } => {
                let beats = asked.beats.iter();
                let beats = beats.map(|(group, beats)| (*group, (beats.term, beats.last)));
                asked.open.insert(*ticket, beats.collect());
            }
            Observation::Took {
                input: Input::Peer { from, messages },
            } => {
                for one in messages {
                    let beats = asked.beats.get_mut(&one.group);
                    if let Body::BeatReply { beat } | Body::Resting { beat } = one.message.body
                        && let Some(beats) = beats.filter(|it| it.term == one.message.term)
                    {
                        let answered = beats.answered.entry(from.id).or_default();
                        *answered = (beats.term, beat).max(*answered);
                    }
                }
            }
            Observation::Does {
                effect: Effect::Members(members),
            } => {
                let me = members.find(seen.member.id.0);
                asked.name = me.map(|me| me.name.clone());
            }
            Observation::Does {
                effect: Effect::Send { messages, .. },
            } => {
                for one in messages {
                    if let Body::Beat { beat, .. } | Body::Rest { beat, .. } = one.message.body {
                        let beats = asked.beats.entry(one.group).or_default();
                        // What was confirmed in an earlier term stays so.
                        if beats.term < one.message.term {
                            (beats.term, beats.last) = (one.message.term, 0);
                        }
                        beats.last = beat.max(beats.last);
                    }
                }
            }
            Observation::Does {
                effect: Effect::Respond { ticket, response },
            } => {
                let when = asked.open.remove(ticket);
                if let (Some(when), Response::Topic(topic)) = (when, response) {
                    return asked.told(seen.member, &when, topic, before);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Asked {
    /// Of a topic that it leads by its own word it tells where that ends.
    fn told(
        &self,
        me: NodeRef,
        when: &BTreeMap<GroupId, (Term, u64)>,
        topic: &TopicInfo,
        before: &Ledger,
    ) -> Result<(), String> {
        let group = topic.group;
        let leads = topic.leader.is_some() && topic.leader == self.name;
        let applied = before.replica(me, group).map(|one| one.applied);
        let counted = before.counted(me, group, applied.unwrap_or_default());
        let Some((_, config)) = counted.last().filter(|_| leads) else {
            return Ok(());
        };
        let beats = self.beats.get(&group);
        let asked_at = when.get(&group).copied().unwrap_or_default();
        let heard = |voter| {
            let answered = beats.and_then(|beats| beats.answered.get(&voter));
            voter == me.id || answered.is_some_and(|answered| *answered > asked_at)
        };
        if counted.iter().any(|(_, config)| is_quorum(config, heard)) {
            return Ok(());
        }
        let voters = config.voters.union(&config.outgoing);
        let count = voters.clone().filter(|voter| heard(voter.id)).count();
        Err(format!(
            "tells where group {group} ends, and of {} voters {count} have followed it since it was asked, itself among them",
            voters.count()
        ))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_broker::Members;
    use kontiki_raft::Index;
    use kontiki_wire::{Member, Offset, TopicSettings};

    use super::*;
    use crate::invariants::trial::Trial;

    const ASKED: Ticket = Ticket(1);

    fn beat(beat: u64) -> Body {
        let commit = Index(0);
        Body::Beat { beat, commit }
    }

    /// A leader of term 1 whose first beat was answered.
    fn leader() -> Trial<ReadsAreConfirmed> {
        let mut trial = Trial::default();
        trial.keeps(1, &[1, 2, 3]).unwrap();
        let me = Member {
            id: 1,
            incarnation: 1,
            name: "n1".to_owned(),
            address: String::new(),
            peer_address: String::new(),
            ..Member::default()
        };
        let members = Members {
            list: vec![me],
            next: 2,
            version: 1,
        };
        trial.does(1, &Effect::Members(members)).unwrap();
        trial.says(1, 2, 1, beat(1)).unwrap();
        trial.hears(1, 2, 1, Body::BeatReply { beat: 1 }).unwrap();
        trial
    }

    fn asks(trial: &mut Trial<ReadsAreConfirmed>) {
        let name = "t".parse().unwrap();
        let input = Input::Request {
            ticket: ASKED,
            request: Request::Topic { name },
        };
        trial.takes(1, &input).unwrap();
    }

    fn tells(trial: &mut Trial<ReadsAreConfirmed>, leader: &str) -> Result<(), String> {
        let topic = TopicInfo {
            name: "t".parse().unwrap(),
            group: GroupId(1),
            settings: TopicSettings { replicas: 3 },
            replicas: Vec::new(),
            leader: Some(leader.to_owned()),
            first: Offset(0),
            next: Offset(7),
            epoch: 0,
        };
        let effect = Effect::Respond {
            ticket: ASKED,
            response: Response::Topic(topic),
        };
        trial.does(1, &effect)
    }

    #[test]
    fn an_answer_that_nobody_confirmed_since_it_was_asked_for_is_found() {
        let mut trial = leader();
        asks(&mut trial);
        tells(&mut trial, "n1").unwrap_err();
    }

    #[test]
    fn a_later_beat_that_a_quorum_answers_confirms_it() {
        let mut trial = leader();
        asks(&mut trial);
        trial.says(1, 2, 1, beat(2)).unwrap();
        trial.hears(1, 2, 1, Body::BeatReply { beat: 2 }).unwrap();
        tells(&mut trial, "n1").unwrap();
    }

    #[test]
    fn what_was_confirmed_may_be_told_after_another_election() {
        let mut trial = leader();
        asks(&mut trial);
        trial.says(1, 2, 1, beat(2)).unwrap();
        trial.hears(1, 2, 1, Body::BeatReply { beat: 2 }).unwrap();
        trial.says(1, 2, 3, beat(1)).unwrap();
        tells(&mut trial, "n1").unwrap();
    }

    #[test]
    fn who_does_not_lead_confirms_nothing() {
        let mut trial = leader();
        asks(&mut trial);
        tells(&mut trial, "n2").unwrap();
    }
}
