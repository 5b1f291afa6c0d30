//! What is healthy, what is not, and how it is said.

use kontiki_wire::{ReplicaStatus, TopicSettings};

use super::*;

fn member(id: u64) -> MemberInfo {
    MemberInfo {
        id,
        incarnation: id,
        name: format!("n{id}"),
        address: format!("10.0.0.{id}:7401"),
        peer_address: format!("10.0.0.{id}:7501"),
        ..MemberInfo::default()
    }
}

fn topic() -> TopicInfo {
    TopicInfo {
        name: "orders".parse().unwrap(),
        group: GroupId(1),
        settings: TopicSettings::default(),
        replicas: ["n1", "n2", "n3"].map(String::from).into(),
        leader: Some("n2".to_owned()),
        first: Offset(0),
        next: Offset(90),
        epoch: 0,
    }
}

/// As its leader tells it, with these states of the replicas.
fn led(group: u64, leader: &str, term: u64, states: [&str; 3]) -> GroupStatus {
    let replicas = states.iter().zip(1..).map(|(state, id)| ReplicaStatus {
        name: format!("n{id}"),
        match_offset: Offset(100),
        lag: 3,
        state: (*state).to_owned(),
        ..ReplicaStatus::default()
    });
    GroupStatus {
        group: GroupId(group),
        leader: Some(leader.to_owned()),
        term,
        first: Offset(10),
        next: Offset(100),
        replicas: replicas.collect(),
        wanted: Vec::new(),
        waits: None,
        fetching: None,
    }
}

fn followed(group: u64, leader: Option<&str>, term: u64) -> GroupStatus {
    GroupStatus {
        leader: leader.map(String::from),
        replicas: Vec::new(),
        next: Offset(95),
        ..led(group, "", term, [""; 3])
    }
}

fn says(id: u64, groups: Vec<GroupStatus>) -> Witness {
    Witness {
        name: format!("n{id}"),
        said: Ok(MemberStatus {
            member: member(id),
            recovering: Vec::new(),
            groups,
            placing: Vec::new(),
            up_seconds: 60,
            build: String::new(),
            version: 1,
        }),
    }
}

const SOUND: [&str; 3] = ["follower", "leader", "follower"];

fn all_well() -> Vec<Witness> {
    vec![
        says(1, vec![led(0, "n1", 4, SOUND), followed(1, Some("n2"), 7)]),
        says(2, vec![followed(0, Some("n1"), 4), led(1, "n2", 7, SOUND)]),
        says(
            3,
            vec![followed(0, Some("n1"), 4), followed(1, Some("n2"), 7)],
        ),
    ]
}

fn join(witnesses: Vec<Witness>) -> ClusterStatus {
    let listed = Listed {
        confirmed: true,
        known: Metadata {
            members: vec![member(3), member(1), member(2)],
            topics: vec![topic()],
        },
    };
    ClusterStatus::join(ClusterId(0xab), &listed, witnesses)
}

#[test]
fn sound_cluster_is_healthy_and_says_what_its_leaders_say() {
    let status = join(all_well());
    assert!(status.healthy, "{:?}", status.reasons);
    assert_eq!(status.leader.as_deref(), Some("n1"));
    let ids: Vec<_> = status.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [1, 2, 3]);
    let topic = &status.topics[0];
    assert_eq!(topic.leader.as_deref(), Some("n2"));
    assert_eq!(
        (topic.first_offset, topic.next_offset),
        (Offset(10), Offset(100))
    );
    assert_eq!(topic.replicas.len(), 3);
}

#[test]
fn json_has_the_shape_that_scripts_rely_on() {
    let json = serde_json::to_value(join(all_well())).unwrap();
    assert_eq!(json["cluster_id"], "000000000000000000000000000000ab");
    assert_eq!(json["healthy"], true);
    assert_eq!(json["reasons"], serde_json::json!([]));
    assert_eq!(
        json["members"][0],
        serde_json::json!({
            "name": "n1", "id": 1, "address": "10.0.0.1:7401", "state": "up", "standing": "active",
            "voter": true, "up_seconds": 60, "build": "", "lowest_version": 1, "highest_version": 1
        })
    );
    let topic = &json["topics"][0];
    assert_eq!(topic["name"], "orders");
    assert_eq!(topic["group"], 1);
    assert_eq!(topic["term"], 7);
    assert_eq!(topic["first_offset"], 10);
    assert_eq!(topic["next_offset"], 100);
    assert_eq!(topic["wanted"], serde_json::json!([]));
    assert_eq!(topic["waits"], serde_json::Value::Null);
    assert_eq!(json["placing"], serde_json::json!([]));
    assert_eq!(
        topic["replicas"][0],
        serde_json::json!({
            "name": "n1", "match_offset": 100, "lag": 3, "lag_bytes": 0, "bytes_per_second": 0,
            "silent_ms": null, "state": "follower", "fetching": null
        })
    );
}

#[test]
fn who_fetches_is_told_of_as_it_says_itself_and_is_no_fault() {
    let fetched = || {
        let mut own = followed(1, None, 0);
        own.fetching = Some(FetchStatus {
            from: Some("n1".to_owned()),
            bytes: 3 << 20,
            of: 10 << 20,
            bytes_per_second: 1 << 20,
            why: "n3 fetches from n1 the log of topic orders".to_owned(),
        });
        says(3, vec![followed(0, Some("n1"), 4), own])
    };
    for states in [&["follower", "leader", "unreachable"][..], &SOUND[..2]] {
        let mut witnesses = all_well();
        let mut topic = led(1, "n2", 7, SOUND);
        topic.replicas.truncate(states.len());
        for (replica, state) in topic.replicas.iter_mut().zip(states) {
            replica.state = (*state).to_owned();
        }
        witnesses[1] = says(2, vec![followed(0, Some("n1"), 4), topic]);
        witnesses[2] = fetched();
        let status = join(witnesses);
        assert!(status.healthy, "{:?}", status.reasons);
        let replicas = &status.topics[0].replicas;
        assert_eq!(replicas.len(), 3);
        let (fetches, why) = (&replicas[2], "n3 fetches from n1 the log of topic orders");
        assert_eq!((&*fetches.name, &*fetches.state), ("n3", "fetching"));
        assert_eq!(fetches.fetching.as_deref(), Some(why));
        let (left, speed) = (fetches.lag_bytes, fetches.bytes_per_second);
        assert_eq!((left, speed), (7 << 20, 1 << 20));
    }
}

#[test]
fn what_moves_and_what_it_waits_for_is_told_by_the_leaders() {
    let mut witnesses = all_well();
    let mut council = led(0, "n1", 4, ["follower", "leader", "learner"]);
    council.waits = Some("n3 has not caught up".to_owned());
    let mut topic = led(1, "n2", 7, SOUND);
    topic.wanted = vec!["n1".to_owned()];
    topic.waits = Some("n1 is 3 records behind".to_owned());
    witnesses[0] = says(1, vec![council, followed(1, Some("n2"), 7)]);
    witnesses[0].said.as_mut().unwrap().placing = vec!["n3 leaves".to_owned()];
    witnesses[1] = says(2, vec![followed(0, Some("n1"), 4), topic]);
    let status = join(witnesses);
    assert!(status.healthy, "{:?}", status.reasons);
    assert_eq!(
        status.placing,
        ["the cluster's own group: n3 has not caught up", "n3 leaves"]
    );
    let voters: Vec<_> = status.members.iter().map(|member| member.voter).collect();
    assert_eq!(voters, [true, true, false], "a learner does not count");
    assert_eq!(status.topics[0].wanted, ["n1"]);
    assert_eq!(
        status.topics[0].waits.as_deref(),
        Some("n1 is 3 records behind")
    );
}

#[test]
fn member_that_does_not_answer_is_down_and_is_named_once() {
    let mut witnesses = all_well();
    witnesses[2].said = Err("it does not answer".to_owned());
    witnesses[1] = says(
        2,
        vec![
            followed(0, Some("n1"), 4),
            led(1, "n2", 7, ["follower", "leader", "unreachable"]),
        ],
    );
    let status = join(witnesses);
    assert!(!status.healthy);
    assert_eq!(status.members[2].state, "down");
    assert_eq!(
        status.reasons,
        ["member n3 does not answer at 10.0.0.3:7401 (it does not answer)"]
    );
}

#[test]
fn each_fault_of_a_replica_has_its_sentence() {
    for (state, words) in [
        ("unreachable", "cannot reach its replica at n3"),
        ("recovering", "is being repaired"),
        ("catching-up", "3 records behind"),
    ] {
        let mut witnesses = all_well();
        let groups = vec![
            followed(0, Some("n1"), 4),
            led(1, "n2", 7, ["follower", "leader", state]),
        ];
        witnesses[1] = says(2, groups);
        let status = join(witnesses);
        assert_eq!(status.reasons.len(), 1);
        assert!(status.reasons[0].contains(words), "{:?}", status.reasons);
    }
}

#[test]
fn topic_and_cluster_without_a_leader_are_reported() {
    let nobody = |id| says(id, vec![followed(0, None, 9), followed(1, None, 9)]);
    let mut witnesses = all_well();
    witnesses[0] = nobody(1);
    witnesses[1] = nobody(2);
    witnesses[2] = nobody(3);
    let status = join(witnesses);
    assert_eq!(
        status.reasons,
        [
            "the cluster's own group has no leader",
            "topic orders has no leader: nothing can be appended to it"
        ]
    );
    assert!(
        status.topics[0]
            .replicas
            .iter()
            .all(|replica| replica.state == "unknown")
    );
    assert!(status.members.iter().all(|member| member.voter));
}

#[test]
fn topics_that_only_a_member_knows_of_may_not_be_all() {
    let listed = Listed {
        confirmed: false,
        known: Metadata {
            members: vec![member(1), member(2), member(3)],
            topics: Vec::new(),
        },
    };
    let status = ClusterStatus::join(ClusterId(0xab), &listed, all_well());
    assert!(!status.healthy);
    assert_eq!(status.reasons.len(), 1);
    assert!(status.reasons[0].contains("did not confirm in time which topics there are"));
}

#[test]
fn deposed_leader_that_has_not_noticed_is_not_believed() {
    let mut witnesses = all_well();
    let stale = led(1, "n3", 6, ["leader", "unreachable", "unreachable"]);
    witnesses[2] = says(3, vec![followed(0, Some("n1"), 4), stale]);
    let status = join(witnesses);
    assert_eq!(status.topics[0].leader.as_deref(), Some("n2"));
    assert!(status.healthy);
}

#[test]
fn recovering_member_is_reported_with_its_reason() {
    let mut witnesses = all_well();
    if let Ok(said) = &mut witnesses[0].said {
        let why = "n1 is recovering topic t: frame 7 of journal 2 does not match its checksum";
        said.recovering = vec![why.to_owned()];
    }
    let status = join(witnesses);
    assert_eq!(status.members[0].state, "recovering");
    assert!(status.reasons[0].contains("frame 7 of journal 2"));
}

fn voters(status: &ClusterStatus) -> Vec<bool> {
    status.members.iter().map(|member| member.voter).collect()
}

#[test]
fn member_that_recovers_does_not_count_and_one_that_catches_up_does() {
    let mut witnesses = all_well();
    let council = led(0, "n1", 4, ["leader", "catching-up", "recovering"]);
    witnesses[0] = says(1, vec![council, followed(1, Some("n2"), 7)]);
    assert_eq!(voters(&join(witnesses)), [true, true, false]);
}

/// What a member lists that does not lead.
fn alone(group: u64, leader: Option<&str>, id: u64, state: &str) -> GroupStatus {
    let name = format!("n{id}");
    let mut status = led(group, "", 7, [state; 3]);
    status.replicas.retain(|replica| replica.name == name);
    status.leader = leader.map(String::from);
    status
}

#[test]
fn what_a_replica_says_of_itself_does_not_hide_what_its_leader_says_of_all() {
    let witnesses = vec![
        says(
            1,
            vec![led(0, "n1", 7, ["leader", "follower", "recovering"])],
        ),
        says(
            2,
            vec![led(1, "n2", 7, ["follower", "leader", "recovering"])],
        ),
        says(
            3,
            vec![
                alone(0, Some("n1"), 3, "recovering"),
                alone(1, Some("n2"), 3, "recovering"),
            ],
        ),
    ];
    // The order in which members answer is chance.
    for turn in 0..3 {
        let mut witnesses = witnesses.clone();
        witnesses.rotate_left(turn);
        let status = join(witnesses);
        assert_eq!(status.topics[0].replicas.len(), 3, "{turn}");
        assert_eq!(voters(&status), [true, true, false]);
    }
}

#[test]
fn without_a_leader_each_replica_is_what_it_says_of_itself() {
    let own = |id| {
        says(
            id,
            vec![
                alone(0, None, id, "follower"),
                alone(1, None, id, "follower"),
            ],
        )
    };
    let mut witnesses = vec![own(1), own(2), own(3)];
    witnesses[2].said = Err("it does not answer".to_owned());
    let status = join(witnesses);
    let replicas = status.topics[0].replicas.iter();
    let states: Vec<_> = replicas.map(|replica| replica.state.as_str()).collect();
    assert_eq!(states, ["follower", "follower", "unknown"]);
    assert_eq!(voters(&status), [true; 3]);
}
