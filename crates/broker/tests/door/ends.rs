//! What stops a node, and what a node that is about to stop does no more.

use bytes::Bytes;
use kontiki_broker::{Effect, Input, Ticket};
use kontiki_raft::{Body, Index, Kind, LogId, Message, Term};
use kontiki_wire::{GroupId, GroupMessage, Request};

use crate::hand::{Hand, appended, boot, command, create_command, entry, node, settings};

#[test]
fn broken_promises_of_the_host_or_of_a_peer_stop_the_node() {
    let nonsense = vec![entry(1, Kind::Batch, Bytes::from_static(b"nonsense"))];
    let stories = [
        (1, Input::Persisted { upto: 1_000 }),
        (3, appended(0, 1, nonsense)),
    ];
    for (members, input) in stories {
        let mut hand = Hand::new(settings(members), vec![boot(0, Vec::new())]).unwrap();
        let effects = hand.give_all(vec![input]);
        let [Effect::Halt { reason }] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert!(!reason.is_empty());
        let after = hand.give_all(vec![Input::Request {
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
    hand.give_all(vec![Input::Timer]);
    let round = hand.seen.iter().find_map(|effect| match effect {
        Effect::Send { messages, .. } => match messages[0].message.body {
            Body::PreVote { round, .. } => Some(round),
            _ => None,
        },
        _ => None,
    });
    let granted = true;
    let round = round.unwrap();
    hand.give_all(vec![from_peer(0, Body::PreVoteReply { round, granted })]);
    hand.give_all(vec![from_peer(1, Body::VoteReply { granted })]);
    let transfer = Input::Request {
        ticket: Ticket(1),
        request: Request::TransferLeader {
            topic: None,
            to: "n2".to_owned(),
        },
    };
    assert_eq!(hand.give_all(vec![transfer.clone()]), []);
    let effects = hand.give_all(vec![transfer]);
    assert!(matches!(&effects[..], [Effect::Halt { .. }]), "{effects:?}");
}

#[test]
fn node_that_is_about_to_stop_takes_no_leadership_of_groups_old_or_new() {
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    hand.give(Input::Retire);
    let topic = vec![
        entry(1, Kind::Noop, Bytes::new()),
        command(2, &create_command("a", &[1, 2])),
    ];
    hand.give(appended(0, 2, topic));
    let handed = |group: GroupId, need: LogId| Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group,
            message: Message {
                term: Term(1),
                body: Body::TimeoutNow { need },
            },
        }],
    };
    let end = LogId {
        term: Term(1),
        index: Index(2),
    };
    hand.give(handed(GroupId::CLUSTER, end));
    hand.give(appended(1, 0, Vec::new()));
    hand.give(handed(GroupId(1), LogId::ORIGIN));
    hand.wait(100);
    let asks = |effect: &Effect| match effect {
        Effect::Send { messages, .. } => messages
            .iter()
            .any(|asked| matches!(asked.message.body, Body::PreVote { .. } | Body::Vote { .. })),
        _ => false,
    };
    assert!(!hand.seen.iter().any(asks), "it asks for no votes");
    assert!(hand.broker.state(GroupId(1)).is_some());
}
