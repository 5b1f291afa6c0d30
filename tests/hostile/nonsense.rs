//! Malformed frames and streams, from a seed: for the clients' plane, and for the peers'.

use bytes::{BufMut, Bytes, BytesMut};
use kontiki_raft::{
    AppendHead, Body, Entry, Incarnation, Index, Kind, LogId, Message, Micros, NodeId, NodeRef,
    Session, Term,
};
use kontiki_wire::{
    BatchBuilder, ClientStream, ClusterId, Epoch, FrameKind, From, GroupId, GroupMessage, Offset,
    PeerFrame, PeerHello, PeerLane, Produced, ProducerId, Record, Request, Subscribe, TopicName,
    TopicSettings, Until, Versions, encode_frame, encode_peer, entry_checksum,
};

const HEADER_BYTES: usize = 16;
/// The largest frame that each plane takes, and what else lengths are mistaken for.
const LENGTHS: &[u32] = &[
    0,
    1,
    (4 << 10) + 1,
    (2 << 20) + (64 << 10),
    (2 << 20) + (64 << 10) + 1,
    4 << 20,
    (4 << 20) + 1,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];

/// Repeatable chance: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self, below: usize) -> Vec<u8> {
        let count = self.below(below);
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A number that no honest side says.
    fn absurd(&mut self) -> u64 {
        let near = self.next() % 4;
        self.of(&[u64::MAX - near, u64::MAX / 2 + 1 + near])
    }
}

/// What happens to a stream after its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    Finish,
    Reset,
    /// It stays open, and nothing more comes.
    Leave,
}

/// One malformed stream.
pub(crate) struct Case {
    pub(crate) bytes: Bytes,
    pub(crate) then: Then,
}

/// A frame of any kind, version and length, its header's checksum right.
fn framed(kind: u8, version: u8, length: u32, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    out.put_slice(b"KT");
    out.put_u8(version);
    out.put_u8(kind);
    out.put_u32_le(length);
    out.put_u32_le(crc32c::crc32c(payload));
    out.put_u32_le(crc32c::crc32c(&out[..12]));
    out.put_slice(payload);
    out
}

fn whole(kind: u8, payload: &[u8]) -> BytesMut {
    framed(kind, 1, payload.len() as u32, payload)
}

fn opened(stream: &ClientStream) -> BytesMut {
    let mut out = BytesMut::new();
    stream.encode(&mut out);
    out
}

fn asked(request: &Request) -> BytesMut {
    let mut out = opened(&ClientStream::Requests);
    request.encode(&mut out);
    out
}

fn topic() -> TopicName {
    "attacked".parse().unwrap()
}

fn then(random: &mut Random) -> Then {
    random.of(&[Then::Finish, Then::Finish, Then::Reset, Then::Leave])
}

/// Something that no client may say, or not here, or not now.
pub(crate) fn for_clients_plane(random: &mut Random) -> Case {
    let bytes = match random.below(12) {
        0 => framed(random.next() as u8, 1, 5, b"hello"),
        1 => framed(1, random.of(&[0, 2, 255]), 5, b"hello"),
        2 => {
            let some = random.bytes(100);
            framed(random.of(&[1, 2, 4]), 1, random.of(LENGTHS), &some)
        }
        3 => damaged(
            random,
            opened(&ClientStream::Produce {
                topic: topic(),
                epoch: None,
            }),
        ),
        4 => damaged(random, asked(&Request::Metadata)),
        5 => out_of_order(random),
        6 => out_of_role(random),
        7 => batch(random),
        8 => subscription(random),
        9 => {
            let mut out = opened(&ClientStream::Requests);
            let payload = random.bytes(300);
            out.extend_from_slice(&whole(2, &payload));
            out
        }
        10 => {
            let payload = random.bytes(300);
            whole(1, &payload)
        }
        _ => BytesMut::from(&random.bytes(400)[..]),
    };
    let then = then(random);
    Case {
        bytes: bytes.freeze(),
        then,
    }
}

/// Bits changed, cut, lengthened.
fn damaged(random: &mut Random, mut bytes: BytesMut) -> BytesMut {
    match random.below(3) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(random.below(bytes.len())),
        _ => {
            let more = random.bytes(40);
            let payload = [&bytes[HEADER_BYTES..], &more, &[0]].concat();
            bytes = whole(bytes[3], &payload);
        }
    }
    bytes
}

fn out_of_order(random: &mut Random) -> BytesMut {
    let mut out = BytesMut::new();
    match random.below(5) {
        0 => encode_frame(
            FrameKind::Request,
            &kontiki_wire::encode(&Request::Status),
            &mut out,
        ),
        1 => produced(random.below(3) as u64, &mut out),
        2 => {
            out = opened(&ClientStream::Requests);
            out.extend_from_slice(&opened(&ClientStream::Requests));
        }
        3 => {
            out = opened(&ClientStream::Produce {
                topic: topic(),
                epoch: None,
            });
            Request::Metadata.encode(&mut out);
        }
        // What only members say.
        _ => {
            let kind = random.of(&[3, 5, 6, 7, 16, 17]);
            let payload = random.bytes(100);
            out = whole(kind, &payload);
        }
    }
    out
}

/// The same bytes come from a producer, a consumer and an operator.
fn out_of_role(random: &mut Random) -> BytesMut {
    let name = topic();
    match random.below(4) {
        0 => asked(&Request::TransferLeader {
            topic: Some(name),
            to: "nobody".to_owned(),
        }),
        1 => asked(&Request::DeleteTopic {
            name: "of-nobody".parse().unwrap(),
        }),
        2 => asked(&Request::CreateTopic {
            name,
            settings: TopicSettings {
                replicas: random.next() as u8,
            },
        }),
        _ => asked(&Request::OffsetAt {
            topic: name,
            time: random.absurd(),
        }),
    }
}

fn produced(sequence: u64, out: &mut BytesMut) {
    let mut builder = BatchBuilder::new(64);
    builder.push(&Record::new("x")).unwrap();
    let batch = builder.finish(ProducerId(7), 0, sequence);
    Produced::encode_header(&batch, out);
    out.extend_from_slice(batch.bytes());
}

/// A batch whose counts and lengths lie under checksums that match, or that comes out of sequence.
fn batch(random: &mut Random) -> BytesMut {
    let mut out = opened(&ClientStream::Produce {
        topic: topic(),
        epoch: None,
    });
    let from = out.len() + HEADER_BYTES;
    produced(random.of(&[1, 1 << 40, u64::MAX / 2]), &mut out);
    if random.below(3) > 0 {
        let batch = &mut out[from..];
        let at = random.below(batch.len() - 4);
        let lie = random.of(&[0, u32::MAX, 0x8000_0000, 65_537]);
        batch[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        let records = crc32c::crc32c(&batch[64..]);
        batch[12..16].copy_from_slice(&records.to_le_bytes());
        let header = crc32c::crc32c(&batch[..60]).rotate_right(15);
        batch[60..64].copy_from_slice(&header.wrapping_add(0xa282_ead8).to_le_bytes());
    }
    out
}

fn subscription(random: &mut Random) -> BytesMut {
    let absurd = random.absurd();
    let from = random.of(&[
        From::Offset(Offset(absurd)),
        From::Last(absurd),
        From::Time(absurd),
        From::Latest,
    ]);
    let until = random.of(&[
        Until::Offset(Offset(0)),
        Until::Offset(Offset(absurd)),
        Until::Time(0),
        Until::End,
    ]);
    let subscribe = Subscribe {
        topic: random
            .of(&["attacked", "honest", "of-nobody"])
            .parse()
            .unwrap(),
        group: random.of(&[None, Some(GroupId(absurd)), Some(GroupId(0))]),
        epoch: None,
        from,
        until,
    };
    opened(&match random.below(2) {
        0 => ClientStream::Subscribe(subscribe),
        _ => ClientStream::SubscribeIfFew(subscribe),
    })
}

/// Between which members a lying link runs.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeRef,
    pub(crate) to: NodeRef,
    /// One of the groups, and the term in which it is.
    pub(crate) group: GroupId,
    pub(crate) term: u64,
}

/// Something that no member says: before its hello, in it, or after.
pub(crate) fn for_peers_plane(random: &mut Random, between: Between) -> Case {
    let bytes = match random.below(8) {
        0 => framed(random.next() as u8, 1, 5, b"hello"),
        1 => {
            let some = random.bytes(100);
            framed(random.of(&[16, 17]), 1, random.of(LENGTHS), &some)
        }
        2 => wrong_hello(random, between),
        3 => {
            let hello = hello(random_lane(random), between);
            damaged(random, hello)
        }
        4 => {
            let mut out = hello(random_lane(random), between);
            let payload = random.bytes(300);
            out.extend_from_slice(&whole(17, &payload));
            out
        }
        5 => {
            let mut out = hello(random_lane(random), between);
            let mut frame = said(vec![absurd(random, between)]);
            let at = HEADER_BYTES + random.below(frame.len() - HEADER_BYTES);
            frame[at] ^= 1 << random.below(8);
            let payload = frame.split_off(HEADER_BYTES);
            out.extend_from_slice(&whole(17, &payload));
            out
        }
        _ => {
            let mut out = hello(random_lane(random), between);
            let count = 1 + random.below(8);
            let messages = (0..count).map(|_| absurd(random, between)).collect();
            out.extend_from_slice(&said(messages));
            out
        }
    };
    let then = then(random);
    Case {
        bytes: bytes.freeze(),
        then,
    }
}

fn random_lane(random: &mut Random) -> PeerLane {
    random.of(&[PeerLane::Beats, PeerLane::Log])
}

fn hello(lane: PeerLane, between: Between) -> BytesMut {
    let mut out = BytesMut::new();
    let hello = PeerHello {
        versions: Versions::MINE,
        renews: false,
        peer_address: String::new(),
        cluster: between.cluster,
        epoch: Epoch::FIRST,
        from: between.from,
        to: between.to,
        lane,
    };
    hello.encode(&mut out);
    out
}

fn wrong_hello(random: &mut Random, mut between: Between) -> BytesMut {
    match random.below(5) {
        0 => between.cluster = ClusterId(u128::from(random.next())),
        1 => between.from.incarnation = Incarnation(random.next()),
        2 => between.to.incarnation = Incarnation(random.next()),
        3 => between.from.id = NodeId(random.absurd()),
        _ => between.from = between.to,
    }
    hello(random_lane(random), between)
}

fn said(messages: Vec<GroupMessage>) -> BytesMut {
    let mut pieces = Vec::new();
    encode_peer(&PeerFrame { messages }, &mut pieces);
    BytesMut::from(&pieces.concat()[..])
}

/// A message that decodes and cannot be true. A member that claims to lead the term in which another
/// does, or that a later and possible term has begun, is not here: the one makes a member stop, the
/// other makes it follow, and both are what Raft must do.
fn absurd(random: &mut Random, between: Between) -> GroupMessage {
    let group = random.of(&[between.group, between.group, GroupId(0), GroupId(u64::MAX)]);
    // The first term has begun in every group that has a leader.
    let now = if group == between.group {
        between.term
    } else {
        1
    };
    let past = random.of(&[0, now.saturating_sub(1).min(1)]);
    let beyond = random.absurd();
    let never = |random: &mut Random| random.of(&[past, beyond]);
    let id = |term: u64, index: u64| LogId {
        term: Term(term),
        index: Index(index),
    };
    let (term, body) = match random.below(9) {
        0 => {
            let (index, prev) = (random.absurd(), random.of(&[0, 1, 5]));
            let head = AppendHead {
                session: Session(random.absurd()),
                prev: id(past, prev),
                commit: Index(index),
            };
            let entries = vec![entry(id(past, prev + 1))];
            (past, Body::Append { head, entries })
        }
        1 => {
            let prev = u64::MAX - 1;
            let head = AppendHead {
                session: Session(1),
                prev: id(0, prev),
                commit: Index(u64::MAX),
            };
            let entries = vec![entry(id(0, u64::MAX))];
            (beyond, Body::Append { head, entries })
        }
        2 => {
            let matched = Index(random.absurd());
            let session = Session(random.of(&[0, 1, 2, u64::MAX]));
            let counts = random.below(2) == 0;
            (
                now,
                Body::Appended {
                    session,
                    matched,
                    counts,
                },
            )
        }
        3 => (
            now,
            Body::AppendRejected {
                session: Session(random.absurd()),
                prev: id(random.absurd(), random.absurd()),
                hint: id(random.absurd(), random.absurd()),
            },
        ),
        4 => {
            let beat = random.absurd();
            match random.below(2) {
                0 => (now, Body::BeatReply { beat }),
                _ => (now, Body::Resting { beat }),
            }
        }
        5 => {
            let (beat, commit) = (random.absurd(), Index(u64::MAX));
            match random.below(2) {
                0 => (never(random), Body::Beat { beat, commit }),
                _ => (never(random), Body::Rest { beat, commit }),
            }
        }
        6 => {
            let last = id(random.absurd(), random.absurd());
            (
                beyond,
                Body::Vote {
                    last,
                    transfer: true,
                },
            )
        }
        7 => {
            let round = random.absurd();
            (
                beyond,
                Body::PreVoteReply {
                    round,
                    granted: true,
                },
            )
        }
        _ => {
            let need = id(random.absurd(), random.absurd());
            (never(random), Body::TimeoutNow { need })
        }
    };
    GroupMessage {
        group,
        message: Message {
            term: Term(term),
            body,
        },
    }
}

fn entry(id: LogId) -> Entry {
    let body = Bytes::from_static(b"no batch");
    Entry {
        id,
        kind: Kind::Batch,
        time: Micros(u64::MAX),
        checksum: entry_checksum(&body),
        body,
    }
}
