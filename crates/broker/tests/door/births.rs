//! How groups are born, found again, and removed.

use bytes::Bytes;
use kontiki_broker::{Effect, GroupBoot, Input, Members};
use kontiki_raft::{Body, Index, Kind, LogId, Message, Term};
use kontiki_wire::{
    ClusterCommand, GroupId, GroupMessage, Inquiry, Member, Offset, Stock, TopicState,
};

use crate::hand::{
    Hand, appended, batch, boot, command, create_command, entry, founded, node, settings,
};

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
    let effects = hand.give_all(vec![appended(0, 3, story)]);
    assert!(hand.broker.cluster().topics.is_empty());
    assert!(!removed(&effects), "{effects:?}");
    let upto = effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Persist(writes) => Some(writes.seq),
            _ => None,
        })
        .unwrap();
    let effects = hand.give_all(vec![Input::Persisted { upto }]);
    assert!(removed(&effects), "{effects:?}");
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
        hand.give_all(vec![appended(0, 2, topic)]);
        let round = 1;
        let last = LogId::ORIGIN;
        let effects = hand.give_all(vec![Input::Peer {
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
fn entry_that_a_checkpoint_ends_with_puts_off_no_birth() {
    let settled = ClusterCommand::Settled {
        group: GroupId(1),
        placement: 1,
    };
    let born = |applied: u64| {
        let mut settings = settings(3);
        settings.birth.topics = vec![founded("a", 1, &[1, 2])];
        (settings.birth.next_member, settings.birth.next_group) = (4, 2);
        let mut own = boot(0, vec![command(1, &settled)]);
        let at = LogId {
            term: Term(applied),
            index: Index(applied),
        };
        let state = settings.birth.to_bytes().into();
        own.checkpoint = (applied > 0).then_some((at, state));
        (own.boot.applied, own.boot.commit) = (at.index, at.index);
        let hand = Hand::new(settings, vec![own]).unwrap();
        hand.broker.state(GroupId(1)).is_some()
    };
    assert!(born(1));
    assert!(!born(0), "not applied yet, it may let the group go");
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
    hand.give_all(vec![Input::Timer]);
    hand.append(GroupId(5), vec![batch(1, 0, 1)]);
    let (at, _) = hand.broker.state(GroupId(5)).unwrap();
    assert_eq!((at.term, at.index), (Term(2), Index(3)));
}

#[test]
fn start_tells_of_members_and_topics_and_where_they_stand() {
    let mut settings = settings(1);
    settings.birth.next_group = 3;
    let topic = |name: &str, group, member| founded(name, group, &[member]);
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
    let members = Effect::Members(Members {
        list: settings.birth.members.clone(),
        next: 3,
        version: 1,
    });
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

/// A member that is given two topics of which others have much, and the cluster's log so far.
fn fetcher() -> (Hand, Vec<kontiki_raft::Entry>) {
    fetcher_of(boot(0, Vec::new()))
}

/// The same from what its disk has of the cluster's own group.
fn fetcher_of(own: GroupBoot) -> (Hand, Vec<kontiki_raft::Entry>) {
    let mut settings = settings(3);
    settings.fetch_bytes_min = 1;
    let mut hand = Hand::new(settings, vec![own]).unwrap();
    let place = |group| ClusterCommand::Place {
        group: GroupId(group),
        replicas: vec![2, 3, 1],
        preferred: 2,
        expect: 0,
    };
    let story = vec![
        entry(1, Kind::Noop, Bytes::new()),
        command(2, &create_command("a", &[2, 3])),
        command(3, &create_command("b", &[2, 3])),
        command(4, &place(1)),
        command(5, &place(2)),
    ];
    hand.give(appended(0, 5, story.clone()));
    (hand, story)
}

fn stock(from: u64, group: u64) -> Input {
    stock_of(from, group, 1 << 30)
}

fn stock_of(from: u64, group: u64, bytes: u64) -> Input {
    Input::Stock {
        from: node(from),
        stock: Stock {
            asked: Inquiry {
                group: GroupId(group),
                first: Index(1),
            },
            last: Index(9),
            bytes,
        },
    }
}

/// What the leader of the cluster's own group says.
fn led(body: Body) -> Input {
    Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId::CLUSTER,
            message: Message {
                term: Term(1),
                body,
            },
        }],
    }
}

/// The cluster's own group counts again.
fn comes_home(hand: &mut Hand, mut story: Vec<kontiki_raft::Entry>) {
    hand.now += 100_000;
    let (beat, commit, index) = (1, Index(5), Index(6));
    hand.give(led(Body::Beat { beat, commit }));
    let life = hand.seen.iter().find_map(|effect| match effect {
        Effect::Send { messages, .. } => match messages[0].message.body {
            Body::Rejoin { life } => Some(life),
            _ => None,
        },
        _ => None,
    });
    let life = life.expect("it asks how to come back");
    hand.give(led(Body::RejoinAt { life, index }));
    story.push(entry(6, Kind::Noop, Bytes::new()));
    hand.give(appended(0, 6, story));
    assert!(!hand.on_disk(GroupId::CLUSTER).boot.hard.recovering);
}

/// Whether the group begins as one that may have forgotten what it promised, when nobody has enough of it
/// for a fetch to be worth it.
fn forgot(hand: &mut Hand, group: u64) -> bool {
    assert!(!hand.written.contains_key(&GroupId(group)), "it has begun");
    let effects = hand.give_all(vec![stock_of(2, group, 0), stock_of(3, group, 0)]);
    assert!(
        effects.contains(&Effect::Forgo(GroupId(group))),
        "{effects:?}"
    );
    let noop = entry(1, Kind::Noop, Bytes::new());
    hand.give(appended(group, 1, vec![noop]));
    hand.on_disk(GroupId(group)).boot.hard.recovering
}

#[test]
fn who_is_given_a_topic_for_the_first_time_has_forgotten_nothing_in_it() {
    let (mut hand, _) = fetcher();
    assert!(!forgot(&mut hand, 1));
}

#[test]
fn who_forgot_does_not_count_in_what_it_looked_for_at_others_until_that_group_lets_it() {
    let mut own = boot(0, Vec::new());
    own.boot.forgot = true;
    let (mut hand, story) = fetcher_of(own);
    comes_home(&mut hand, story);
    assert!(forgot(&mut hand, 1));
}

#[test]
fn what_is_looked_for_at_others_is_forgotten_too_when_one_group_finds_that_it_forgot() {
    let (mut hand, story) = fetcher();
    let (term, index) = (Term(1), Index(9));
    hand.give(led(Body::Vouched {
        had: LogId { term, index },
    }));
    assert!(hand.on_disk(GroupId::CLUSTER).boot.hard.recovering);
    comes_home(&mut hand, story);
    assert!(forgot(&mut hand, 1));
}

#[test]
fn who_looked_for_a_group_at_others_when_its_process_ended_may_have_forgotten_in_it() {
    let (hand, _) = fetcher();
    let (mut hand, _) = fetcher_of(hand.on_disk(GroupId::CLUSTER));
    assert!(forgot(&mut hand, 1));
}

#[test]
fn whoever_waits_for_a_fetch_that_is_called_off_has_its_turn() {
    let (mut hand, mut story) = fetcher();
    let delete = ClusterCommand::DeleteTopic {
        name: "a".parse().unwrap(),
        group: GroupId(1),
    };
    let fetched = |effects: Vec<Effect>| -> Vec<GroupId> {
        let fetched = effects.into_iter().filter_map(|effect| match effect {
            Effect::Fetch { group, .. } => Some(group),
            _ => None,
        });
        fetched.collect()
    };
    let stocks = [stock(2, 1), stock(3, 1), stock(2, 2), stock(3, 2)];
    assert_eq!(fetched(hand.give_all(stocks.into())), [GroupId(1)]);
    assert_eq!(fetched(hand.wait(3)), [], "one at a time");
    story.push(command(6, &delete));
    assert_eq!(fetched(hand.give(appended(0, 6, story))), [GroupId(2)]);
}

#[test]
fn whoever_leads_what_is_fetched_or_waits_for_that_is_asked_on_while_something_comes() {
    let (mut hand, _) = fetcher();
    let asked = |effects: Vec<Effect>| -> Vec<(GroupId, u64)> {
        let asked = effects.into_iter().filter_map(|effect| match effect {
            Effect::Inquire { to, inquiry } => Some((inquiry.group, to.id.0)),
            _ => None,
        });
        asked.collect()
    };
    hand.give_all(vec![stock(2, 1), stock(3, 1), stock(2, 2), stock(3, 2)]);
    let beat = Body::Beat {
        beat: 1,
        commit: Index(0),
    };
    hand.give(Input::Peer {
        from: node(3),
        messages: vec![GroupMessage {
            group: GroupId(1),
            message: Message {
                term: Term(1),
                body: beat,
            },
        }],
    });
    let mut fetched = |seconds: u64| {
        hand.now += seconds * 1_000_000;
        asked(hand.give_all(vec![Input::Fetching {
            group: GroupId(1),
            bytes: 1 << 20,
            of: 1 << 30,
        }]))
    };
    assert_eq!(fetched(1), []);
    let expected = [(GroupId(1), 3), (GroupId(2), 2), (GroupId(2), 3)];
    assert_eq!(fetched(4), expected);
    assert_eq!(fetched(4), []);
    assert_eq!(fetched(1).len(), 3);
}

#[test]
fn how_far_and_how_fast_a_fetch_is_is_told_and_is_no_damage() {
    let (mut hand, _) = fetcher();
    let effects = hand.give_all(vec![stock(2, 1), stock(3, 1)]);
    let mut notes = effects.iter().filter_map(|effect| match effect {
        Effect::Fetching { note, .. } => Some(note.as_str()),
        _ => None,
    });
    let note = notes.next().unwrap();
    assert!(note.starts_with("n1 fetches from n"), "{note}");
    let is_damage = |effect: &Effect| matches!(effect, Effect::Mending { .. });
    assert!(!effects.iter().any(is_damage), "{effects:?}");
    for second in 0..3 {
        hand.now += 1_000_000;
        hand.give(Input::Fetching {
            group: GroupId(1),
            bytes: second << 20,
            of: 1 << 30,
        });
    }
    let mut groups = hand.status().groups.into_iter();
    let fetching = groups.find_map(|group| group.fetching).unwrap();
    assert_eq!((fetching.bytes, fetching.of), (2 << 20, 1 << 30));
    let about = fetching.bytes_per_second.abs_diff(1 << 20);
    assert!(about < 1 << 10, "{fetching:?}");
    assert!(fetching.why.contains("topic a"), "{fetching:?}");
}

/// A member that kept a topic is behind while the cluster moves that to others, and perhaps back again. It hears of the
/// first with these entries behind it on its disk, and then of `then`.
fn moved(behind: &[ClusterCommand], then: Input) -> (Hand, [Vec<Effect>; 2]) {
    let group = GroupId(1);
    let moved = [
        create_command("a", &[2, 1]),
        place(&[2, 3], 0),
        ClusterCommand::Settled {
            group,
            placement: 1,
        },
    ];
    let commands = moved.iter().chain(behind).zip(2..);
    let commands = commands.map(|(one, index)| command(index, one));
    let story: Vec<_> = [entry(1, Kind::Noop, Bytes::new())]
        .into_iter()
        .chain(commands)
        .collect();
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    hand.give(appended(0, 2, story[..2].to_vec()));
    hand.give(appended(1, 1, vec![entry(1, Kind::Noop, Bytes::new())]));
    assert!(hand.broker.state(group).is_some());
    let first = hand.give_all(vec![appended(0, 4, story)]);
    let second = hand.give_all(vec![then]);
    (hand, [first, second])
}

fn place(replicas: &[u64], expect: u64) -> ClusterCommand {
    ClusterCommand::Place {
        group: GroupId(1),
        replicas: replicas.to_vec(),
        preferred: 2,
        expect,
    }
}

/// The same leader, or a later one, says that the log up to entry 5 is committed.
fn goes_on(term: u64, entries: Vec<kontiki_raft::Entry>) -> Input {
    let id = |term, index| LogId {
        term: Term(term),
        index: Index(index),
    };
    let head = kontiki_raft::AppendHead {
        session: kontiki_raft::Session(term),
        prev: id(1, 5 - entries.len() as u64),
        commit: Index(5),
    };
    let body = Body::Append { head, entries };
    let message = Message {
        term: Term(term),
        body,
    };
    Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId(0),
            message,
        }],
    }
}

/// Whether these drop the topic: it is closed, so that subscriptions go on elsewhere, and then its files go.
fn drops(effects: &[Effect]) -> bool {
    let position = |one: &Effect| effects.iter().position(|effect| effect == one);
    let closed = position(&Effect::TopicClosed(GroupId(1)));
    let removed = position(&Effect::TopicRemoved(GroupId(1)));
    assert!(closed <= removed && closed.is_some() == removed.is_some());
    removed.is_some()
}

#[test]
fn what_was_moved_is_dropped() {
    let (hand, [first, _]) = moved(&[], goes_on(1, vec![command(5, &place(&[2, 3], 9))]));
    assert!(drops(&first));
    assert!(hand.broker.state(GroupId(1)).is_none());
}

#[test]
fn what_the_log_places_here_once_more_is_not_dropped_for_what_it_says_before() {
    let (hand, [first, second]) = moved(&[place(&[2, 1], 1)], goes_on(1, Vec::new()));
    assert!(!drops(&first) && !drops(&second));
    assert!(hand.broker.state(GroupId(1)).is_some());
}

#[test]
fn what_only_seemed_to_be_placed_here_once_more_is_dropped_late() {
    let (_, [first, second]) = moved(&[place(&[2, 1], 7)], goes_on(1, Vec::new()));
    assert!(!drops(&first) && drops(&second));
}

#[test]
fn what_was_to_be_placed_here_once_more_and_is_cut_off_is_dropped_when_something_else_stands_there()
{
    let mut other = entry(5, Kind::Noop, Bytes::new());
    other.id.term = Term(2);
    let cut = goes_on(2, vec![other]);
    let (_, [first, second]) = moved(&[place(&[2, 3], 9), place(&[2, 1], 1)], cut);
    assert!(!drops(&first) && drops(&second));
}
