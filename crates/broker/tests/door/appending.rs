//! What becomes of batches: one write for those of one drain, one answer for each.

use bytes::Bytes;
use kontiki_broker::{Effect, Input, Ticket};
use kontiki_raft::{Body, Entry, Index, Kind, Message, Term};
use kontiki_wire::{
    BatchBuilder, GroupId, GroupMessage, Offset, ProducerId, Record, Refusal, Request, Response,
};

use crate::hand::{
    Hand, STREAM, answers, appended, batch, boot, command, create_command, entry, node, refusals,
    settings,
};

#[test]
fn batches_of_one_drain_become_one_write_and_are_answered_in_order() {
    let mut hand = Hand::alone();
    let group = hand.create("a");
    let stream = STREAM;
    let input = |sequence| Input::Append {
        stream,
        group,
        batch: batch(7, sequence, 2),
    };
    let effects = hand.give_all((0..5).map(|number| input(number * 2)).collect());
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
    hand.give_all(vec![appended(0, 3, topics)]);
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
    hand.give_all(vec![Input::Peer {
        from: node(3),
        messages: vec![beat],
    }]);
    let refused = refusals(hand.append(GroupId(1), vec![batch(1, 0, 1)]));
    assert_eq!(refused, [not_leader(Some("n3"))]);
}

#[test]
fn batch_that_waits_while_its_topic_is_deleted_is_answered_unknown() {
    let mut hand = Hand::alone();
    let group = hand.create("a");
    hand.disk_waits = true;
    let stream = STREAM;
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
    let effects = hand.give_all(vec![append, delete]);
    let [Effect::Persist(writes)] = &effects[..] else {
        panic!("{effects:?}");
    };
    let upto = writes.seq;
    let effects = hand.give_all(vec![Input::Persisted { upto }]);
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
fn all_topics_together_keep_a_bounded_part_in_memory_for_followers_and_the_oldest_goes_first() {
    let mut hand = Hand::alone();
    let value = vec![7; 256 << 10];
    let mut written: Vec<Vec<Entry>> = Vec::new();
    for number in 0..80 {
        let group = hand.create(&format!("topic-{number}"));
        for sequence in 0..3 {
            let mut builder = BatchBuilder::new(value.len() + 64);
            builder.push(&Record::new(value.clone())).unwrap();
            hand.append(group, vec![builder.finish(ProducerId(7), 0, sequence)]);
        }
        // Topics with a message now and then do not make the first one old.
        hand.append(GroupId(1), vec![batch(8, number, 1)]);
        let (_, entries) = hand.written.remove(&group).unwrap();
        written.push(entries);
        hand.written.clear();
        hand.seen.clear();
        // Who else has the bytes of one is the broker.
        let kept = |entries: &Vec<Entry>| -> usize {
            let kept = entries.iter().filter(|entry| !entry.body.is_unique());
            kept.map(|entry| entry.body.len()).sum()
        };
        let all: usize = written.iter().map(kept).sum();
        assert!(all <= 32 << 20, "{all} bytes of {number} more");
        assert!(kept(&written[0]) >= 3 * value.len(), "the one in use");
        assert!(kept(written.last().unwrap()) >= 3 * value.len(), "the last");
        if number >= 50 {
            assert!(all > 30 << 20, "{all} bytes of {number} more");
            assert!(kept(&written[1]) < value.len(), "the oldest");
        }
    }
}
