//! What an authenticated member may say at any time: absurd terms and indices, answers to questions that
//! nobody asked, entries that cannot be.
//!
//! Bytes are read as a script: who says what, and when time passes and the disk answers. A member that
//! lies in its own term can make others stop ("both lead term 4"), because to go on would be to take
//! one side of a contradiction. No script makes anybody panic, or break an invariant of its own.

use bytes::Bytes;
use kontiki_broker::{Broker, Effect, Input, Now, StreamId};
use kontiki_raft::{
    AppendHead, Body, Entry, Index, Kind, Life, LogId, Message, Micros, NodeId, Session, Term,
};
use kontiki_wire::{
    Batch, BatchBuilder, ClusterCommand, GroupId, GroupMessage, MemberBeat, PeerFrame, ProducerId,
    Record, TopicSettings, decode_peer, encode, encode_peer, entry_checksum,
};

use crate::{
    lies::{lie, number},
    restore::{boot, node, settings},
};

/// Steps of a script; what is left over is not read.
const STEPS_MAX: usize = 64;

pub(crate) fn turns(script: &[u8]) {
    let mut script = Script { rest: script };
    let mut stage = Stage::new();
    for _ in 0..STEPS_MAX {
        let Some(step) = script.byte() else { break };
        stage.take(step, &mut script);
        if stage.halted {
            break;
        }
    }
}

/// Bytes as choices. One that has run out chooses nothing, or 0.
struct Script<'a> {
    rest: &'a [u8],
}

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn small(&mut self, below: u8) -> u64 {
        u64::from(self.byte().unwrap_or_default() % below)
    }

    /// Mostly small; else next to a bound.
    fn number(&mut self) -> u64 {
        match self.byte().unwrap_or_default() {
            byte @ 0..=199 => u64::from(byte % 20),
            byte @ 200..=229 => (u64::MAX / 2).wrapping_add(u64::from(byte)) - 215,
            byte => u64::MAX - u64::from(255 - byte),
        }
    }

    fn log_id(&mut self) -> LogId {
        LogId {
            term: Term(self.number()),
            index: Index(self.number()),
        }
    }
}

struct Stage {
    broker: Broker,
    now: u64,
    halted: bool,
    written: Option<u64>,
    sequence: u64,
}

impl Stage {
    fn new() -> Self {
        let groups = vec![boot(GroupId::CLUSTER, None)];
        let mut stage = Self {
            broker: Broker::new(settings(), groups, Self::at(1_000)).expect("a good start"),
            now: 1_000,
            halted: false,
            written: None,
            sequence: 0,
        };
        stage.drain();
        stage
    }

    fn at(now: u64) -> Now {
        Now {
            monotonic: Micros(now),
            wall: Micros(now),
        }
    }

    fn take(&mut self, step: u8, script: &mut Script<'_>) {
        self.now += 100;
        match step % 16 {
            0 | 1 => {
                self.now += script.small(200) * 5_000;
                self.handle(Input::Timer);
            }
            2 | 3 => {
                if let Some(upto) = self.written.take() {
                    self.handle(Input::Persisted { upto });
                }
            }
            4 => {
                let peer = NodeId(script.small(4));
                let open = script.small(2) == 0;
                self.handle(Input::Reachable { peer, open });
            }
            5 => {
                let group = GroupId(script.small(3));
                let batch = batch(self.sequence);
                self.sequence += 1;
                let stream = StreamId(1);
                self.handle(Input::Append {
                    stream,
                    group,
                    batch,
                });
            }
            6 => {
                let from = node(2 + script.small(3));
                let heard = (script.small(2) == 0).then(|| (script.number(), script.number()));
                let beat = MemberBeat {
                    life: script.number(),
                    beat: script.number(),
                    heard,
                    ended: vec![GroupId(script.small(3))],
                };
                self.handle(Input::Beat { from, beat });
            }
            _ => {
                let from = node(2 + script.small(3));
                let count = 1 + script.small(3);
                let messages = (0..count).map(|_| message(script)).collect();
                self.hear(from, messages);
            }
        }
        self.drain();
    }

    /// Only what can be said in a frame is heard.
    fn hear(&mut self, from: kontiki_raft::NodeRef, messages: Vec<GroupMessage>) {
        let mut pieces = Vec::new();
        encode_peer(&PeerFrame { messages }, &mut pieces);
        let bytes = pieces.concat();
        let payload = &bytes[kontiki_wire::FRAME_HEADER_BYTES..];
        let frame = lie(kontiki_wire::FrameKind::Peer, payload, number(payload, 0));
        if let Ok(PeerFrame { messages }) = decode_peer(&frame) {
            self.handle(Input::Peer { from, messages });
        }
    }

    fn handle(&mut self, input: Input) {
        self.broker.handle(Self::at(self.now), input);
    }

    fn drain(&mut self) {
        let mut effects = Vec::new();
        self.broker.drain(Self::at(self.now), &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(writes) => self.written = Some(writes.seq),
                Effect::Halt { reason } => {
                    assert!(!reason.contains("invariant"), "{reason}");
                    self.halted = true;
                }
                _ => {}
            }
        }
    }
}

fn batch(sequence: u64) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.push(&Record::default()).expect("an empty record");
    builder.finish(ProducerId(1), 0, sequence)
}

fn message(script: &mut Script<'_>) -> GroupMessage {
    let group = GroupId(script.small(3));
    let term = Term(script.number());
    let body = match script.small(14) {
        0 => Body::PreVote {
            round: script.number(),
            last: script.log_id(),
        },
        1 => Body::PreVoteReply {
            round: script.number(),
            granted: script.small(2) == 0,
        },
        2 => Body::Vote {
            last: script.log_id(),
            transfer: script.small(2) == 0,
        },
        3 => Body::VoteReply {
            granted: script.small(2) == 0,
        },
        4 => append(script),
        5 => Body::Appended {
            session: Session(script.number()),
            matched: Index(script.number()),
            counts: script.small(2) == 0,
        },
        6 => Body::AppendRejected {
            session: Session(script.number()),
            prev: script.log_id(),
            hint: script.log_id(),
        },
        7 => Body::Beat {
            beat: script.number(),
            commit: Index(script.number()),
        },
        8 => Body::BeatReply {
            beat: script.number(),
        },
        9 => Body::Rejoin {
            life: Life(script.number()),
        },
        10 => Body::RejoinAt {
            life: Life(script.number()),
            index: Index(script.number()),
        },
        11 => Body::Rest {
            beat: script.number(),
            commit: Index(script.number()),
        },
        12 => Body::Resting {
            beat: script.number(),
        },
        _ => Body::TimeoutNow {
            need: script.log_id(),
        },
    };
    GroupMessage {
        group,
        message: Message { term, body },
    }
}

/// Entries that follow each other, as far as numbers go: others cannot be said.
fn append(script: &mut Script<'_>) -> Body {
    let head = AppendHead {
        session: Session(script.number()),
        prev: script.log_id(),
        commit: Index(script.number()),
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut last = head.prev;
    for _ in 0..script.small(4) {
        let Some(index) = last.index.0.checked_add(1) else {
            break;
        };
        last = LogId {
            term: Term(last.term.0.saturating_add(script.small(2))),
            index: Index(index),
        };
        entries.push(entry(last, script));
    }
    Body::Append { head, entries }
}

fn entry(id: LogId, script: &mut Script<'_>) -> Entry {
    let (kind, body) = match script.small(5) {
        0 => (Kind::Noop, Bytes::new()),
        1 => (Kind::Config, bytes_of(script)),
        2 => (Kind::Batch, batch(script.number() / 2).bytes().clone()),
        3 => (Kind::Command, bytes_of(script)),
        _ => (Kind::Command, command(script)),
    };
    Entry {
        id,
        kind,
        time: Micros(script.number()),
        checksum: entry_checksum(&body),
        body,
    }
}

fn command(script: &mut Script<'_>) -> Bytes {
    let name = ["t", "u", "v"][script.small(3) as usize];
    let name = name.parse().expect("a name");
    let command = match script.small(2) {
        0 => ClusterCommand::CreateTopic {
            name,
            settings: TopicSettings::default(),
            replicas: (0..script.small(5)).map(|_| script.number()).collect(),
            preferred: script.number(),
        },
        _ => ClusterCommand::DeleteTopic {
            name,
            group: GroupId(script.small(4)),
        },
    };
    encode(&command).into()
}

fn bytes_of(script: &mut Script<'_>) -> Bytes {
    (0..script.small(40))
        .map_while(|_| script.byte())
        .collect::<Vec<u8>>()
        .into()
}

/// A leader is heard, appends and commits; time passes until this member stands for election; another
/// grants its vote.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let follow = [
        15, 0, 0, 0, 1, 4, 1, 0, 0, 1, 2, 1, 0, 0, 1, 0, 2, 1, 0, 9, 2, 15, 0, 0, 0, 1, 7, 1, 2,
    ];
    let campaign = [
        0, 199, 0, 199, 15, 0, 0, 0, 0, 1, 1, 0, 2, 0, 15, 0, 0, 0, 1, 3, 0, 2, 5, 1, 2,
    ];
    vec![
        follow.to_vec(),
        campaign.to_vec(),
        [follow.as_slice(), &campaign].concat(),
    ]
}
