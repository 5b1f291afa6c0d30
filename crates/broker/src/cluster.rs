//! The state of the cluster's own group, and what its commands change: a function of its entries
//! alone, so that every member comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_raft::{Entry, Fate, Index, Kind, LogId, Membership, NodeId, NodeRef, Refused};
use kontiki_wire::{
    ClusterCommand, ClusterState, GroupId, Member, Refusal, Spent, Standing, Token, Topic,
    TopicName, Versions,
    limits::{CONTROL_BYTES_MAX, MEMBERS_MAX, TOKENS_MAX, TOPICS_MAX},
};

use crate::placement::Loads;

/// Members, topics, settings.
///
/// Invariant: `state.topics` ascend in group and all lie below `state.next_group`, `names` has each
/// of them, `loads` counts each of them, `unsettled` has each that is not settled, and `keeping` counts
/// the topics that each member keeps or may be counted by still. Members ascend and lie below
/// `state.next_member`.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// What this node's build can do.
    pub(crate) build: Versions,
    applied: LogId,
    pub(crate) state: ClusterState,
    pub(crate) names: BTreeMap<TopicName, GroupId>,
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
    /// How somebody gets on with a topic that it was given was said.
    Reported(Topic),
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
    /// The cluster is at this version.
    Version(u16),
    /// One member goes on alone.
    Recovered {
        /// The topics of which it has nothing.
        lost: Vec<Topic>,
    },
    /// Whether topics and leaderships are spread evenly was said.
    Balance,
    /// What is agreed on about certificates is something else.
    Trusted,
    /// Nothing, agreed on for who wants to have applied all before it.
    Confirmed,
    /// It was void.
    Void(Refusal),
}

impl Cluster {
    /// Starts from a checkpoint, or from the birth state; says what does not fit.
    pub(crate) fn restore(
        birth: ClusterState,
        checkpoint: Option<&(LogId, Bytes)>,
    ) -> Result<Self, String> {
        Self::restored_by(Versions::MINE, birth, checkpoint)
    }

    /// The same in a build that can do these.
    pub(crate) fn restored_by(
        build: Versions,
        birth: ClusterState,
        checkpoint: Option<&(LogId, Bytes)>,
    ) -> Result<Self, String> {
        let (applied, mut state) = match checkpoint {
            None => (LogId::ORIGIN, birth),
            Some((at, bytes)) => {
                let state = ClusterState::from_bytes(bytes)?;
                (*at, state)
            }
        };
        // Group 0 is the cluster's own.
        state.next_group = state.next_group.max(1);
        if checkpoint.is_none() {
            let given = state.members.last().map_or(0, |member| member.id);
            state.next_member = state.next_member.max(given.saturating_add(1));
            state.named = state.members.iter().map(|member| member.id).collect();
        }
        check_not_ahead(build, state.version)?;
        check(&state)?;
        let mut cluster = Self {
            build,
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

    /// Goes on from another state as if every entry applied so far had come to it.
    pub(crate) fn become_of(&mut self, state: ClusterState) -> Result<(), String> {
        let (applied, since) = (self.applied, self.commands_since_checkpoint);
        *self = Self::restored_by(self.build, state, None)?;
        (self.applied, self.commands_since_checkpoint) = (applied, since);
        Ok(())
    }

    /// Applies the next entry; `None` if it carries no command. An error means that this node and the
    /// one that proposed the entry do not speak the same language.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<Option<Change>, String> {
        let change = match entry.kind {
            Kind::Noop => None,
            Kind::Config => {
                self.rename(entry)?;
                None
            }
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
            Command::Recover {
                recovery,
                survivor,
                topics,
                next_group,
            } => self.recover(recovery, survivor, (&topics, next_group), now)?,
            Command::Prefer {
                group,
                preferred,
                expect,
            } => self.prefer(group, preferred, expect),
            Command::StateVersions { member, versions } => self.state_versions(member, versions),
            Command::Finalize { version } => self.finalize(version)?,
            Command::SetBalance { on } => {
                self.state.balance = on;
                Change::Balance
            }
            Command::DropMember { member } => self.drop_member(member, now),
            Command::Revoke(whom) => self.revoke(whom, now),
            Command::Certify(papers) => self.certify(papers),
            Command::Confirm { .. } => Change::Confirmed,
            Command::ReportCopy {
                group,
                placement,
                member,
                stuck,
            } => self.report_copy(group, placement, member, stuck),
            Command::Rotate(rotate) => self.rotate(rotate),
            _ => {
                return Err(format!(
                    "entry {} is a command of a newer version",
                    entry.id
                ));
            }
        })
    }

    /// The cluster's own group is made of others from here on.
    fn rename(&mut self, entry: &Entry) -> Result<(), String> {
        let config = Membership::decode(&entry.body)
            .ok_or_else(|| format!("entry {} is no configuration", entry.id))?;
        let named = config.members().into_iter().map(|node| node.id.0);
        self.state.named = named.collect();
        Ok(())
    }

    pub(crate) fn count(&mut self, topic: &Topic) {
        self.loads.add(&topic.replicas, topic.preferred);
        for id in topic.keepers() {
            *self.keeping.entry(id).or_default() += 1;
        }
        if !topic.settled {
            self.unsettled.insert(topic.group);
        }
    }

    /// Takes back a [`Cluster::count`].
    pub(crate) fn discount(&mut self, topic: &Topic) {
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
        (self.applied, self.state.to_bytes().into())
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

    pub(crate) fn position(&self, group: GroupId) -> Option<usize> {
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

    /// Whether the cluster's own group is made of this member too.
    pub(crate) fn names(&self, id: u64) -> bool {
        self.state.named.binary_search(&id).is_ok()
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

/// Those of these entries that are not applied yet: a start also finds the one that its checkpoint ends with, and a
/// group that was mended meanwhile all that was applied before.
pub(crate) fn unapplied(entries: &[Entry], applied: Index) -> &[Entry] {
    &entries[entries.partition_point(|entry| entry.id.index <= applied)..]
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

/// The groups that these entries place on a member, each with the last entry that does.
pub(crate) fn placed_on(member: NodeId, entries: &[Entry]) -> BTreeMap<GroupId, Index> {
    let commands = entries.iter().filter(|entry| entry.kind == Kind::Command);
    let placed = commands.filter_map(|entry| {
        match kontiki_wire::decode("a cluster command", &entry.body, CONTROL_BYTES_MAX) {
            Ok(ClusterCommand::Place {
                group, replicas, ..
            }) if replicas.contains(&member.0) => Some((group, entry.id.index)),
            // What cannot be read stops the node when it is applied.
            _ => None,
        }
    });
    placed.collect()
}

pub(crate) fn no_such_topic(name: &TopicName) -> Refusal {
    Refusal::NoSuchTopic {
        name: name.to_string(),
    }
}

/// A command that cannot be done as it was meant, and why.
pub(crate) fn unfit(why: String) -> Change {
    Change::Void(Refusal::Unfit { why })
}

/// Refuses a version that lies ahead of a build.
pub(crate) fn check_not_ahead(build: Versions, version: u16) -> Result<(), String> {
    match version <= build.highest {
        true => Ok(()),
        false => build.check(version),
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
    if state.trust.check().is_err() || !state.trust.papers.is_sorted_by(|a, b| a.member < b.member)
    {
        return Err("what the cluster agreed on about certificates does not fit".to_owned());
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
mod tests;
