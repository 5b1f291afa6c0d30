//! What all members say of themselves, joined.

use std::collections::HashMap;

use kontiki_wire::{
    ClusterId, FetchStatus, GroupId, GroupStatus, MemberInfo, MemberStatus, Offset, ReplicaStatus,
    TopicInfo,
};
use serde::Serialize;

use crate::routing::Metadata;

/// The state of a cluster, as its members tell it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Which cluster, in hexadecimal.
    pub cluster_id: String,
    /// Whether there is nothing to say in `reasons`.
    pub healthy: bool,
    /// What is wrong, in sentences.
    pub reasons: Vec<String>,
    /// Who leads the cluster's own group, by name.
    pub leader: Option<String>,
    /// The version that the cluster is at, as far as those who answered know.
    pub version: Option<u16>,
    /// A later one that all members can do, if there is one: an operator can have the cluster come to it.
    pub next_version: Option<u16>,
    /// The members, by number.
    pub members: Vec<MemberHealth>,
    /// The topics, by name.
    pub topics: Vec<TopicHealth>,
    /// What may be as it was asked for, and is weaker than it looks, in sentences.
    pub warnings: Vec<String>,
    /// What the cluster works on because members came or went, and what it waits for, in sentences.
    pub placing: Vec<String>,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct MemberHealth {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Where clients reach it.
    pub address: String,
    /// `up`, `down` or `recovering`.
    pub state: String,
    /// What the cluster is to do with it: `active`, `draining` or `leaving`.
    pub standing: String,
    /// Whether it counts in the cluster's own group.
    pub voter: bool,
    /// Seconds since it started, if it answered.
    pub up_seconds: Option<u64>,
    /// The release that it runs, if it answered.
    pub build: Option<String>,
    /// The lowest version that its build can do, as the cluster knows.
    pub lowest_version: u16,
    /// The highest.
    pub highest_version: u16,
}

/// One topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct TopicHealth {
    /// Its name.
    pub name: String,
    /// Its group.
    #[serde(serialize_with = "group")]
    pub group: GroupId,
    /// The leader's name.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The first offset there is.
    #[serde(serialize_with = "offset")]
    pub first_offset: Offset,
    /// The watermark.
    #[serde(serialize_with = "offset")]
    pub next_offset: Offset,
    /// Its replicas.
    pub replicas: Vec<ReplicaHealth>,
    /// The names of those who are to keep it, while they are others than those who do.
    pub wanted: Vec<String>,
    /// What it waits for until they do.
    pub waits: Option<String>,
}

/// One replica of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplicaHealth {
    /// The member's name.
    pub name: String,
    /// Records below this offset are durable there.
    #[serde(serialize_with = "offset")]
    pub match_offset: Offset,
    /// Records it is behind the leader.
    pub lag: u64,
    /// About how many bytes it lacks.
    pub lag_bytes: u64,
    /// About how many bytes it takes in a second, while it joins.
    pub bytes_per_second: u64,
    /// Milliseconds since it last answered the leader, if the leader tells.
    pub silent_ms: Option<u64>,
    /// `leader`, `follower`, `learner`, `catching-up`, `fetching`, `unreachable`, `recovering` or `unknown`.
    pub state: String,
    /// Whom it fetches from what it lacks, as it lies there in files, or what it waits for, in a sentence.
    pub fetching: Option<String>,
}

/// What one member says of itself and its groups, or why it says nothing.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Witness {
    pub(crate) name: String,
    pub(crate) said: Result<MemberStatus, String>,
}

/// Which members and topics there are.
pub(crate) struct Listed {
    /// Whether it is the leader of the cluster's own group that says so, or only some member.
    pub(crate) confirmed: bool,
    pub(crate) known: Metadata,
}

impl ClusterStatus {
    /// Joins what the members say.
    pub(crate) fn join(cluster: ClusterId, listed: &Listed, witnesses: Vec<Witness>) -> Self {
        let said: HashMap<String, Result<MemberStatus, String>> = witnesses
            .into_iter()
            .map(|witness| (witness.name, witness.said))
            .collect();
        let groups = best_of(said.values().flatten());
        let mut reasons = Vec::new();
        let council = groups.get(&GroupId::CLUSTER).copied();
        if council.is_none_or(|council| council.leader.is_none()) {
            reasons.push("the cluster's own group has no leader".to_owned());
        } else if !listed.confirmed {
            reasons.push(
                "the leader of the cluster's own group did not confirm in time which topics there are"
                    .to_owned(),
            );
        }
        let waits = council.and_then(|council| council.waits.clone());
        let waits = waits.map(|why| format!("the cluster's own group: {why}"));
        let placing = said.values().flatten().flat_map(|status| &status.placing);
        let placing = waits.into_iter().chain(placing.cloned()).collect();
        let Metadata { members, topics } = &listed.known;
        let mut members: Vec<_> = members
            .iter()
            .map(|info| member_health(info, said.get(&info.name), council, &mut reasons))
            .collect();
        members.sort_by_key(|member| member.id);
        let mut topics: Vec<_> = topics
            .iter()
            .map(|info| topic_health(info, groups.get(&info.group).copied(), &said))
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let down = |name: &str| {
            members
                .iter()
                .any(|member| member.name == name && member.state == DOWN)
        };
        for topic in &topics {
            complain(topic, down, &mut reasons);
        }
        let answered = said.values().flatten();
        let version = answered.map(|status| status.version).max();
        let infos = listed.known.members.iter();
        Self {
            version,
            next_version: version.and_then(|version| next_version(version, infos)),
            cluster_id: cluster.to_string(),
            healthy: reasons.is_empty(),
            reasons,
            leader: council.and_then(|council| council.leader.clone()),
            members,
            topics,
            warnings: council.and_then(few_voters).into_iter().collect(),
            placing,
        }
    }
}

/// A version later than this that all members can do.
fn next_version<'a>(version: u16, members: impl Iterator<Item = &'a MemberInfo>) -> Option<u16> {
    let highest = members.map(|member| member.versions.highest).min()?;
    (highest > version).then_some(highest)
}

const UP: &str = "up";
const DOWN: &str = "down";
const RECOVERING: &str = "recovering";
const LEARNER: &str = "learner";

/// Whether it is the leader's, who alone knows all replicas. Others list their own at most.
fn is_leaders(group: &GroupStatus) -> bool {
    let mut states = group.replicas.iter().map(|replica| &replica.state);
    states.any(|state| state == "leader")
}

/// Of each group, what its leader says; without one, whoever knows the latest term.
fn best_of<'a>(
    members: impl Iterator<Item = &'a MemberStatus>,
) -> HashMap<GroupId, &'a GroupStatus> {
    let mut best: HashMap<GroupId, &GroupStatus> = HashMap::new();
    let weight = |group: &GroupStatus| (group.term, is_leaders(group), group.next);
    for group in members.flat_map(|member| &member.groups) {
        best.entry(group.group)
            .and_modify(|known| {
                if weight(group) > weight(known) {
                    *known = group;
                }
            })
            .or_insert(group);
    }
    best
}

fn member_health(
    info: &MemberInfo,
    said: Option<&Result<MemberStatus, String>>,
    council: Option<&GroupStatus>,
    reasons: &mut Vec<String>,
) -> MemberHealth {
    let name = &info.name;
    let (state, up_seconds) = match said {
        Some(Ok(status)) => {
            reasons.extend(status.recovering.iter().cloned());
            let state = match status.recovering.is_empty() {
                true => UP,
                false => RECOVERING,
            };
            (state, Some(status.up_seconds))
        }
        Some(Err(why)) => {
            reasons.push(format!(
                "member {name} does not answer at {} ({why})",
                info.address
            ));
            (DOWN, None)
        }
        None => {
            reasons.push(format!(
                "member {name} was not asked, it has only just joined"
            ));
            (DOWN, None)
        }
    };
    // Without its leader nobody knows better than that all members vote.
    let listed = council
        .filter(|council| is_leaders(council))
        .map(|council| {
            let mut replicas = council.replicas.iter();
            let counts = |state: &str| state != RECOVERING && state != LEARNER;
            replicas.any(|replica| replica.name == *name && counts(&replica.state))
        });
    let voter = state != RECOVERING && listed.unwrap_or(true);
    MemberHealth {
        name: name.clone(),
        id: info.id,
        address: info.address.clone(),
        state: state.to_owned(),
        standing: info.standing.to_string(),
        voter,
        up_seconds,
        build: said.and_then(|said| Some(said.as_ref().ok()?.build.clone())),
        lowest_version: info.versions.lowest,
        highest_version: info.versions.highest,
    }
}

fn topic_health(
    info: &TopicInfo,
    group: Option<&GroupStatus>,
    said: &HashMap<String, Result<MemberStatus, String>>,
) -> TopicHealth {
    let health = |replica: &ReplicaStatus| ReplicaHealth {
        name: replica.name.clone(),
        match_offset: replica.match_offset,
        lag: replica.lag,
        lag_bytes: replica.lag_bytes,
        bytes_per_second: replica.bytes_per_second,
        silent_ms: replica.silent_ms,
        state: replica.state.clone(),
        fetching: None,
    };
    // What a member says of its own replica, if nobody knows better.
    let own = |name: &String| {
        let said = said.get(name).and_then(|said| said.as_ref().ok());
        let groups = said.map(|said| &said.groups).into_iter().flatten();
        let mut replicas = groups
            .filter(|group| group.group == info.group)
            .flat_map(|group| &group.replicas);
        let own = replicas.find(|replica| replica.name == *name);
        own.map_or_else(
            || ReplicaHealth {
                name: name.clone(),
                match_offset: Offset(0),
                lag: 0,
                lag_bytes: 0,
                bytes_per_second: 0,
                silent_ms: None,
                state: "unknown".to_owned(),
                fetching: None,
            },
            health,
        )
    };
    let mut replicas: Vec<_> = match group.filter(|group| is_leaders(group)) {
        None => info.replicas.iter().map(own).collect(),
        Some(group) => group.replicas.iter().map(health).collect(),
    };
    for (name, status) in fetches(info.group, said) {
        let fetched = fetching(name, status);
        match replicas.iter_mut().find(|replica| replica.name == *name) {
            Some(replica) => *replica = fetched,
            None => replicas.push(fetched),
        }
    }
    TopicHealth {
        name: info.name.to_string(),
        group: info.group,
        leader: group.map_or_else(|| info.leader.clone(), |group| group.leader.clone()),
        term: group.map_or(0, |group| group.term),
        first_offset: group.map_or(info.first, |group| group.first),
        next_offset: group.map_or(info.next, |group| group.next),
        replicas,
        wanted: group.map_or_else(Vec::new, |group| group.wanted.clone()),
        waits: group.and_then(|group| group.waits.clone()),
    }
}

/// Who fetches a group's log and so is no Raft in it yet: its leader cannot know how far it is, nor that it is
/// there.
fn fetches(
    group: GroupId,
    said: &HashMap<String, Result<MemberStatus, String>>,
) -> Vec<(&String, &FetchStatus)> {
    let said = said.iter().filter_map(|(name, said)| {
        let groups = &said.as_ref().ok()?.groups;
        let own = groups.iter().find(|one| one.group == group)?;
        Some((name, own.fetching.as_ref()?))
    });
    let mut fetches: Vec<_> = said.collect();
    fetches.sort_by_key(|(name, _)| *name);
    fetches
}

fn fetching(name: &str, status: &FetchStatus) -> ReplicaHealth {
    ReplicaHealth {
        name: name.to_owned(),
        match_offset: Offset(0),
        lag: 0,
        lag_bytes: status.of.saturating_sub(status.bytes),
        bytes_per_second: status.bytes_per_second,
        silent_ms: None,
        state: "fetching".to_owned(),
        fetching: Some(status.why.clone()),
    }
}

/// What it means that the cluster's own group has so few voters, or so many that one more is of no use.
fn few_voters(council: &GroupStatus) -> Option<String> {
    if !is_leaders(council) {
        return None;
    }
    let states = council.replicas.iter().map(|replica| &replica.state);
    let voters = states.filter(|state| *state != LEARNER).count();
    match voters {
        0 => None,
        1 => Some(
            "one voter: while it is down the cluster is, and what it loses is lost; two more members let one \
             fail"
                .to_owned(),
        ),
        2 => Some("two voters: neither may fail; a third member lets one fail".to_owned()),
        even if even % 2 == 0 => {
            let may_fail = even / 2 - 1;
            Some(format!(
                "{even} voters: {may_fail} may fail, no more than of {}; another member lets {} fail, and so \
                 `kontiki member demote` of one costs nothing",
                even - 1,
                may_fail + 1
            ))
        }
        _ => None,
    }
}

/// What is wrong with a topic that its members' being down does not say already.
fn complain(topic: &TopicHealth, down: impl Fn(&str) -> bool, reasons: &mut Vec<String>) {
    let name = &topic.name;
    if topic.leader.is_none() {
        reasons.push(format!(
            "topic {name} has no leader: nothing can be appended to it"
        ));
    }
    for replica in topic.replicas.iter().filter(|replica| !down(&replica.name)) {
        let member = &replica.name;
        match replica.state.as_str() {
            "unreachable" => reasons.push(format!(
                "the leader of topic {name} cannot reach its replica at {member}"
            )),
            "recovering" => reasons.push(format!(
                "the replica of topic {name} at {member} is being repaired"
            )),
            "catching-up" => reasons.push(format!(
                "the replica of topic {name} at {member} is {} records behind",
                replica.lag
            )),
            _ => {}
        }
    }
}

fn group<S: serde::Serializer>(group: &GroupId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(group.0)
}

fn offset<S: serde::Serializer>(offset: &Offset, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(offset.0)
}

#[cfg(test)]
mod tests;
