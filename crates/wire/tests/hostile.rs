//! Bytes that nobody meant: damaged, cut, lengthened, invented. None is taken for something else, none
//! brings the reader down, and none makes it allocate out of proportion.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unsafe_code, reason = "counting what is allocated takes an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    fs,
};

use bytes::{Bytes, BytesMut};
use kontiki_wire::{
    Acknowledged, Batch, BatchBuilder, ClientStream, ClusterCommand, ClusterState, Deliver,
    FRAME_HEADER_BYTES, Found, Frame, FrameKind, Inquiry, Join, Joined, Malformed, MemberBeat,
    Missing, PeerHello, Produced, Refusal, Relay, Renew, Renewed, Request, Response, Stock,
    StreamEnd, TopicState, decode, decode_peer, encode, encode_peer,
    limits::{CHECKPOINT_BYTES_MAX, PEER_FRAME_BYTES_MAX},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Counts what the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    HELD.set(HELD.get() + change);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call is handed on as it came to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that `work` held at a time.
fn most_held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    (done, (MOST.get() - before).cast_unsigned())
}

/// Understands a frame of any kind, and says it again.
fn understood(frame: &Frame) -> Result<Vec<u8>, Malformed> {
    let mut out = BytesMut::new();
    match frame.kind {
        FrameKind::Open => ClientStream::decode(frame)?.encode(&mut out),
        FrameKind::Request => Request::decode(frame)?.encode(&mut out),
        FrameKind::Response => Response::decode(frame)?.encode(&mut out),
        FrameKind::Produce => {
            let batch = rebuilt(&Produced::decode(frame)?.batch);
            Produced::encode_header(&batch, &mut out);
            out.extend_from_slice(batch.bytes());
        }
        FrameKind::Acknowledge => Acknowledged::encode(&Acknowledged::decode(frame)?, &mut out),
        FrameKind::Deliver => {
            let delivery = Deliver::decode(frame)?;
            for delivered in &delivery.batches {
                let records = Batch::trusted(delivered.batch.clone())?.records();
                records.for_each(drop);
            }
            delivery.encode(&mut out);
        }
        FrameKind::End => StreamEnd::decode(frame)?.encode(&mut out),
        FrameKind::Join => Join::decode(frame)?.encode(&mut out),
        FrameKind::Joined => Joined::decode(frame)?.encode(&mut out),
        FrameKind::PeerHello => PeerHello::decode(frame)?.encode(&mut out),
        FrameKind::Peer => {
            let mut pieces = Vec::new();
            encode_peer(&decode_peer(frame)?, &mut pieces);
            out.extend(pieces.into_iter().flatten());
        }
        FrameKind::Missing => Missing::decode(frame)?.encode(&mut out),
        FrameKind::Inquiry | FrameKind::Ship => {
            Inquiry::decode(frame)?.encode(frame.kind, &mut out)
        }
        FrameKind::Stock => Stock::decode(frame)?.encode(&mut out),
        FrameKind::Shipped => kontiki_wire::encode_frame(frame.kind, &frame.payload, &mut out),
        FrameKind::Relay => Relay::decode(frame)?.encode(&mut out),
        FrameKind::Renew => Renew::decode(frame)?.encode(&mut out),
        FrameKind::Renewed => Renewed::decode(frame)?.encode(&mut out),
        FrameKind::Beat => MemberBeat::decode(frame)?.encode(&mut out),
        FrameKind::Found => {
            let mut pieces = Vec::new();
            Found::decode(frame)?.encode(&mut pieces);
            out.extend(pieces.into_iter().flatten());
        }
    }
    Ok(out.to_vec())
}

/// The batch that a producer of these records would have made.
fn rebuilt(batch: &Batch) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for record in batch.records() {
        builder.push(&record.expect("a verified batch")).unwrap();
    }
    let header = batch.header();
    builder.finish(header.producer, header.epoch, header.sequence)
}

/// The golden files: a sample of every variant, by name. Whole frames or bare small values.
fn samples() -> BTreeMap<String, Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let digits = text.lines().filter(|line| !line.starts_with('#'));
            let bytes = digits
                .flat_map(str::split_whitespace)
                .map(|digits| u8::from_str_radix(digits, 16).unwrap());
            let name = path.file_stem().unwrap().to_string_lossy().into();
            (name, bytes.collect())
        })
        .collect()
}

fn framed() -> BTreeMap<String, Vec<u8>> {
    let mut samples = samples();
    samples.retain(|name, bytes| bytes.starts_with(b"KT") && !name.starts_with("frame-"));
    samples
}

fn bare() -> BTreeMap<String, Vec<u8>> {
    let mut samples = samples();
    samples.retain(|_, bytes| !bytes.starts_with(b"KT"));
    samples
}

fn take(bytes: &[u8]) -> Result<Option<Frame>, Malformed> {
    Frame::take(&mut BytesMut::from(bytes), PEER_FRAME_BYTES_MAX)
}

/// The frame around `payload` as a liar would send it: its checksums match, those of a single batch in
/// it too.
fn lie(kind: FrameKind, mut payload: Vec<u8>) -> Frame {
    if kind == FrameKind::Produce && payload.len() >= 64 {
        let records = crc32c::crc32c(&payload[64..]).to_le_bytes();
        payload[12..16].copy_from_slice(&records);
        let header = crc32c::crc32c(&payload[..60]).rotate_right(15);
        payload[60..64].copy_from_slice(&header.wrapping_add(0xa282_ead8).to_le_bytes());
    }
    let number = |at: usize| {
        let bytes = payload.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let head = match kind {
        FrameKind::Produce => Some(0),
        FrameKind::Deliver => number(8).and_then(|count| count.checked_mul(20)?.checked_add(12)),
        FrameKind::Peer => number(0),
        FrameKind::Found => number(24).and_then(|count| count.checked_mul(45)?.checked_add(28)),
        _ => Some(payload.len()),
    };
    let head = head.unwrap_or(0).min(payload.len());
    Frame {
        kind,
        checksum: crc32c::crc32c(&payload[..head]),
        payload: payload.into(),
    }
}

/// What is understood is said in exactly one way, and what it takes is in proportion: 16 times its bytes
/// at most, as the codec promises, and a little more for small ones.
fn assert_harmless(frame: &Frame) {
    let (understood, held) = most_held(|| understood(frame));
    let len = frame.payload.len();
    assert!(
        held <= 16 * len + 4096,
        "{held} bytes held for {len}: {frame:?}"
    );
    if let Ok(again) = understood {
        assert_eq!(
            again[FRAME_HEADER_BYTES..],
            frame.payload,
            "two spellings of one thing"
        );
    }
}

#[test]
fn a_frame_with_any_one_bit_changed_is_refused() {
    for (name, bytes) in framed() {
        for at in 0..bytes.len() {
            for change in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                let read = take(&damaged).map(|frame| frame.map(|frame| understood(&frame)));
                assert!(
                    matches!(read, Err(_) | Ok(Some(Err(_)))),
                    "{name}, byte {at} changed by {change:#x}: {read:?}"
                );
            }
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_waited_for_and_what_follows_one_is_left_alone() {
    for (name, bytes) in framed() {
        for end in 0..bytes.len() {
            assert_eq!(take(&bytes[..end]), Ok(None), "{name} cut at {end}");
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.extend_from_slice(b"next");
        let frame = Frame::take(&mut longer, PEER_FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        assert_eq!(understood(&frame).unwrap(), bytes, "{name}");
        assert_eq!(longer, b"next"[..], "{name}");
    }
}

#[test]
fn a_payload_cut_or_lengthened_is_refused_even_under_checksums_that_match() {
    for (name, bytes) in framed() {
        let frame = take(&bytes).unwrap().unwrap();
        for end in 0..frame.payload.len() {
            let cut = lie(frame.kind, frame.payload[..end].to_vec());
            assert!(understood(&cut).is_err(), "{name} cut at {end}");
        }
        let longer = lie(frame.kind, [&frame.payload[..], &[0]].concat());
        assert!(understood(&longer).is_err(), "{name} lengthened");
    }
}

#[test]
fn a_count_that_lies_makes_room_in_proportion_at_every_place() {
    // A little longer than the codec's own steps, where the room it allows is largest.
    for len in [1 << 10, 4 << 10, 16 << 10] {
        for (_, bytes) in framed() {
            let frame = take(&bytes).unwrap().unwrap();
            let mut long = frame.payload.to_vec();
            long.resize(long.len().max(len + 1), 0);
            for at in 0..(frame.payload.len() + 1).saturating_sub(8) {
                // What would be taken at its word for elements of 20 to 400 bytes.
                for bytes in [20, 60, 150, 400] {
                    let count = (16 * len / bytes) as u64;
                    let mut lying = long.clone();
                    lying[at..at + 8].copy_from_slice(&u64::to_le_bytes(count));
                    assert_harmless(&lie(frame.kind, lying));
                }
            }
        }
    }
}

#[test]
fn a_frame_is_understood_by_the_reader_of_its_kind_alone() {
    for (name, bytes) in framed() {
        let frame = take(&bytes).unwrap().unwrap();
        let understood = [
            PeerHello::decode(&frame).is_ok(),
            Deliver::decode(&frame).is_ok(),
            Acknowledged::decode(&frame).is_ok(),
            StreamEnd::decode(&frame).is_ok(),
            Response::decode(&frame).is_ok(),
            Request::decode(&frame).is_ok(),
            ClientStream::decode(&frame).is_ok(),
            Produced::decode(&frame).is_ok(),
            decode_peer(&frame).is_ok(),
            Missing::decode(&frame).is_ok(),
            Found::decode(&frame).is_ok(),
            Join::decode(&frame).is_ok(),
            Joined::decode(&frame).is_ok(),
            Relay::decode(&frame).is_ok(),
            Inquiry::decode(&frame).is_ok(),
            Stock::decode(&frame).is_ok(),
            // A piece of a file, which storage reads.
            frame.kind == FrameKind::Shipped,
            Renew::decode(&frame).is_ok(),
            Renewed::decode(&frame).is_ok(),
            MemberBeat::decode(&frame).is_ok(),
        ];
        let times = understood.iter().filter(|understood| **understood).count();
        assert_eq!(times, 1, "{name}");
    }
}

/// Reads bare bytes as every small value there is; what is understood is said in one way only.
fn assert_small_values_harmless(bytes: &[u8]) {
    let limit = CHECKPOINT_BYTES_MAX;
    let (said, held) = most_held(|| {
        [
            decode::<Refusal>("a refusal", bytes, limit).map(|value| encode(&value)),
            decode::<ClusterCommand>("a command", bytes, limit).map(|value| encode(&value)),
            decode::<ClusterState>("a state", bytes, limit).map(|value| encode(&value)),
            decode::<TopicState>("a state", bytes, limit).map(|value| encode(&value)),
        ]
    });
    let len = bytes.len();
    assert!(
        held <= 32 * len + 8192,
        "{held} bytes held for {len}: {bytes:?}"
    );
    for again in said.into_iter().flatten() {
        assert_eq!(again, bytes, "two spellings of one thing");
    }
}

#[test]
fn small_values_cut_or_lengthened_are_never_taken_for_themselves() {
    for (_, bytes) in bare() {
        for end in 0..bytes.len() {
            assert_small_values_harmless(&bytes[..end]);
        }
        assert_small_values_harmless(&[&bytes[..], &[0]].concat());
    }
}

/// One thing done to some bytes, at a place given as a fraction of their length.
#[derive(Clone, Debug)]
enum Edit {
    Set(f64, u8),
    SetWord(f64, u32),
    Insert(f64, u8),
    Remove(f64),
    Repeat(f64, f64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0.0..1.0f64;
    let word = prop_oneof![any::<u32>(), Just(u32::MAX), Just(0), 0..1000u32];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), word).prop_map(|(at, word)| Edit::SetWord(at, word)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        at().prop_map(Edit::Remove),
        (at(), at()).prop_map(|(from, to)| Edit::Repeat(from, to)),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let place = |at: &f64| (at * bytes.len() as f64) as usize;
        match edit {
            _ if bytes.is_empty() => {}
            Edit::Set(at, byte) => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Edit::SetWord(at, word) => {
                let at = place(at);
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
            }
            Edit::Insert(at, byte) => bytes.insert(place(at), *byte),
            Edit::Remove(at) => drop(bytes.remove(place(at))),
            Edit::Repeat(from, to) => {
                let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
                bytes.extend_from_within(from..to);
            }
        }
    }
    bytes
}

fn sample_of(samples: BTreeMap<String, Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    select(samples.into_values().collect::<Vec<_>>())
}

fn kind() -> impl Strategy<Value = FrameKind> {
    select(vec![
        FrameKind::Open,
        FrameKind::Request,
        FrameKind::Response,
        FrameKind::Produce,
        FrameKind::Acknowledge,
        FrameKind::Deliver,
        FrameKind::End,
        FrameKind::Join,
        FrameKind::Joined,
        FrameKind::PeerHello,
        FrameKind::Peer,
        FrameKind::Missing,
        FrameKind::Found,
        FrameKind::Relay,
        FrameKind::Renew,
        FrameKind::Renewed,
        FrameKind::Beat,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn lies_under_matching_checksums_are_harmless(
        sample in sample_of(framed()),
        edits in vec(edit(), 1..6),
    ) {
        let frame = take(&sample).unwrap().unwrap();
        assert_harmless(&lie(frame.kind, edited(frame.payload.to_vec(), &edits)));
    }

    #[test]
    fn invented_frames_are_harmless(kind in kind(), payload in vec(any::<u8>(), 0..300)) {
        assert_harmless(&lie(kind, payload));
    }

    #[test]
    fn invented_bytes_are_no_frame(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(!matches!(take(&bytes), Ok(Some(_))));
    }

    #[test]
    fn invented_batches_are_harmless(bytes in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(Batch::trusted(bytes.clone()).is_err());
        prop_assert!(Batch::verify(bytes).is_err());
    }

    #[test]
    fn edited_small_values_are_harmless(
        sample in sample_of(bare()),
        edits in vec(edit(), 1..6),
    ) {
        assert_small_values_harmless(&edited(sample, &edits));
    }

    #[test]
    fn invented_small_values_are_harmless(bytes in vec(any::<u8>(), 0..200)) {
        assert_small_values_harmless(&bytes);
    }
}
