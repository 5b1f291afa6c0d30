//! Groups of which the disk has lost committed entries: nothing is done with them but asking peers,
//! until the disk says that they are whole again.

use bytes::Bytes;
use kontiki_broker::{Effect, GroupBoot, Input, Settings};
use kontiki_raft::{Body, Entry, Index, Kind, LogId, Message, Term};
use kontiki_wire::{
    Found, GroupId, GroupMessage, Member, Missing, Offset, PlacedEntry, Refusal, Request, Response,
    TopicSettings,
};

use crate::hand::{self, Hand, STREAM, at, batch, entry, founded, node};

const ORDERS: GroupId = GroupId(1);

/// A cluster with topic `orders`, which all members keep.
fn settings(members: u64) -> Settings {
    let mut settings = hand::settings(members);
    settings.birth.topics = vec![founded(
        "orders",
        ORDERS.0,
        &(1..=members).collect::<Vec<_>>(),
    )];
    settings.birth.next_group = 2;
    settings
}

/// A group that knows all of its log committed.
fn boot(group: GroupId, entries: Vec<Entry>) -> GroupBoot {
    let mut boot = hand::boot(group.0, entries);
    boot.boot.commit = boot.boot.last;
    boot
}

fn range(first: u64, last: u64) -> (Index, Index) {
    (Index(first), Index(last))
}

fn damaged(group: GroupId, first: u64, last: u64) -> GroupBoot {
    GroupBoot {
        missing: vec![range(first, last)],
        damage: "a file is damaged at byte 64".to_owned(),
        ..boot(group, Vec::new())
    }
}

/// A log of one no-op and batches of one record.
fn log(last: u64) -> Vec<Entry> {
    let noop = entry(1, Kind::Noop, Bytes::new());
    let batches = (2..=last).map(|index| {
        let body = batch(7, index - 2, 1).bytes().clone();
        entry(index, Kind::Batch, body)
    });
    std::iter::once(noop).chain(batches).collect()
}

fn placed(index: u64) -> PlacedEntry {
    PlacedEntry {
        entry: log(index).pop().unwrap(),
        offset: Offset(index.saturating_sub(2)),
        count: u32::from(index > 1),
    }
}

fn asks(effects: &[Effect]) -> Vec<(u64, u64, u64)> {
    let ask = |effect: &Effect| match effect {
        Effect::Ask { to, missing } => Some((to.id.0, missing.first.0, missing.last.0)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn found(from: u64, first: u64, last: u64, entries: Vec<PlacedEntry>) -> Input {
    let asked = Missing {
        group: ORDERS,
        first: Index(first),
        last: Index(last),
    };
    Input::Found {
        from: node(from),
        found: Found { asked, entries },
    }
}

fn start(members: u64, groups: Vec<GroupBoot>) -> (Hand, Vec<Effect>) {
    let hand = Hand::new(settings(members), groups).unwrap();
    let begun = hand.seen.clone();
    (hand, begun)
}

/// Three members; what the first has of `orders` lacks entries 2 to 5.
fn without_some() -> (Hand, Vec<Effect>) {
    let groups = vec![boot(GroupId::CLUSTER, Vec::new()), damaged(ORDERS, 2, 5)];
    start(3, groups)
}

fn concerns_orders(effect: &Effect) -> bool {
    match effect {
        Effect::Persist(writes) => writes.writes.iter().any(|write| write.group == ORDERS),
        Effect::Send { messages, .. } => messages.iter().any(|message| message.group == ORDERS),
        Effect::TopicMade(_) => true,
        Effect::Applied { group, .. } => *group == ORDERS,
        _ => false,
    }
}

#[test]
fn group_that_lacks_entries_does_nothing_but_ask_for_them() {
    let (mut hand, begun) = without_some();
    assert_eq!(asks(&begun), [(2, 2, 5)]);
    assert!(!begun.iter().any(concerns_orders), "{begun:?}");

    let vote = GroupMessage {
        group: ORDERS,
        message: Message {
            term: Term(9),
            body: Body::Vote {
                last: LogId::ORIGIN,
                transfer: false,
            },
        },
    };
    let heard = hand.give(Input::Peer {
        from: node(2),
        messages: vec![vote],
    });
    assert!(!heard.iter().any(concerns_orders), "{heard:?}");

    let appended = hand.give(Input::Append {
        stream: STREAM,
        group: ORDERS,
        batch: batch(7, 0, 1),
    });
    let [Effect::Answer { answer, .. }] = &appended[..] else {
        panic!("{appended:?}");
    };
    let refused = answer.clone().unwrap_err();
    assert_eq!(refused.refusal, Refusal::NotLeader { leader: None });
    let told = hand.status().recovering;
    assert_eq!(
        told,
        ["n1 is mending topic orders, 4 entries are left to fetch: a file is damaged at byte 64"]
    );
}

#[test]
fn what_a_peer_has_goes_to_the_disk_and_the_rest_is_asked_for_then() {
    let (mut hand, _) = without_some();
    let given = hand.give(found(2, 2, 5, vec![placed(2), placed(3)]));
    let expected = Effect::Mend {
        group: ORDERS,
        entries: vec![placed(2), placed(3)],
    };
    assert!(given.contains(&expected), "{given:?}");
    assert_eq!(asks(&given), [], "the disk is waited for");

    let taken = hand.give(Input::Mending {
        group: ORDERS,
        missing: vec![range(4, 5)],
        refused: None,
    });
    assert_eq!(asks(&taken), [(2, 4, 5)]);
    let given = hand.give(found(2, 4, 5, vec![placed(4), placed(5)]));
    assert!(
        given
            .iter()
            .any(|effect| matches!(effect, Effect::Mend { .. }))
    );

    let whole = boot(ORDERS, log(6));
    let begun = hand.give(Input::Mended(Box::new(whole)));
    assert!(
        begun
            .iter()
            .any(|effect| matches!(effect, Effect::TopicMade(_)))
    );
    assert_eq!(hand.status().recovering, Vec::<String>::new());
    assert_eq!(
        hand.broker.topic(&"orders".parse().unwrap()).unwrap().next,
        Offset(5)
    );
    // It takes part again.
    let elected = hand.wait(40);
    assert!(elected.iter().any(concerns_orders));
}

#[test]
fn damage_that_is_found_while_the_disk_takes_in_the_rest_keeps_the_group_from_starting() {
    let (mut hand, _) = without_some();
    let all = (2..=5).map(placed).collect();
    hand.give(found(2, 2, 5, all));
    // By then the disk had said that all is there, and that was on its way.
    let met = hand.give(Input::Damaged {
        group: ORDERS,
        missing: vec![range(1, 1)],
        what: "another file is damaged".to_owned(),
    });
    assert_eq!(asks(&met), [], "the disk is waited for");
    let stale = boot(ORDERS, log(6));
    let told = hand.give(Input::Mended(Box::new(stale)));
    assert!(!told.iter().any(concerns_orders), "{told:?}");
    let asked: Vec<_> = asks(&told)
        .into_iter()
        .chain(asks(&hand.wait(20)))
        .collect();
    assert!(asked.contains(&(2, 1, 1)), "{asked:?}");
}

#[test]
fn who_does_not_answer_or_has_nothing_is_passed_over() {
    let (mut hand, _) = without_some();
    let late = hand.wait(40);
    assert_eq!(asks(&late).first(), Some(&(3, 2, 5)), "{:?}", asks(&late));
    let (mut hand, _) = without_some();
    let without = hand.give(found(2, 2, 5, vec![]));
    assert_eq!(asks(&without), [(3, 2, 5)]);
    // It has nothing before 4, which the other might.
    let later = hand.give(found(3, 2, 5, vec![placed(4), placed(5)]));
    assert_eq!(asks(&later), [(3, 4, 5)]);
}

#[test]
fn when_nobody_has_an_entry_it_is_said_which() {
    let (mut hand, _) = without_some();
    hand.give(found(2, 2, 5, vec![]));
    let told = hand.give(found(3, 2, 5, vec![]));
    let sentence = "topic orders has stopped: entries 2 to 5 are damaged on n1 and neither n2 nor n3 \
                    has them";
    assert_eq!(hand.status().recovering, [sentence]);
    let notes = told
        .iter()
        .filter(|effect| matches!(effect, Effect::Mending { .. }));
    assert_eq!(notes.count(), 1);
    // It goes on asking: a peer may be mended itself.
    let again = hand.wait(60);
    assert!(!asks(&again).is_empty());
    let silent = again
        .iter()
        .filter(|effect| matches!(effect, Effect::Mending { .. }));
    assert!(silent.count() <= 1, "each change is told once");
}

#[test]
fn without_other_members_it_is_said_at_once() {
    let groups = vec![boot(GroupId::CLUSTER, Vec::new()), damaged(ORDERS, 3, 3)];
    let (hand, _) = start(1, groups);
    let sentence =
        "topic orders has stopped: entries 3 are damaged on n1 and no other member keeps them";
    assert_eq!(hand.status().recovering, [sentence]);
}

#[test]
fn peer_that_asks_is_answered_whatever_state_the_group_is_in() {
    let (mut hand, _) = without_some();
    let missing = Missing {
        group: ORDERS,
        first: Index(7),
        last: Index(9),
    };
    let from = node(3);
    let effects = hand.give(Input::Asked { from, missing });
    assert_eq!(effects, [Effect::Find { to: from, missing }]);
}

/// A cluster of one that leads `orders`, with one batch acknowledged.
fn leading() -> Hand {
    let groups = vec![boot(GroupId::CLUSTER, Vec::new())];
    let (mut hand, _) = start(1, groups);
    hand.wait(60);
    let appended = hand.give(Input::Append {
        stream: STREAM,
        group: ORDERS,
        batch: batch(7, 0, 2),
    });
    let acknowledged = |effect: &Effect| matches!(effect, Effect::Answer { answer: Ok(_), .. });
    assert!(appended.iter().any(acknowledged), "{appended:?}");
    hand
}

#[test]
fn damage_at_run_time_ends_the_group_and_it_goes_on_from_where_it_was() {
    let mut hand = leading();
    // One that is not answered yet.
    hand.broker.handle(
        at(hand.now),
        Input::Append {
            stream: STREAM,
            group: ORDERS,
            batch: batch(7, 2, 1),
        },
    );
    let ended = hand.give(Input::Damaged {
        group: ORDERS,
        missing: vec![range(1, 1)],
        what: "a file is damaged".to_owned(),
    });
    assert!(ended.contains(&Effect::TopicClosed(ORDERS)));
    let unknown = ended.iter().any(|effect| match effect {
        Effect::Answer { answer, .. } => answer
            .as_ref()
            .is_err_and(|refused| refused.refusal == Refusal::Unknown),
        _ => false,
    });
    assert!(unknown, "{ended:?}");
    let name = "orders".parse().unwrap();
    assert_eq!(hand.broker.topic(&name).unwrap().next, Offset(2));

    let whole = hand.on_disk(ORDERS);
    let begun = hand.give(Input::Mended(Box::new(whole)));
    let announced = begun.iter().find_map(|effect| match effect {
        Effect::Applied {
            group, watermark, ..
        } if *group == ORDERS => Some(*watermark),
        _ => None,
    });
    assert_eq!(announced, Some(Offset(2)), "nothing is applied twice");
    hand.wait(60);
    let appended = hand.give(Input::Append {
        stream: STREAM,
        group: ORDERS,
        batch: batch(7, 2, 1),
    });
    let acknowledged = appended.iter().any(|effect| match effect {
        Effect::Answer { answer, .. } => answer
            .as_ref()
            .is_ok_and(|answer| answer.offset == Offset(2)),
        _ => false,
    });
    assert!(acknowledged, "{appended:?}");
}

#[test]
fn writes_that_the_old_life_of_a_group_asked_for_confirm_nothing_in_the_new_one() {
    let mut hand = leading();
    // The write is on its way when the damage is found.
    hand.disk_waits = true;
    let written = hand.give(Input::Append {
        stream: STREAM,
        group: ORDERS,
        batch: batch(7, 2, 1),
    });
    let upto = written.iter().find_map(|effect| match effect {
        Effect::Persist(writes) => Some(writes.seq),
        _ => None,
    });
    let upto = upto.unwrap();
    hand.disk_waits = false;
    hand.give(Input::Damaged {
        group: ORDERS,
        missing: vec![range(1, 1)],
        what: String::new(),
    });
    let whole = hand.on_disk(ORDERS);
    hand.give(Input::Mended(Box::new(whole)));
    let halted = hand.give(Input::Persisted { upto });
    assert!(
        !halted
            .iter()
            .any(|effect| matches!(effect, Effect::Halt { .. }))
    );
    let led = hand.wait(60);
    assert!(
        !led.iter()
            .any(|effect| matches!(effect, Effect::Halt { .. }))
    );
    let next = hand.broker.topic(&"orders".parse().unwrap()).unwrap().next;
    assert_eq!(next, Offset(3));
}

#[test]
fn clusters_own_group_may_be_mended_while_topics_go_on() {
    let mut hand = leading();
    let create = |name: &str| Request::CreateTopic {
        name: name.parse().unwrap(),
        settings: TopicSettings::default(),
    };
    let made = hand.request(create("before"));
    assert!(matches!(made, Response::Topic(_)), "{made:?}");
    hand.give(Input::Damaged {
        group: GroupId::CLUSTER,
        missing: vec![range(1, 1)],
        what: String::new(),
    });
    let refused = hand.request(create("meanwhile"));
    assert!(matches!(refused, Response::Refused(_)), "{refused:?}");
    let appended = hand.give(Input::Append {
        stream: STREAM,
        group: ORDERS,
        batch: batch(7, 2, 1),
    });
    assert!(
        appended
            .iter()
            .any(|effect| matches!(effect, Effect::Answer { answer: Ok(_), .. }))
    );
    let whole = hand.on_disk(GroupId::CLUSTER);
    hand.give(Input::Mended(Box::new(whole)));
    hand.wait(60);
    let made = hand.request(create("after"));
    assert!(matches!(made, Response::Topic(_)), "{made:?}");
    assert!(hand.broker.topic(&"before".parse().unwrap()).is_some());
}

#[test]
fn topic_that_the_disk_does_not_have_is_born_only_when_the_clusters_own_log_is_whole() {
    let (mut hand, begun) = start(1, vec![damaged(GroupId::CLUSTER, 1, 2)]);
    assert!(!begun.iter().any(concerns_orders), "{begun:?}");
    assert!(!hand.wait(10).iter().any(concerns_orders));
    let whole = boot(GroupId::CLUSTER, vec![entry(1, Kind::Noop, Bytes::new())]);
    let born = hand.give(Input::Mended(Box::new(whole)));
    assert!(
        born.iter()
            .any(|effect| matches!(effect, Effect::TopicMade(_))),
        "{born:?}"
    );
}

#[test]
fn topic_that_is_deleted_while_it_is_mended_is_gone() {
    let groups = vec![boot(GroupId::CLUSTER, Vec::new()), damaged(ORDERS, 3, 3)];
    let (mut hand, _) = start(1, groups);
    hand.wait(60);
    let name = "orders".parse().unwrap();
    let deleted = hand.request(Request::DeleteTopic { name });
    assert_eq!(deleted, Response::Done);
    assert_eq!(hand.status().recovering, Vec::<String>::new());
    let late = hand.give(Input::Mended(Box::new(boot(ORDERS, log(4)))));
    assert!(!late.iter().any(concerns_orders), "{late:?}");
}

#[test]
fn what_is_lost_of_the_clusters_own_log_is_asked_of_whoever_comes() {
    // All that this member knows without it are the founders, and they have been removed long since.
    let (mut hand, effects) = start(3, vec![damaged(GroupId::CLUSTER, 1, 9)]);
    assert_eq!(asks(&effects), [(2, 1, 9)]);
    let member = Member {
        id: 16,
        incarnation: 1,
        name: "n16".to_owned(),
        ..Member::default()
    };
    hand.give(Input::Introduced { member });
    let mut asked = Vec::new();
    for _ in 0..20 {
        hand.now += 500_000;
        asked.extend(asks(&hand.give(Input::Timer)));
    }
    assert!(asked.contains(&(16, 1, 9)), "{asked:?}");
}
