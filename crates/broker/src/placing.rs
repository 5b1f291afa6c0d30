//! How whoever leads the cluster's own group keeps topics where they are to be: on as many members as each
//! is to have, as far as there are any, and on none that drains or leaves. A topic after the other, a few at
//! a time, and each is placed once more only when its group is made of those who keep it since the last.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    mem,
};

use kontiki_raft::{Micros, NodeId, Status};
use kontiki_wire::{ClusterCommand, GroupId, Member, Standing, Topic, limits::SENTENCES_MAX};

use crate::{
    broker::Broker,
    chores::Chore,
    cluster::Cluster,
    homes::{Homes, LATE_AFTER, answers},
    input::Now,
    placement::{Loads, Placement},
};

/// What the leader of the cluster's own group has in mind; nothing on any other node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placing {
    /// Topics that may not be where they are to be.
    queue: BTreeSet<GroupId>,
    /// Placements that were proposed: of what, and when.
    proposed: BTreeMap<GroupId, (u64, Micros)>,
    /// Since when topics have been unsettled, as far as this node has seen it.
    since: BTreeMap<GroupId, Micros>,
    /// Who got nowhere with a topic that it was given, and when that was last so.
    shunned: BTreeMap<(GroupId, u64), Micros>,
    /// Who could get topics when that was last looked at.
    homes: Homes,
    /// When members last changed, or this node began to lead.
    pub(crate) unrest: Micros,
}

impl Broker {
    /// Something has changed that may move every topic.
    pub(crate) fn review_all(&mut self, now: Now) {
        if self.leads_cluster() {
            let topics = self.cluster.state().topics.iter();
            self.placing.queue = topics.map(|topic| topic.group).collect();
            self.placing.unrest = now.monotonic;
            self.soon(now, Chore::Place);
            self.balance_later(now);
        }
    }

    /// Somebody has paused, or answers again, whom the cluster counts on as before. That may move what moves
    /// already, or is kept by too few, and is no reason to put off the rest.
    fn review_unsettled(&mut self, now: Now) {
        let topics = self.cluster.state().topics.iter();
        let few = |topic: &Topic| topic.replicas.len() < topic.settings.replicas.into();
        let unsettled = topics.filter(|topic| !topic.settled || few(topic));
        let queue = &mut self.placing.queue;
        queue.extend(unsettled.map(|topic| topic.group));
        self.balance_later(now);
    }

    /// Something has changed that may move one topic.
    pub(crate) fn review(&mut self, now: Now, group: GroupId) {
        if self.leads_cluster() {
            self.placing.queue.insert(group);
            self.soon(now, Chore::Place);
            self.balance_later(now);
        }
    }

    /// Whether topics may have to move that are not where they have to be.
    pub(crate) fn places_topics(&self) -> bool {
        !self.placing.queue.is_empty()
    }

    pub(crate) fn leads_cluster(&self) -> bool {
        let own = self.groups.get(&GroupId::CLUSTER);
        own.is_some_and(|own| own.leads())
    }

    /// Proposes where topics are to be kept that are not, as many as may move at a time.
    pub(crate) fn place_topics(&mut self, now: Now) {
        if !self.leads_cluster() {
            self.placing = Placing::default();
            return;
        }
        let mut room = self.room(now.monotonic);
        let mut loads = self.cluster.loads().clone();
        self.tickets.add_to(&mut loads);
        let homes = self.homes(now.monotonic);
        let before = mem::replace(&mut self.placing.homes, homes.clone());
        if homes.are_others_than(&before) {
            self.review_all(now);
        } else if homes != before {
            self.review_unsettled(now);
        }
        self.placing.shun(&self.cluster, now.monotonic);
        let mut after = None;
        while let Some(id) = self.next_in_queue(after) {
            after = Some(id);
            let planned = self.cluster.topic_of(id).and_then(|topic| {
                let homes = self.homes_for(topic, &homes);
                Some((topic, loads.improve(topic, &homes)?))
            });
            let Some((topic, placement)) = planned else {
                self.placing.queue.remove(&id);
                continue;
            };
            let moves = !topic.settled || self.placing.proposed.contains_key(&id);
            if !moves && room == 0 {
                break;
            }
            room -= usize::from(!moves);
            loads.remove(&topic.replicas, topic.preferred);
            loads.add(&placement.replicas, placement.preferred);
            if self.placing.is_under_way(topic, now.monotonic) {
                continue;
            }
            let topic = topic.clone();
            self.propose_placement(now, &topic, placement);
        }
        let moves = !self.placing.queue.is_empty() || !self.cluster.unsettled().is_empty();
        if moves || homes.lacks_somebody() {
            self.later(now, Chore::Place, PLACE_AGAIN);
        }
    }

    /// Proposes that a topic be kept so from now on.
    pub(crate) fn propose_placement(&mut self, now: Now, topic: &Topic, placement: Placement) {
        let (group, expect) = (topic.group, topic.placement);
        self.placing.proposed.insert(group, (expect, now.monotonic));
        let command = ClusterCommand::Place {
            group,
            replicas: placement.replicas,
            preferred: placement.preferred,
            expect,
        };
        self.propose_for_nobody(now, &command);
    }

    fn next_in_queue(&self, after: Option<GroupId>) -> Option<GroupId> {
        let first = after.map_or(GroupId(0), |after| GroupId(after.0 + 1));
        self.placing.queue.range(first..).next().copied()
    }

    /// Who may get this topic.
    pub(crate) fn homes_for<'a>(&self, topic: &Topic, homes: &'a Homes) -> Cow<'a, Homes> {
        homes.for_topic(topic, &self.placing.shunned_by(topic.group))
    }

    /// How many more topics may begin to move.
    pub(crate) fn room(&mut self, now: Micros) -> usize {
        self.placing.room(&self.cluster, now)
    }

    /// What is not as it is to be, a sentence for each, where the cluster's own group is led.
    pub(crate) fn placing_sentences(&self, now: Micros) -> Vec<String> {
        if !self.leads_cluster() {
            return Vec::new();
        }
        let homes = self.homes(now);
        let members = self.cluster.state().members.iter();
        let mut said: Vec<String> = members
            .filter_map(|member| self.unfinished(member, &homes))
            .collect();
        said.extend(self.forsaken(now).take(SENTENCES_OF_TOPICS));
        let unsettled = self.cluster.unsettled().iter();
        let unsettled = unsettled.filter_map(|id| self.cluster.topic_of(*id));
        said.extend(
            unsettled
                .take(SENTENCES_OF_TOPICS)
                .map(|topic| self.moves(topic, &homes)),
        );
        let few = |topic: &&Topic| topic.replicas.len() < topic.settings.replicas.into();
        let few = self.cluster.state().topics.iter().filter(few).count();
        if few > 0 {
            let are = match few {
                1 => "1 topic is kept by fewer members than it is".to_owned(),
                few => format!("{few} topics are kept by fewer members than they are"),
            };
            said.push(format!("{are} to be: too few are active and up"));
        }
        said.truncate(SENTENCES_MAX);
        said
    }

    /// What is still to be done about a member, if anything is.
    fn unfinished(&self, member: &Member, homes: &Homes) -> Option<String> {
        let (kept, name) = (self.cluster.kept_by(member.id), &member.name);
        let nobody = !homes.ready.iter().any(|id| *id != member.id);
        let left = match (nobody, kept) {
            (true, _) => {
                format!(
                    "nobody else is active and up who could take the {kept} topics that it keeps"
                )
            }
            (_, 1) => "1 topic is still counted on it".to_owned(),
            _ => format!("{kept} topics are still counted on it"),
        };
        match (member.standing, kept) {
            (Standing::Draining, 1..) => Some(format!("{name} drains: {left}")),
            (Standing::Demoted, 1..) => Some(format!("{name} is demoted: {left}")),
            (Standing::Leaving, 1..) => Some(format!("{name} leaves: {left}")),
            (Standing::Leaving, 0) => Some(format!(
                "{name} leaves: the cluster's own group is to go on without it"
            )),
            (Standing::Active, _) if !homes.ready.contains(&member.id) => Some(format!(
                "{name} gets topics when it has caught up with the cluster's own group"
            )),
            (Standing::Active | Standing::Draining | Standing::Demoted, _) => None,
        }
    }

    /// Topics of which so many keepers do not answer that nothing can be agreed on, while the cluster's own
    /// group has its majority: nobody but they can change that.
    fn forsaken(&self, now: Micros) -> impl Iterator<Item = String> {
        let own = self.groups.get(&GroupId::CLUSTER);
        let status = own.map(|own| own.status(now));
        let patience = self.settings.raft.election_timeout;
        let silent = |id: &u64| {
            let heard = |status: &Status| answers(status, *id, patience);
            !status.as_ref().is_some_and(heard)
        };
        let members = self.cluster.state().members.iter();
        let silent: Vec<u64> = members.map(|member| member.id).filter(silent).collect();
        let topics = self.cluster.state().topics.iter();
        topics.filter_map(move |topic| {
            let away = topic.keepers().filter(|id| silent.contains(id));
            let away: Vec<u64> = away.collect();
            let led = self
                .groups
                .get(&topic.group)
                .is_some_and(|group| group.leads() || group.other_leader().is_some());
            // While it moves, its group is made of others than those who are to keep it.
            let since = self.placing.since.get(&topic.group);
            let stuck = topic.settled || since.is_some_and(|at| now.since(*at) >= LOST_AFTER);
            let lost = stuck && !led && away.len() * 2 >= topic.replicas.len();
            lost.then(|| self.words_of_loss(topic, &away))
        })
    }

    fn words_of_loss(&self, topic: &Topic, away: &[u64]) -> String {
        let name = &topic.name;
        let is_lost = match topic.settled {
            true => "has no majority",
            false => "moves, and seems to have no majority",
        };
        format!(
            "topic {name} {is_lost} while {} of those who keep it do not answer: start them again; if they \
             never come back, read what there still is of it, then `kontiki topic delete {name}` and make it \
             anew (`kontiki recover` would give up the whole cluster, which has its majority)",
            self.names_of(away)
        )
    }

    fn moves(&self, topic: &Topic, homes: &Homes) -> String {
        let to = self.names_of(&topic.replicas);
        let mut said = format!("topic {} is to be kept by {to}", topic.name);
        if !topic.leaving.is_empty() {
            let leaving = self.names_of(&topic.leaving);
            said.push_str(&format!(", and no more by {leaving}"));
        }
        let waits = |id: &&u64| {
            let is_stuck = topic.stuck.contains(id) || !homes.answering.contains(id);
            topic.replicas.contains(id) && is_stuck
        };
        for id in topic.coming.iter().filter(waits) {
            let name = self.cluster.name(NodeId(*id));
            said.push_str(&match homes.late.contains(id) {
                _ if homes.answering.contains(id) => format!(
                    "; {name}, which is to copy it, answers, but not to whoever leads it, or takes nothing from \
                     there: another takes its place, if there is one; see that the two reach each other where \
                     peers do, or let another member join"
                ),
                true => format!(
                    "; {name}, which is to copy it, does not answer, and nobody else is there who could take \
                     its place: start it again, or let another member join"
                ),
                false => format!(
                    "; {name}, which is to copy it, does not answer: in less than {} s another takes its place, \
                     if there is one",
                    LATE_AFTER.0 / 1_000_000 + 1
                ),
            });
        }
        said
    }

    fn names_of(&self, ids: &[u64]) -> String {
        let names = ids.iter().map(|id| self.cluster.name(NodeId(*id)));
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Placing {
    /// Whether this placement was just proposed.
    fn is_under_way(&self, topic: &Topic, now: Micros) -> bool {
        let proposed = self.proposed.get(&topic.group);
        proposed
            .is_some_and(|(expect, at)| *expect == topic.placement && now.since(*at) < PLACE_AGAIN)
    }

    /// Remembers who gets nowhere with what, for longer than the cluster's state does: else it would be tried
    /// again and again by whoever spreads topics evenly.
    fn shun(&mut self, cluster: &Cluster, now: Micros) {
        self.shunned.retain(|_, at| now.since(*at) < SHUNNED);
        for id in cluster.unsettled() {
            let stuck = cluster.topic_of(*id).map(|topic| &topic.stuck);
            for member in stuck.into_iter().flatten() {
                self.shunned.insert((*id, *member), now);
            }
        }
    }

    fn shunned_by(&self, group: GroupId) -> Vec<u64> {
        let of_group = self.shunned.range((group, 0)..=(group, u64::MAX));
        of_group.map(|((_, member), _)| *member).collect()
    }

    /// How many more topics may begin to move. One that has been moving for long, since whom it waits for
    /// does not answer or its group has no majority, keeps no other waiting; nor does what was proposed and
    /// has changed nothing for a while, since it was void or was never committed.
    fn room(&mut self, cluster: &Cluster, now: Micros) -> usize {
        let unsettled = cluster.unsettled();
        self.proposed.retain(|id, (expect, at)| {
            let topic = cluster.topic_of(*id);
            topic.is_some_and(|topic| topic.placement == *expect) && now.since(*at) < LOST_AFTER
        });
        self.since.retain(|id, _| unsettled.contains(id));
        for id in unsettled {
            self.since.entry(*id).or_insert(now);
        }
        let moving = self.since.values();
        let brisk = moving
            .filter(|since| now.since(**since) < STUCK_AFTER)
            .count();
        let begun = self.proposed.keys();
        let begun = begun.filter(|id| !unsettled.contains(id)).count();
        let all = PLACEMENTS_MOST.saturating_sub(unsettled.len() + begun);
        PLACEMENTS_MAX.saturating_sub(brisk + begun).min(all)
    }
}

impl Loads {
    /// Where a topic is to be kept, if not where it is. Who has just got it and has not answered for long makes
    /// room for another; without one, it is done without if somebody waits to be rid of the topic.
    fn improve(&self, topic: &Topic, homes: &Homes) -> Option<Placement> {
        let is_lost = |id: &u64| topic.coming.contains(id) && homes.late.contains(id);
        let standing = homes.standing.iter().copied();
        let standing: Vec<u64> = standing.filter(|id| !is_lost(id)).collect();
        let better = self.replace(
            (&topic.replicas, topic.preferred),
            &standing,
            &homes.for_moved(topic),
            topic.settings.replicas.into(),
        )?;
        let helps = |placement: &Placement| {
            let loses = topic.replicas.iter().any(is_lost);
            let fewer = placement.replicas.len() < topic.replicas.len();
            !loses || !fewer || !topic.leaving.is_empty()
        };
        Some(better).filter(helps)
    }
}

/// Topics that move at a time.
const PLACEMENTS_MAX: usize = 8;
/// And with those that have not come to rest for long.
const PLACEMENTS_MOST: usize = 64;
/// A topic that has moved for so long makes room for another.
const STUCK_AFTER: Micros = Micros(60_000_000);
/// Whoever got nowhere with a topic is not chosen for it before another for so long.
const SHUNNED: Micros = Micros(600_000_000);
/// What was proposed and not applied is proposed again after this.
const PLACE_AGAIN: Micros = Micros(1_000_000);
/// What was proposed and not applied keeps its room for so long.
const LOST_AFTER: Micros = Micros(5_000_000);
/// Moving topics that a status tells of.
const SENTENCES_OF_TOPICS: usize = 16;

#[cfg(test)]
mod tests {
    use kontiki_wire::{ClusterState, TopicSettings};

    use super::*;

    #[test]
    fn what_was_proposed_in_vain_keeps_its_room_for_a_while_and_not_for_ever() {
        let topic = |group| {
            let name = format!("t{group}").parse().unwrap();
            let settings = TopicSettings::default();
            Topic::founded(name, GroupId(group), settings, Vec::new(), 1)
        };
        let state = ClusterState {
            topics: (1..=12).map(topic).collect(),
            next_group: 13,
            ..ClusterState::default()
        };
        let cluster = Cluster::restore(state, None).unwrap();
        let mut placing = Placing::default();
        let (begun, later) = (Micros(7), Micros(7).after(LOST_AFTER));
        assert_eq!(placing.room(&cluster, begun), PLACEMENTS_MAX);
        for group in 1..=PLACEMENTS_MAX as u64 {
            placing.proposed.insert(GroupId(group), (0, begun));
        }
        assert_eq!(placing.room(&cluster, begun.after(PLACE_AGAIN)), 0);
        assert_eq!(placing.room(&cluster, later), PLACEMENTS_MAX);
        // What has come about is counted no more either, however lately it was proposed.
        placing.proposed.insert(GroupId(1), (1, later));
        assert_eq!(placing.room(&cluster, later), PLACEMENTS_MAX);
    }

    #[test]
    fn whoever_got_nowhere_with_a_topic_is_remembered_for_a_while_and_for_that_topic() {
        let topic = |group, stuck: &[u64]| Topic {
            settled: stuck.is_empty(),
            coming: stuck.to_vec(),
            stuck: stuck.to_vec(),
            ..Topic::founded(
                format!("t{group}").parse().unwrap(),
                GroupId(group),
                TopicSettings::default(),
                Vec::new(),
                1,
            )
        };
        let cluster = |topics: Vec<Topic>| {
            let state = ClusterState {
                topics,
                next_group: 3,
                ..ClusterState::default()
            };
            Cluster::restore(state, None).unwrap()
        };
        let moves = cluster(vec![topic(1, &[4, 5]), topic(2, &[])]);
        let rests = cluster(vec![topic(1, &[]), topic(2, &[])]);
        let mut placing = Placing::default();
        placing.shun(&moves, Micros(7));
        placing.shun(&rests, Micros(7).after(PLACE_AGAIN));
        assert_eq!(placing.shunned_by(GroupId(1)), [4, 5]);
        assert_eq!(placing.shunned_by(GroupId(2)), [] as [u64; 0]);
        placing.shun(&rests, Micros(7).after(SHUNNED));
        assert_eq!(placing.shunned_by(GroupId(1)), [] as [u64; 0]);
    }
}
