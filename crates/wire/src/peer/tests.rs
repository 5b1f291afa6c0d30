//! What peers may say to each other, and what they may not.

use kontiki_raft::{AppendHead, Index, Kind, LogId, Micros, Session, Term};

use super::*;
use crate::checksum::entry_checksum;

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

fn entry(term: u64, index: u64, body: &[u8]) -> Entry {
    Entry {
        id: id(term, index),
        kind: Kind::Batch,
        time: Micros(index * 10),
        checksum: entry_checksum(body),
        body: Bytes::copy_from_slice(body),
    }
}

fn append(term: u64, prev: LogId, entries: Vec<Entry>) -> GroupMessage {
    GroupMessage {
        group: GroupId(7),
        message: Message {
            term: Term(term),
            body: Body::Append {
                head: AppendHead {
                    session: Session(5),
                    prev,
                    commit: Index(3),
                },
                entries,
            },
        },
    }
}

fn beat(group: u64) -> GroupMessage {
    GroupMessage {
        group: GroupId(group),
        message: Message {
            term: Term(1),
            body: Body::Beat {
                beat: 2,
                commit: Index(3),
            },
        },
    }
}

fn pieces(messages: &[GroupMessage]) -> Vec<Bytes> {
    let messages = messages.to_vec();
    let mut out = Vec::new();
    encode_peer(&PeerFrame { messages }, &mut out);
    out
}

fn frames(pieces: &[Bytes]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(&pieces.concat()[..]);
    let mut frames = Vec::new();
    while let Some(frame) = Frame::take(&mut buffer, PEER_FRAME_BYTES_MAX).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

/// The frame with its head changed and its checksum made to match again.
fn forged(messages: &[GroupMessage], change: impl FnOnce(&mut [u8])) -> Frame {
    let frame = frames(&pieces(messages)).remove(0);
    let head = u32::from_le_bytes(*frame.payload.first_chunk().unwrap()) as usize;
    let mut payload = frame.payload.to_vec();
    change(&mut payload);
    Frame {
        kind: FrameKind::Peer,
        checksum: crc32c::crc32c(&payload[..head]),
        payload: payload.into(),
    }
}

/// Where the first entry's header begins when an append is the first message: frame head, group, term,
/// kind, session, prev, commit, count.
const ENTRY: usize = 8 + 8 + 8 + 1 + 8 + 16 + 8 + 4;

#[test]
fn a_hello_round_trips_and_knows_its_lanes() {
    let node = |id, incarnation| NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    };
    let hello = |lane| PeerHello {
        peer_address: "10.0.0.1:7401".to_owned(),
        cluster: ClusterId(1 << 100),
        epoch: Epoch { number: 1, mark: 2 },
        from: node(1, 2),
        to: node(3, 4),
        lane,
        versions: Versions::default(),
        renews: lane == PeerLane::Log,
    };
    for lane in [PeerLane::Beats, PeerLane::Log, PeerLane::Bulk] {
        let mut out = BytesMut::new();
        hello(lane).encode(&mut out);
        assert_eq!(out.len(), FRAME_HEADER_BYTES + HELLO_BYTES + 13);
        let frame = Frame::take(&mut out, 128).unwrap().unwrap();
        assert_eq!(PeerHello::decode(&frame), Ok(hello(lane)));

        let mut payload = frame.payload.to_vec();
        payload[64] = 4;
        let mut out = BytesMut::new();
        encode_frame(FrameKind::PeerHello, &payload, &mut out);
        let frame = Frame::take(&mut out, 128).unwrap().unwrap();
        assert!(matches!(
            PeerHello::decode(&frame),
            Err(Malformed::Unknown { value: 4, .. })
        ));

        let mut payload = frame.payload.to_vec();
        payload[64] = 1;
        payload[71] = 0xff;
        let mut out = BytesMut::new();
        encode_frame(FrameKind::PeerHello, &payload, &mut out);
        let frame = Frame::take(&mut out, 128).unwrap().unwrap();
        assert!(matches!(
            PeerHello::decode(&frame),
            Err(Malformed::Inconsistent { .. })
        ));
    }
}

#[test]
fn long_bodies_are_handed_on_and_short_ones_are_joined() {
    let bodies = [10, JOINED_BYTES_MAX - 1, JOINED_BYTES_MAX, 100_000, 0, 5];
    let entries: Vec<_> = (1..)
        .zip(bodies)
        .map(|(index, len)| entry(1, index, &vec![index as u8; len]))
        .collect();
    let messages = [beat(1), append(1, id(0, 0), entries.clone()), beat(2)];
    let pieces = pieces(&messages);
    assert_eq!(pieces.len(), 4, "head and two bodies, body, body, one body");
    assert_eq!(pieces[1].as_ptr(), entries[2].body.as_ptr());
    assert_eq!(pieces[2].as_ptr(), entries[3].body.as_ptr());

    let frame = frames(&pieces).remove(0);
    let read = decode_peer(&frame).unwrap();
    assert_eq!(read.messages, messages);
    for body in read.messages.iter().flat_map(bodies_of) {
        let shares = frame.payload.as_ptr_range().contains(&body.as_ptr());
        assert_eq!(shares, body.len() == 100_000, "{} bytes", body.len());
    }
}

fn bodies_of(message: &GroupMessage) -> Vec<Bytes> {
    bodies(message).cloned().collect()
}

#[test]
fn messages_that_cross_the_bounds_of_a_frame_go_in_several_in_order() {
    let large = vec![1; PEER_FRAME_BYTES_MAX / 3];
    let messages: Vec<_> = (0..4)
        .flat_map(|n| [append(1, id(1, n), vec![entry(1, n + 1, &large)]), beat(n)])
        .collect();
    let sent = frames(&pieces(&messages));
    assert_eq!(sent.len(), 2);
    let read: Vec<_> = sent
        .iter()
        .flat_map(|frame| decode_peer(frame).unwrap().messages)
        .collect();
    assert_eq!(read, messages);

    let beats = vec![beat(1); PEER_MESSAGES_MAX + 1];
    let counts: Vec<_> = frames(&pieces(&beats))
        .iter()
        .map(|frame| decode_peer(frame).unwrap().messages.len())
        .collect();
    assert_eq!(counts, [PEER_MESSAGES_MAX, 1]);
    assert!(pieces(&[]).is_empty());
}

#[test]
#[should_panic = "entry 3@1 after 1@1"]
fn entries_with_a_gap_are_never_sent() {
    pieces(&[append(1, id(1, 1), vec![entry(1, 3, b"")])]);
}

#[test]
fn entries_that_do_not_continue_their_log_are_refused() {
    let messages = [append(
        5,
        id(3, 9),
        vec![entry(3, 10, b"a"), entry(4, 11, b"b")],
    )];
    assert!(decode_peer(&forged(&messages, |_| {})).is_ok());
    let refused = |at: usize, value: u64| {
        let frame = forged(&messages, |payload| {
            payload[at..at + 8].copy_from_slice(&value.to_le_bytes());
        });
        match decode_peer(&frame) {
            Err(Malformed::Inconsistent { what }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(ENTRY, 2).contains("earlier term"));
    assert!(refused(ENTRY, 5).contains("earlier term"));
    assert!(refused(ENTRY + 33, 6).contains("later term"));
    assert!(refused(ENTRY + 8, 11).contains("does not follow"));
    assert!(refused(ENTRY + 33 + 8, u64::MAX).contains("does not follow"));
    let prev_index = ENTRY - 12 - 8;
    assert!(refused(prev_index, 8).contains("does not follow"));
    assert!(refused(prev_index, u64::MAX).contains("does not follow"));
    let term = 16;
    assert!(refused(term, 3).contains("later term"));
}

#[test]
fn a_prev_later_than_the_message_is_refused_even_without_entries() {
    let frame = forged(&[append(5, id(3, 9), vec![])], |payload| payload[16] = 2);
    assert!(matches!(
        decode_peer(&frame),
        Err(Malformed::Inconsistent { .. })
    ));
}

#[test]
fn counts_lengths_and_kinds_from_outside_are_checked_before_they_are_used() {
    let messages = [append(5, id(3, 9), vec![entry(3, 10, b"body")])];
    let error = |at: usize, bytes: &[u8]| {
        let frame = forged(&messages, |payload| {
            payload[at..at + bytes.len()].copy_from_slice(bytes);
        });
        decode_peer(&frame).expect_err("forged").to_string()
    };
    let most = u32::MAX.to_le_bytes();
    assert!(error(4, &[0; 4]).contains("without a message"));
    assert!(error(4, &[2, 0, 0, 0]).contains("ends after"));
    assert!(error(4, &most).contains("number of messages"));
    assert!(error(24, &[0]).contains("kind of message"));
    assert!(error(24, &[u8::MAX]).contains("kind of message"));
    assert!(error(ENTRY - 4, &most).contains("number of entries"));
    assert!(error(ENTRY - 4, &[2, 0, 0, 0]).contains("number of entries"));
    assert!(error(ENTRY - 4, &[0, 0, 0, 0]).contains("left over"));
    assert!(error(ENTRY + 28, &most).contains("length of an entry"));
    assert!(error(ENTRY + 28, &[5, 0, 0, 0]).contains("body of an entry"));
    assert!(error(ENTRY + 28, &[3, 0, 0, 0]).contains("checksum of the body"));
    assert!(error(ENTRY + 32, &[4]).contains("kind of entry"));
}

#[test]
fn a_head_length_that_lies_is_refused() {
    for length in [0, 3, 4, 7, 8, 90, 1_000, u32::MAX] {
        let sound = frames(&pieces(&[beat(1)])).remove(0);
        let mut payload = sound.payload.to_vec();
        payload[..4].copy_from_slice(&length.to_le_bytes());
        // The forger may choose the checksum too.
        let head = payload.get(..length as usize).unwrap_or_default();
        let frame = Frame {
            kind: FrameKind::Peer,
            checksum: crc32c::crc32c(head),
            payload: payload.into(),
        };
        assert!(decode_peer(&frame).is_err(), "{length}");
    }
}

#[test]
fn damage_to_any_byte_of_a_frame_is_found() {
    let sound = frames(&pieces(&[
        append(5, id(3, 9), vec![entry(3, 10, b"body")]),
        beat(3),
    ]))
    .remove(0);
    for at in 0..sound.payload.len() {
        let mut payload = sound.payload.to_vec();
        payload[at] ^= 0x10;
        let damaged = Frame {
            payload: payload.into(),
            ..sound
        };
        assert!(decode_peer(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn a_head_with_room_left_after_its_messages_is_refused() {
    let sound = frames(&pieces(&[beat(1)])).remove(0);
    let mut payload = [&sound.payload[..], b"room"].concat();
    let head = payload.len() as u32;
    payload[..4].copy_from_slice(&head.to_le_bytes());
    let frame = Frame {
        kind: FrameKind::Peer,
        checksum: crc32c::crc32c(&payload),
        payload: payload.into(),
    };
    assert!(matches!(
        decode_peer(&frame),
        Err(Malformed::Trailing { left: 4, .. })
    ));
}

#[test]
fn a_small_entry_keeps_nothing_of_the_frame_that_brings_it_and_a_large_one_is_not_copied() {
    let large = vec![7; 1 << 20];
    let messages = [
        append(2, id(1, 4), vec![entry(1, 5, b"seldom"), entry(2, 6, b"")]),
        append(2, id(1, 4), vec![entry(2, 5, &large), entry(2, 6, b"rest")]),
        append(2, id(1, 4), vec![entry(2, 5, &large[..20_000])]),
    ];
    let frame = frames(&pieces(&messages)).remove(0);
    let decoded = decode_peer(&frame).unwrap();
    assert_eq!(decoded.messages, messages);
    let within = frame.payload.as_ptr_range();
    let shares: Vec<bool> = decoded
        .messages
        .iter()
        .flat_map(bodies)
        .map(|body| within.contains(&body.as_ptr()))
        .collect();
    assert_eq!(shares, [false, false, true, false, false]);

    // What arrives with a small frame may share its memory.
    let alone = frames(&pieces(&messages[2..])).remove(0);
    let decoded = decode_peer(&alone).unwrap();
    let body = bodies(&decoded.messages[0]).next().unwrap();
    assert!(!alone.payload.as_ptr_range().contains(&body.as_ptr()));
}
