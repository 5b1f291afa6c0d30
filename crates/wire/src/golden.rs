//! Pins the bytes of everything that can be said, so that moving a field cannot change the protocol
//! unnoticed. `UPDATE_GOLDEN=1 cargo test -p kontiki-wire golden` rewrites `tests/golden/`; the diff
//! is then the change of protocol, for the reviewer to read.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use bytes::{Bytes, BytesMut};
use kontiki_raft::{
    AppendHead, Body, Entry, Incarnation, Index, Kind, Life, LogId, Message, Micros, NodeId,
    NodeRef, Session, Term,
};

use crate::{
    batch::{Batch, BatchBuilder},
    beat::MemberBeat,
    checksum::entry_checksum,
    codec,
    command::{Admission, ClusterCommand, ClusterState, ProducerState, Topic, TopicState},
    control::{
        FetchStatus, GroupStatus, MemberStatus, ReplicaStatus, Request, Response, TopicInfo,
        TopicSettings,
    },
    control::{Walked, WalkedDamage},
    deliver::{Deliver, DeliveredBatch},
    epoch::{Epoch, Recovery},
    fetch::{Inquiry, Stock},
    frame::{Frame, FrameKind, encode_frame},
    ids::{ClusterId, GroupId, Offset, ProducerId, TopicName},
    limits::PEER_FRAME_BYTES_MAX,
    member::{MemberInfo, MemberRef, Standing},
    mend::{Found, Missing, PlacedEntry},
    peer::{GroupMessage, PeerFrame, PeerHello, PeerLane, decode_peer, encode_peer},
    produce::{Acknowledged, Answer, AppendRefused, Produced},
    record::{Header, Record},
    refusal::Refusal,
    relay::Relay,
    renewal::Renewed,
    role::Role,
    stream::{ClientStream, From, StreamEnd, Subscribe, Until},
    token::{Spent, Token, TokenId, TokenInfo, TokenSpec},
    trust::{
        Handover, Papers, Revocation, Rotate, Rotation, RotationStage, Successors, Trust, Whom,
    },
    version::Versions,
};

/// A value that is named after its variant, and what it looks like in bytes.
struct Sample {
    name: String,
    shown: String,
    bytes: Vec<u8>,
}

/// One sample for every variant. A variant without one does not compile.
macro_rules! every {
    ($type:ty, $family:literal, $encode:expr; $($name:literal $pattern:pat => $sample:expr;)+) => {{
        fn name_of(value: &$type) -> &'static str {
            match value { $($pattern => $name,)+ }
        }
        vec![$({
            let value: $type = $sample;
            assert_eq!(name_of(&value), $name, "a sample stands beside another variant's name");
            sample(concat!($family, "-", $name), &value, $encode)
        },)+]
    }};
}

mod join;

fn sample<T: std::fmt::Debug>(name: &str, value: &T, encode: fn(&T) -> Vec<u8>) -> Sample {
    Sample {
        name: name.to_owned(),
        shown: format!("{value:?}"),
        bytes: encode(value),
    }
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut kept: BTreeMap<String, String> = fs::read_dir(&dir)
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    let text = fs::read_to_string(&path).unwrap();
                    (path.file_name().unwrap().to_string_lossy().into(), text)
                })
                .collect()
        })
        .unwrap_or_default();
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for sample in samples() {
        let file = format!("{}.hex", sample.name);
        let hex = hex(&sample.bytes);
        let was = kept.remove(&file);
        if was.as_deref().map(without_comments) == Some(hex.clone()) {
            continue;
        }
        if update {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(&file), format!("# {}\n{hex}", sample.shown)).unwrap();
        } else {
            let was = was.unwrap_or_else(|| "nothing yet".to_owned());
            wrong.push(format!("{file}\nis now\n{hex}and was\n{was}"));
        }
    }
    for file in kept.keys() {
        if update {
            fs::remove_file(dir.join(file)).unwrap();
        } else {
            wrong.push(format!("{file} is no message's"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        let digits: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", digits.join(" ")).unwrap();
    }
    text
}

fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn samples() -> Vec<Sample> {
    [
        frames(),
        join::samples(),
        batches(),
        openings(),
        requests(),
        responses(),
        refusals(),
        answers(),
        deliveries(),
        ends(),
        hellos(),
        messages(),
        entries(),
        mends(),
        fetches(),
        beats(),
        relays(),
        renewals(),
        commands(),
        states(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The one frame in `bytes`.
fn frame(bytes: BytesMut) -> Frame {
    let mut bytes = bytes;
    let frame = Frame::take(&mut bytes, PEER_FRAME_BYTES_MAX).unwrap();
    assert!(bytes.is_empty());
    frame.expect("a whole frame")
}

fn frames() -> Vec<Sample> {
    fn encode(kind: &FrameKind) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_frame(*kind, b"payload", &mut out);
        assert_eq!(frame(out.clone()).kind, *kind);
        out.to_vec()
    }
    every! { FrameKind, "frame", encode;
        "open" FrameKind::Open => FrameKind::Open;
        "request" FrameKind::Request => FrameKind::Request;
        "response" FrameKind::Response => FrameKind::Response;
        "produce" FrameKind::Produce => FrameKind::Produce;
        "acknowledge" FrameKind::Acknowledge => FrameKind::Acknowledge;
        "deliver" FrameKind::Deliver => FrameKind::Deliver;
        "end" FrameKind::End => FrameKind::End;
        "join" FrameKind::Join => FrameKind::Join;
        "joined" FrameKind::Joined => FrameKind::Joined;
        "peer-hello" FrameKind::PeerHello => FrameKind::PeerHello;
        "peer" FrameKind::Peer => FrameKind::Peer;
        "missing" FrameKind::Missing => FrameKind::Missing;
        "found" FrameKind::Found => FrameKind::Found;
        "relay" FrameKind::Relay => FrameKind::Relay;
        "inquiry" FrameKind::Inquiry => FrameKind::Inquiry;
        "stock" FrameKind::Stock => FrameKind::Stock;
        "ship" FrameKind::Ship => FrameKind::Ship;
        "shipped" FrameKind::Shipped => FrameKind::Shipped;
        "renew" FrameKind::Renew => FrameKind::Renew;
        "renewed" FrameKind::Renewed => FrameKind::Renewed;
        "beat" FrameKind::Beat => FrameKind::Beat;
    }
}

const TIME: u64 = 1_767_225_600_000_000;

fn batch() -> Batch {
    let mut builder = BatchBuilder::new(0);
    let mut push = |timestamp, key, headers, value: &'static [u8]| {
        let record = Record {
            timestamp,
            key,
            headers,
            value: Bytes::from_static(value),
        };
        builder.push(&record).unwrap();
    };
    push(TIME, None, Vec::new(), b"plain");
    push(
        TIME - 1,
        Some(Bytes::new()),
        Vec::new(),
        b"earlier, empty key",
    );
    let header = Header {
        name: "h\u{e9}ader".to_owned(),
        value: Bytes::from_static(&[0, 0xff]),
    };
    let key = Some(Bytes::from_static(b"key"));
    push(TIME + 1_000_000, key, vec![header], b"all of it");
    builder.finish(ProducerId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10), 3, 77)
}

fn batches() -> Vec<Sample> {
    let produced = Produced { batch: batch() };
    vec![sample("produced", &produced, |produced| {
        let mut out = BytesMut::new();
        Produced::encode_header(&produced.batch, &mut out);
        out.extend_from_slice(produced.batch.bytes());
        assert_eq!(Produced::decode(&frame(out.clone())).as_ref(), Ok(produced));
        out.to_vec()
    })]
}

fn topic() -> TopicName {
    "orders/eu".parse().unwrap()
}

fn openings() -> Vec<Sample> {
    fn encode(stream: &ClientStream) -> Vec<u8> {
        let mut out = BytesMut::new();
        stream.encode(&mut out);
        assert_eq!(
            ClientStream::decode(&frame(out.clone())).as_ref(),
            Ok(stream)
        );
        out.to_vec()
    }
    fn encode_from(from: &From) -> Vec<u8> {
        let subscribe = Subscribe {
            topic: topic(),
            group: Some(GroupId(3)),
            epoch: Some(2),
            from: *from,
            until: Until::Forever,
        };
        encode(&ClientStream::Subscribe(subscribe))
    }
    fn encode_until(until: &Until) -> Vec<u8> {
        let subscribe = Subscribe {
            topic: topic(),
            group: Some(GroupId(3)),
            epoch: Some(2),
            from: From::Earliest,
            until: *until,
        };
        encode(&ClientStream::Subscribe(subscribe))
    }
    let mut samples = every! { ClientStream, "open", encode;
        "requests" ClientStream::Requests => ClientStream::Requests;
        "produce" ClientStream::Produce { .. } => ClientStream::Produce {
            topic: topic(),
            epoch: Some(2),
        };
        "subscribe" ClientStream::Subscribe(_) => ClientStream::Subscribe(Subscribe {
            topic: topic(),
            group: Some(GroupId(3)),
            epoch: Some(2),
            from: From::Offset(Offset(5)),
            until: Until::Offset(Offset(9)),
        });
        "subscribe-if-few" ClientStream::SubscribeIfFew(_) => ClientStream::SubscribeIfFew(Subscribe {
            topic: topic(),
            group: Some(GroupId(3)),
            epoch: None,
            from: From::Offset(Offset(5)),
            until: Until::Forever,
        });
    };
    samples.extend(every! { From, "open-from", encode_from;
        "earliest" From::Earliest => From::Earliest;
        "latest" From::Latest => From::Latest;
        "offset" From::Offset(_) => From::Offset(Offset(5));
        "last" From::Last(_) => From::Last(5);
        "time" From::Time(_) => From::Time(TIME);
    });
    samples.extend(every! { Until, "open-until", encode_until;
        "forever" Until::Forever => Until::Forever;
        "offset" Until::Offset(_) => Until::Offset(Offset(9));
        "end" Until::End => Until::End;
        "time" Until::Time(_) => Until::Time(TIME);
    });
    samples
}

fn requests() -> Vec<Sample> {
    fn encode(request: &Request) -> Vec<u8> {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(&frame(out.clone())).as_ref(), Ok(request));
        out.to_vec()
    }
    every! { Request, "request", encode;
        "metadata" Request::Metadata => Request::Metadata;
        "members" Request::Members => Request::Members;
        "topic" Request::Topic { .. } => Request::Topic { name: topic() };
        "create-topic" Request::CreateTopic { .. } => Request::CreateTopic {
            name: topic(),
            settings: TopicSettings { replicas: 5 },
        };
        "delete-topic" Request::DeleteTopic { .. } => Request::DeleteTopic { name: topic() };
        "status" Request::Status => Request::Status;
        "transfer-leader" Request::TransferLeader { .. } => Request::TransferLeader {
            topic: Some(topic()),
            to: "n2".to_owned(),
        };
        "offset-at" Request::OffsetAt { .. } => Request::OffsetAt {
            topic: topic(),
            time: TIME,
        };
        "walk" Request::Walk { .. } => Request::Walk {
            group: GroupId(4),
            first: 10,
            last: 20,
            digest: 0x0d19_e570,
        };
        "topics" Request::Topics => Request::Topics;
        "edit-topic" Request::EditTopic { .. } => Request::EditTopic {
            name: topic(),
            settings: TopicSettings { replicas: 5 },
        };
        "remove-member" Request::RemoveMember { .. } => Request::RemoveMember {
            name: "n2".to_owned(),
            force: true,
        };
        "set-standing" Request::SetStanding { .. } => Request::SetStanding {
            name: "n2".to_owned(),
            standing: Standing::Draining,
            force: false,
        };
        "create-token" Request::CreateToken(_) => Request::CreateToken(token_spec());
        "revoke-token" Request::RevokeToken { .. } => Request::RevokeToken { id: TokenId(0x70) };
        "tokens" Request::Tokens => Request::Tokens;
        "recoveries" Request::Recoveries => Request::Recoveries;
        "finalize" Request::Finalize => Request::Finalize;
        "set-balance" Request::SetBalance { .. } => Request::SetBalance { on: true };
        "trust" Request::Trust => Request::Trust;
        "revoke" Request::Revoke(_) => Request::Revoke(Whom::Serial("40ab".to_owned()));
        "renew" Request::Renew => Request::Renew;
        "make-successors" Request::MakeSuccessors => Request::MakeSuccessors;
        "outdated" Request::Outdated => Request::Outdated;
        "replace-member" Request::ReplaceMember { .. } => Request::ReplaceMember {
            name: "n2".to_owned(),
            with: "n4".to_owned(),
            force: false,
        };
        "rotate" Request::Rotate(_) => Request::Rotate(Rotate::Finish { force: true });
    }
}

fn token_spec() -> TokenSpec {
    TokenSpec {
        id: TokenId(0x70),
        hash: [0xa5; 32],
        role: Role::Consumer,
        topics: vec!["orders/*".to_owned()],
        life_seconds: 3600,
    }
}

fn token() -> Token {
    Token {
        id: TokenId(0x70),
        hash: [0xa5; 32],
        role: Role::Node,
        topics: vec!["orders/*".to_owned()],
        issued_at: TIME,
        expires_at: TIME + 3_600_000_000,
        spent: Some(Spent {
            name: "n4".to_owned(),
            mark: 0xabce,
        }),
        revoked: true,
    }
}

pub(crate) fn member() -> MemberInfo {
    MemberInfo {
        id: 1,
        incarnation: 0xabcd,
        name: "n1".to_owned(),
        address: "10.0.0.1:7400".to_owned(),
        peer_address: "10.0.0.1:7401".to_owned(),
        signs: true,
        standing: Standing::Active,
        versions: Versions::default(),
    }
}

fn topic_info() -> TopicInfo {
    TopicInfo {
        name: topic(),
        group: GroupId(4),
        settings: TopicSettings::default(),
        replicas: vec!["n1".to_owned(), "n2".to_owned()],
        leader: Some("n2".to_owned()),
        first: Offset(10),
        next: Offset(20),
        epoch: 2,
    }
}

pub(crate) fn epoch() -> Epoch {
    Epoch {
        number: 2,
        mark: 0xa5a5,
    }
}

fn recovery() -> Recovery {
    Recovery {
        epoch: epoch(),
        at: TIME,
        by: "ada on ops1".to_owned(),
        survivor: "n1".to_owned(),
        given_up: vec!["n2".to_owned(), "n3".to_owned()],
        kept: 7,
        lost: 1,
        lost_topics: vec!["orders/eu".to_owned()],
    }
}

fn status() -> MemberStatus {
    MemberStatus {
        member: member(),
        recovering: vec!["n1 is recovering topic t: journal 3 is damaged at byte 4096".to_owned()],
        groups: vec![GroupStatus {
            group: GroupId(4),
            leader: None,
            term: 6,
            first: Offset(10),
            next: Offset(20),
            replicas: vec![ReplicaStatus {
                name: "n2".to_owned(),
                match_offset: Offset(19),
                lag: 1,
                lag_bytes: 4096,
                bytes_per_second: 1 << 20,
                silent_ms: Some(12),
                state: "follower".to_owned(),
            }],
            wanted: vec!["n2".to_owned(), "n3".to_owned()],
            waits: Some("n3 lacks 12 entries".to_owned()),
            fetching: Some(FetchStatus {
                from: Some("n2".to_owned()),
                bytes: 5,
                of: 1 << 31,
                bytes_per_second: 1 << 27,
                why: "it is fetched".to_owned(),
            }),
        }],
        placing: vec!["n1 leaves, and 1 topic is still to be moved".to_owned()],
        up_seconds: 3600,
        build: "0.1.0".to_owned(),
        version: 1,
    }
}

fn walked() -> Walked {
    Walked {
        placed: 30,
        upto: 20,
        digest: 0x0d19_e571,
        entries: 10,
        bytes: 4096,
        damage: vec![WalkedDamage {
            first: 15,
            last: 15,
            what: "it cannot be read".to_owned(),
        }],
    }
}

fn responses() -> Vec<Sample> {
    fn encode(response: &Response) -> Vec<u8> {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        assert_eq!(Response::decode(&frame(out.clone())).as_ref(), Ok(response));
        out.to_vec()
    }
    every! { Response, "response", encode;
        "metadata" Response::Metadata { .. } => Response::Metadata {
            cluster: ClusterId(0xc1),
            members: vec![member()],
            topics: vec![topic_info()],
            auto_create: true,
            turnover: trust().turnover(),
        };
        "topic" Response::Topic(_) => Response::Topic(topic_info());
        "exists" Response::Exists(_) => Response::Exists(topic_info());
        "done" Response::Done => Response::Done;
        "status" Response::Status(_) => Response::Status(status());
        "offset" Response::Offset(_) => Response::Offset(Offset(7));
        "refused" Response::Refused(_) => Response::Refused(Refusal::Busy);
        "walked" Response::Walked(_) => Response::Walked(walked());
        "member" Response::Member(_) => Response::Member(member());
        "token" Response::Token(_) => Response::Token(token().info());
        "tokens" Response::Tokens(_) => Response::Tokens(vec![TokenInfo {
            spent: None,
            ..token().info()
        }]);
        "recoveries" Response::Recoveries(_) => Response::Recoveries(vec![recovery()]);
        "version" Response::Version(_) => Response::Version(2);
        "admitted" Response::Admitted(_) => Response::Admitted(member());
        "trust" Response::Trust(_) => Response::Trust(trust());
        "renewed" Response::Renewed { .. } => Response::Renewed {
            certificate: "leaf".to_owned(),
            handover: Some(handover(0xc0)),
        };
        "outdated" Response::Outdated(_) => Response::Outdated(vec!["producer/shop".to_owned()]);
        "successors" Response::Successors(_) => Response::Successors(Box::new(successors()));
    }
}

fn refusals() -> Vec<Sample> {
    fn encode(refusal: &Refusal) -> Vec<u8> {
        let bytes = codec::encode(refusal);
        assert_eq!(
            codec::decode("a refusal", &bytes, bytes.len()).as_ref(),
            Ok(refusal)
        );
        bytes
    }
    let text = || "text".to_owned();
    every! { Refusal, "refusal", encode;
        "not-leader" Refusal::NotLeader { .. } => Refusal::NotLeader { leader: Some("n2".to_owned()) };
        "no-such-topic" Refusal::NoSuchTopic { .. } => Refusal::NoSuchTopic { name: text() };
        "no-such-member" Refusal::NoSuchMember { .. } => Refusal::NoSuchMember {
            name: "n9".to_owned(),
            known: vec!["n1".to_owned(), "n2".to_owned()],
        };
        "not-permitted" Refusal::NotPermitted { .. } => Refusal::NotPermitted { what: text() };
        "busy" Refusal::Busy => Refusal::Busy;
        "unknown" Refusal::Unknown => Refusal::Unknown;
        "too-large" Refusal::TooLarge { .. } => Refusal::TooLarge { what: text(), limit: 1024 };
        "sequence-gap" Refusal::SequenceGap { .. } => Refusal::SequenceGap { expected: 5 };
        "fenced" Refusal::Fenced { .. } => Refusal::Fenced { epoch: 4 };
        "offset-out-of-range" Refusal::OffsetOutOfRange { .. } => Refusal::OffsetOutOfRange {
            first: 10,
            next: 20,
        };
        "malformed" Refusal::Malformed { .. } => Refusal::Malformed { what: text() };
        "unavailable" Refusal::Unavailable { .. } => Refusal::Unavailable { why: text() };
        "unfit" Refusal::Unfit { .. } => Refusal::Unfit { why: text() };
        "recovered" Refusal::Recovered { .. } => Refusal::Recovered { epoch: 2 };
    }
}

fn answers() -> Vec<Sample> {
    let answers: Vec<Answer> = vec![
        Ok(Acknowledged {
            sequence: 77,
            offset: Offset(1000),
            time: TIME,
        }),
        Err(AppendRefused {
            sequence: 80,
            refusal: Refusal::SequenceGap { expected: 79 },
        }),
        Ok(Acknowledged {
            sequence: 79,
            offset: Offset(1003),
            time: TIME,
        }),
    ];
    vec![sample("answers", &answers, |answers| {
        let mut out = BytesMut::new();
        Acknowledged::encode(answers, &mut out);
        assert_eq!(
            Acknowledged::decode(&frame(out.clone())).as_ref(),
            Ok(answers)
        );
        out.to_vec()
    })]
}

fn deliveries() -> Vec<Sample> {
    fn encode(delivery: &Deliver) -> Vec<u8> {
        let mut out = BytesMut::new();
        delivery.encode(&mut out);
        assert_eq!(Deliver::decode(&frame(out.clone())).as_ref(), Ok(delivery));
        out.to_vec()
    }
    let place = |offset| DeliveredBatch {
        offset: Offset(offset),
        time: TIME,
        batch: batch().bytes().clone(),
    };
    let delivery = |batches| Deliver {
        watermark: Offset(20),
        batches,
    };
    vec![
        sample("delivery", &delivery(vec![place(10), place(13)]), encode),
        sample("delivery-empty", &delivery(Vec::new()), encode),
    ]
}

fn ends() -> Vec<Sample> {
    fn encode(end: &StreamEnd) -> Vec<u8> {
        let mut out = BytesMut::new();
        end.encode(&mut out);
        assert_eq!(StreamEnd::decode(&frame(out.clone())).as_ref(), Ok(end));
        out.to_vec()
    }
    every! { StreamEnd, "end", encode;
        "reached" StreamEnd::Reached => StreamEnd::Reached;
        "moving" StreamEnd::Moving => StreamEnd::Moving;
        "deleted" StreamEnd::Deleted { .. } => StreamEnd::Deleted { group: GroupId(4) };
        "refused" StreamEnd::Refused(_) => StreamEnd::Refused(Refusal::OffsetOutOfRange {
            first: 10,
            next: 20,
        });
        "crowded" StreamEnd::Crowded => StreamEnd::Crowded;
    }
}

fn hellos() -> Vec<Sample> {
    fn encode(lane: &PeerLane) -> Vec<u8> {
        let node = |id, incarnation| NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(incarnation),
        };
        let hello = PeerHello {
            cluster: ClusterId(0xc1),
            epoch: epoch(),
            from: node(1, 0xabcd),
            to: node(2, 0xef),
            lane: *lane,
            versions: Versions::default(),
            renews: *lane == PeerLane::Log,
            peer_address: "10.0.0.1:7401".to_owned(),
        };
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        assert_eq!(PeerHello::decode(&frame(out.clone())), Ok(hello.clone()));
        out.to_vec()
    }
    every! { PeerLane, "peer-hello", encode;
        "beats" PeerLane::Beats => PeerLane::Beats;
        "log" PeerLane::Log => PeerLane::Log;
        "bulk" PeerLane::Bulk => PeerLane::Bulk;
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

/// As one frame, between two beats of other groups.
fn encode_body(body: &Body) -> Vec<u8> {
    let message = |group, body| GroupMessage {
        group: GroupId(group),
        message: Message {
            term: Term(9),
            body,
        },
    };
    let beat = Body::BeatReply { beat: 1 };
    let messages = PeerFrame {
        messages: vec![
            message(0, beat.clone()),
            message(4, body.clone()),
            message(5, beat),
        ],
    };
    let mut pieces = Vec::new();
    encode_peer(&messages, &mut pieces);
    let bytes = pieces.concat();
    assert_eq!(decode_peer(&frame(bytes[..].into())), Ok(messages));
    bytes
}

fn append(entries: Vec<Entry>) -> Body {
    Body::Append {
        head: AppendHead {
            session: Session(0x55),
            prev: id(7, 99),
            commit: Index(98),
        },
        entries,
    }
}

fn entry(kind: Kind, id: LogId, body: Bytes) -> Entry {
    Entry {
        id,
        kind,
        time: Micros(TIME),
        checksum: entry_checksum(&body),
        body,
    }
}

fn messages() -> Vec<Sample> {
    let session = Session(0x55);
    every! { Body, "peer", encode_body;
        "pre-vote" Body::PreVote { .. } => Body::PreVote { round: 3, last: id(7, 99) };
        "pre-vote-reply" Body::PreVoteReply { .. } => Body::PreVoteReply { round: 3, granted: true };
        "vote" Body::Vote { .. } => Body::Vote { last: id(7, 99), transfer: true };
        "vote-reply" Body::VoteReply { .. } => Body::VoteReply { granted: true };
        "append" Body::Append { .. } => append(vec![
            entry(Kind::Noop, id(8, 100), Bytes::new()),
            entry(Kind::Batch, id(9, 101), batch().bytes().clone()),
        ]);
        "appended" Body::Appended { .. } => Body::Appended {
            session,
            matched: Index(101),
            counts: true,
        };
        "append-rejected" Body::AppendRejected { .. } => Body::AppendRejected {
            session,
            prev: id(7, 99),
            hint: id(6, 90),
        };
        "beat" Body::Beat { .. } => Body::Beat { beat: 12, commit: Index(98) };
        "beat-reply" Body::BeatReply { .. } => Body::BeatReply { beat: 12 };
        "rest" Body::Rest { .. } => Body::Rest { beat: 12, commit: Index(98) };
        "resting" Body::Resting { .. } => Body::Resting { beat: 12 };
        "timeout-now" Body::TimeoutNow { .. } => Body::TimeoutNow { need: id(9, 101) };
        "rejoin" Body::Rejoin { .. } => Body::Rejoin { life: Life(0x1ee7) };
        "fetch" Body::Fetch { .. } => Body::Fetch { session: Session(0x5e55), upto: id(4, 104) };
        "fetching" Body::Fetching { .. } => Body::Fetching { session: Session(0x5e55), arrived: Index(103) };
        "removed" Body::Removed { .. } => Body::Removed { upto: id(9, 103) };
        "rejoin-at" Body::RejoinAt { .. } => Body::RejoinAt { life: Life(0x1ee7), index: Index(102) };
        "vouched" Body::Vouched { .. } => Body::Vouched { had: id(9, 101) };
    }
}

fn entries() -> Vec<Sample> {
    fn encode(kind: &Kind) -> Vec<u8> {
        let body = Bytes::from_static(b"body");
        encode_body(&append(vec![entry(*kind, id(9, 100), body)]))
    }
    every! { Kind, "peer-entry", encode;
        "noop" Kind::Noop => Kind::Noop;
        "config" Kind::Config => Kind::Config;
        "batch" Kind::Batch => Kind::Batch;
        "command" Kind::Command => Kind::Command;
    }
}

fn mends() -> Vec<Sample> {
    let asked = Missing {
        group: GroupId(4),
        first: Index(100),
        last: Index(120),
    };
    let placed = |entry, offset, count| PlacedEntry {
        entry,
        offset: Offset(offset),
        count,
    };
    let found = Found {
        asked,
        entries: vec![
            placed(entry(Kind::Noop, id(8, 101), Bytes::new()), 20, 0),
            placed(
                entry(Kind::Batch, id(9, 102), batch().bytes().clone()),
                20,
                3,
            ),
        ],
    };
    vec![
        sample("missing", &asked, |missing| {
            let mut out = BytesMut::new();
            missing.encode(&mut out);
            assert_eq!(Missing::decode(&frame(out.clone())), Ok(*missing));
            out.to_vec()
        }),
        sample("found", &found, |found| {
            let mut pieces = Vec::new();
            found.encode(&mut pieces);
            let bytes = pieces.concat();
            assert_eq!(Found::decode(&frame(bytes[..].into())).as_ref(), Ok(found));
            bytes
        }),
    ]
}

fn fetches() -> Vec<Sample> {
    let asked = Inquiry {
        group: GroupId(4),
        first: Index(100),
    };
    let stock = Stock {
        asked,
        last: Index(4_000),
        bytes: 1 << 30,
    };
    vec![
        sample("inquiry", &asked, |asked| {
            let mut out = BytesMut::new();
            asked.encode(FrameKind::Inquiry, &mut out);
            assert_eq!(Inquiry::decode(&frame(out.clone())), Ok(*asked));
            out.to_vec()
        }),
        sample("stock", &stock, |stock| {
            let mut out = BytesMut::new();
            stock.encode(&mut out);
            assert_eq!(Stock::decode(&frame(out.clone())), Ok(*stock));
            out.to_vec()
        }),
    ]
}

fn beats() -> Vec<Sample> {
    let beat = MemberBeat {
        life: 0x11fe,
        beat: 12,
        heard: Some((0x0e11, 11)),
        ended: vec![GroupId(4), GroupId(9)],
    };
    let first = MemberBeat {
        life: 0x11fe,
        beat: 1,
        ..MemberBeat::default()
    };
    [("full", beat), ("first", first)]
        .map(|(name, beat)| {
            sample(&format!("member-beat-{name}"), &beat, |beat| {
                let mut out = BytesMut::new();
                beat.encode(&mut out);
                assert_eq!(MemberBeat::decode(&frame(out.clone())).as_ref(), Ok(beat));
                out.to_vec()
            })
        })
        .into()
}

fn renewals() -> Vec<Sample> {
    fn encode(renewed: &Renewed) -> Vec<u8> {
        let mut out = BytesMut::new();
        renewed.encode(&mut out);
        assert_eq!(Renewed::decode(&frame(out.clone())).as_ref(), Ok(renewed));
        out.to_vec()
    }
    every! { Renewed, "renewed", encode;
        "signed" Renewed::Signed(_) => Renewed::Signed("leaf".to_owned());
        "refused" Renewed::Refused(_) => Renewed::Refused("it does not sign".to_owned());
    }
}

fn commands() -> Vec<Sample> {
    fn encode(command: &ClusterCommand) -> Vec<u8> {
        let bytes = codec::encode(command);
        assert_eq!(
            codec::decode("a command", &bytes, bytes.len()).as_ref(),
            Ok(command)
        );
        bytes
    }
    every! { ClusterCommand, "command", encode;
        "create-topic" ClusterCommand::CreateTopic { .. } => ClusterCommand::CreateTopic {
            name: topic(),
            settings: TopicSettings::default(),
            replicas: vec![1, 2, 3],
            preferred: 2,
        };
        "delete-topic" ClusterCommand::DeleteTopic { .. } => ClusterCommand::DeleteTopic {
            name: topic(),
            group: GroupId(4),
        };
        "edit-topic" ClusterCommand::EditTopic { .. } => ClusterCommand::EditTopic {
            group: GroupId(4),
            settings: TopicSettings { replicas: 5 },
        };
        "place" ClusterCommand::Place { .. } => ClusterCommand::Place {
            group: GroupId(4),
            replicas: vec![2, 3, 4],
            preferred: 4,
            expect: 7,
        };
        "settled" ClusterCommand::Settled { .. } => ClusterCommand::Settled {
            group: GroupId(4),
            placement: 8,
        };
        "create-token" ClusterCommand::CreateToken(_) => ClusterCommand::CreateToken(token_spec());
        "revoke-token" ClusterCommand::RevokeToken { .. } => ClusterCommand::RevokeToken {
            id: TokenId(0x70),
        };
        "spend-token" ClusterCommand::SpendToken { .. } => ClusterCommand::SpendToken {
            token: TokenId(0x70),
            name: "reader".to_owned(),
            mark: 0xabcd,
        };
        "admit" ClusterCommand::Admit(_) => ClusterCommand::Admit(Admission {
            token: TokenId(0x70),
            name: "n4".to_owned(),
            incarnation: 0xabce,
            address: "10.0.0.4:7400".to_owned(),
            peer_address: "10.0.0.4:7401".to_owned(),
            versions: Versions::default(),
        });
        "set-standing" ClusterCommand::SetStanding { .. } => ClusterCommand::SetStanding {
            member: 4,
            standing: Standing::Leaving,
        };
        "drop-member" ClusterCommand::DropMember { .. } => ClusterCommand::DropMember { member: 4 };
        "recover" ClusterCommand::Recover { .. } => ClusterCommand::Recover {
            recovery: recovery(),
            survivor: 1,
            topics: vec![GroupId(4)],
            next_group: 6,
        };
        "state-versions" ClusterCommand::StateVersions { .. } => ClusterCommand::StateVersions {
            member: 1,
            versions: Versions {
                lowest: 1,
                highest: 2,
            },
        };
        "finalize" ClusterCommand::Finalize { .. } => ClusterCommand::Finalize { version: 2 };
        "set-balance" ClusterCommand::SetBalance { .. } => ClusterCommand::SetBalance { on: false };
        "prefer" ClusterCommand::Prefer { .. } => ClusterCommand::Prefer {
            group: GroupId(4),
            preferred: 3,
            expect: 8,
        };
        "revoke" ClusterCommand::Revoke(_) => ClusterCommand::Revoke(Whom::Name {
            role: Some(Role::Producer),
            name: "shop".to_owned(),
        });
        "certify" ClusterCommand::Certify(_) => ClusterCommand::Certify(papers());
        "confirm" ClusterCommand::Confirm { .. } => ClusterCommand::Confirm { mark: 0xabcd };
        "report-copy" ClusterCommand::ReportCopy { .. } => ClusterCommand::ReportCopy {
            group: GroupId(4),
            placement: 8,
            member: 3,
            stuck: true,
        };
        "rotate" ClusterCommand::Rotate(_) => {
            ClusterCommand::Rotate(Rotate::Begin(Box::new(successors())))
        };
    }
}

fn papers() -> Papers {
    Papers {
        member: 4,
        serial: "40ab".to_owned(),
        mark: 0xabcd,
        not_before: TIME / 1_000_000,
        not_after: TIME / 1_000_000 + 3600,
        signed_by: [0xc0; 32],
        trusts: vec![[0xc0; 32], [0xc1; 32]],
        trouble: Some("nobody signs".to_owned()),
    }
}

fn trust() -> Trust {
    let revocation = |whom| Revocation {
        whom,
        at: TIME,
        until: TIME + 3_600_000_000,
    };
    let name = "shop".to_owned();
    Trust {
        revoked: vec![
            revocation(Whom::Serial("40ab".to_owned())),
            revocation(Whom::Name { role: None, name }),
            revocation(Whom::Key(0xabcd)),
        ],
        papers: vec![papers()],
        rotation: Some(Rotation {
            stage: RotationStage::Signing,
            to: successors(),
        }),
    }
}

fn handover(old: u8) -> Handover {
    Handover {
        old: [old; 32],
        new: [old + 2; 32],
        authority: b"authority".to_vec(),
        voucher: b"voucher".to_vec(),
    }
}

fn successors() -> Successors {
    Successors {
        nodes: handover(0xc0),
        clients: handover(0xc1),
    }
}

fn relays() -> Vec<Sample> {
    let relay = Relay {
        command: ClusterCommand::Settled {
            group: GroupId(4),
            placement: 8,
        },
    };
    vec![sample("relay", &relay, |relay| {
        let mut out = BytesMut::new();
        relay.encode(&mut out);
        assert_eq!(Relay::decode(&frame(out.clone())).as_ref(), Ok(relay));
        out.to_vec()
    })]
}

fn states() -> Vec<Sample> {
    let cluster = ClusterState {
        format: ClusterState::FORMAT,
        members: vec![member()],
        next_member: 5,
        tokens: vec![token()],
        topics: vec![Topic {
            name: topic(),
            group: GroupId(4),
            settings: TopicSettings::default(),
            founders: vec![MemberRef {
                id: 1,
                incarnation: 0xabcd,
            }],
            replicas: vec![1, 2, 3],
            leaving: vec![4],
            coming: vec![3],
            stuck: vec![3],
            parted: vec![5],
            preferred: 2,
            placement: 8,
            settled: false,
        }],
        next_group: 5,
        auto_create: true,
        recoveries: vec![recovery()],
        version: 1,
        named: vec![1, 4],
        balance: true,
        trust: trust(),
    };
    let topic = TopicState {
        next: Offset(20),
        first: Offset(10),
        bytes: 5000,
        producers: vec![ProducerState {
            producer: ProducerId(0xff),
            epoch: 3,
            next: 80,
            recent: vec![(77, 3, Offset(10), TIME)],
        }],
    };
    vec![
        sample("state-cluster", &cluster, |state| {
            let bytes = codec::encode(state);
            assert_eq!(
                codec::decode("a state", &bytes, bytes.len()).as_ref(),
                Ok(state)
            );
            bytes
        }),
        sample("state-topic", &topic, |state| {
            let bytes = codec::encode(state);
            assert_eq!(
                codec::decode("a state", &bytes, bytes.len()).as_ref(),
                Ok(state)
            );
            bytes
        }),
    ]
}
