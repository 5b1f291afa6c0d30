//! Coalesces what all groups ask for in one drain: one write, one send for each peer and lane, one
//! application for each group.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kontiki_raft::{Body, LogId, Message, NodeRef, Persist, SendLog, WriteSeq};
use kontiki_wire::{
    Answer, ClusterCommand, GroupId, GroupMessage, MemberBeat, Missing, Offset, PeerLane,
    PlacedEntry, Response, Topic, Trust, Watermark,
    limits::{PEER_FRAME_BYTES_MAX, PEER_MESSAGES_MAX},
};

use crate::{
    effect::{Effect, GroupWrite, Members, Placed, Writes},
    input::{StreamId, Ticket},
    planted::{Planted, plants},
};

/// What is to be done, by kind. Leaves in one order: what begins, the log to the peers, the disk, what was
/// decided, who is a member, the answers, beats and what they tell of commits, what ends. Whoever hears that
/// it was done finds it done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    made: Vec<Topic>,
    writes: Vec<GroupWrite>,
    sends: BTreeMap<NodeRef, Lanes>,
    reads: Vec<(GroupId, SendLog)>,
    applied: BTreeMap<GroupId, (Vec<Placed>, Watermark)>,
    checkpoints: BTreeMap<GroupId, (LogId, Bytes)>,
    answers: Vec<(StreamId, Answer)>,
    responses: Vec<(Ticket, Response)>,
    roles: Vec<Effect>,
    removed: Vec<GroupId>,
    closed: Vec<GroupId>,
    mends: Vec<Effect>,
    beats: Vec<Effect>,
    members: Option<Members>,
    trust: Option<Trust>,
    /// What was told of it last.
    told: Trust,
    expelled: Option<String>,
    issued: Issued,
}

/// The messages to one peer.
#[derive(Clone, Debug, Default)]
struct Lanes {
    beats: Frames,
    log: Frames,
}

/// Messages in order, cut where a frame would grow too large.
#[derive(Clone, Debug, Default)]
struct Frames {
    full: Vec<Vec<GroupMessage>>,
    open: Vec<GroupMessage>,
    open_bytes: usize,
}

/// The node's writes that the disk has not confirmed yet, and each group's own number in them.
#[derive(Clone, Debug, Default)]
struct Issued {
    seq: u64,
    unconfirmed: VecDeque<(u64, Vec<(GroupId, WriteSeq)>)>,
}

impl Outbox {
    pub(crate) fn topic_made(&mut self, topic: Topic) {
        self.made.push(topic);
    }

    pub(crate) fn persist(&mut self, group: GroupId, persist: Persist) {
        self.writes.push(GroupWrite { group, persist });
    }

    pub(crate) fn send(&mut self, group: GroupId, to: NodeRef, message: Message) {
        let lanes = self.sends.entry(to).or_default();
        let frames = match lane_of(&message.body) {
            PeerLane::Beats => &mut lanes.beats,
            PeerLane::Log | PeerLane::Bulk => &mut lanes.log,
        };
        frames.push(GroupMessage { group, message });
    }

    pub(crate) fn send_log(&mut self, group: GroupId, send: SendLog) {
        self.reads.push((group, send));
    }

    pub(crate) fn applied(&mut self, group: GroupId, placed: Vec<Placed>, watermark: Watermark) {
        let applied = self.applied.entry(group).or_default();
        if applied.0.is_empty() {
            applied.0 = placed;
        } else {
            applied.0.extend(placed);
        }
        let ahead = u64::from(group != GroupId::CLUSTER && plants(Planted::WatermarkAhead));
        applied.1 = Offset(watermark.0 + ahead);
    }

    /// A later checkpoint of the same drain replaces an earlier one.
    pub(crate) fn checkpoint(&mut self, group: GroupId, at: LogId, state: Bytes) {
        self.checkpoints.insert(group, (at, state));
    }

    pub(crate) fn answer(&mut self, stream: StreamId, answer: Answer) {
        self.answers.push((stream, answer));
    }

    pub(crate) fn respond(&mut self, ticket: Ticket, response: Response) {
        self.responses.push((ticket, response));
    }

    pub(crate) fn role_changed(&mut self, effect: Effect) {
        self.roles.push(effect);
    }

    pub(crate) fn topic_removed(&mut self, group: GroupId) {
        self.removed.push(group);
    }

    pub(crate) fn topic_closed(&mut self, group: GroupId) {
        self.closed.push(group);
    }

    pub(crate) fn ask(&mut self, to: NodeRef, missing: Missing) {
        self.mends.push(Effect::Ask { to, missing });
    }

    pub(crate) fn find(&mut self, to: NodeRef, missing: Missing) {
        self.mends.push(Effect::Find { to, missing });
    }

    pub(crate) fn mend(&mut self, group: GroupId, entries: Vec<PlacedEntry>) {
        self.mends.push(Effect::Mend { group, entries });
    }

    pub(crate) fn fetch(&mut self, effect: Effect) {
        self.mends.push(effect);
    }

    /// A group is ended: what the disk confirms of it from now on concerns nobody.
    pub(crate) fn forget_writes(&mut self, group: GroupId) {
        for (_, groups) in &mut self.issued.unconfirmed {
            groups.retain(|(of, _)| *of != group);
        }
    }

    pub(crate) fn relay(&mut self, to: NodeRef, command: ClusterCommand) {
        self.mends.push(Effect::Relay { to, command });
    }

    pub(crate) fn beat(&mut self, to: NodeRef, beat: MemberBeat) {
        self.beats.push(Effect::Beat { to, beat });
    }

    pub(crate) fn expelled(&mut self, why: String) {
        self.expelled = Some(why);
    }

    pub(crate) fn members(&mut self, members: Members) {
        self.members = Some(members);
    }

    /// Whoever has been told nothing takes it that nothing was agreed on.
    pub(crate) fn trust(&mut self, trust: &Trust) {
        if self.told != *trust {
            self.told.clone_from(trust);
            self.trust = Some(trust.clone());
        }
    }

    /// What each group had in the writes up to `upto`: its number, once for each write. Says what is
    /// wrong if there was no such write.
    pub(crate) fn confirmed(&mut self, upto: u64) -> Result<Vec<(GroupId, WriteSeq)>, String> {
        if upto > self.issued.seq {
            return Err(format!(
                "write {upto} is said to be durable, the last one issued is {}",
                self.issued.seq
            ));
        }
        let unconfirmed = &mut self.issued.unconfirmed;
        let done =
            unconfirmed.partition_point(|(seq, _)| *seq <= upto || plants(Planted::ConfirmedEarly));
        let mut latest = BTreeMap::new();
        for (group, seq) in unconfirmed.drain(..done).flat_map(|(_, groups)| groups) {
            latest.insert(group, seq);
        }
        Ok(latest.into_iter().collect())
    }

    /// Moves everything out.
    pub(crate) fn drain(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.closed.drain(..).map(Effect::TopicClosed));
        out.extend(self.made.drain(..).map(Effect::TopicMade));
        let mut beats = Vec::new();
        for (to, lanes) in std::mem::take(&mut self.sends) {
            lanes.log.drain(to, PeerLane::Log, out);
            lanes.beats.drain(to, PeerLane::Beats, &mut beats);
        }
        self.drain_writes(out);
        out.append(&mut self.mends);
        out.extend(
            self.reads
                .drain(..)
                .map(|(group, send)| Effect::SendLog { group, send }),
        );
        for (group, (placed, watermark)) in std::mem::take(&mut self.applied) {
            out.push(Effect::Applied {
                group,
                placed,
                watermark,
            });
        }
        for (group, (at, state)) in std::mem::take(&mut self.checkpoints) {
            out.push(Effect::Checkpoint { group, at, state });
        }
        // Whoever is let go is let in no more before anybody hears that it is none.
        out.extend(self.trust.take().map(Effect::Trust));
        out.extend(self.members.take().map(Effect::Members));
        out.extend(
            self.answers
                .drain(..)
                .map(|(stream, answer)| Effect::Answer { stream, answer }),
        );
        out.extend(
            self.responses
                .drain(..)
                .map(|(ticket, response)| Effect::Respond { ticket, response }),
        );
        out.append(&mut beats);
        out.append(&mut self.beats);
        out.append(&mut self.roles);
        out.extend(self.removed.drain(..).map(Effect::TopicRemoved));
        out.extend(self.expelled.take().map(|why| Effect::Expelled { why }));
    }

    fn drain_writes(&mut self, out: &mut Vec<Effect>) {
        if self.writes.is_empty() {
            return;
        }
        let writes = std::mem::take(&mut self.writes);
        let issued = &mut self.issued;
        issued.seq += 1;
        let groups = writes.iter().map(|one| (one.group, one.persist.seq));
        issued.unconfirmed.push_back((issued.seq, groups.collect()));
        out.push(Effect::Persist(Writes {
            seq: issued.seq,
            writes,
        }));
    }
}

impl Frames {
    fn push(&mut self, message: GroupMessage) {
        let bytes = bytes_at_most(&message.message.body);
        let full = self.open_bytes + bytes > FRAME_BYTES || self.open.len() == PEER_MESSAGES_MAX;
        if full && !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
            self.open_bytes = 0;
        }
        self.open_bytes += bytes;
        self.open.push(message);
    }

    fn drain(self, to: NodeRef, lane: PeerLane, out: &mut Vec<Effect>) {
        let open = Some(self.open).filter(|open| !open.is_empty());
        for messages in self.full.into_iter().chain(open) {
            out.push(Effect::Send { to, lane, messages });
        }
    }
}

/// Whatever decides who leads travels apart from whatever waits for disks.
fn lane_of(body: &Body) -> PeerLane {
    match body {
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::Beat { .. }
        | Body::BeatReply { .. }
        | Body::Rest { .. }
        | Body::Resting { .. }
        | Body::TimeoutNow { .. }
        | Body::Rejoin { .. }
        | Body::RejoinAt { .. }
        | Body::Fetch { .. }
        | Body::Fetching { .. }
        | Body::Removed { .. }
        | Body::Vouched { .. } => PeerLane::Beats,
        Body::Append { .. } | Body::Appended { .. } | Body::AppendRejected { .. } => PeerLane::Log,
    }
}

fn bytes_at_most(body: &Body) -> usize {
    let entries = match body {
        Body::Append { entries, .. } => entries.as_slice(),
        _ => &[],
    };
    let bodies: usize = entries
        .iter()
        .map(|entry| ENTRY_BYTES + entry.body.len())
        .sum();
    MESSAGE_BYTES + bodies
}

/// More than a message takes in a frame without its entries.
const MESSAGE_BYTES: usize = 128;
/// More than an entry takes without its body.
const ENTRY_BYTES: usize = 64;
/// A send's messages, so counted, fit one frame.
const FRAME_BYTES: usize = PEER_FRAME_BYTES_MAX - 4096;

#[cfg(test)]
mod tests {
    use kontiki_raft::{
        AppendHead, Entry, Incarnation, Index, Kind, Micros, NodeId, Session, Term,
    };

    use super::*;

    fn peer(id: u64) -> NodeRef {
        NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(1),
        }
    }

    fn beat() -> Message {
        Message {
            term: Term(1),
            body: Body::Beat {
                beat: 1,
                commit: Index(0),
            },
        }
    }

    fn append(bytes: usize) -> Message {
        let entry = Entry {
            id: LogId::ORIGIN,
            kind: Kind::Batch,
            time: Micros(0),
            checksum: 0,
            body: vec![0; bytes].into(),
        };
        Message {
            term: Term(1),
            body: Body::Append {
                head: AppendHead {
                    session: Session(1),
                    prev: LogId::ORIGIN,
                    commit: Index(0),
                },
                entries: vec![entry],
            },
        }
    }

    fn persist(seq: u64) -> Persist {
        Persist {
            seq: WriteSeq(seq),
            hard: None,
            truncate_from: None,
            append: Vec::new(),
            commit: Index(0),
        }
    }

    fn drained(outbox: &mut Outbox) -> Vec<Effect> {
        let mut out = Vec::new();
        outbox.drain(&mut out);
        out
    }

    #[test]
    fn beats_of_many_groups_to_a_peer_travel_as_one_and_after_the_log() {
        let mut outbox = Outbox::default();
        for group in 0..1000 {
            outbox.send(GroupId(group), peer(2), beat());
            outbox.send(GroupId(group), peer(3), beat());
        }
        outbox.send(GroupId(1), peer(2), append(10));
        let sent: Vec<_> = drained(&mut outbox)
            .into_iter()
            .map(|effect| match effect {
                Effect::Send { to, lane, messages } => (to.id.0, lane, messages.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            sent,
            [
                (2, PeerLane::Log, 1),
                (2, PeerLane::Beats, 1000),
                (3, PeerLane::Beats, 1000)
            ]
        );
    }

    #[test]
    fn a_send_fits_a_frame() {
        let mut outbox = Outbox::default();
        for group in 0..7 {
            outbox.send(GroupId(group), peer(2), append(1 << 20));
        }
        outbox.send(GroupId(7), peer(2), append(PEER_FRAME_BYTES_MAX));
        let counts: Vec<_> = drained(&mut outbox)
            .into_iter()
            .map(|effect| match effect {
                Effect::Send { messages, .. } => messages.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [3, 3, 1, 1]);
    }

    #[test]
    fn each_group_is_told_its_own_write() {
        let mut outbox = Outbox::default();
        outbox.persist(GroupId(0), persist(7));
        outbox.persist(GroupId(3), persist(1));
        let drained_first = drained(&mut outbox);
        let [Effect::Persist(first)] = drained_first.as_slice() else {
            panic!("one write for all groups");
        };
        assert_eq!((first.seq, first.writes.len()), (1, 2));
        outbox.persist(GroupId(3), persist(2));
        drained(&mut outbox);
        assert_eq!(outbox.confirmed(0), Ok(vec![]));
        assert_eq!(
            outbox.confirmed(2),
            Ok(vec![(GroupId(0), WriteSeq(7)), (GroupId(3), WriteSeq(2))])
        );
        assert_eq!(outbox.confirmed(2), Ok(vec![]));
        assert!(outbox.confirmed(3).is_err());
    }

    #[test]
    fn applications_of_a_group_leave_as_one() {
        let mut outbox = Outbox::default();
        let placed = |index| Placed {
            index: Index(index),
            offset: Offset(index),
            count: 1,
        };
        outbox.applied(GroupId(1), vec![placed(1)], Offset(2));
        outbox.applied(GroupId(1), vec![placed(2)], Offset(3));
        assert_eq!(
            drained(&mut outbox),
            [Effect::Applied {
                group: GroupId(1),
                placed: vec![placed(1), placed(2)],
                watermark: Offset(3)
            }]
        );
    }
}
