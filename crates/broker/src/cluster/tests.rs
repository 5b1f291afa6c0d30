//! What commands make of the cluster's state.

use kontiki_raft::{Micros, Term, VOTERS_MAX};
use kontiki_wire::{MemberRef, TopicSettings};

use super::*;
use crate::catalogue::{too_many_replicas, too_many_topics};

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

/// The cluster's own group is made of these from here on.
fn made_of(cluster: &mut Cluster, members: &[u64]) {
    let nodes = members.iter().map(|id| cluster.member(*id).unwrap().node());
    let config = Membership::of(nodes.collect::<Vec<_>>());
    let mut entry = entry(cluster.applied().index.0 + 1, &delete("none", 0));
    entry.kind = Kind::Config;
    entry.body = config.encode();
    assert_eq!(cluster.apply(&entry), Ok(None));
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
    assert!(
        bytes < kontiki_wire::limits::CHECKPOINT_BYTES_MAX,
        "{bytes}"
    );
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
    assert_eq!((topic.founders.len(), &topic.coming[..]), (3, &[4][..]));
    assert!(!topic.settled && cluster.unsettled().contains(&GroupId(1)));
    assert_eq!((cluster.kept_by(3), cluster.kept_by(4)), (1, 1));

    // Before it has settled, it is placed anew: what is known to be settled then is past.
    after(&mut cluster, &[place(1, &[1, 3, 4], 1)]);
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!(
        (&topic.replicas[..], &topic.leaving[..]),
        (&[1, 3, 4][..], &[2][..])
    );
    assert_eq!(topic.coming, [4], "who comes back has it still");
    let past = after(&mut cluster, &[settled(1, 1)]);
    assert!(matches!(past[..], [Change::Void(_)]), "{past:?}");

    let done = after(&mut cluster, &[settled(1, 2), settled(1, 2)]);
    assert!(
        matches!(done[..], [Change::Settled(_), Change::Void(_)]),
        "{done:?}"
    );
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!((&topic.leaving[..], &topic.parted[..]), (&[][..], &[2][..]));
    assert_eq!(topic.coming, [] as [u64; 0]);
    assert!(topic.settled && cluster.unsettled().is_empty());
    assert_eq!(cluster.kept_by(2), 0);
}

#[test]
fn how_somebody_gets_on_with_a_topic_is_known_until_its_group_has_settled() {
    let report = |member, placement, stuck| ClusterCommand::ReportCopy {
        group: GroupId(1),
        placement,
        member,
        stuck,
    };
    let mut cluster = new();
    let mut state = birth();
    state.members.extend([member(4), member(5)]);
    cluster.state = state;
    after(
        &mut cluster,
        &[create("a", &[1, 2, 3]), place(1, &[1, 2, 4], 0)],
    );
    let before = cluster.topic_of(GroupId(1)).unwrap().clone();
    // Of another placement, of somebody who is there already, who leaves, or who never came.
    let void = [
        report(4, 0, true),
        report(2, 1, true),
        report(3, 1, true),
        report(5, 1, true),
        report(4, 1, false),
    ];
    for change in after(&mut cluster, &void) {
        assert!(matches!(change, Change::Void(_)), "{change:?}");
    }
    assert_eq!(cluster.topic_of(GroupId(1)), Some(&before));
    let said = [report(4, 1, true), report(4, 1, true), report(4, 1, false)];
    let changes = after(&mut cluster, &said);
    let [
        Change::Reported(topic),
        Change::Void(_),
        Change::Reported(after_all),
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!((&topic.stuck[..], after_all), (&[4][..], &before));

    // Another takes its place, and it is not chosen anew before that has settled.
    after(&mut cluster, &[report(4, 1, true), place(1, &[1, 2, 5], 1)]);
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!(
        (&topic.coming[..], &topic.stuck[..]),
        (&[4, 5][..], &[4][..])
    );
    after(&mut cluster, &[settled(1, 2)]);
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!(topic.stuck, [] as [u64; 0]);
    let past = after(&mut cluster, &[report(5, 2, true)]);
    assert!(matches!(past[..], [Change::Void(_)]), "{past:?}");
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
fn who_is_to_lead_a_topic_changes_and_nothing_else_and_only_to_somebody_who_keeps_it() {
    let prefer = |preferred, expect| ClusterCommand::Prefer {
        group: GroupId(1),
        preferred,
        expect,
    };
    let mut cluster = new();
    after(&mut cluster, &[create("a", &[1, 2])]);
    let before = cluster.topic_of(GroupId(1)).unwrap().clone();
    let changes = after(&mut cluster, &[prefer(3, 0), prefer(2, 1), prefer(2, 0)]);
    assert!(
        matches!(
            changes[..],
            [Change::Void(_), Change::Void(_), Change::Placed(_)]
        ),
        "{changes:?}"
    );
    let expected = Topic {
        preferred: 2,
        placement: 1,
        ..before
    };
    assert_eq!(cluster.topic_of(GroupId(1)), Some(&expected));
    assert_eq!(
        (cluster.loads().led_by(1), cluster.loads().led_by(2)),
        (0, 1)
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
            drop.clone(),
        ],
    );
    let void = |at: usize| matches!(changes[at], Change::Void(_));
    let voids: Vec<_> = (0..changes.len()).filter(|at| void(*at)).collect();
    assert_eq!(voids, [3, 4, 5, 7, 9], "{changes:#?}");
    // The last word is that of the cluster's own group, which is in its log too.
    made_of(&mut cluster, &[1, 2]);
    let dropped = after(&mut cluster, &[drop]);
    assert!(matches!(dropped[..], [Change::Dropped(_)]), "{dropped:?}");
    assert_eq!(cluster.topic_of(GroupId(1)).unwrap().parted, [] as [u64; 0]);
}

#[test]
fn who_is_demoted_gets_no_topic_and_may_keep_what_it_has_until_that_is_moved() {
    let mut cluster = new();
    let demote = ClusterCommand::SetStanding {
        member: 3,
        standing: Standing::Demoted,
    };
    let changes = after(
        &mut cluster,
        &[
            create("a", &[1, 3]),
            demote,
            create("b", &[1, 3]),
            place(1, &[3, 1, 2], 0),
            place(1, &[1, 2], 1),
            place(1, &[1, 3], 2),
        ],
    );
    let void = |at: usize| matches!(changes[at], Change::Void(_));
    let voids: Vec<_> = (0..changes.len()).filter(|at| void(*at)).collect();
    assert_eq!(voids, [2, 5], "{changes:#?}");
}

#[test]
fn who_is_to_lead_changes_without_unsettling_a_topic() {
    let mut cluster = new();
    after(&mut cluster, &[create("a", &[1, 2]), place(1, &[2, 1], 0)]);
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!((topic.preferred, topic.placement), (2, 1));
    assert!(topic.settled && topic.leaving.is_empty());
    // What has not settled yet is not settled by that.
    after(&mut cluster, &[place(1, &[2, 3], 1), place(1, &[3, 2], 2)]);
    let topic = cluster.topic_of(GroupId(1)).unwrap();
    assert_eq!((topic.settled, &topic.leaving[..]), (false, &[1][..]));
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
