//! The state of the cluster's own group, and what its commands change: a function of its entries
//! alone, so that every member comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_raft::{Entry, Fate, Index, Kind, LogId, NodeId, NodeRef, Refused, VOTERS_MAX};
use kontiki_wire::{
    ClusterCommand, ClusterState, GroupId, Member, MemberRef, Refusal, Spent, Standing, Token,
    Topic, TopicName, TopicSettings,
    limits::{CHECKPOINT_BYTES_MAX, CONTROL_BYTES_MAX, MEMBERS_MAX, TOKENS_MAX, TOPICS_MAX},
};

use crate::{
    placement::Loads,
    planted::{Planted, plants},
};

/// Members, topics, settings.
///
/// Invariant: `state.topics` ascend in group and all lie below `state.next_group`, `names` has each
/// of them, `loads` counts each of them, `unsettled` has each that is not settled, and `keeping` counts
/// the topics that each member keeps or may be counted by still. Members ascend and lie below
/// `state.next_member`.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    applied: LogId,
    pub(crate) state: ClusterState,
    names: BTreeMap<TopicName, GroupId>,
    loads: Loads,
    unsettled: BTreeSet<GroupId>,
    keeping: BTreeMap<u64, u64>,
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
    /// A topic was asked to be something else.
    Edited(Topic),
    /// Others are to keep a topic.
    Placed(Topic),
    /// A topic is kept by those who are to keep it, and by nobody else.
    Settled(Topic),
    /// A member was admitted.
    Admitted(Member),
    /// What is to be done with a member was said, or it is a member already.
    Member(Member),
    /// A member is none any more.
    Dropped(Member),
    /// A token was made or spent, or it was before by the same one.
    Token(Token),
    /// A token was revoked.
    TokenGone,
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
        if checkpoint.is_none() {
            let given = state.members.last().map_or(0, |member| member.id);
            state.next_member = state.next_member.max(given.saturating_add(1));
        }
        check(&state)?;
        let mut cluster = Self {
            applied,
            names: BTreeMap::new(),
            loads: Loads::default(),
            unsettled: BTreeSet::new(),
            keeping: BTreeMap::new(),
            commands_since_checkpoint: 0,
            checkpoint_bytes: 0,
            state,
        };
        for topic in cluster.state.topics.clone() {
            cluster.count(&topic);
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
                Some(self.command(command, entry)?)
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

    fn command(&mut self, command: ClusterCommand, entry: &Entry) -> Result<Change, String> {
        use ClusterCommand as Command;
        let now = entry.time;
        Ok(match command {
            Command::CreateTopic {
                name,
                settings,
                replicas,
                preferred,
            } => self.create(name, settings, &replicas, preferred),
            Command::DeleteTopic { name, group } => self.delete(&name, group),
            Command::EditTopic { group, settings } => self.edit(group, settings),
            Command::Place {
                group,
                replicas,
                preferred,
                expect,
            } => self.place(group, replicas, preferred, expect),
            Command::Settled { group, placement } => self.settle(group, placement),
            Command::CreateToken(spec) => self.create_token(spec, now),
            Command::RevokeToken { id } => self.revoke_token(id, now),
            Command::SpendToken { token, name, mark } => {
                self.spend_token(token, Spent { name, mark }, now)
            }
            Command::Admit(admission) => self.admit(admission, now),
            Command::SetStanding { member, standing } => self.set_standing(member, standing),
            Command::DropMember { member } => self.drop_member(member),
            _ => {
                return Err(format!(
                    "entry {} is a command of a newer version",
                    entry.id
                ));
            }
        })
    }

    fn create(
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
        let stays = |id: u64| self.standing(id).is_some_and(|is| is != Standing::Leaving);
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
        self.discount(&topic);
        Change::Removed(topic)
    }

    fn edit(&mut self, group: GroupId, settings: TopicSettings) -> Change {
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
    fn place(&mut self, group: GroupId, replicas: Vec<u64>, preferred: u64, expect: u64) -> Change {
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
            // Its disk says that the group is gone for good.
            Some(_) if topic.parted.contains(&id) => false,
            Some(Standing::Leaving) => topic.replicas.contains(&id),
            Some(Standing::Active | Standing::Draining) => true,
        };
        if let Err(refused) = self.placeable(&topic.name, &replicas, preferred, may_keep) {
            return Change::Void(refused);
        }
        let before = topic.clone();
        let leaving = before.keepers().filter(|id| !replicas.contains(id));
        let after = Topic {
            leaving: leaving.collect(),
            replicas,
            preferred,
            placement: expect + 1,
            settled: false,
            ..before.clone()
        };
        self.replace(at, &before, after.clone());
        Change::Placed(after)
    }

    fn settle(&mut self, group: GroupId, placement: u64) -> Change {
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

    fn replace(&mut self, at: usize, before: &Topic, after: Topic) {
        self.discount(before);
        self.count(&after);
        self.state.topics[at] = after;
    }

    fn count(&mut self, topic: &Topic) {
        self.loads.add(&topic.replicas, topic.preferred);
        for id in topic.keepers() {
            *self.keeping.entry(id).or_default() += 1;
        }
        if !topic.settled {
            self.unsettled.insert(topic.group);
        }
    }

    /// Takes back a [`Cluster::count`].
    fn discount(&mut self, topic: &Topic) {
        self.loads.remove(&topic.replicas, topic.preferred);
        for id in topic.keepers() {
            let count = self.keeping.get_mut(&id).expect("every keeper is counted");
            *count -= 1;
            if *count == 0 {
                self.keeping.remove(&id);
            }
        }
        self.unsettled.remove(&topic.group);
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

    pub(crate) fn standing(&self, id: u64) -> Option<Standing> {
        self.member(id).map(|member| member.standing)
    }

    /// Who may get a topic: who is active, or, if nobody is, whoever does not leave.
    pub(crate) fn homes(&self) -> Vec<u64> {
        let of = |standing| {
            let members = self.state.members.iter();
            let some = members.filter(move |member| member.standing == standing);
            some.map(|member| member.id).collect::<Vec<_>>()
        };
        let active = of(Standing::Active);
        match active.is_empty() {
            true => of(Standing::Draining),
            false => active,
        }
    }

    /// How many topics the member keeps, or may be counted by still.
    pub(crate) fn kept_by(&self, id: u64) -> u64 {
        self.keeping.get(&id).copied().unwrap_or(0)
    }

    /// The topics that are not known to be kept by those who are to keep them, and by nobody else.
    pub(crate) fn unsettled(&self) -> &BTreeSet<GroupId> {
        &self.unsettled
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
}

/// The groups whose files a member may remove when it applies these entries, each with the last entry
/// that lets it: their topics are deleted, or those who keep them no more are let go.
pub(crate) fn let_go_by(entries: &[Entry]) -> BTreeMap<GroupId, Index> {
    let commands = entries.iter().filter(|entry| entry.kind == Kind::Command);
    let let_go = commands.filter_map(|entry| {
        match kontiki_wire::decode("a cluster command", &entry.body, CONTROL_BYTES_MAX) {
            Ok(
                ClusterCommand::DeleteTopic { group, .. } | ClusterCommand::Settled { group, .. },
            ) => Some((group, entry.id.index)),
            // What cannot be read stops the node when it is applied.
            _ => None,
        }
    });
    let_go.collect()
}

pub(crate) fn no_such_topic(name: &TopicName) -> Refusal {
    Refusal::NoSuchTopic {
        name: name.to_string(),
    }
}

fn no_such_group(group: GroupId) -> Refusal {
    Refusal::NoSuchTopic {
        name: format!("group {group}"),
    }
}

/// A command that cannot be done as it was meant, and why.
pub(crate) fn unfit(why: String) -> Change {
    Change::Void(Refusal::Unfit { why })
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

fn check(state: &ClusterState) -> Result<(), String> {
    if state.format != ClusterState::FORMAT {
        return Err(format!(
            "the cluster's state is of format {}, and this version reads format {}",
            state.format,
            ClusterState::FORMAT
        ));
    }
    if state.tokens.len() > TOKENS_MAX || !state.tokens.is_sorted_by(|a, b| a.id < b.id) {
        return Err("the cluster's tokens are too many or not in ascending order".to_owned());
    }
    let members: Vec<u64> = state.members.iter().map(|member| member.id).collect();
    let topics: Vec<u64> = state.topics.iter().map(|topic| topic.group.0).collect();
    if state.members.len() > MEMBERS_MAX || state.topics.len() > TOPICS_MAX {
        return Err("the cluster's state has more members or topics than the limit".to_owned());
    }
    if !members.is_sorted_by(|a, b| a < b) {
        return Err("the cluster's members are not in ascending order".to_owned());
    }
    if members
        .last()
        .is_some_and(|last| *last >= state.next_member)
    {
        return Err("the cluster has a member whose number was never given".to_owned());
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
    use kontiki_raft::{Micros, Term};

    use super::*;

    fn member(id: u64) -> Member {
        Member {
            id,
            incarnation: id * 100,
            name: format!("n{id}"),
            address: String::new(),
            peer_address: String::new(),
            ..Member::default()
        }
    }

    fn birth() -> ClusterState {
        ClusterState {
            members: (1..=3).map(member).collect(),
            ..ClusterState::default()
        }
    }

    fn topic(name: &str, group: u64) -> Topic {
        let founder = MemberRef {
            id: 1,
            incarnation: 100,
        };
        let settings = TopicSettings::default();
        Topic::founded(
            name.parse().unwrap(),
            GroupId(group),
            settings,
            vec![founder],
            1,
        )
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
            .map(|group| topic(&format!("t{group}"), group))
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
            place(2, &[1, 2], 0),
            settled(2, 1),
            place(3, &[1, 3], 0),
        ];
        for (at, command) in commands.iter().enumerate() {
            cluster.apply(&entry(at as u64 + 1, command)).unwrap();
            let checkpoint = cluster.due_checkpoint().unwrap();
            let restored = Cluster::restore(ClusterState::default(), Some(&checkpoint)).unwrap();
            assert_eq!(restored.state(), cluster.state());
            assert_eq!(restored.loads, cluster.loads);
            assert_eq!(restored.names, cluster.names);
            assert_eq!(restored.unsettled, cluster.unsettled);
            assert_eq!(restored.keeping, cluster.keeping);
        }
        assert!(cluster.due_checkpoint().is_none());
    }

    fn place(group: u64, replicas: &[u64], expect: u64) -> ClusterCommand {
        ClusterCommand::Place {
            group: GroupId(group),
            replicas: replicas.to_vec(),
            preferred: replicas[0],
            expect,
        }
    }

    fn settled(group: u64, placement: u64) -> ClusterCommand {
        let group = GroupId(group);
        ClusterCommand::Settled { group, placement }
    }

    /// Applies commands one after the other.
    fn after(cluster: &mut Cluster, commands: &[ClusterCommand]) -> Vec<Change> {
        let apply = |command| {
            let index = cluster.applied().index.0 + 1;
            cluster.apply(&entry(index, command)).unwrap().unwrap()
        };
        commands.iter().map(apply).collect()
    }

    #[test]
    fn who_kept_a_topic_leaves_when_its_group_has_settled_and_may_come_back() {
        let mut cluster = new();
        let mut state = birth();
        state.members.push(member(4));
        cluster.state = state;
        after(
            &mut cluster,
            &[create("a", &[1, 2, 3]), place(1, &[1, 2, 4], 0)],
        );
        let topic = cluster.topic_of(GroupId(1)).unwrap();
        assert_eq!(
            (&topic.replicas[..], &topic.leaving[..]),
            (&[1, 2, 4][..], &[3][..])
        );
        assert_eq!(topic.founders.len(), 3);
        assert!(!topic.settled && cluster.unsettled().contains(&GroupId(1)));
        assert_eq!((cluster.kept_by(3), cluster.kept_by(4)), (1, 1));

        // Before it has settled, it is placed anew: what is known to be settled then is past.
        after(&mut cluster, &[place(1, &[1, 3, 4], 1)]);
        let topic = cluster.topic_of(GroupId(1)).unwrap();
        assert_eq!(
            (&topic.replicas[..], &topic.leaving[..]),
            (&[1, 3, 4][..], &[2][..])
        );
        let past = after(&mut cluster, &[settled(1, 1)]);
        assert!(matches!(past[..], [Change::Void(_)]), "{past:?}");

        let done = after(&mut cluster, &[settled(1, 2), settled(1, 2)]);
        assert!(
            matches!(done[..], [Change::Settled(_), Change::Void(_)]),
            "{done:?}"
        );
        let topic = cluster.topic_of(GroupId(1)).unwrap();
        assert_eq!((&topic.leaving[..], &topic.parted[..]), (&[][..], &[2][..]));
        assert!(topic.settled && cluster.unsettled().is_empty());
        assert_eq!(cluster.kept_by(2), 0);
    }

    #[test]
    fn a_placement_of_what_was_placed_meanwhile_or_on_strangers_is_void() {
        let mut cluster = new();
        after(&mut cluster, &[create("a", &[1, 2])]);
        let void = [
            place(1, &[1, 3], 1),
            place(2, &[1, 3], 0),
            place(1, &[1, 9], 0),
            place(1, &[1, 1], 0),
        ];
        let before = cluster.state().clone();
        for change in after(&mut cluster, &void) {
            assert!(matches!(change, Change::Void(_)), "{change:?}");
        }
        assert_eq!(*cluster.state(), before);
        let moved = after(&mut cluster, &[place(1, &[1, 3], 0), place(1, &[1, 2], 0)]);
        assert!(
            matches!(moved[..], [Change::Placed(_), Change::Void(_)]),
            "{moved:?}"
        );
    }

    #[test]
    fn who_leaves_the_cluster_gets_no_topic_and_is_dropped_when_none_names_it() {
        let mut cluster = new();
        let leave = ClusterCommand::SetStanding {
            member: 3,
            standing: Standing::Leaving,
        };
        let drop = ClusterCommand::DropMember { member: 3 };
        let changes = after(
            &mut cluster,
            &[
                create("a", &[1, 3]),
                create("b", &[1, 2]),
                leave,
                create("c", &[1, 3]),
                place(2, &[1, 3], 0),
                drop.clone(),
                place(1, &[1, 2], 0),
                drop.clone(),
                settled(1, 1),
                drop,
            ],
        );
        let void = |at: usize| matches!(changes[at], Change::Void(_));
        let voids: Vec<_> = (0..changes.len()).filter(|at| void(*at)).collect();
        assert_eq!(voids, [3, 4, 5, 7], "{changes:#?}");
        assert!(matches!(changes[9], Change::Dropped(_)));
        assert_eq!(cluster.topic_of(GroupId(1)).unwrap().parted, [] as [u64; 0]);
    }

    #[test]
    fn settings_that_no_topic_can_have_are_void() {
        let mut cluster = new();
        let edit = |group: u64, replicas| ClusterCommand::EditTopic {
            group: GroupId(group),
            settings: TopicSettings { replicas },
        };
        let changes = after(
            &mut cluster,
            &[
                create("a", &[1]),
                edit(1, 0),
                edit(1, 200),
                edit(7, 1),
                edit(1, 5),
            ],
        );
        let void = changes.iter().filter(|one| matches!(one, Change::Void(_)));
        assert_eq!(void.count(), 3, "{changes:#?}");
        assert_eq!(cluster.topic_of(GroupId(1)).unwrap().settings.replicas, 5);
    }

    #[test]
    fn state_that_does_not_fit_together_is_refused() {
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
