//! Who may get a topic: members that are to keep topics, that have the cluster's own log, so that they
//! know what they are given, and, rather than others, those that answer. And whose copies would be missed.

use std::borrow::Cow;

use kontiki_raft::{Micros, Status};
use kontiki_wire::{GroupId, Topic};

use crate::broker::Broker;

/// Members by how fit they are to keep topics, as the leader of the cluster's own group sees them. Each list
/// ascends, and each of the first three is part of the one before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Homes {
    /// Who is to keep topics.
    pub(crate) standing: Vec<u64>,
    /// Who has the cluster's own log, or had it: whoever was admitted and has never run has nothing.
    pub(crate) ready: Vec<u64>,
    /// Who has answered lately.
    pub(crate) answering: Vec<u64>,
    /// Who has not for long, whatever it has; part of those who are to keep topics.
    pub(crate) late: Vec<u64>,
}

impl Homes {
    /// Among whom a topic that is made now is to be placed: those who answer, and only if they are too few
    /// some of the others.
    pub(crate) fn for_newborn(&self, replicas: usize) -> Vec<u64> {
        let silent = self.ready.iter();
        let silent = silent.filter(|id| !self.answering.contains(id));
        let lack = replicas.saturating_sub(self.answering.len());
        let answering = self.answering.iter();
        answering.chain(silent.take(lack)).copied().collect()
    }

    /// The same for one topic: whoever gets nowhere with it is as good as silent to all, and whoever got nowhere
    /// lately comes last.
    pub(crate) fn for_topic(&self, topic: &Topic, shunned: &[u64]) -> Cow<'_, Self> {
        if topic.stuck.is_empty() && shunned.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut homes = self.clone();
        let keeps = |id: &u64| topic.replicas.contains(id);
        homes
            .answering
            .retain(|id| !topic.stuck.contains(id) && (keeps(id) || !shunned.contains(id)));
        homes.ready.retain(|id| !topic.stuck.contains(id));
        homes.late.extend(&topic.stuck);
        homes.late.sort_unstable();
        homes.late.dedup();
        Cow::Owned(homes)
    }

    /// By how many others a topic could be kept without this member, and how many are to keep it as it is: not more
    /// than it asks for. Who takes the place of that member is not one more, if it came later and answers; who was
    /// there before has a place of its own.
    pub(crate) fn copies(&self, topic: &Topic, leaver: u64, with: Option<u64>) -> (usize, usize) {
        let has_it = |id: &u64| topic.replicas.contains(id) && !topic.coming.contains(id);
        let others = self.standing.iter().filter(|id| **id != leaver);
        let left = others.filter(|id| has_it(id) || self.answering.contains(id));
        let heir = with.filter(|with| *with > leaver && self.answering.contains(with));
        let now = topic.replicas.iter().filter(|id| heir != Some(**id));
        let now = now.count().min(topic.settings.replicas.into());
        (left.count(), now)
    }

    /// Whether copies are lost with this member if it leaves for good: not those of one that has died, since as few
    /// others may fail with it as without, nor of one that is to keep none already.
    pub(crate) fn would_miss(&self, leaver: u64) -> bool {
        self.standing.contains(&leaver) && !self.late.contains(&leaver)
    }

    /// Whether somebody is to keep topics and cannot yet, or does not answer.
    pub(crate) fn lacks_somebody(&self) -> bool {
        self.answering != self.standing
    }

    /// Whether members have come, gone or caught up since: who has just paused for a moment has not.
    pub(crate) fn are_others_than(&self, before: &Self) -> bool {
        self.standing != before.standing || self.ready != before.ready || self.late != before.late
    }

    /// Who may get a topic, best first: who is to drop it and has it still, if it answers, then others who do,
    /// then those who were heard of not so long ago. Among those of one list the emptiest is to be chosen.
    pub(crate) fn for_moved(&self, topic: &Topic) -> [Vec<u64>; 3] {
        let has_it = |id: &&u64| topic.leaving.contains(id) && !topic.coming.contains(id);
        let is_late = |id: &&u64| self.late.contains(id);
        [
            self.answering.iter().filter(has_it).copied().collect(),
            self.answering.clone(),
            self.ready
                .iter()
                .filter(|id| !is_late(id))
                .copied()
                .collect(),
        ]
    }
}

impl Broker {
    /// Who may get a topic now; nobody, unless this node leads the cluster's own group.
    pub(crate) fn homes(&self, now: Micros) -> Homes {
        let own = self.groups.get(&GroupId::CLUSTER);
        let Some(own) = own.filter(|own| own.leads()) else {
            return Homes::default();
        };
        let status = own.status(now);
        let patience = self.settings.raft.election_timeout;
        let part = |of: &[u64], is: &dyn Fn(u64) -> bool| {
            let some = of.iter().copied().filter(|id| is(*id));
            some.collect::<Vec<_>>()
        };
        let standing = self.cluster.homes();
        let ready = part(&standing, &|id| is_ready(&status, id, patience));
        let answering = part(&ready, &|id| answers(&status, id, patience));
        let has_waited = now.since(own.led_since) >= LATE_AFTER;
        let late = part(&standing, &|id| {
            has_waited && !answers(&status, id, LATE_AFTER)
        });
        Homes {
            standing,
            ready,
            answering,
            late,
        }
    }
}

/// Whether a member counts in the cluster's own group, or could.
fn is_ready(status: &Status, id: u64, patience: Micros) -> bool {
    let mut voters = status.config.voters.iter();
    let caught_up = |status: &Status| {
        let mut peers = status.peers.iter();
        peers.any(|peer| peer.peer.id.0 == id && peer.caught_up)
    };
    voters.any(|voter| voter.id.0 == id) || (caught_up(status) && answers(status, id, patience))
}

/// Whether a member has answered within this time.
pub(crate) fn answers(status: &Status, id: u64, patience: Micros) -> bool {
    let mut peers = status.peers.iter();
    status.me.id.0 == id
        || peers.any(|peer| {
            let heard = peer.heard.is_some_and(|ago| ago <= patience);
            peer.peer.id.0 == id && heard
        })
}

/// Whoever has not answered for so long and has nothing of a topic yet is not waited for, if others can take
/// it: longer than a process takes to start again, and less than people wait who watch a member leave.
pub(crate) const LATE_AFTER: Micros = Micros(30_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_made_where_somebody_answers_as_far_as_there_are_such() {
        let homes = Homes {
            standing: vec![1, 2, 3, 4, 5],
            ready: vec![1, 2, 3, 4],
            answering: vec![2, 4],
            late: vec![5],
        };
        assert_eq!(homes.for_newborn(1), [2, 4]);
        assert_eq!(homes.for_newborn(2), [2, 4]);
        assert_eq!(homes.for_newborn(3), [2, 4, 1]);
        assert_eq!(homes.for_newborn(9), [2, 4, 1, 3]);
        assert!(homes.lacks_somebody());
        assert_eq!(Homes::default().for_newborn(3), []);
    }

    fn kept_by(replicas: &[u64], asked: u8) -> Topic {
        let settings = kontiki_wire::TopicSettings { replicas: asked };
        let name = "t".parse().unwrap();
        Topic {
            replicas: replicas.to_vec(),
            ..Topic::founded(name, GroupId(1), settings, Vec::new(), 1)
        }
    }

    fn all_of(members: &[u64]) -> Homes {
        Homes {
            standing: members.to_vec(),
            ready: members.to_vec(),
            answering: members.to_vec(),
            late: Vec::new(),
        }
    }

    #[test]
    fn copies_without_a_member_are_those_that_others_have_or_could_take_now() {
        let topic = kept_by(&[1, 2, 3], 3);
        assert_eq!(all_of(&[1, 2, 3]).copies(&topic, 3, None), (2, 3));
        assert_eq!(all_of(&[1, 2, 3, 4]).copies(&topic, 3, None), (3, 3));
        let fewer_asked = kept_by(&[1, 2, 3], 2);
        assert_eq!(all_of(&[1, 2, 3]).copies(&fewer_asked, 3, None), (2, 2));
        // Who has a copy counts while it is silent; who is silent takes none, and who drains has one no more.
        let silent = Homes {
            answering: vec![1, 3],
            ..all_of(&[1, 2, 3, 4])
        };
        assert_eq!(silent.copies(&topic, 3, None), (2, 3));
        let coming = Topic {
            coming: vec![2],
            ..topic.clone()
        };
        assert_eq!(silent.copies(&coming, 3, None), (1, 3));
        assert_eq!(all_of(&[1, 3, 4]).copies(&topic, 3, None), (2, 3));
    }

    #[test]
    fn who_takes_a_place_is_not_one_more_if_it_came_later_and_answers() {
        let topic = kept_by(&[1, 2, 3], 3);
        let three = all_of(&[1, 2, 3]);
        assert_eq!(three.copies(&topic, 2, Some(3)), (2, 2));
        assert_eq!(three.copies(&topic, 3, Some(2)), (2, 3), "it came before");
        let silent = Homes {
            answering: vec![1, 2],
            ..three
        };
        assert_eq!(silent.copies(&topic, 2, Some(3)), (2, 3));
        // It makes up for one, not for two.
        assert_eq!(all_of(&[1, 4]).copies(&topic, 3, Some(4)), (2, 3));
        assert_eq!(all_of(&[1, 2, 3, 4]).copies(&topic, 3, Some(4)), (3, 3));
        assert_eq!(
            all_of(&[1, 2]).copies(&kept_by(&[1], 3), 1, Some(2)),
            (1, 1)
        );
    }

    #[test]
    fn who_is_dead_or_keeps_nothing_any_more_is_not_missed() {
        let homes = Homes {
            answering: vec![1, 2],
            late: vec![4],
            ..all_of(&[1, 2, 3, 4])
        };
        assert!(homes.would_miss(1));
        assert!(homes.would_miss(3), "it may come back");
        assert!(!homes.would_miss(4), "it is dead");
        assert!(!homes.would_miss(5), "it drains, or leaves");
    }

    #[test]
    fn who_got_nowhere_with_a_topic_is_passed_over_for_that_topic_alone() {
        let homes = Homes {
            standing: vec![1, 2, 3, 4, 5],
            ready: vec![1, 2, 3, 4, 5],
            answering: vec![1, 2, 3, 4, 5],
            late: Vec::new(),
        };
        let name = "t".parse().unwrap();
        let settings = kontiki_wire::TopicSettings::default();
        let topic = Topic {
            replicas: vec![1, 2, 4],
            leaving: vec![3],
            coming: vec![4],
            ..Topic::founded(name, GroupId(1), settings, Vec::new(), 1)
        };
        assert_eq!(*homes.for_topic(&topic, &[]), homes);
        let stuck = Topic {
            stuck: vec![4],
            ..topic.clone()
        };
        let but_for = homes.for_topic(&stuck, &[4, 5]);
        assert_eq!(but_for.standing, homes.standing);
        assert_eq!(but_for.ready, [1, 2, 3, 5], "the last resort");
        assert_eq!(but_for.answering, [1, 2, 3]);
        assert_eq!(but_for.late, [4]);
        // Whoever keeps it by now does, whatever was before.
        let settled = Topic {
            leaving: Vec::new(),
            coming: Vec::new(),
            ..topic
        };
        let but_for = homes.for_topic(&settled, &[3, 4]);
        assert_eq!(but_for.answering, [1, 2, 4, 5]);
        assert_eq!(but_for.for_moved(&settled)[2], [1, 2, 3, 4, 5]);
    }
}
