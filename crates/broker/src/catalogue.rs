//! How commands change the list of topics: which there are, what each is to be, who keeps it, and who kept
//! it before.

use kontiki_raft::VOTERS_MAX;
use kontiki_wire::{
    GroupId, MemberRef, Refusal, Standing, Topic, TopicName, TopicSettings, limits::TOPICS_MAX,
};

use crate::{
    cluster::{Change, Cluster, no_such_topic, unfit},
    planted::{Planted, plants},
};

impl Cluster {
    pub(crate) fn create(
        &mut self,
        name: TopicName,
        settings: TopicSettings,
        replicas: &[u64],
        preferred: u64,
    ) -> Change {
        if let Some(topic) = self.topic(&name)
            && !plants(Planted::CreateReplaces)
        {
            return Change::Exists(topic.clone());
        }
        if self.state.topics.len() >= TOPICS_MAX {
            return Change::Void(too_many_topics());
        }
        let stays = |id: u64| self.standing(id).is_some_and(Standing::votes);
        if let Err(refused) = self.placeable(&name, replicas, preferred, stays) {
            return Change::Void(refused);
        }
        let group = match plants(Planted::GroupReused) {
            true => GroupId(self.state.topics.last().map_or(1, |last| last.group.0 + 1)),
            false => GroupId(self.state.next_group),
        };
        let founders = replicas.iter().filter_map(|id| self.member(*id));
        let founders = founders.map(|member| MemberRef::from(member.node()));
        let topic = Topic::founded(name, group, settings, founders.collect(), preferred);
        self.state.next_group += 1;
        self.count(&topic);
        self.names.insert(topic.name.clone(), topic.group);
        self.state.topics.push(topic.clone());
        Change::Made(topic)
    }

    /// Refuses a placement on members that are not there, or that are not to get a topic.
    fn placeable(
        &self,
        name: &TopicName,
        replicas: &[u64],
        preferred: u64,
        may_keep: impl Fn(u64) -> bool,
    ) -> Result<(), Refusal> {
        if replicas.len() > VOTERS_MAX {
            return Err(too_many_replicas());
        }
        let twice = |at: usize| replicas[..at].contains(&replicas[at]);
        let strange = |at: usize| twice(at) || !may_keep(replicas[at]);
        if (0..replicas.len()).any(strange) || !replicas.contains(&preferred) {
            // Members changed since it was placed.
            let why = format!("topic {name} was placed on members that are not there, try again");
            return Err(Refusal::Unavailable { why });
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, name: &TopicName, group: GroupId) -> Change {
        if self.names.get(name) != Some(&group) {
            return Change::Void(no_such_topic(name));
        }
        self.names.remove(name);
        let at = self.position(group).expect("every name is of a topic");
        let topic = match plants(Planted::DeletedTopicKept) {
            true => self.state.topics[at].clone(),
            false => self.state.topics.remove(at),
        };
        self.discount(&topic);
        Change::Removed(topic)
    }

    pub(crate) fn edit(&mut self, group: GroupId, settings: TopicSettings) -> Change {
        if let Err(refused) = check_settings(&settings) {
            return Change::Void(refused);
        }
        let Some(at) = self.position(group) else {
            return Change::Void(no_such_group(group));
        };
        let topic = &mut self.state.topics[at];
        topic.settings = settings;
        Change::Edited(topic.clone())
    }

    /// Who kept a topic and is not to any more, leaves. Nobody who leaves the cluster gets a topic.
    pub(crate) fn place(
        &mut self,
        group: GroupId,
        replicas: Vec<u64>,
        preferred: u64,
        expect: u64,
    ) -> Change {
        let Some(at) = self.position(group) else {
            return Change::Void(no_such_group(group));
        };
        let topic = &self.state.topics[at];
        if topic.placement != expect {
            let why = format!("topic {} was placed anew in the meantime", topic.name);
            return Change::Void(Refusal::Unavailable { why });
        }
        let may_keep = |id| match self.standing(id) {
            None => false,
            Some(standing) => standing.votes() || topic.replicas.contains(&id),
        };
        if let Err(refused) = self.placeable(&topic.name, &replicas, preferred, may_keep) {
            return Change::Void(refused);
        }
        let before = topic.clone();
        let leaving = before.keepers().filter(|id| !replicas.contains(id));
        let stays = replicas.len() == before.replicas.len()
            && replicas.iter().all(|id| before.replicas.contains(id));
        let new = replicas.iter().copied();
        let new = new.filter(|id| !before.keepers().any(|keeper| keeper == *id));
        let after = Topic {
            leaving: leaving.collect(),
            coming: before.coming.iter().copied().chain(new).collect(),
            // Whom it is led by first is nothing that its group has to come to.
            settled: before.settled && stays,
            replicas,
            preferred,
            placement: expect + 1,
            ..before.clone()
        };
        self.replace(at, &before, after.clone());
        Change::Placed(after)
    }

    /// Another of those who are to keep a topic is to lead it.
    pub(crate) fn prefer(&mut self, group: GroupId, preferred: u64, expect: u64) -> Change {
        match self.topic_of(group).map(|topic| topic.replicas.clone()) {
            Some(replicas) => self.place(group, replicas, preferred, expect),
            None => Change::Void(no_such_group(group)),
        }
    }

    pub(crate) fn settle(&mut self, group: GroupId, placement: u64) -> Change {
        let Some(at) = self.position(group) else {
            return Change::Void(no_such_group(group));
        };
        let before = self.state.topics[at].clone();
        if before.settled || before.placement != placement {
            return unfit(format!(
                "placement {placement} of topic {} is past",
                before.name
            ));
        }
        let mut after = Topic {
            leaving: Vec::new(),
            coming: Vec::new(),
            stuck: Vec::new(),
            settled: true,
            ..before.clone()
        };
        let parting = before
            .leaving
            .iter()
            .filter(|id| !after.parted.contains(id));
        let parting: Vec<u64> = parting.copied().collect();
        after.parted.extend(parting);
        self.replace(at, &before, after.clone());
        Change::Settled(after)
    }

    /// Whoever leads a topic gets nowhere with one who is to copy it, or it does again.
    pub(crate) fn report_copy(
        &mut self,
        group: GroupId,
        placement: u64,
        member: u64,
        stuck: bool,
    ) -> Change {
        let Some(at) = self.position(group) else {
            return Change::Void(no_such_group(group));
        };
        let topic = &mut self.state.topics[at];
        let is_to_copy = topic.coming.contains(&member) && topic.replicas.contains(&member);
        let is_known = topic.stuck.contains(&member) == stuck;
        if topic.placement != placement || !is_to_copy || is_known {
            return unfit(format!(
                "how member {member} gets on with topic {} is known, or past",
                topic.name
            ));
        }
        match stuck {
            true => topic.stuck.push(member),
            false => topic.stuck.retain(|id| *id != member),
        }
        Change::Reported(topic.clone())
    }

    fn replace(&mut self, at: usize, before: &Topic, after: Topic) {
        self.discount(before);
        self.count(&after);
        self.state.topics[at] = after;
    }
}

fn no_such_group(group: GroupId) -> Refusal {
    Refusal::NoSuchTopic {
        name: format!("group {group}"),
    }
}

/// Refuses what no topic can be.
pub(crate) fn check_settings(settings: &TopicSettings) -> Result<(), Refusal> {
    if settings.replicas == 0 {
        let what = "a topic is kept by at least one member".to_owned();
        return Err(Refusal::Malformed { what });
    }
    if usize::from(settings.replicas) > VOTERS_MAX {
        return Err(too_many_replicas());
    }
    Ok(())
}

pub(crate) fn too_many_topics() -> Refusal {
    Refusal::TooLarge {
        what: "topics of the cluster".to_owned(),
        limit: TOPICS_MAX as u64,
    }
}

pub(crate) fn too_many_replicas() -> Refusal {
    Refusal::TooLarge {
        what: "replicas of a topic".to_owned(),
        limit: VOTERS_MAX as u64,
    }
}
