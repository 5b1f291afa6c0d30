//! What is answered to requests, by whom, and what is refused.

use bytes::Bytes;
use kontiki_broker::Input;
use kontiki_raft::{Body, Index, Kind, LogId, Message, Term};
use kontiki_wire::{
    GroupId, GroupMessage, Refusal, Request, Response, TopicName, TopicSettings,
    limits::CONTROL_BYTES_MAX,
};

use crate::hand::{Hand, appended, boot, command, create_command, entry, founded, node, settings};

#[test]
fn node_that_may_have_forgotten_its_promises_takes_nothing_and_says_why() {
    let mut settings = settings(1);
    settings.damage = Some("bytes 5 to 9 are damaged".to_owned());
    let mut own = boot(0, Vec::new());
    own.boot.forgot = true;
    let mut hand = Hand::new(settings, vec![own]).unwrap();
    let request = Request::DeleteTopic {
        name: "a".parse().unwrap(),
    };
    assert_eq!(
        hand.request(request),
        Response::Refused(Refusal::NotLeader { leader: None })
    );
    let Response::Status(status) = hand.request(Request::Status) else {
        panic!("status");
    };
    let [why] = &status.recovering[..] else {
        panic!("{status:?}");
    };
    assert!(
        why.starts_with("n1 is recovering the cluster's own group: bytes 5 to 9 are damaged; "),
        "{why}"
    );
    assert_eq!(status.groups[0].replicas[0].state, "recovering");
}

#[test]
fn one_group_that_is_told_that_it_forgot_makes_all_of_them_recover() {
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    let topic = command(2, &create_command("a", &[2, 1]));
    let born = vec![entry(1, Kind::Noop, Bytes::new()), topic];
    hand.give(appended(0, 2, born));
    let noop = entry(1, Kind::Noop, Bytes::new());
    let id = noop.id;
    hand.give(appended(1, 1, vec![noop]));
    assert_eq!(hand.status().recovering, Vec::<String>::new());
    let vouched = |index| Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId(1),
            message: Message {
                term: Term(1),
                body: Body::Vouched {
                    had: LogId {
                        index: Index(index),
                        ..id
                    },
                },
            },
        }],
    };
    hand.give(vouched(1));
    assert_eq!(hand.status().recovering, Vec::<String>::new());
    hand.give(vouched(2));
    assert_eq!(hand.status().recovering.len(), 2);
    for group in [GroupId::CLUSTER, GroupId(1)] {
        assert!(hand.on_disk(group).boot.hard.recovering, "group {group}");
    }
}

#[test]
fn groups_that_are_no_rafts_are_told_on_the_disk_that_they_forgot() {
    let create = |name, seq| command(seq, &create_command(name, &[2, 1]));
    let born = vec![
        entry(1, Kind::Noop, Bytes::new()),
        create("a", 2),
        create("b", 3),
    ];
    let mut own = boot(0, born);
    own.boot.commit = Index(2);
    let mut damaged = boot(1, Vec::new());
    damaged.missing = vec![(Index(1), Index(2))];
    damaged.boot.hard.term = Term(4);
    let mut parked = boot(2, Vec::new());
    parked.boot.hard.term = Term(5);
    let mut hand = Hand::new(settings(3), vec![own, damaged, parked]).unwrap();
    let vouched = Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId::CLUSTER,
            message: Message {
                term: Term(1),
                body: Body::Vouched {
                    had: LogId {
                        term: Term(1),
                        index: Index(9),
                    },
                },
            },
        }],
    };
    hand.give(appended(0, 3, Vec::new()));
    hand.give(vouched);
    for (group, term) in [(1, 4), (2, 5)] {
        let hard = hand.on_disk(GroupId(group)).boot.hard;
        assert!(hard.recovering, "group {group}");
        assert_eq!(hard.term, Term(term), "group {group}");
    }
}

#[test]
fn nobody_says_that_there_is_no_topic_before_it_has_heard_a_leader() {
    let topic = || Request::Topic {
        name: "a".parse().unwrap(),
    };
    let create = create_command("a", &[2, 1]);
    let held = vec![entry(1, Kind::Noop, Bytes::new()), command(2, &create)];
    let mut restarted = Hand::new(settings(3), vec![boot(0, held)]).unwrap();
    assert!(matches!(
        restarted.request(topic()),
        Response::Refused(Refusal::Unavailable { .. })
    ));
    assert_eq!(
        restarted.request(Request::Topics),
        Response::Refused(Refusal::NotLeader { leader: None })
    );
    let mut alone = Hand::alone();
    assert!(matches!(
        alone.request(topic()),
        Response::Refused(Refusal::NoSuchTopic { .. })
    ));
}

#[test]
fn list_of_topics_has_every_one_that_was_made() {
    let mut alone = Hand::alone();
    let listed = |hand: &mut Hand| match hand.request(Request::Topics) {
        Response::Metadata { topics, .. } => topics.into_iter().map(|topic| topic.name).collect(),
        other => panic!("{other:?}"),
    };
    let none: Vec<TopicName> = listed(&mut alone);
    assert_eq!(none, []);
    let name: TopicName = "a".parse().unwrap();
    let settings = TopicSettings { replicas: 1 };
    let create = Request::CreateTopic {
        name: name.clone(),
        settings,
    };
    assert!(matches!(alone.request(create), Response::Topic(_)));
    assert_eq!(listed(&mut alone), [name]);
}

#[test]
fn topics_are_never_so_many_that_no_client_could_be_told_of_them() {
    let mut settings = settings(3);
    for member in &mut settings.birth.members {
        member.name = format!("{:064}", member.id);
    }
    let mut refused = 0;
    let mut told = 0;
    for count in [3_500, 4_500] {
        let topic = |group| founded(&format!("{group:0128}"), group, &[2, 3, 1]);
        settings.birth.topics = (1..=count).map(topic).collect();
        settings.birth.next_group = count + 1;
        let mut hand = Hand::new(settings.clone(), vec![boot(0, Vec::new())]).unwrap();
        let create = Request::CreateTopic {
            name: "one-more".parse().unwrap(),
            settings: TopicSettings::default(),
        };
        match hand.request(create) {
            Response::Refused(Refusal::TooLarge { .. }) => refused = count,
            Response::Refused(Refusal::NotLeader { .. }) => {
                let listed = kontiki_wire::encode(&hand.request(Request::Metadata));
                assert!(listed.len() < CONTROL_BYTES_MAX);
                told = count;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told, refused), (3_500, 4_500));
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut hand = Hand::alone();
    hand.create("a");
    let create = |name: &str, replicas| Request::CreateTopic {
        name: name.parse().unwrap(),
        settings: TopicSettings { replicas },
    };
    assert!(matches!(
        hand.request(create("a", 3)),
        Response::Exists(topic) if topic.replicas == ["n1"]
    ));
    assert!(matches!(
        hand.request(create("b", 0)),
        Response::Refused(Refusal::Malformed { .. })
    ));
    assert!(matches!(
        hand.request(create("b", 200)),
        Response::Refused(Refusal::TooLarge { .. })
    ));
    let delete = |name: &str| Request::DeleteTopic {
        name: name.parse().unwrap(),
    };
    assert!(matches!(
        hand.request(delete("b")),
        Response::Refused(Refusal::NoSuchTopic { .. })
    ));
    assert_eq!(hand.request(delete("a")), Response::Done);
    let transfer = |topic: Option<&str>, to: &str| Request::TransferLeader {
        topic: topic.map(|name| name.parse().unwrap()),
        to: to.to_owned(),
    };
    assert_eq!(hand.request(transfer(None, "n1")), Response::Done);
    assert!(matches!(
        hand.request(transfer(Some("a"), "n1")),
        Response::Refused(Refusal::NoSuchTopic { .. })
    ));
}
