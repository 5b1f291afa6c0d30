//! One broker by hand: what it takes, what it refuses, and what stops it.

#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::{Broker, Effect, GroupBoot, Input, Now, Settings, StreamId, Ticket};
use kontiki_raft::{
    AppendHead, Body, Boot, Entry, Hard, Incarnation, Index, Kind, LogId, Membership, Message,
    Micros, NodeId, NodeRef, Session, Term,
};
use kontiki_wire::{
    Answer, Batch, BatchBuilder, ClusterCommand, ClusterId, ClusterState, GroupId, GroupMessage,
    Member, Offset, ProducerId, Record, Refusal, Request, Response, Topic, TopicName,
    TopicSettings, TopicState, limits::CONTROL_BYTES_MAX,
};

fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id * 10),
    }
}

fn settings(members: u64) -> Settings {
    let member = |id| Member {
        id,
        incarnation: id * 10,
        name: format!("n{id}"),
        address: String::new(),
        peer_address: String::new(),
    };
    Settings {
        cluster: ClusterId(1),
        me: node(1),
        raft: kontiki_raft::Settings::default(),
        birth: ClusterState {
            members: (1..=members).map(member).collect(),
            ..ClusterState::default()
        },
        checkpoints: kontiki_broker::CheckpointEvery::default(),
        damage: None,
        seed: 1,
    }
}

fn boot(group: u64, entries: Vec<Entry>) -> GroupBoot {
    let last = Index(entries.len() as u64);
    let term = entries.last().map_or(Term(0), |entry| entry.id.term);
    let boot = Boot {
        me: node(1),
        fresh: entries.is_empty(),
        forgot: false,
        hard: Hard {
            term,
            ..Hard::default()
        },
        base: LogId::ORIGIN,
        base_config: (Index(0), Membership::default()),
        terms: entries
            .first()
            .map(|_| vec![(Index(1), term)])
            .unwrap_or_default(),
        configs: BTreeMap::new(),
        last,
        commit: Index(0),
        applied: Index(0),
        tail: entries,
    };
    GroupBoot {
        group: GroupId(group),
        boot,
        checkpoint: None,
        missing: Vec::new(),
        damage: String::new(),
    }
}

fn entry(index: u64, kind: Kind, body: Bytes) -> Entry {
    Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        kind,
        time: Micros(index),
        checksum: kontiki_wire::entry_checksum(&body),
        body,
    }
}

fn command(index: u64, command: &ClusterCommand) -> Entry {
    entry(index, Kind::Command, kontiki_wire::encode(command).into())
}

fn create_command(name: &str, replicas: &[u64]) -> ClusterCommand {
    ClusterCommand::CreateTopic {
        name: name.parse().unwrap(),
        settings: TopicSettings::default(),
        replicas: replicas.to_vec(),
        preferred: replicas[0],
    }
}

fn batch(producer: u128, sequence: u64, count: u32) -> Batch {
    let mut builder = BatchBuilder::new(256);
    for _ in 0..count {
        builder.push(&Record::default()).unwrap();
    }
    builder.finish(ProducerId(producer), 0, sequence)
}

/// A broker and its disk, which is done with a write at once unless it is told to wait.
struct Hand {
    broker: Broker,
    now: u64,
    seen: Vec<Effect>,
    disk_waits: bool,
}

impl Hand {
    fn new(settings: Settings, groups: Vec<GroupBoot>) -> Result<Self, String> {
        let now = Now {
            monotonic: Micros(1_000),
            wall: Micros(1_000),
        };
        let mut hand = Self {
            broker: Broker::new(settings, groups, now)?,
            now: 1_000,
            seen: Vec::new(),
            disk_waits: false,
        };
        hand.drain();
        Ok(hand)
    }

    /// A cluster of one that leads all its groups.
    fn alone() -> Self {
        Self::new(settings(1), vec![boot(0, Vec::new())]).unwrap()
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Micros(self.now),
            wall: Micros(self.now),
        }
    }

    /// Several inputs, one drain, and whatever follows from the disk.
    fn give(&mut self, inputs: Vec<Input>) -> Vec<Effect> {
        self.now += 10;
        for input in inputs {
            self.broker.handle(self.now(), input);
        }
        let before = self.seen.len();
        self.drain();
        self.seen[before..].to_vec()
    }

    fn drain(&mut self) {
        loop {
            let mut effects = Vec::new();
            self.broker.drain(self.now(), &mut effects);
            let written = effects.iter().find_map(|effect| match effect {
                Effect::Persist(writes) => Some(writes.seq),
                _ => None,
            });
            self.seen.extend(effects);
            match written {
                Some(upto) if !self.disk_waits => {
                    self.broker.handle(self.now(), Input::Persisted { upto });
                }
                _ => return,
            }
        }
    }

    fn request(&mut self, request: Request) -> Response {
        self.now += 1;
        let ticket = Ticket(self.now);
        let effects = self.give(vec![Input::Request { ticket, request }]);
        let mut responses = effects.into_iter().filter_map(|effect| match effect {
            Effect::Respond {
                ticket: of,
                response,
            } if of == ticket => Some(response),
            _ => None,
        });
        responses.next().unwrap()
    }

    fn create(&mut self, name: &str) -> GroupId {
        let request = Request::CreateTopic {
            name: name.parse().unwrap(),
            settings: TopicSettings::default(),
        };
        match self.request(request) {
            Response::Topic(topic) => topic.group,
            other => panic!("{other:?}"),
        }
    }

    fn append(&mut self, group: GroupId, batches: Vec<Batch>) -> Vec<Answer> {
        let stream = StreamId(4);
        let input = |batch| Input::Append {
            stream,
            group,
            batch,
        };
        answers(&self.give(batches.into_iter().map(input).collect()))
    }
}

fn answers(effects: &[Effect]) -> Vec<Answer> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn refusals(answers: Vec<Answer>) -> Vec<Refusal> {
    answers
        .into_iter()
        .map(|answer| answer.unwrap_err().refusal)
        .collect()
}

/// What a leader of term 1 says to a follower whose log is empty.
fn appended(group: u64, commit: u64, entries: Vec<Entry>) -> Input {
    let message = Message {
        term: Term(1),
        body: Body::Append {
            head: AppendHead {
                session: Session(1),
                prev: LogId::ORIGIN,
                commit: Index(commit),
            },
            entries,
        },
    };
    Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId(group),
            message,
        }],
    }
}

#[test]
fn batches_of_one_drain_become_one_write_and_are_answered_in_order() {
    let mut hand = Hand::alone();
    let group = hand.create("a");
    let stream = StreamId(4);
    let input = |sequence| Input::Append {
        stream,
        group,
        batch: batch(7, sequence, 2),
    };
    let effects = hand.give((0..5).map(|number| input(number * 2)).collect());
    let writes: Vec<usize> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Persist(writes) => Some(writes.writes[0].persist.append.len()),
            _ => None,
        })
        .collect();
    assert_eq!(writes, [5]);
    let offsets: Vec<u64> = answers(&effects)
        .into_iter()
        .map(|answer| answer.unwrap().offset.0)
        .collect();
    assert_eq!(offsets, [0, 2, 4, 6, 8]);
    let applied = effects.iter().filter_map(|effect| match effect {
        Effect::Applied {
            placed, watermark, ..
        } => Some((placed.len(), *watermark)),
        _ => None,
    });
    assert_eq!(applied.collect::<Vec<_>>(), [(5, Offset(10))]);
}

#[test]
fn batch_sent_again_is_answered_with_its_first_place_and_void_ones_with_why() {
    let mut hand = Hand::alone();
    let group = hand.create("a");
    let first = hand.append(group, vec![batch(7, 0, 2), batch(8, 0, 3), batch(7, 2, 1)]);
    let again = hand.append(group, vec![batch(7, 0, 2), batch(8, 0, 3), batch(7, 2, 1)]);
    assert_eq!(first, again);
    let void = hand.append(group, vec![batch(7, 9, 1), batch(9, 1, 1)]);
    assert_eq!(
        refusals(void),
        [
            Refusal::SequenceGap { expected: 3 },
            Refusal::SequenceGap { expected: 0 }
        ]
    );
    assert_eq!(
        hand.broker.topic(&"a".parse().unwrap()).unwrap().next,
        Offset(6)
    );
}

#[test]
fn batch_that_cannot_be_taken_here_is_refused_at_once() {
    let mut hand = Hand::alone();
    hand.create("a");
    for stranger in [GroupId(0), GroupId(9)] {
        let refused = refusals(hand.append(stranger, vec![batch(1, 0, 1)]));
        assert!(matches!(refused[..], [Refusal::NoSuchTopic { .. }]));
    }

    // A follower, of a topic that it keeps and of one that it does not.
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    let topics = vec![
        entry(1, Kind::Noop, Bytes::new()),
        command(2, &create_command("kept", &[3, 1])),
        command(3, &create_command("elsewhere", &[3, 2])),
    ];
    hand.give(vec![appended(0, 3, topics)]);
    let beat = GroupMessage {
        group: GroupId(1),
        message: Message {
            term: Term(1),
            body: Body::Beat {
                beat: 1,
                commit: Index(0),
            },
        },
    };
    let not_leader = |name: Option<&str>| Refusal::NotLeader {
        leader: name.map(str::to_owned),
    };
    let mut refused = |group| refusals(hand.append(GroupId(group), vec![batch(1, 0, 1)]));
    assert_eq!(refused(1), [not_leader(None)]);
    assert_eq!(refused(2), [not_leader(Some("n3"))]);
    hand.give(vec![Input::Peer {
        from: node(3),
        messages: vec![beat],
    }]);
    let refused = refusals(hand.append(GroupId(1), vec![batch(1, 0, 1)]));
    assert_eq!(refused, [not_leader(Some("n3"))]);
}

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
        let topic = |group| Topic {
            name: format!("{group:0128}").parse().unwrap(),
            group: GroupId(group),
            settings: TopicSettings::default(),
            replicas: vec![2, 3, 1],
            preferred: 2,
        };
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

#[test]
fn deleted_topics_files_stay_until_its_deletion_is_durable() {
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    hand.disk_waits = true;
    let delete = ClusterCommand::DeleteTopic {
        name: "a".parse().unwrap(),
        group: GroupId(1),
    };
    let story = vec![
        entry(1, Kind::Noop, Bytes::new()),
        command(2, &create_command("a", &[2, 1])),
        command(3, &delete),
    ];
    let removed = |effects: &[Effect]| effects.contains(&Effect::TopicRemoved(GroupId(1)));
    let effects = hand.give(vec![appended(0, 3, story)]);
    assert!(hand.broker.cluster().topics.is_empty());
    assert!(!removed(&effects), "{effects:?}");
    let upto = effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Persist(writes) => Some(writes.seq),
            _ => None,
        })
        .unwrap();
    let effects = hand.give(vec![Input::Persisted { upto }]);
    assert!(removed(&effects), "{effects:?}");
}

#[test]
fn batch_that_waits_while_its_topic_is_deleted_is_answered_unknown() {
    let mut hand = Hand::alone();
    let group = hand.create("a");
    hand.disk_waits = true;
    let stream = StreamId(4);
    let append = Input::Append {
        stream,
        group,
        batch: batch(1, 0, 1),
    };
    let delete = Input::Request {
        ticket: Ticket(99),
        request: Request::DeleteTopic {
            name: "a".parse().unwrap(),
        },
    };
    let effects = hand.give(vec![append, delete]);
    let [Effect::Persist(writes)] = &effects[..] else {
        panic!("{effects:?}");
    };
    let upto = writes.seq;
    let effects = hand.give(vec![Input::Persisted { upto }]);
    assert_eq!(refusals(answers(&effects)), [Refusal::Unknown]);
    let done = Effect::Respond {
        ticket: Ticket(99),
        response: Response::Done,
    };
    assert!(effects.contains(&done));
    let refused = refusals(hand.append(group, vec![batch(1, 0, 1)]));
    assert!(matches!(refused[..], [Refusal::NoSuchTopic { .. }]));
}

#[test]
fn group_born_right_after_a_restart_sits_out_what_an_earlier_life_may_have_promised() {
    let asked_after = |had_a_life: bool, wait: u64| {
        let mut own = boot(0, Vec::new());
        own.boot.fresh = !had_a_life;
        let mut hand = Hand::new(settings(3), vec![own]).unwrap();
        hand.now += wait;
        let topic = vec![
            entry(1, Kind::Noop, Bytes::new()),
            command(2, &create_command("a", &[2, 1])),
        ];
        hand.give(vec![appended(0, 2, topic)]);
        let round = 1;
        let last = LogId::ORIGIN;
        let effects = hand.give(vec![Input::Peer {
            from: node(2),
            messages: vec![GroupMessage {
                group: GroupId(1),
                message: Message {
                    term: Term(1),
                    body: Body::PreVote { round, last },
                },
            }],
        }]);
        effects.iter().any(|effect| {
            matches!(effect, Effect::Send { messages, .. }
                if matches!(messages[0].message.body, Body::PreVoteReply { granted: true, .. }))
        })
    };
    assert!(asked_after(false, 0));
    assert!(!asked_after(true, 0));
    assert!(asked_after(true, 300_000));
}

#[test]
fn group_whose_files_may_be_gone_is_not_born_again() {
    let delete = ClusterCommand::DeleteTopic {
        name: "a".parse().unwrap(),
        group: GroupId(1),
    };
    let log = |deleted: bool| {
        let mut own = boot(
            0,
            vec![
                entry(1, Kind::Noop, Bytes::new()),
                command(2, &create_command("a", &[1, 2])),
                if deleted {
                    command(3, &delete)
                } else {
                    entry(3, Kind::Noop, Bytes::new())
                },
            ],
        );
        own.boot.commit = Index(2);
        own
    };
    let born = |groups| {
        let hand = Hand::new(settings(3), groups).unwrap();
        assert_eq!(hand.broker.cluster().topics.len(), 1);
        hand.broker.state(GroupId(1)).is_some()
    };
    assert!(born(vec![log(false)]));
    assert!(!born(vec![log(true)]));
    assert!(born(vec![log(true), boot(1, Vec::new())]));
}

#[test]
fn groups_on_the_disk_are_told_apart_by_what_the_cluster_knows() {
    let mut settings = settings(1);
    settings.birth.next_group = 5;
    let noop = || vec![entry(1, Kind::Noop, Bytes::new())];
    let groups = vec![boot(0, Vec::new()), boot(3, noop()), boot(5, noop())];
    let mut hand = Hand::new(settings, groups).unwrap();
    let removed: Vec<_> = hand
        .seen
        .iter()
        .filter(|effect| matches!(effect, Effect::TopicRemoved(_)))
        .collect();
    assert_eq!(removed, [&Effect::TopicRemoved(GroupId(3))]);
    // The next topic is the one that the log of group 5 belongs to: it goes on in a later term.
    assert_eq!(hand.create("a"), GroupId(5));
    assert!(
        hand.seen
            .iter()
            .all(|effect| !matches!(effect, Effect::TopicRemoved(GroupId(5))))
    );
    hand.now += 2_000_000;
    hand.give(vec![Input::Timer]);
    hand.append(GroupId(5), vec![batch(1, 0, 1)]);
    let (at, _) = hand.broker.state(GroupId(5)).unwrap();
    assert_eq!((at.term, at.index), (Term(2), Index(3)));
}

#[test]
fn start_tells_of_members_and_topics_and_where_they_stand() {
    let mut settings = settings(1);
    settings.birth.next_group = 3;
    let topic = |name: &str, group, member| Topic {
        name: name.parse().unwrap(),
        group: GroupId(group),
        settings: TopicSettings::default(),
        replicas: vec![member],
        preferred: member,
    };
    settings.birth.members.push(Member {
        id: 2,
        ..settings.birth.members[0].clone()
    });
    settings.birth.topics = vec![topic("a", 1, 1), topic("b", 2, 2)];
    let mut held = boot(1, vec![entry(1, Kind::Noop, Bytes::new())]);
    let state = TopicState {
        next: Offset(40),
        ..TopicState::default()
    };
    held.boot.applied = Index(1);
    held.boot.commit = Index(1);
    held.boot.tail.clear();
    let at = LogId {
        term: Term(1),
        index: Index(1),
    };
    held.checkpoint = Some((at, kontiki_wire::encode(&state).into()));
    let hand = Hand::new(settings.clone(), vec![boot(0, Vec::new()), held]).unwrap();
    let made = Effect::TopicMade(settings.birth.topics[0].clone());
    assert_eq!(hand.seen[0], made);
    let members = Effect::Members(settings.birth.members.clone());
    assert!(hand.seen.contains(&members));
    let stands = hand.seen.iter().find_map(|effect| match effect {
        Effect::Applied {
            group, watermark, ..
        } if *group == GroupId(1) => Some(*watermark),
        _ => None,
    });
    assert_eq!(stands, Some(Offset(40)));
}

#[test]
fn disk_that_does_not_fit_together_is_not_started_from() {
    let wrong = |groups| Hand::new(settings(1), groups).err().unwrap();
    assert!(wrong(vec![]).contains("missing"));
    assert!(wrong(vec![boot(0, vec![]), boot(0, vec![])]).contains("twice"));

    let mut applied = boot(0, vec![entry(1, Kind::Noop, Bytes::new())]);
    applied.boot.applied = Index(1);
    applied.boot.commit = Index(1);
    assert!(wrong(vec![applied]).contains("applied"));

    let mut undecodable = boot(0, vec![]);
    undecodable.checkpoint = Some((LogId::ORIGIN, Bytes::from_static(b"?")));
    assert!(wrong(vec![undecodable]).contains("checkpoint"));

    let mut cut = boot(0, vec![entry(1, Kind::Noop, Bytes::new())]);
    cut.boot.tail.clear();
    assert!(wrong(vec![cut]).contains("group 0"));
}

#[test]
fn broken_promises_of_the_host_or_of_a_peer_stop_the_node() {
    let nonsense = vec![entry(1, Kind::Batch, Bytes::from_static(b"nonsense"))];
    let stories = [
        (1, Input::Persisted { upto: 1_000 }),
        (3, appended(0, 1, nonsense)),
    ];
    for (members, input) in stories {
        let mut hand = Hand::new(settings(members), vec![boot(0, Vec::new())]).unwrap();
        let effects = hand.give(vec![input]);
        let [Effect::Halt { reason }] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert!(!reason.is_empty());
        let after = hand.give(vec![Input::Request {
            ticket: Ticket(9),
            request: Request::Metadata,
        }]);
        assert_eq!(after, []);
    }
}

#[test]
fn ticket_that_waits_and_is_given_out_again_stops_the_node() {
    let mut hand = Hand::new(settings(2), vec![boot(0, Vec::new())]).unwrap();
    let from_peer = |term, body| Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId::CLUSTER,
            message: Message {
                term: Term(term),
                body,
            },
        }],
    };
    hand.now += 2_000_000;
    hand.give(vec![Input::Timer]);
    let round = hand.seen.iter().find_map(|effect| match effect {
        Effect::Send { messages, .. } => match messages[0].message.body {
            Body::PreVote { round, .. } => Some(round),
            _ => None,
        },
        _ => None,
    });
    let granted = true;
    let round = round.unwrap();
    hand.give(vec![from_peer(0, Body::PreVoteReply { round, granted })]);
    hand.give(vec![from_peer(1, Body::VoteReply { granted })]);
    let transfer = Input::Request {
        ticket: Ticket(1),
        request: Request::TransferLeader {
            topic: None,
            to: "n2".to_owned(),
        },
    };
    assert_eq!(hand.give(vec![transfer.clone()]), []);
    let effects = hand.give(vec![transfer]);
    assert!(matches!(&effects[..], [Effect::Halt { .. }]), "{effects:?}");
}
