//! Whatever can be said is understood as it was meant.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kontiki_raft::{
    AppendHead, Body, Entry, Incarnation, Index, Kind, Life, LogId, Message, Micros, NodeId,
    NodeRef, Session, Term,
};
use kontiki_wire::{
    Acknowledged, Admission, Answer, AppendRefused, Batch, BatchBuilder, ClientStream,
    ClusterCommand, ClusterId, ClusterState, Deliver, DeliveredBatch, Epoch, Frame, From, GroupId,
    GroupMessage, Handover, Header, MemberInfo, MemberRef, Offset, Papers, PeerFrame, PeerHello,
    PeerLane, Produced, ProducerId, ProducerState, Record, Recovery, Refusal, Request, Response,
    Revocation, Role, Rotate, Rotation, RotationStage, Spent, Standing, StreamEnd, Subscribe,
    Successors, Token, TokenId, TokenSpec, Topic, TopicInfo, TopicName, TopicSettings, TopicState,
    Trust, Until, Versions, Walked, WalkedDamage, Whom, decode, decode_peer, encode, encode_peer,
    entry_checksum,
    limits::{CHECKPOINT_BYTES_MAX, PEER_FRAME_BYTES_MAX, TOKEN_LIFE_SECONDS_MAX},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// The frames in `bytes`, and nothing else.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = Frame::take(&mut buffer, PEER_FRAME_BYTES_MAX).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

/// What `write` makes one frame of, `read` must give back.
fn assert_frame<T: PartialEq + Debug, E: Debug>(
    value: &T,
    write: impl FnOnce(&T, &mut BytesMut),
    read: impl FnOnce(&Frame) -> Result<T, E>,
) {
    let mut out = BytesMut::new();
    write(value, &mut out);
    let [frame] = &frames(&out)[..] else {
        panic!("not one frame: {out:?}")
    };
    assert_eq!(read(frame).as_ref().unwrap(), value);
}

fn assert_state<T: PartialEq + Debug>(value: &T, bytes: &[u8], read: Result<T, impl Debug>) {
    assert_eq!(read.as_ref().unwrap(), value, "{bytes:?}");
}

fn bytes(len: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..len).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,15}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-zA-Z0-9][a-zA-Z0-9._/-]{0,127}".prop_map(|name| name.parse().unwrap())
}

fn settings() -> impl Strategy<Value = TopicSettings> {
    any::<u8>().prop_map(|replicas| TopicSettings { replicas })
}

fn record() -> impl Strategy<Value = Record> {
    let header = (text(), bytes(20)).prop_map(|(name, value)| Header { name, value });
    let time = prop_oneof![any::<u64>(), 1_000_000..1_000_300u64];
    (time, option::of(bytes(20)), vec(header, 0..3), bytes(200)).prop_map(
        |(timestamp, key, headers, value)| Record {
            timestamp,
            key,
            headers,
            value,
        },
    )
}

fn build(records: &[Record], producer: u128, epoch: u32, sequence: u64) -> Batch {
    let mut builder = BatchBuilder::new(1024);
    for record in records {
        let before = builder.len();
        assert!(builder.fits(record.encoded_bytes_max()));
        builder.push(record).unwrap();
        assert!(builder.len() - before <= record.encoded_bytes_max());
    }
    builder.finish(ProducerId(producer), epoch, sequence)
}

fn batch() -> impl Strategy<Value = Batch> {
    (
        vec(record(), 1..6),
        any::<u128>(),
        any::<u32>(),
        0..u64::MAX - 6,
    )
        .prop_map(|(records, producer, epoch, sequence)| build(&records, producer, epoch, sequence))
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        option::of(name()).prop_map(|leader| Refusal::NotLeader { leader }),
        text().prop_map(|name| Refusal::NoSuchTopic { name }),
        (text(), vec(name(), 0..5)).prop_map(|(name, known)| Refusal::NoSuchMember { name, known }),
        text().prop_map(|what| Refusal::NotPermitted { what }),
        Just(Refusal::Busy),
        Just(Refusal::Unknown),
        (text(), any::<u64>()).prop_map(|(what, limit)| Refusal::TooLarge { what, limit }),
        any::<u64>().prop_map(|expected| Refusal::SequenceGap { expected }),
        any::<u32>().prop_map(|epoch| Refusal::Fenced { epoch }),
        any::<(u64, u64)>().prop_map(|(first, next)| Refusal::OffsetOutOfRange { first, next }),
        text().prop_map(|what| Refusal::Malformed { what }),
        text().prop_map(|why| Refusal::Unavailable { why }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let offset = any::<u64>().prop_map(Offset);
    prop_oneof![
        (any::<u64>(), offset, any::<u64>()).prop_map(|(sequence, offset, time)| Ok(
            Acknowledged {
                sequence,
                offset,
                time
            }
        )),
        (any::<u64>(), refusal())
            .prop_map(|(sequence, refusal)| Err(AppendRefused { sequence, refusal })),
    ]
}

fn delivery() -> impl Strategy<Value = Deliver> {
    let first = 0..u64::MAX / 2;
    (first, vec((any::<u64>(), batch()), 0..4), 0..1000u64).prop_map(|(first, batches, beyond)| {
        let mut next = first;
        let place = |(time, batch): (u64, Batch)| {
            let offset = Offset(next);
            next += u64::from(batch.header().count);
            DeliveredBatch {
                offset,
                time,
                batch: batch.bytes().clone(),
            }
        };
        let batches = batches.into_iter().map(place).collect();
        Deliver {
            watermark: Offset(next + beyond),
            batches,
        }
    })
}

fn member() -> impl Strategy<Value = MemberInfo> {
    let standing = select(vec![
        Standing::Active,
        Standing::Draining,
        Standing::Leaving,
        Standing::Demoted,
    ]);
    let numbers = any::<(u64, u64, bool)>();
    (numbers, name(), text(), text(), standing).prop_map(
        |((id, incarnation, signs), name, address, peer_address, standing)| MemberInfo {
            id,
            incarnation,
            name,
            address,
            peer_address,
            signs,
            standing,
            versions: Versions {
                lowest: 1,
                highest: 3,
            },
        },
    )
}

fn token_spec() -> impl Strategy<Value = TokenSpec> {
    let numbers = (any::<u64>(), any::<[u8; 32]>(), 0..=TOKEN_LIFE_SECONDS_MAX);
    (numbers, select(Role::ALL.to_vec()), vec(name(), 0..3)).prop_map(
        |((id, hash, life_seconds), role, topics)| TokenSpec {
            id: TokenId(id),
            hash,
            role,
            topics,
            life_seconds,
        },
    )
}

fn token() -> impl Strategy<Value = Token> {
    let spent = option::of((name(), any::<u64>()).prop_map(|(name, mark)| Spent { name, mark }));
    let times = any::<(u64, u64, bool)>();
    (token_spec(), times, spent).prop_map(|(spec, (issued_at, expires_at, revoked), spent)| Token {
        id: spec.id,
        hash: spec.hash,
        role: spec.role,
        topics: spec.topics,
        issued_at,
        expires_at,
        spent,
        revoked,
    })
}

fn whom() -> impl Strategy<Value = Whom> {
    prop_oneof![
        "[0-9a-f]{1,40}".prop_map(Whom::Serial),
        (option::of(select(Role::ALL.to_vec())), name())
            .prop_map(|(role, name)| Whom::Name { role, name }),
        any::<u64>().prop_map(Whom::Key),
    ]
}

fn papers() -> impl Strategy<Value = Papers> {
    let roots = vec(any::<[u8; 32]>(), 0..3);
    let numbers = any::<([u64; 4], [u8; 32])>();
    (numbers, "[0-9a-f]{1,40}", roots, option::of(text())).prop_map(
        |(([member, mark, not_before, not_after], signed_by), serial, trusts, trouble)| Papers {
            member,
            serial,
            mark,
            not_before,
            not_after,
            signed_by,
            trusts,
            trouble,
        },
    )
}

fn trust() -> impl Strategy<Value = Trust> {
    let revocation = (whom(), any::<(u64, u64)>());
    let revocation = revocation.prop_map(|(whom, (at, until))| Revocation { whom, at, until });
    (
        vec(revocation, 0..3),
        vec(papers(), 0..3),
        option::of(rotation()),
    )
        .prop_map(|(revoked, papers, rotation)| Trust {
            revoked,
            papers,
            rotation,
        })
}

fn handover() -> impl Strategy<Value = Handover> {
    let certificate = || vec(any::<u8>(), 0..64);
    let old = any::<[u8; 32]>();
    (old, certificate(), certificate()).prop_map(|(old, authority, voucher)| Handover {
        old,
        new: old.map(|byte| !byte),
        authority,
        voucher,
    })
}

fn successors() -> impl Strategy<Value = Successors> {
    (handover(), handover()).prop_map(|(nodes, clients)| Successors { nodes, clients })
}

fn rotation() -> impl Strategy<Value = Rotation> {
    let stage = select(vec![
        RotationStage::Trusting,
        RotationStage::Signing,
        RotationStage::Finished,
        RotationStage::Abandoned,
    ]);
    (stage, successors()).prop_map(|(stage, to)| Rotation { stage, to })
}

fn rotate() -> impl Strategy<Value = Rotate> {
    prop_oneof![
        successors().prop_map(|successors| Rotate::Begin(Box::new(successors))),
        Just(Rotate::Sign),
        any::<bool>().prop_map(|force| Rotate::Finish { force }),
        Just(Rotate::Abandon),
    ]
}

fn command() -> impl Strategy<Value = ClusterCommand> {
    let numbers = || any::<[u64; 3]>();
    let admission = (numbers(), name(), text(), text());
    prop_oneof![
        (any::<u64>(), settings()).prop_map(|(group, settings)| ClusterCommand::EditTopic {
            group: GroupId(group),
            settings
        }),
        (numbers(), vec(any::<u64>(), 0..4)).prop_map(|([group, preferred, expect], replicas)| {
            ClusterCommand::Place {
                group: GroupId(group),
                replicas,
                preferred,
                expect,
            }
        }),
        any::<(u64, u64)>().prop_map(|(group, placement)| ClusterCommand::Settled {
            group: GroupId(group),
            placement
        }),
        token_spec().prop_map(ClusterCommand::CreateToken),
        any::<u64>().prop_map(|id| ClusterCommand::RevokeToken { id: TokenId(id) }),
        (numbers(), name()).prop_map(|([token, mark, _], name)| ClusterCommand::SpendToken {
            token: TokenId(token),
            name,
            mark
        }),
        admission.prop_map(|([token, incarnation, _], name, address, peer_address)| {
            ClusterCommand::Admit(Admission {
                token: TokenId(token),
                name,
                incarnation,
                address,
                peer_address,
                versions: Versions {
                    lowest: 1,
                    highest: 9,
                },
            })
        }),
        any::<u64>().prop_map(|member| ClusterCommand::DropMember { member }),
        any::<bool>().prop_map(|on| ClusterCommand::SetBalance { on }),
        numbers().prop_map(|[group, preferred, expect]| ClusterCommand::Prefer {
            group: GroupId(group),
            preferred,
            expect
        }),
        whom().prop_map(ClusterCommand::Revoke),
        papers().prop_map(ClusterCommand::Certify),
        any::<u64>().prop_map(|mark| ClusterCommand::Confirm { mark }),
        (any::<[u64; 3]>(), any::<bool>()).prop_map(|([group, placement, member], stuck)| {
            ClusterCommand::ReportCopy {
                group: GroupId(group),
                placement,
                member,
                stuck,
            }
        }),
        rotate().prop_map(ClusterCommand::Rotate),
    ]
}

fn topic_info() -> impl Strategy<Value = TopicInfo> {
    let offsets = any::<(u64, u64, u64)>();
    let names = vec(name(), 0..4);
    (topic(), settings(), names, option::of(name()), offsets).prop_map(
        |(name, settings, replicas, leader, (group, first, next))| TopicInfo {
            name,
            group: GroupId(group),
            settings,
            replicas,
            leader,
            first: Offset(first),
            next: Offset(next),
            epoch: first,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Metadata),
        Just(Request::Members),
        topic().prop_map(|name| Request::Topic { name }),
        (topic(), settings()).prop_map(|(name, settings)| Request::CreateTopic { name, settings }),
        topic().prop_map(|name| Request::DeleteTopic { name }),
        Just(Request::Status),
        (option::of(topic()), name()).prop_map(|(topic, to)| Request::TransferLeader { topic, to }),
        (topic(), any::<u64>()).prop_map(|(topic, time)| Request::OffsetAt { topic, time }),
        any::<(u64, u64, u64, u32)>().prop_map(|(group, first, last, digest)| Request::Walk {
            group: GroupId(group),
            first,
            last,
            digest,
        }),
        Just(Request::Topics),
        (topic(), settings()).prop_map(|(name, settings)| Request::EditTopic { name, settings }),
        (name(), any::<bool>()).prop_map(|(name, force)| Request::RemoveMember { name, force }),
        (name(), name(), any::<bool>()).prop_map(|(name, with, force)| Request::ReplaceMember {
            name,
            with,
            force
        }),
        name().prop_map(|name| Request::SetStanding {
            name,
            standing: Standing::Draining,
            force: true,
        }),
        token_spec().prop_map(Request::CreateToken),
        any::<u64>().prop_map(|id| Request::RevokeToken { id: TokenId(id) }),
        Just(Request::Tokens),
        any::<bool>().prop_map(|on| Request::SetBalance { on }),
        Just(Request::Trust),
        Just(Request::Renew),
        whom().prop_map(Request::Revoke),
        Just(Request::MakeSuccessors),
        Just(Request::Outdated),
        rotate().prop_map(Request::Rotate),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let metadata = (
        any::<u128>(),
        vec(member(), 0..4),
        vec(topic_info(), 0..4),
        any::<bool>(),
        trust(),
    );
    prop_oneof![
        metadata.prop_map(
            |(cluster, members, topics, auto_create, trust)| Response::Metadata {
                cluster: ClusterId(cluster),
                members,
                topics,
                auto_create,
                turnover: trust.turnover(),
            }
        ),
        topic_info().prop_map(Response::Topic),
        topic_info().prop_map(Response::Exists),
        Just(Response::Done),
        any::<u64>().prop_map(|offset| Response::Offset(Offset(offset))),
        refusal().prop_map(Response::Refused),
        walked().prop_map(Response::Walked),
        member().prop_map(Response::Member),
        token().prop_map(|token| Response::Token(token.info())),
        vec(token().prop_map(|token| token.info()), 0..3).prop_map(Response::Tokens),
        member().prop_map(Response::Admitted),
        trust().prop_map(Response::Trust),
        (text(), option::of(handover())).prop_map(|(certificate, handover)| Response::Renewed {
            certificate,
            handover
        }),
        successors().prop_map(|successors| Response::Successors(Box::new(successors))),
        vec(text(), 0..3).prop_map(Response::Outdated),
    ]
}

fn walked() -> impl Strategy<Value = Walked> {
    let damage = (any::<u64>(), any::<u64>(), name());
    let damage = damage.prop_map(|(first, last, what)| WalkedDamage { first, last, what });
    let numbers = any::<(u64, u64, u32, u64, u64)>();
    (numbers, vec(damage, 0..4)).prop_map(|((placed, upto, digest, entries, bytes), damage)| {
        Walked {
            placed,
            upto,
            digest,
            entries,
            bytes,
            damage,
        }
    })
}

fn opening() -> impl Strategy<Value = ClientStream> {
    let from = prop_oneof![
        Just(From::Earliest),
        Just(From::Latest),
        any::<u64>().prop_map(|offset| From::Offset(Offset(offset))),
        any::<u64>().prop_map(From::Last),
        any::<u64>().prop_map(From::Time),
    ];
    let until = prop_oneof![
        Just(Until::Forever),
        any::<u64>().prop_map(|offset| Until::Offset(Offset(offset))),
        Just(Until::End),
        any::<u64>().prop_map(Until::Time),
    ];
    let group = any::<Option<u64>>().prop_map(|group| group.map(GroupId));
    let subscribe = (topic(), group, from, until);
    let subscribe = subscribe.prop_map(|(topic, group, from, until)| Subscribe {
        topic,
        epoch: group.map(|group| group.0),
        group,
        from,
        until,
    });
    prop_oneof![
        Just(ClientStream::Requests),
        topic().prop_map(|topic| ClientStream::Produce {
            topic,
            epoch: Some(1)
        }),
        (subscribe, any::<bool>()).prop_map(|(subscribe, if_few)| match if_few {
            false => ClientStream::Subscribe(subscribe),
            true => ClientStream::SubscribeIfFew(subscribe),
        }),
    ]
}

fn id() -> impl Strategy<Value = LogId> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogId {
        term: Term(term),
        index: Index(index),
    })
}

/// An append under `term`: entries after `prev`, of terms that rise up to it.
fn append() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(Kind::Noop),
        Just(Kind::Config),
        Just(Kind::Batch),
        Just(Kind::Command)
    ];
    let body = prop_oneof![4 => bytes(40), 1 => bytes(1500)];
    let entry = (kind, 0..3u64, any::<u64>(), body);
    let prev = (0..u64::MAX / 2, 0..u64::MAX / 2);
    (any::<(u64, u64)>(), prev, vec(entry, 0..5), 0..3u64).prop_map(
        |((session, commit), (term, index), entries, later)| {
            let prev = LogId {
                term: Term(term),
                index: Index(index),
            };
            let mut last = prev;
            let entry = |(kind, risen, time, body): (Kind, u64, u64, Bytes)| {
                last.term.0 += risen;
                last.index.0 += 1;
                Entry {
                    id: last,
                    kind,
                    time: Micros(time),
                    checksum: entry_checksum(&body),
                    body,
                }
            };
            let entries = entries.into_iter().map(entry).collect();
            let head = AppendHead {
                session: Session(session),
                prev,
                commit: Index(commit),
            };
            Message {
                term: Term(last.term.0 + later),
                body: Body::Append { head, entries },
            }
        },
    )
}

fn message() -> impl Strategy<Value = GroupMessage> {
    let body = prop_oneof![
        (any::<u64>(), id()).prop_map(|(round, last)| Body::PreVote { round, last }),
        any::<(u64, bool)>().prop_map(|(round, granted)| Body::PreVoteReply { round, granted }),
        (id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        any::<(u64, u64, bool)>().prop_map(|(session, matched, counts)| Body::Appended {
            counts,
            session: Session(session),
            matched: Index(matched)
        }),
        (any::<u64>(), id(), id()).prop_map(|(session, prev, hint)| Body::AppendRejected {
            session: Session(session),
            prev,
            hint
        }),
        any::<(u64, u64)>().prop_map(|(beat, commit)| Body::Beat {
            beat,
            commit: Index(commit)
        }),
        any::<u64>().prop_map(|beat| Body::BeatReply { beat }),
        any::<(u64, u64)>().prop_map(|(beat, commit)| Body::Rest {
            beat,
            commit: Index(commit)
        }),
        any::<u64>().prop_map(|beat| Body::Resting { beat }),
        id().prop_map(|need| Body::TimeoutNow { need }),
        any::<u64>().prop_map(|life| Body::Rejoin { life: Life(life) }),
        any::<(u64, u64)>().prop_map(|(life, index)| Body::RejoinAt {
            life: Life(life),
            index: Index(index),
        }),
        (any::<u64>(), id()).prop_map(|(session, upto)| Body::Fetch {
            session: Session(session),
            upto
        }),
        any::<(u64, u64)>().prop_map(|(session, arrived)| Body::Fetching {
            session: Session(session),
            arrived: Index(arrived)
        }),
        id().prop_map(|upto| Body::Removed { upto }),
        id().prop_map(|had| Body::Vouched { had }),
    ];
    let other = (any::<u64>(), body).prop_map(|(term, body)| Message {
        term: Term(term),
        body,
    });
    (any::<u64>(), prop_oneof![append(), other]).prop_map(|(group, message)| GroupMessage {
        group: GroupId(group),
        message,
    })
}

fn producer_state() -> impl Strategy<Value = ProducerState> {
    let recent = any::<(u64, u32, u64, u64)>()
        .prop_map(|(sequence, count, offset, time)| (sequence, count, Offset(offset), time));
    (any::<u128>(), any::<u32>(), any::<u64>(), vec(recent, 0..5)).prop_map(
        |(producer, epoch, next, recent)| ProducerState {
            producer: ProducerId(producer),
            epoch,
            next,
            recent,
        },
    )
}

proptest! {
    #[test]
    fn records_survive_a_batch(records in vec(record(), 1..8), skip in 0..9u32) {
        let batch = build(&records, 1, 2, 3);
        let batch = Batch::verify(batch.bytes().clone()).unwrap();
        let read: Vec<Record> = batch.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, &records);
        let rest: Vec<Record> =
            batch.records().skip_records(skip).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&rest, &records[records.len().min(skip as usize)..]);
        prop_assert_eq!(batch.checksum(), entry_checksum(batch.bytes()));
    }

    #[test]
    fn produced_batches_survive(batch in batch()) {
        let write = |produced: &Produced, out: &mut BytesMut| {
            Produced::encode_header(&produced.batch, out);
            out.extend_from_slice(produced.batch.bytes());
        };
        assert_frame(&Produced { batch }, write, Produced::decode);
    }

    #[test]
    fn answers_survive(answers in vec(answer(), 1..6)) {
        let write = |answers: &Vec<Answer>, out: &mut BytesMut| Acknowledged::encode(answers, out);
        assert_frame(&answers, write, Acknowledged::decode);
    }

    #[test]
    fn deliveries_survive(delivery in delivery()) {
        assert_frame(&delivery, Deliver::encode, Deliver::decode);
        let mut pieces = Vec::new();
        delivery.encode_pieces(&mut pieces);
        let mut whole = BytesMut::new();
        delivery.encode(&mut whole);
        prop_assert_eq!(pieces.concat(), &whole[..]);
    }

    #[test]
    fn control_messages_survive(
        opening in opening(),
        request in request(),
        response in response(),
        refusal in refusal(),
    ) {
        assert_frame(&opening, ClientStream::encode, ClientStream::decode);
        assert_frame(&request, Request::encode, Request::decode);
        assert_frame(&response, Response::encode, Response::decode);
        assert_frame(&StreamEnd::Refused(refusal), StreamEnd::encode, StreamEnd::decode);
    }

    #[test]
    fn peers_understand_each_other(messages in vec(message(), 1..6), nodes: [u64; 4]) {
        let mut pieces = Vec::new();
        let sent = PeerFrame { messages };
        encode_peer(&sent, &mut pieces);
        let [frame] = &frames(&pieces.concat())[..] else { panic!("not one frame") };
        prop_assert_eq!(&decode_peer(frame).unwrap(), &sent);

        let node = |id, incarnation| NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(incarnation),
        };
        let hello = PeerHello {
            cluster: ClusterId(7),
            epoch: Epoch { number: nodes[0], mark: nodes[1] },
            from: node(nodes[0], nodes[1]),
            to: node(nodes[2], nodes[3]),
            lane: PeerLane::Log,
            versions: Versions { lowest: 1, highest: 9 },
            renews: nodes[0] % 2 == 0,
            peer_address: "host:1".to_owned(),
        };
        assert_frame(&hello, PeerHello::encode, PeerHello::decode);
    }

    #[test]
    fn small_states_survive(
        members in vec(member(), 0..4),
        (name, settings, replicas) in (topic(), settings(), vec(any::<u64>(), 0..4)),
        numbers: [u64; 4],
        producers in vec(producer_state(), 0..5),
        (token, other, trust) in (token(), command(), trust()),
    ) {
        let [group, preferred, next, first] = numbers;
        let founders = replicas.iter().map(|id| MemberRef { id: *id, incarnation: first });
        let topic = Topic {
            name: name.clone(),
            group: GroupId(group),
            settings: settings.clone(),
            founders: founders.collect(),
            replicas: replicas.clone(),
            leaving: vec![group],
            coming: vec![first],
            stuck: replicas.clone(),
            parted: vec![preferred, next],
            preferred,
            placement: next,
            settled: true,
        };
        let cluster = ClusterState {
            format: ClusterState::FORMAT,
            members,
            next_member: first,
            tokens: vec![token],
            topics: vec![topic],
            next_group: next,
            auto_create: true,
            version: 1,
            recoveries: vec![Recovery { kept: next, ..Recovery::default() }],
            named: replicas.clone(),
            balance: false,
            trust,
        };
        let bytes = encode(&cluster);
        assert_state(&cluster, &bytes, decode("a state", &bytes, CHECKPOINT_BYTES_MAX));

        let state = TopicState {
            next: Offset(next),
            first: Offset(first),
            bytes: group,
            producers,
        };
        let bytes = encode(&state);
        assert_state(&state, &bytes, decode("a state", &bytes, CHECKPOINT_BYTES_MAX));

        let command = ClusterCommand::CreateTopic { name, settings, replicas, preferred };
        let bytes = encode(&command);
        assert_state(&command, &bytes, decode("a command", &bytes, CHECKPOINT_BYTES_MAX));

        let bytes = encode(&other);
        assert_state(&other, &bytes, decode("a command", &bytes, CHECKPOINT_BYTES_MAX));
    }
}
