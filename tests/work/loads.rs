//! What is measured and counted: the codec's work and the core's, in memory, the same every time.

use std::{
    collections::{BTreeSet, VecDeque},
    hint::black_box,
};

use bytes::{Bytes, BytesMut};
use kontiki_raft::{
    AppendHead, Boot, Effect, Entry, Incarnation, Index, Input, Kind, LogId, Membership, Message,
    Micros, NodeId, NodeRef, Persist, Proposal, ProposalId, Raft, Session, Settings, Term,
};
use kontiki_wire::{
    Batch, BatchBuilder, Deliver, DeliveredBatch, Frame, GroupId, GroupMessage, Offset, PeerFrame,
    ProducerId, Record, decode_peer, encode_peer, entry_checksum,
    limits::{CLIENT_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX},
};

/// A batch of `count` records of `size` bytes, encoded as a producer does.
pub(crate) fn batch(count: u32, size: usize) -> Batch {
    let record = Record::new(vec![7; size]);
    let mut builder = BatchBuilder::new(count as usize * (size + 64));
    for _ in 0..count {
        builder.push(&record).expect("it is within all bounds");
    }
    builder.finish(ProducerId(7), 0, 0)
}

/// Reads a batch as a member does before it takes it in, and as a subscriber does afterwards.
pub(crate) fn read_batch(bytes: &Bytes) {
    let batch = Batch::verify(bytes.clone()).expect("it was made here");
    let records = batch.records();
    black_box(records.map(|record| record.expect("it was made here").value.len())).sum::<usize>();
}

/// An entry with a batch.
pub(crate) fn entry(index: u64, batch: &Batch) -> Entry {
    Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        kind: Kind::Batch,
        time: Micros(index),
        checksum: entry_checksum(batch.bytes()),
        body: batch.bytes().clone(),
    }
}

/// Entries from a leader to a follower: encoded, joined as the network does, and read.
pub(crate) fn peer_frame(entries: &[Entry]) {
    let head = AppendHead {
        session: Session(1),
        prev: LogId {
            term: Term(1),
            index: entries[0].id.index.prev(),
        },
        commit: Index(0),
    };
    let body = kontiki_raft::Body::Append {
        head,
        entries: entries.to_vec(),
    };
    let message = Message {
        term: Term(1),
        body,
    };
    let messages = vec![GroupMessage {
        group: GroupId(7),
        message,
    }];
    let mut pieces = Vec::new();
    encode_peer(&PeerFrame { messages }, &mut pieces);
    let mut joined = joined(&pieces);
    let frame = Frame::take(&mut joined, PEER_FRAME_BYTES_MAX).expect("it was made here");
    black_box(decode_peer(&frame.expect("it is whole")).expect("it was made here"));
}

/// Batches from a member to a subscriber: encoded, joined as the network does, and read.
pub(crate) fn delivery(batches: &[Batch]) {
    let mut offset = 0;
    let batches: Vec<_> = batches
        .iter()
        .map(|batch| {
            let at = Offset(offset);
            offset += u64::from(batch.header().count);
            DeliveredBatch {
                offset: at,
                time: 1,
                batch: batch.bytes().clone(),
            }
        })
        .collect();
    let mut pieces = Vec::new();
    let watermark = Offset(offset);
    Deliver { watermark, batches }.encode_pieces(&mut pieces);
    let mut joined = joined(&pieces);
    let frame = Frame::take(&mut joined, CLIENT_FRAME_BYTES_MAX).expect("it was made here");
    let delivered = Deliver::decode(&frame.expect("it is whole")).expect("it was made here");
    for arrived in delivered.batches {
        let batch = Batch::trusted(arrived.batch).expect("it was made here");
        black_box(batch.records().count());
    }
}

fn joined(pieces: &[Bytes]) -> BytesMut {
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(piece);
    }
    joined
}

/// Three cores of one group whose disks and network take no time. The first of them leads.
pub(crate) struct Trio {
    members: Vec<Raft>,
    now: Micros,
    proposed: u64,
    committed: u64,
    waiting: VecDeque<(usize, Input)>,
    effects: Vec<Effect>,
}

impl Trio {
    /// A group that has elected its leader.
    pub(crate) fn new() -> Self {
        let nodes: Vec<_> = (1..=3).map(node).collect();
        let members = nodes.iter().map(|&me| core(me, &nodes)).collect();
        let mut trio = Self {
            members,
            now: Micros(1),
            proposed: 0,
            committed: 0,
            waiting: VecDeque::new(),
            effects: Vec::new(),
        };
        for (at, me) in nodes.iter().enumerate() {
            for peer in nodes.iter().filter(|peer| *peer != me) {
                let peer = peer.id;
                let input = Input::Reachable { peer, open: true };
                trio.waiting.push_back((at, input));
            }
        }
        trio.waiting.push_back((0, Input::Campaign));
        trio.run();
        trio
    }

    /// Proposes a batch and goes on until all three have committed it.
    pub(crate) fn append(&mut self, batch: &Batch) {
        self.now = Micros(self.now.0 + 1);
        self.proposed += 1;
        let proposals = vec![Proposal {
            id: ProposalId(self.proposed),
            kind: Kind::Batch,
            checksum: entry_checksum(batch.bytes()),
            body: batch.bytes().clone(),
        }];
        let time = self.now;
        self.waiting
            .push_back((0, Input::Propose { time, proposals }));
        self.run();
        assert_eq!(
            self.committed, self.proposed,
            "the leader commits what is proposed"
        );
    }

    fn run(&mut self) {
        while let Some((at, input)) = self.waiting.pop_front() {
            self.members[at].handle(self.now, input);
            self.members[at].drain(self.now, &mut self.effects);
            for effect in std::mem::take(&mut self.effects) {
                self.perform(at, effect);
            }
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Persist(Persist { seq, .. }) => {
                self.waiting.push_back((at, Input::Persisted { upto: seq }));
            }
            Effect::Send { to, message } => {
                let from = node(at as u64 + 1);
                self.waiting
                    .push_back((to.id.0 as usize - 1, Input::Message { from, message }));
            }
            Effect::Committed(committed) => {
                let own = committed
                    .iter()
                    .filter(|one| one.proposal.is_some())
                    .count();
                self.committed += own as u64;
            }
            Effect::RoleChanged { .. } => {}
            other => panic!("nothing goes wrong here: {other:?}"),
        }
    }
}

fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id),
    }
}

fn core(me: NodeRef, voters: &[NodeRef]) -> Raft {
    let membership = Membership {
        voters: voters.iter().copied().collect::<BTreeSet<_>>(),
        ..Membership::default()
    };
    let boot = Boot::born(me, membership);
    Raft::new(Settings::default(), boot, me.id.0, Micros(0)).expect("a newborn is sound")
}
