//! The state of the cluster's own group, and what its commands change: a function of its entries
//! alone, so that every member comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_raft::{
    Entry, Fate, Incarnation, Kind, LogId, Membership, NodeId, NodeRef, Refused, VOTERS_MAX,
};
use kontiki_wire::{
    ClusterCommand, ClusterState, GroupId, Member, Refusal, Topic, TopicName, TopicSettings,
    limits::{CHECKPOINT_BYTES_MAX, CONTROL_BYTES_MAX, MEMBERS_MAX, TOPICS_MAX},
};

use crate::{
    placement::Loads,
    planted::{Planted, plants},
};

/// Members, topics, settings.
///
/// Invariant: `state.topics` ascend in group and all lie below `state.next_group`, `names` has each
/// of them, and `loads` counts each of them.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    applied: LogId,
    state: ClusterState,
    names: BTreeMap<TopicName, GroupId>,
    loads: Loads,
    commands_since_checkpoint: u64,
    checkpoint_bytes: u64,
}

/// The state that the cluster's own group comes to: from its checkpoint, or its birth, and the entries
/// that follow. For whoever looks at a disk whose member does not run.
pub fn cluster_state(
    birth: ClusterState,
    checkpoint: Option<&(LogId, Bytes)>,
    entries: &[Entry],
) -> Result<ClusterState, String> {
    let mut cluster = Cluster::restore(birth, checkpoint)?;
    for entry in entries {
        cluster.apply(entry)?;
    }
    Ok(cluster.state)
}

/// What a command came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// A topic was made.
    Made(Topic),
    /// There was one of that name.
    Exists(Topic),
    /// A topic was removed.
    Removed(Topic),
    /// It was void.
    Void(Refusal),
}

impl Cluster {
    /// Starts from a checkpoint, or from the birth state; says what does not fit.
    pub(crate) fn restore(
        birth: ClusterState,
        checkpoint: Option<&(LogId, Bytes)>,
    ) -> Result<Self, String> {
        let (applied, mut state) = match checkpoint {
            None => (LogId::ORIGIN, birth),
            Some((at, bytes)) => {
                let state =
                    kontiki_wire::decode("the cluster's checkpoint", bytes, CHECKPOINT_BYTES_MAX)
                        .map_err(|malformed| malformed.to_string())?;
                (*at, state)
            }
        };
        // Group 0 is the cluster's own.
        state.next_group = state.next_group.max(1);
        check(&state)?;
        let mut cluster = Self {
            applied,
            names: BTreeMap::new(),
            loads: Loads::default(),
            commands_since_checkpoint: 0,
            checkpoint_bytes: 0,
            state,
        };
        for topic in &cluster.state.topics {
            cluster.loads.add(&topic.replicas, topic.preferred);
            let earlier = cluster.names.insert(topic.name.clone(), topic.group);
            if earlier.is_some() {
                return Err(format!("the cluster has topic {} twice", topic.name));
            }
        }
        Ok(cluster)
    }

    /// Applies the next entry; `None` if it carries no command. An error means that this node and the
    /// one that proposed the entry do not speak the same language.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<Option<Change>, String> {
        let change = match entry.kind {
            Kind::Noop | Kind::Config => None,
            Kind::Command => {
                let command =
                    kontiki_wire::decode("a cluster command", &entry.body, CONTROL_BYTES_MAX)
                        .map_err(|malformed| format!("entry {}: {malformed}", entry.id))?;
                self.commands_since_checkpoint += 1;
                Some(self.command(command, entry.id)?)
            }
            Kind::Batch => {
                return Err(format!(
                    "entry {} is a batch, and the cluster's own group has none",
                    entry.id
                ));
            }
        };
        self.applied = entry.id;
        Ok(change)
    }

    fn command(&mut self, command: ClusterCommand, at: LogId) -> Result<Change, String> {
        match command {
            ClusterCommand::CreateTopic {
                name,
                settings,
                replicas,
                preferred,
            } => Ok(self.create(name, settings, replicas, preferred)),
            ClusterCommand::DeleteTopic { name, group } => Ok(self.delete(&name, group)),
            _ => Err(format!("entry {at} is a command of a newer version")),
        }
    }

    fn create(
        &mut self,
        name: TopicName,
        settings: TopicSettings,
        replicas: Vec<u64>,
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
        if replicas.len() > VOTERS_MAX {
            return Change::Void(too_many_replicas());
        }
        let strange = replicas
            .iter()
            .enumerate()
            .any(|(at, id)| self.member(*id).is_none() || replicas[..at].contains(id));
        if strange || !replicas.contains(&preferred) {
            // Members changed since it was placed.
            let why = format!("topic {name} was placed on members that are not there, try again");
            return Change::Void(Refusal::Unavailable { why });
        }
        let topic = Topic {
            name,
            group: match plants(Planted::GroupReused) {
                true => GroupId(self.state.topics.last().map_or(1, |last| last.group.0 + 1)),
                false => GroupId(self.state.next_group),
            },
            settings,
            replicas,
            preferred,
        };
        self.state.next_group += 1;
        self.loads.add(&topic.replicas, topic.preferred);
        self.names.insert(topic.name.clone(), topic.group);
        self.state.topics.push(topic.clone());
        Change::Made(topic)
    }

    fn delete(&mut self, name: &TopicName, group: GroupId) -> Change {
        if self.names.get(name) != Some(&group) {
            return Change::Void(no_such_topic(name));
        }
        self.names.remove(name);
        let at = self.position(group).expect("every name is of a topic");
        let topic = match plants(Planted::DeletedTopicKept) {
            true => self.state.topics[at].clone(),
            false => self.state.topics.remove(at),
        };
        self.loads.remove(&topic.replicas, topic.preferred);
        Change::Removed(topic)
    }

    /// The state as a checkpoint, after every command; when it has grown large, after every few, so
    /// that keeping it does not cost more than what the commands are worth.
    pub(crate) fn due_checkpoint(&mut self) -> Option<(LogId, Bytes)> {
        let due = (self.checkpoint_bytes / BYTES_PER_COMMAND).max(1);
        if self.commands_since_checkpoint < due {
            return None;
        }
        let (at, bytes) = self.checkpoint();
        self.commands_since_checkpoint = 0;
        self.checkpoint_bytes = bytes.len() as u64;
        Some((at, bytes))
    }

    /// The state now.
    pub(crate) fn checkpoint(&self) -> (LogId, Bytes) {
        (self.applied, kontiki_wire::encode(&self.state).into())
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> LogId {
        self.applied
    }

    pub(crate) fn state(&self) -> &ClusterState {
        &self.state
    }

    pub(crate) fn loads(&self) -> &Loads {
        &self.loads
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<&Topic> {
        self.topic_of(*self.names.get(name)?)
    }

    pub(crate) fn topic_of(&self, group: GroupId) -> Option<&Topic> {
        self.position(group).map(|at| &self.state.topics[at])
    }

    fn position(&self, group: GroupId) -> Option<usize> {
        let topics = &self.state.topics;
        topics
            .binary_search_by_key(&group, |topic| topic.group)
            .ok()
    }

    /// Whether the group may yet be given to a topic that this node has not heard of.
    pub(crate) fn is_to_come(&self, group: GroupId) -> bool {
        group.0 >= self.state.next_group
    }

    pub(crate) fn member(&self, id: u64) -> Option<&Member> {
        let members = &self.state.members;
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        Some(&members[at])
    }

    pub(crate) fn member_named(&self, name: &str) -> Option<&Member> {
        self.state.members.iter().find(|one| one.name == name)
    }

    /// A member's name, or its number where it has none.
    pub(crate) fn name(&self, id: NodeId) -> String {
        self.member(id.0)
            .map_or_else(|| id.to_string(), |member| member.name.clone())
    }

    /// How a proposal that was not committed is answered.
    pub(crate) fn refusal(&self, fate: Fate) -> Refusal {
        let ask = |member: Option<NodeRef>| Refusal::NotLeader {
            leader: member.map(|member| self.name(member.id)),
        };
        match fate {
            Fate::Unknown { .. } => Refusal::Unknown,
            Fate::Refused(Refused::NotLeader { leader }) => ask(leader),
            Fate::Refused(Refused::Transferring { to }) => ask(Some(to)),
            Fate::Refused(Refused::Busy) => Refusal::Busy,
            Fate::Refused(Refused::NotMember) => ask(None),
            Fate::Refused(Refused::Unsound) => Refusal::Unavailable {
                why: "this member's disk is not to be trusted".to_owned(),
            },
        }
    }

    /// The configuration that a group kept by these members is born with.
    pub(crate) fn voters(&self, replicas: &[u64]) -> Membership {
        let voters = replicas.iter().filter_map(|id| self.member(*id));
        Membership {
            voters: voters.map(node_ref).collect(),
            ..Membership::default()
        }
    }
}

/// The groups whose topics these entries would delete.
pub(crate) fn deleted_by(entries: &[Entry]) -> BTreeSet<GroupId> {
    let commands = entries.iter().filter(|entry| entry.kind == Kind::Command);
    let deleted = commands.filter_map(|entry| {
        match kontiki_wire::decode("a cluster command", &entry.body, CONTROL_BYTES_MAX) {
            Ok(ClusterCommand::DeleteTopic { group, .. }) => Some(group),
            // What cannot be read stops the node when it is applied.
            _ => None,
        }
    });
    deleted.collect()
}

/// A member as Raft knows it.
pub(crate) fn node_ref(member: &Member) -> NodeRef {
    NodeRef {
        id: NodeId(member.id),
        incarnation: Incarnation(member.incarnation),
    }
}

pub(crate) fn no_such_topic(name: &TopicName) -> Refusal {
    Refusal::NoSuchTopic {
        name: name.to_string(),
    }
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

fn check(state: &ClusterState) -> Result<(), String> {
    let members: Vec<u64> = state.members.iter().map(|member| member.id).collect();
    let topics: Vec<u64> = state.topics.iter().map(|topic| topic.group.0).collect();
    if state.members.len() > MEMBERS_MAX || state.topics.len() > TOPICS_MAX {
        return Err("the cluster's state has more members or topics than the limit".to_owned());
    }
    if !members.is_sorted_by(|a, b| a < b) {
        return Err("the cluster's members are not in ascending order".to_owned());
    }
    if !topics.is_sorted_by(|a, b| a < b) {
        return Err("the cluster's topics are not in ascending order".to_owned());
    }
    if !topics
        .iter()
        .all(|group| (1..state.next_group).contains(group))
    {
        return Err("the cluster has a topic whose group was never given".to_owned());
    }
    Ok(())
}

/// A command is worth keeping so many bytes of state for.
const BYTES_PER_COMMAND: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use kontiki_raft::{Index, Micros, Term};

    use super::*;

    fn member(id: u64) -> Member {
        Member {
            id,
            incarnation: id * 100,
            name: format!("n{id}"),
            address: String::new(),
            peer_address: String::new(),
        }
    }

    fn birth() -> ClusterState {
        ClusterState {
            members: (1..=3).map(member).collect(),
            ..ClusterState::default()
        }
    }

    fn new() -> Cluster {
        Cluster::restore(birth(), None).unwrap()
    }

    fn entry(index: u64, command: &ClusterCommand) -> Entry {
        Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Command,
            time: Micros(0),
            checksum: 0,
            body: kontiki_wire::encode(command).into(),
        }
    }

    fn create(name: &str, replicas: &[u64]) -> ClusterCommand {
        ClusterCommand::CreateTopic {
            name: name.parse().unwrap(),
            settings: TopicSettings::default(),
            replicas: replicas.to_vec(),
            preferred: replicas.first().copied().unwrap_or(1),
        }
    }

    fn delete(name: &str, group: u64) -> ClusterCommand {
        ClusterCommand::DeleteTopic {
            name: name.parse().unwrap(),
            group: GroupId(group),
        }
    }

    #[test]
    fn topics_get_groups_that_are_never_given_twice() {
        let mut cluster = new();
        let mut apply = |index, command| cluster.apply(&entry(index, &command)).unwrap().unwrap();
        let Change::Made(first) = apply(1, create("a", &[1, 2, 3])) else {
            panic!("made");
        };
        assert_eq!(first.group, GroupId(1));
        assert_eq!(apply(2, create("a", &[1])), Change::Exists(first.clone()));
        assert_eq!(apply(3, delete("a", 1)), Change::Removed(first));
        let Change::Made(second) = apply(4, create("a", &[2])) else {
            panic!("made");
        };
        assert_eq!(second.group, GroupId(2));
        // A late command that meant the first topic of that name.
        let void = Change::Void(no_such_topic(&second.name));
        assert_eq!(apply(5, delete("a", 1)), void);
        assert!(cluster.topic_of(GroupId(2)).is_some());
        assert!(cluster.is_to_come(GroupId(3)) && !cluster.is_to_come(GroupId(1)));
    }

    #[test]
    fn topic_placed_on_strangers_or_twice_on_one_is_void() {
        let mut cluster = new();
        for replicas in [&[1, 9][..], &[1, 1], &[]] {
            let change = cluster.apply(&entry(1, &create("a", replicas))).unwrap();
            assert!(matches!(change, Some(Change::Void(_))), "{change:?}");
        }
        assert_eq!(cluster.state().topics, []);
    }

    #[test]
    fn topic_with_more_replicas_than_a_group_has_voters_is_void() {
        let mut state = birth();
        state.members = (1..=20).map(member).collect();
        let mut cluster = Cluster::restore(state, None).unwrap();
        let most: Vec<u64> = (1..=VOTERS_MAX as u64).collect();
        let more: Vec<u64> = (1..=VOTERS_MAX as u64 + 1).collect();
        let mut apply = |index, command| cluster.apply(&entry(index, &command)).unwrap().unwrap();
        assert_eq!(
            apply(1, create("more", &more)),
            Change::Void(too_many_replicas())
        );
        assert!(matches!(apply(2, create("most", &most)), Change::Made(_)));
    }

    #[test]
    fn topics_are_bounded() {
        let mut state = birth();
        state.next_group = TOPICS_MAX as u64 + 1;
        state.topics = (1..=TOPICS_MAX as u64)
            .map(|group| Topic {
                name: format!("t{group}").parse().unwrap(),
                group: GroupId(group),
                settings: TopicSettings::default(),
                replicas: vec![1],
                preferred: 1,
            })
            .collect();
        let mut cluster = Cluster::restore(state, None).unwrap();
        let change = cluster.apply(&entry(1, &create("more", &[1]))).unwrap();
        assert_eq!(change, Some(Change::Void(too_many_topics())));
        let bytes = cluster.checkpoint().1.len();
        assert!(bytes < CHECKPOINT_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn checkpoint_is_equal_to_the_replay_to_it() {
        let mut cluster = new();
        let commands = [
            create("a", &[1, 2, 3]),
            create("b", &[2, 3]),
            delete("a", 1),
            create("c", &[3]),
        ];
        for (at, command) in commands.iter().enumerate() {
            cluster.apply(&entry(at as u64 + 1, command)).unwrap();
            let checkpoint = cluster.due_checkpoint().unwrap();
            let restored = Cluster::restore(ClusterState::default(), Some(&checkpoint)).unwrap();
            assert_eq!(restored.state(), cluster.state());
            assert_eq!(restored.loads, cluster.loads);
            assert_eq!(restored.names, cluster.names);
        }
        assert!(cluster.due_checkpoint().is_none());
    }

    #[test]
    fn state_that_does_not_fit_together_is_refused() {
        let topic = |name: &str, group| Topic {
            name: name.parse().unwrap(),
            group: GroupId(group),
            settings: TopicSettings::default(),
            replicas: vec![1],
            preferred: 1,
        };
        let with = |topics| {
            let state = ClusterState {
                topics,
                next_group: 3,
                ..birth()
            };
            Cluster::restore(state, None)
        };
        assert!(with(vec![topic("a", 1), topic("b", 2)]).is_ok());
        assert!(with(vec![topic("a", 1), topic("a", 2)]).is_err());
        assert!(with(vec![topic("a", 2), topic("b", 1)]).is_err());
        assert!(with(vec![topic("a", 3)]).is_err());
        assert!(with(vec![topic("a", 0)]).is_err());
        let mut unordered = birth();
        unordered.members.reverse();
        assert!(Cluster::restore(unordered, None).is_err());
    }

    #[test]
    fn entry_without_meaning_is_not_guessed_at() {
        let mut strange = entry(1, &create("a", &[1]));
        strange.kind = Kind::Batch;
        assert!(new().apply(&strange).is_err());
        strange.kind = Kind::Command;
        strange.body = Bytes::from_static(&[250, 1, 2]);
        assert!(new().apply(&strange).is_err());
    }
}
