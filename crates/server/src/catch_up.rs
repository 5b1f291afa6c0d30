//! How far a member is that has just joined, or comes back, for whoever runs it.

use std::collections::BTreeMap;

use kontiki_wire::{GroupId, GroupStatus, MemberStatus, TopicName};

/// What a member lacks to be like the others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CatchUp {
    /// Whether it counts in the cluster's own group, as far as it knows.
    pub votes: bool,
    /// Whether it has that group's log, and does not count.
    pub learns: bool,
    /// Every log that it keeps, and whether it has all of it that is agreed on, but for what is on its way.
    pub logs: BTreeMap<GroupId, bool>,
    /// The logs of which it lacks a part that takes a while.
    pub copies: Vec<Copying>,
}

/// A log that a member copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copying {
    /// Its group.
    pub group: GroupId,
    /// What is copied from whom, or what that waits for, in a sentence.
    pub why: String,
    /// About how many bytes are left, as far as that is known.
    pub bytes_left: u64,
}

impl CatchUp {
    /// What a member says of itself.
    pub(crate) fn of(status: &MemberStatus, name: impl Fn(GroupId) -> Option<TopicName>) -> Self {
        let me = status.member.name.as_str();
        let mut groups = status.groups.iter();
        let own = groups.find(|group| group.group == GroupId::CLUSTER);
        let hears = |group: &GroupStatus| group.leader.is_some() && group.fetching.is_none();
        let own = own.filter(|own| hears(own));
        let own = own.map(|own| state(own, me).map_or(VOTES, |(state, _)| state));
        let has = |group: &GroupStatus| {
            hears(group) && !matches!(state(group, me), Some((COPIES | RECOVERS, _)))
        };
        let logs = status.groups.iter().map(|group| (group.group, has(group)));
        let copies = status.groups.iter().filter_map(|group| {
            let what = || match (group.group, name(group.group)) {
                (GroupId::CLUSTER, _) => "the cluster's own log".to_owned(),
                (_, Some(topic)) => format!("topic {topic}"),
                (other, None) => format!("group {other}"),
            };
            copying(group, me, what)
        });
        Self {
            votes: own.is_some_and(|state| !matches!(state, LEARNER | COPIES | RECOVERS)),
            learns: own == Some(LEARNER),
            logs: logs.collect(),
            copies: copies.collect(),
        }
    }
}

/// What a member says of its own replica of a group, and how much it lacks.
fn state<'a>(group: &'a GroupStatus, me: &str) -> Option<(&'a str, u64)> {
    let own = group.replicas.iter().find(|replica| replica.name == me)?;
    Some((&own.state, own.lag_bytes))
}

fn copying(group: &GroupStatus, me: &str, what: impl FnOnce() -> String) -> Option<Copying> {
    let (why, bytes_left) = match (&group.fetching, state(group, me)) {
        (Some(fetching), _) => {
            let left = fetching.of.saturating_sub(fetching.bytes);
            (fetching.why.clone(), left)
        }
        (None, Some((COPIES, left))) => {
            let from = group.leader.as_deref();
            let from = from.unwrap_or("whoever leads it, when somebody does");
            (format!("{me} copies {} from {from}", what()), left)
        }
        (None, _) => return None,
    };
    Some(Copying {
        group: group.group,
        why,
        bytes_left,
    })
}

/// Stands for whatever a member says of itself that counts and lacks nothing.
const VOTES: &str = "follower";
const LEARNER: &str = "learner";
const COPIES: &str = "catching-up";
const RECOVERS: &str = "recovering";

#[cfg(test)]
mod tests {
    use kontiki_wire::{FetchStatus, MemberInfo, Offset, ReplicaStatus};

    use super::*;

    fn group(id: u64, own: Option<(&str, u64)>) -> GroupStatus {
        let own = own.map(|(state, lag_bytes)| ReplicaStatus {
            name: "n4".to_owned(),
            lag_bytes,
            state: state.to_owned(),
            ..ReplicaStatus::default()
        });
        GroupStatus {
            group: GroupId(id),
            leader: Some("n1".to_owned()),
            term: 3,
            first: Offset(0),
            next: Offset(0),
            replicas: own.into_iter().collect(),
            wanted: Vec::new(),
            waits: None,
            fetching: None,
        }
    }

    fn seen(groups: Vec<GroupStatus>) -> CatchUp {
        let status = MemberStatus {
            member: MemberInfo {
                name: "n4".to_owned(),
                ..MemberInfo::default()
            },
            recovering: Vec::new(),
            groups,
            placing: Vec::new(),
            up_seconds: 1,
            build: String::new(),
            version: 1,
        };
        CatchUp::of(&status, |group| {
            (group == GroupId(7)).then(|| "orders".parse().unwrap())
        })
    }

    #[test]
    fn whoever_hears_a_leader_and_is_no_learner_votes() {
        assert!(seen(vec![group(0, None)]).votes);
        assert!(seen(vec![group(0, Some(("leader", 0)))]).votes);
        for state in ["learner", "catching-up", "recovering"] {
            let seen = seen(vec![group(0, Some((state, 0)))]);
            assert!(!seen.votes, "{state}");
            assert_eq!(seen.learns, state == "learner");
        }
        let unled = GroupStatus {
            leader: None,
            ..group(0, None)
        };
        let unled = seen(vec![unled]);
        assert!(!unled.votes && !unled.logs[&GroupId(0)]);
        assert_eq!(seen(Vec::new()), CatchUp::default());
    }

    #[test]
    fn what_is_fetched_and_what_is_sent_is_told_with_from_whom_and_how_much_is_left() {
        let mut fetched = group(9, Some(("catching-up", 0)));
        fetched.fetching = Some(FetchStatus {
            from: Some("n2".to_owned()),
            bytes: 3,
            of: 10,
            bytes_per_second: 1,
            why: "n4 fetches from n2 the log of topic t".to_owned(),
        });
        let seen = seen(vec![
            group(0, Some(("catching-up", 0))),
            group(7, Some(("catching-up", 5))),
            group(8, Some(("learner", 0))),
            fetched,
        ]);
        let told = seen
            .copies
            .iter()
            .map(|it| (it.why.as_str(), it.bytes_left));
        let told: Vec<_> = told.collect();
        let expected = [
            ("n4 copies the cluster's own log from n1", 0),
            ("n4 copies topic orders from n1", 5),
            ("n4 fetches from n2 the log of topic t", 7),
        ];
        assert_eq!(told, expected);
        let has = [0, 7, 8, 9].map(|group| seen.logs[&GroupId(group)]);
        assert_eq!(has, [false, false, true, false]);
    }
}
