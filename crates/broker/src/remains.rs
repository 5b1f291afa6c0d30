//! What one member has left of a cluster whose majority is lost for good: what of it is known, what is not, and
//! the entries with which the member goes on alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::{
    Entry, Hard, Index, Kind, LogId, Membership, Micros, NodeRef, Persist, Term, WriteSeq,
};
use kontiki_wire::{
    ClusterCommand, ClusterState, GroupId, Member, Offset, Recovery, TopicName,
    limits::LOST_LISTED_MAX,
};

use crate::{
    apply::{CheckpointEvery, TopicLog},
    cluster::cluster_state,
    effect::GroupWrite,
    input::GroupBoot,
};

/// What a member has left of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remains {
    /// The member.
    pub me: NodeRef,
    /// The cluster's state as everything in its log here makes it, known to be committed or not.
    pub state: ClusterState,
    /// The cluster's own group, and those of the topics that are here, ascending.
    pub groups: Vec<GroupRemains>,
    /// Topics of which nothing is here.
    pub lost: Vec<TopicName>,
    /// Groups that are here and that the cluster's log, as it is here, does not name. None but damage
    /// makes one.
    pub nameless: Vec<GroupId>,
    /// Why the member cannot go on with this, a sentence each; none if it can.
    pub obstacles: Vec<String>,
}

/// What is left of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRemains {
    /// Which.
    pub group: GroupId,
    /// Its topic; `None` for the cluster's own group.
    pub topic: Option<TopicName>,
    /// The latest term that it was in here.
    pub term: Term,
    /// The last entry that is here.
    pub last: LogId,
    /// Up to here it is known to be committed. What follows was perhaps acknowledged, and perhaps not; it
    /// counts from now on.
    pub commit: Index,
    /// The offset that comes next, everything here included.
    pub next: Offset,
    /// Who counts, as the last configuration here says.
    pub config: Membership,
    /// Whether this member may have forgotten what it acknowledged.
    pub forgot: bool,
    /// The time of the last entry, as far as it is known.
    time: Micros,
}

impl GroupRemains {
    /// Whether it can go on with this member alone as it is.
    #[must_use]
    pub fn is_alive(&self, me: NodeRef) -> bool {
        let half = |voters: &std::collections::BTreeSet<NodeRef>| {
            let others = voters.iter().filter(|voter| **voter != me).count();
            voters.contains(&me) && others == 0
        };
        half(&self.config.voters) && (!self.config.is_joint() || half(&self.config.outgoing))
    }
}

/// Says what member `me` has left of the cluster that was born as `birth`, of what its disk holds. Fails
/// only if that contradicts itself.
pub fn remains(birth: &ClusterState, me: NodeRef, boots: &[GroupBoot]) -> Result<Remains, String> {
    let mut held: BTreeMap<GroupId, &GroupBoot> =
        boots.iter().map(|boot| (boot.group, boot)).collect();
    let mut left = Remains {
        me,
        state: birth.clone(),
        groups: Vec::new(),
        lost: Vec::new(),
        nameless: Vec::new(),
        obstacles: Vec::new(),
    };
    let own = held.remove(&GroupId::CLUSTER);
    let Some(own) = own.filter(|own| own.boot.last > Index(0) || !own.missing.is_empty()) else {
        let what = "nothing of the cluster's own log is here, and without it nobody knows what the \
                    rest is: recover another member";
        left.obstacles.push(what.to_owned());
        return Ok(left);
    };
    if let Some(what) = unreadable("the cluster's own log", own) {
        left.obstacles.push(what);
        return Ok(left);
    }
    left.state = cluster_state(birth.clone(), own.checkpoint.as_ref(), &unapplied(own))?;
    let founders = Membership::of(birth.members.iter().map(Member::node));
    left.groups.push(group(own, None, founders)?);
    for topic in &left.state.topics {
        let Some(boot) = held.remove(&topic.group) else {
            left.lost.push(topic.name.clone());
            continue;
        };
        if let Some(what) = unreadable(&format!("topic {}", topic.name), boot) {
            left.obstacles.push(what);
            continue;
        }
        let founders = topic.founders.iter().map(|founder| NodeRef::from(*founder));
        let founders = Membership::of(founders);
        let name = Some(topic.name.clone());
        left.groups.push(group(boot, name, founders)?);
    }
    // One with a number that was given belongs to a topic that was deleted.
    let nameless = held.into_keys().filter(|id| id.0 >= left.state.next_group);
    left.nameless = nameless.collect();
    if left.me().is_none() {
        let what = "the cluster's log, as it is here, does not name this member: it had been removed \
                    before, or had only just joined; recover another member";
        left.obstacles.push(what.to_owned());
    }
    Ok(left)
}

/// Why a log with entries that cannot be read cannot be gone on with.
fn unreadable(whose: &str, boot: &GroupBoot) -> Option<String> {
    let (first, last) = (boot.missing.first()?.0, boot.missing.last()?.1);
    Some(format!(
        "{whose} lacks entries between {first} and {last} here ({}), and nobody is left to give them: \
         bring back a copy of what is damaged, or recover another member",
        boot.damage
    ))
}

/// The entries that the checkpoint does not include.
fn unapplied(boot: &GroupBoot) -> Vec<Entry> {
    let applied = boot.boot.applied;
    let tail = boot.boot.tail.iter();
    tail.filter(|entry| entry.id.index > applied)
        .cloned()
        .collect()
}

fn group(
    held: &GroupBoot,
    topic: Option<TopicName>,
    founders: Membership,
) -> Result<GroupRemains, String> {
    let boot = &held.boot;
    let in_tail = boot.tail.iter().rev();
    let config = in_tail.filter(|entry| entry.kind == Kind::Config);
    let config = config.map(|entry| Membership::decode(&entry.body)).next();
    let config = match config {
        Some(config) => config
            .ok_or_else(|| format!("group {} has a configuration that is none", held.group))?,
        None => match boot.configs.last_key_value() {
            Some((_, config)) => config.clone(),
            None if boot.base_config.1 == Membership::default() => founders,
            None => boot.base_config.1.clone(),
        },
    };
    let next = match topic {
        None => Offset(0),
        Some(_) => {
            let mut log = TopicLog::restore(held.checkpoint.as_ref(), CheckpointEvery::default())?;
            for entry in unapplied(held) {
                log.apply(&entry)?;
            }
            log.next()
        }
    };
    let last_term = boot.terms.last().map_or(boot.base.term, |run| run.1);
    Ok(GroupRemains {
        group: held.group,
        topic,
        term: boot.hard.term.max(last_term),
        last: LogId {
            term: last_term,
            index: boot.last,
        },
        commit: boot.commit.min(boot.last),
        next,
        config,
        forgot: boot.forgot || boot.hard.recovering,
        time: boot.tail.last().map_or(Micros(0), |entry| entry.time),
    })
}

impl Remains {
    /// The member, as the cluster's log knows it.
    #[must_use]
    pub fn me(&self) -> Option<&Member> {
        let mut members = self.state.members.iter();
        members.find(|member| member.node() == self.me)
    }

    /// The members that are given up.
    pub fn given_up(&self) -> impl Iterator<Item = &Member> {
        let members = self.state.members.iter();
        members.filter(|member| member.node() != self.me)
    }

    /// Completes what is to be remembered of a recovery with what is lost by it.
    #[must_use]
    pub fn record(&self, recovery: Recovery) -> Recovery {
        let lost = self.lost.iter().map(TopicName::to_string);
        Recovery {
            survivor: self.me().map(|me| me.name.clone()).unwrap_or_default(),
            given_up: self.given_up().map(|member| member.name.clone()).collect(),
            kept: self.groups.len().saturating_sub(1) as u64,
            lost: self.lost.len() as u64,
            lost_topics: lost.take(LOST_LISTED_MAX).collect(),
            ..recovery
        }
    }

    /// Whether there is nothing to recover: every group here can go on with this member alone. What others keep,
    /// a recovery would only give up. One that was interrupted can look like that, and is finished all the same.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.obstacles.is_empty() && self.groups.iter().all(|group| group.is_alive(self.me))
    }

    /// What is to be appended to every group here, at this time, for the member to go on alone. To append it
    /// twice does no harm while nobody else has heard of the first time. The cluster's own group, which tells
    /// that it was done, comes last: what is written may be cut short anywhere.
    ///
    /// # Panics
    /// If there are obstacles.
    #[must_use]
    pub fn takeover(&self, recovery: &Recovery, now: Micros) -> Vec<GroupWrite> {
        assert!(self.obstacles.is_empty(), "{:?}", self.obstacles);
        let topics_first = self.groups.iter().rev();
        let writes = topics_first.map(|group| {
            let mut bodies = vec![(Kind::Config, Membership::of([self.me]).encode())];
            if group.topic.is_none() {
                let command = kontiki_wire::encode(&self.command(recovery));
                bodies.push((Kind::Command, command.into()));
            }
            self.append(group, bodies, now)
        });
        writes.collect()
    }

    fn command(&self, recovery: &Recovery) -> ClusterCommand {
        let topics = self.groups.iter().filter(|group| group.topic.is_some());
        let highest = self.nameless.last().map_or(0, |group| group.0);
        ClusterCommand::Recover {
            recovery: recovery.clone(),
            survivor: self.me.id.0,
            topics: topics.map(|group| group.group).collect(),
            next_group: highest.saturating_add(1),
        }
    }

    /// In a term that is later than all that are known here: those who are not asked may have been in it, and
    /// are of another epoch.
    fn append(&self, group: &GroupRemains, bodies: Vec<(Kind, Bytes)>, now: Micros) -> GroupWrite {
        let term = Term(group.term.0.saturating_add(1));
        let first = group.last.index.0.saturating_add(1);
        let append = (first..).zip(bodies).map(|(index, (kind, body))| Entry {
            id: LogId {
                term,
                index: Index(index),
            },
            kind,
            time: now.max(group.time),
            checksum: kontiki_wire::entry_checksum(&body),
            body,
        });
        GroupWrite {
            group: group.group,
            persist: Persist {
                // No Raft waits for it.
                seq: WriteSeq(0),
                hard: Some(Hard {
                    term,
                    vote: Some(self.me),
                    recovering: false,
                }),
                truncate_from: None,
                append: append.collect(),
                commit: group.commit,
            },
        }
    }
}

#[cfg(test)]
mod tests;
