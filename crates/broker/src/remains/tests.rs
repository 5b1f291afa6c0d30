//! What is left of clusters, by hand: three members, of which the first one's disk is looked at.

use kontiki_raft::{Boot, Incarnation, NodeId};
use kontiki_wire::{BatchBuilder, Epoch, ProducerId, Record, TopicSettings};

use super::*;

fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id * 10),
    }
}

fn birth() -> ClusterState {
    let member = |id: u64| Member {
        id,
        incarnation: id * 10,
        name: format!("n{id}"),
        ..Member::default()
    };
    ClusterState {
        members: (1..=3).map(member).collect(),
        next_member: 4,
        ..ClusterState::default()
    }
}

fn recovery() -> Recovery {
    Recovery {
        epoch: Epoch { number: 1, mark: 7 },
        at: 1_000,
        by: "ada".to_owned(),
        ..Recovery::default()
    }
}

fn entry(index: u64, kind: Kind, body: Bytes) -> Entry {
    Entry {
        id: LogId {
            term: Term(4),
            index: Index(index),
        },
        kind,
        time: Micros(100 + index),
        checksum: kontiki_wire::entry_checksum(&body),
        body,
    }
}

fn create(index: u64, name: &str, replicas: &[u64]) -> Entry {
    let command = ClusterCommand::CreateTopic {
        name: name.parse().unwrap(),
        settings: TopicSettings::default(),
        replicas: replicas.to_vec(),
        preferred: replicas[0],
    };
    entry(index, Kind::Command, kontiki_wire::encode(&command).into())
}

fn batch(index: u64) -> Entry {
    let mut builder = BatchBuilder::new(256);
    builder.push(&Record::default()).unwrap();
    let batch = builder.finish(ProducerId(7), 0, index - 1);
    entry(index, Kind::Batch, batch.bytes().clone())
}

fn boot(group: u64, entries: Vec<Entry>) -> GroupBoot {
    let mut boot = Boot::born(node(1), Membership::default());
    boot.fresh = false;
    boot.hard.term = Term(6);
    boot.last = Index(entries.len() as u64);
    boot.terms = vec![(Index(1), Term(4))];
    boot.commit = Index(1);
    boot.tail = entries;
    GroupBoot {
        group: GroupId(group),
        boot,
        checkpoint: None,
        missing: Vec::new(),
        damage: String::new(),
    }
}

/// Topics `kept`, of which there are two records here, and `lost`, which the others kept.
fn three() -> Vec<GroupBoot> {
    let commands = vec![create(1, "kept", &[2, 1, 3]), create(2, "lost", &[2, 3])];
    vec![boot(0, commands), boot(1, vec![batch(1), batch(2)])]
}

fn obstacle(boots: &[GroupBoot]) -> String {
    let left = remains(&birth(), node(1), boots).unwrap();
    left.obstacles.join("; ")
}

#[test]
fn what_is_left_is_told_and_what_only_others_had_is_named() {
    let left = remains(&birth(), node(1), &three()).unwrap();
    assert_eq!(left.obstacles, Vec::<String>::new());
    let [own, kept] = &left.groups[..] else {
        panic!("{left:?}")
    };
    assert_eq!((own.group, own.last.index), (GroupId::CLUSTER, Index(2)));
    assert_eq!(kept.topic.as_ref().unwrap().as_str(), "kept");
    assert_eq!((kept.next, kept.commit), (Offset(2), Index(1)));
    assert_eq!(kept.config, Membership::of([1, 2, 3].map(node)));
    assert!(!kept.is_alive(node(1)));
    assert_eq!(left.lost, ["lost".parse().unwrap()]);
    let record = left.record(recovery());
    assert_eq!(record.given_up, ["n2", "n3"]);
    assert_eq!((record.survivor.as_str(), record.kept), ("n1", 1));
    assert_eq!(record.lost_topics, ["lost"]);
}

#[test]
fn every_group_here_goes_on_alone_in_a_later_term_with_all_that_it_has() {
    let left = remains(&birth(), node(1), &three()).unwrap();
    let record = left.record(recovery());
    let writes = left.takeover(&record, Micros(50));
    assert_eq!(writes.len(), 2);
    for write in &writes {
        let hard = write.persist.hard.unwrap();
        assert_eq!((hard.term, hard.vote), (Term(7), Some(node(1))));
        assert_eq!(write.persist.truncate_from, None);
        let config = &write.persist.append[0];
        assert_eq!((config.id.term, config.id.index), (Term(7), Index(3)));
        assert!(config.time > Micros(101), "time goes on");
        let config = Membership::decode(&config.body).unwrap();
        assert_eq!(config, Membership::of([node(1)]));
    }
    // Whatever is cut off, it is never said to be done before it is.
    let [kept, own] = &writes[..] else { panic!() };
    assert_eq!((kept.group, own.group), (GroupId(1), GroupId::CLUSTER));
    assert_eq!(kept.persist.append.len(), 1);
    let mut entries = three()[0].boot.tail.clone();
    entries.extend(own.persist.append.iter().cloned());
    let state = cluster_state(birth(), None, &entries).unwrap();
    assert_eq!(state.recoveries, [record]);
    let members: Vec<u64> = state.members.iter().map(|member| member.id).collect();
    assert_eq!((members, state.next_member), (vec![1], 4));
    let [topic] = &state.topics[..] else {
        panic!("{state:?}")
    };
    assert_eq!((&topic.replicas[..], topic.settled), (&[1][..], true));

    // Interrupted and done again, it comes to the same.
    let mut again = three();
    for (boot, write) in again.iter_mut().zip(writes.iter().rev()) {
        boot.boot.tail.extend(write.persist.append.iter().cloned());
        boot.boot.last = Index(boot.boot.tail.len() as u64);
        boot.boot.terms.push((Index(3), Term(7)));
        boot.boot.hard = write.persist.hard.unwrap();
    }
    let twice = remains(&birth(), node(1), &again).unwrap();
    assert!(twice.goes_on());
    assert_eq!(twice.state, state);
}

#[test]
fn topics_that_only_others_keep_are_no_reason_to_give_those_up() {
    let alone = Membership::of([node(1)]).encode();
    let entries = vec![
        create(1, "others", &[2, 3]),
        entry(2, Kind::Config, alone.clone()),
    ];
    let left = remains(&birth(), node(1), &[boot(0, entries)]).unwrap();
    assert_eq!(left.lost, ["others".parse().unwrap()]);
    assert!(left.goes_on());
    // One of which something is here that cannot go on is one.
    let entries = vec![create(1, "kept", &[1, 2]), entry(2, Kind::Config, alone)];
    let left = remains(
        &birth(),
        node(1),
        &[boot(0, entries), boot(1, vec![batch(1)])],
    )
    .unwrap();
    assert!(!left.goes_on());
}

#[test]
fn a_joint_configuration_is_alive_only_if_both_halves_are() {
    let mut group = remains(&birth(), node(1), &three())
        .unwrap()
        .groups
        .remove(0);
    for (voters, outgoing, alive) in [
        (&[1][..], &[][..], true),
        (&[1], &[1], true),
        (&[1], &[1, 2], false),
        (&[1, 2], &[1], false),
        (&[2], &[], false),
    ] {
        group.config = Membership {
            outgoing: outgoing.iter().map(|id| node(*id)).collect(),
            ..Membership::of(voters.iter().map(|id| node(*id)))
        };
        assert_eq!(group.is_alive(node(1)), alive, "{group:?}");
    }
}

#[test]
fn who_has_nothing_to_go_on_with_is_told_why() {
    assert!(obstacle(&[]).contains("nothing of the cluster's own log"));
    assert!(obstacle(&[boot(0, Vec::new())]).contains("nothing of the cluster's own log"));

    let mut torn = three();
    torn[1].missing = vec![(Index(1), Index(1))];
    torn[1].damage = "a segment is gone".to_owned();
    let why = obstacle(&torn);
    assert!(
        why.contains("topic kept lacks entries between 1 and 1 here (a segment is gone)"),
        "{why}"
    );

    let left = remains(
        &birth(),
        NodeRef {
            id: NodeId(9),
            ..node(1)
        },
        &three(),
    )
    .unwrap();
    assert!(
        left.obstacles[0].contains("does not name this member"),
        "{left:?}"
    );
}

#[test]
fn a_group_without_a_name_is_told_and_its_number_is_not_given_again() {
    let mut boots = three();
    boots.push(boot(9, vec![batch(1)]));
    let left = remains(&birth(), node(1), &boots).unwrap();
    assert_eq!(left.nameless, [GroupId(9)]);
    let writes = left.takeover(&recovery(), Micros(0));
    let mut entries = boots[0].boot.tail.clone();
    entries.extend(writes.last().unwrap().persist.append.iter().cloned());
    let state = cluster_state(birth(), None, &entries).unwrap();
    assert_eq!(state.next_group, 10);
}
