//! What may be answered to a question for entries, and what may not.

use super::*;
use crate::checksum::entry_checksum;
use crate::limits::PEER_FRAME_BYTES_MAX;

fn asked() -> Missing {
    Missing {
        group: GroupId(7),
        first: Index(10),
        last: Index(14),
    }
}

fn placed(term: u64, index: u64, offset: u64, count: u32, body: &[u8]) -> PlacedEntry {
    PlacedEntry {
        entry: Entry {
            id: LogId {
                term: Term(term),
                index: Index(index),
            },
            kind: if count > 0 { Kind::Batch } else { Kind::Noop },
            time: Micros(index),
            checksum: entry_checksum(body),
            body: Bytes::copy_from_slice(body),
        },
        offset: Offset(offset),
        count,
    }
}

fn sent(entries: Vec<PlacedEntry>) -> Frame {
    let mut pieces = Vec::new();
    let asked = asked();
    Found { asked, entries }.encode(&mut pieces);
    let mut buffer = BytesMut::from(&pieces.concat()[..]);
    Frame::take(&mut buffer, PEER_FRAME_BYTES_MAX)
        .unwrap()
        .unwrap()
}

fn refused(entries: Vec<PlacedEntry>) -> String {
    Found::decode(&sent(entries))
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn answer_round_trips_and_shares_the_frames_bytes() {
    for entries in [
        vec![],
        vec![placed(3, 14, 9, 0, b"")],
        vec![placed(3, 11, 9, 2, b"two"), placed(4, 12, 11, 1, &[7; 900])],
    ] {
        let frame = sent(entries.clone());
        let found = Found::decode(&frame).unwrap();
        assert_eq!(found.entries, entries);
        for PlacedEntry { entry, .. } in &found.entries {
            assert!(
                entry.body.is_empty()
                    || frame.payload.as_ptr_range().contains(&entry.body.as_ptr())
            );
        }
    }
}

#[test]
fn question_for_entries_that_cannot_be_is_refused() {
    let read = |first, last| {
        let question = Missing {
            group: GroupId(1),
            first: Index(first),
            last: Index(last),
        };
        let mut out = BytesMut::new();
        question.encode(&mut out);
        Missing::decode(&Frame::take(&mut out, 64).unwrap().unwrap())
    };
    assert!(read(1, 1).is_ok());
    assert!(read(1, u64::MAX - 1).is_ok());
    for (first, last) in [(0, 3), (4, 3), (1, u64::MAX)] {
        assert!(read(first, last).is_err(), "{first} to {last}");
    }
}

#[test]
fn entries_that_were_not_asked_for_or_do_not_follow_are_refused() {
    for (what, entries) in [
        ("not asked for", vec![placed(1, 9, 0, 0, b"")]),
        ("not asked for", vec![placed(1, 15, 0, 0, b"")]),
        (
            "does not follow",
            vec![placed(1, 10, 0, 0, b""), placed(1, 12, 0, 0, b"")],
        ),
        (
            "earlier term",
            vec![placed(2, 10, 0, 0, b""), placed(1, 11, 0, 0, b"")],
        ),
        (
            "offset does not follow",
            vec![placed(1, 10, 0, 2, b"x"), placed(1, 11, 1, 1, b"y")],
        ),
        ("cannot be", vec![placed(1, 10, u64::MAX, 1, b"x")]),
    ] {
        let refusal = refused(entries);
        assert!(refusal.contains(what), "{refusal}");
    }
    let mut command = placed(1, 10, 0, 1, b"x");
    command.entry.kind = Kind::Command;
    assert!(refused(vec![command]).contains("no batch"));
}

#[test]
fn damage_to_any_byte_is_found() {
    let sound = sent(vec![
        placed(3, 11, 9, 2, b"two"),
        placed(4, 12, 11, 1, b"1"),
    ]);
    for at in 0..sound.payload.len() {
        let mut payload = sound.payload.to_vec();
        payload[at] ^= 0x10;
        let payload = payload.into();
        assert!(Found::decode(&Frame { payload, ..sound }).is_err(), "{at}");
    }
}

#[test]
fn counts_and_lengths_from_outside_are_checked_before_they_are_used() {
    let sound = sent(vec![placed(3, 11, 9, 2, b"two")]);
    let forged = |at: usize, value: u32, head: usize| {
        let mut payload = sound.payload.to_vec();
        payload[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let checksum = crc32c::crc32c(&payload[..head.min(payload.len())]);
        let payload = payload.into();
        Found::decode(&Frame {
            checksum,
            payload,
            ..sound
        })
    };
    let head = MISSING_BYTES + 4 + ENTRY_BYTES;
    assert!(forged(24, 1, head).is_ok());
    for count in [0, 2, FOUND_ENTRIES_MAX as u32, u32::MAX] {
        let head = (count as usize).saturating_mul(ENTRY_BYTES);
        let head = head.saturating_add(MISSING_BYTES + 4);
        assert!(forged(24, count, head).is_err(), "{count} entries");
    }
    for length in [0, 2, 4, u32::MAX] {
        assert!(forged(28 + 40, length, head).is_err(), "{length} bytes");
    }
    assert!(forged(28 + 32, u32::MAX, head).is_err());
}
