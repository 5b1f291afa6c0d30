//! What waits for one link to a peer: bounded, and drained whole, so that everything that is waiting
//! goes out in one write.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use kontiki_raft::Body;
use kontiki_wire::{GroupMessage, PeerFrame, PeerLane, encode_peer};
use tokio::sync::Notify;

use crate::limits::{
    LINK_BYTES_MAX, LINK_FRAMES_MAX, LINK_MESSAGES_MAX, LINK_MESSAGES_WHILE_DOWN_MAX,
    PEER_FRAME_BYTES_TARGET,
};

/// One link's queue.
#[derive(Debug)]
pub(crate) struct Outbox {
    lane: PeerLane,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<GroupMessage>,
    bytes: usize,
    /// Whole frames of another kind, in pieces.
    frames: VecDeque<Vec<Bytes>>,
    /// The member's own beat.
    beat: Option<Bytes>,
    up: bool,
}

impl Outbox {
    pub(crate) fn new(lane: PeerLane) -> Self {
        Self {
            lane,
            queue: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Queues messages. What does not fit is dropped: of beats and votes the oldest, because the newest
    /// says more; of the log the newest, because what follows a gap is of no use. Raft says it again.
    pub(crate) fn push(&self, messages: Vec<GroupMessage>) {
        let mut queue = self.lock();
        for message in messages {
            match self.lane {
                PeerLane::Beats => queue.push_dropping_oldest(message),
                PeerLane::Log | PeerLane::Bulk => queue.push_if_it_fits(message),
            }
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Queues a frame in pieces. It is dropped if the link is down or too many wait: whoever needs it asks
    /// again.
    pub(crate) fn push_frame(&self, pieces: Vec<Bytes>) {
        let mut queue = self.lock();
        if !queue.up || queue.frames.len() >= LINK_FRAMES_MAX {
            return;
        }
        queue.frames.push_back(pieces);
        drop(queue);
        self.filled.notify_one();
    }

    /// Queues the member's own beat in the place of one that still waits: it says all that that one said.
    pub(crate) fn push_beat(&self, frame: Bytes) {
        let mut queue = self.lock();
        if !queue.up {
            return;
        }
        queue.beat = Some(frame);
        drop(queue);
        self.filled.notify_one();
    }

    /// The link is up: what comes from now on waits for it.
    pub(crate) fn open(&self) {
        self.lock().up = true;
    }

    /// The link is down: nothing of the log waits any more, and few beats and votes.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.up = false;
        queue.messages.clear();
        queue.frames.clear();
        queue.beat = None;
        queue.bytes = 0;
    }

    /// Waits until something is there and moves it all out as encoded pieces, in order.
    pub(crate) async fn take(&self, pieces: &mut Vec<Bytes>) {
        loop {
            let (messages, frames) = self.lock().take();
            if !messages.is_empty() || !frames.is_empty() {
                if !messages.is_empty() {
                    encode(messages, pieces);
                }
                pieces.extend(frames.into_iter().flatten());
                return;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while holding it")
    }
}

impl Queue {
    fn push_dropping_oldest(&mut self, message: GroupMessage) {
        let most = if self.up {
            LINK_MESSAGES_MAX
        } else {
            LINK_MESSAGES_WHILE_DOWN_MAX
        };
        while self.messages.len() >= most {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
    }

    fn push_if_it_fits(&mut self, message: GroupMessage) {
        let bytes = body_bytes(&message);
        if !self.up
            || self.messages.len() >= LINK_MESSAGES_MAX
            || self.bytes + bytes > LINK_BYTES_MAX
        {
            return;
        }
        self.bytes += bytes;
        self.messages.push_back(message);
    }

    fn take(&mut self) -> (VecDeque<GroupMessage>, VecDeque<Vec<Bytes>>) {
        self.bytes = 0;
        let mut frames = std::mem::take(&mut self.frames);
        frames.extend(self.beat.take().map(|beat| vec![beat]));
        (std::mem::take(&mut self.messages), frames)
    }
}

/// Groups messages into frames and encodes them.
fn encode(messages: VecDeque<GroupMessage>, pieces: &mut Vec<Bytes>) {
    let mut frame = PeerFrame::default();
    let mut bytes = 0;
    for message in messages {
        let more = body_bytes(&message);
        if bytes + more > PEER_FRAME_BYTES_TARGET && !frame.messages.is_empty() {
            encode_peer(&std::mem::take(&mut frame), pieces);
            bytes = 0;
        }
        bytes += more;
        frame.messages.push(message);
    }
    encode_peer(&frame, pieces);
}

fn body_bytes(message: &GroupMessage) -> usize {
    match &message.message.body {
        Body::Append { entries, .. } => {
            let bodies: usize = entries.iter().map(|entry| entry.body.len()).sum();
            bodies + (entries.len() + 1) * OVERHEAD
        }
        _ => OVERHEAD,
    }
}

/// What a message or an entry takes in a frame beside its body, rounded up.
const OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kontiki_raft::{AppendHead, Entry, Index, Kind, LogId, Message, Micros, Session, Term};
    use kontiki_wire::{Frame, GroupId, decode_peer, limits::PEER_FRAME_BYTES_MAX};

    use super::*;

    fn message(group: u64, body: Body) -> GroupMessage {
        GroupMessage {
            group: GroupId(group),
            message: Message {
                term: Term(1),
                body,
            },
        }
    }

    fn beat(beat: u64) -> GroupMessage {
        let commit = Index(0);
        message(1, Body::Beat { beat, commit })
    }

    fn append(group: u64, bytes: usize) -> GroupMessage {
        let body = Bytes::from(vec![7; bytes]);
        let index = Index(1);
        let entry = Entry {
            id: LogId {
                term: Term(1),
                index,
            },
            kind: Kind::Batch,
            time: Micros(1),
            checksum: kontiki_wire::entry_checksum(&body),
            body,
        };
        let head = AppendHead {
            session: Session(1),
            prev: LogId::ORIGIN,
            commit: Index(0),
        };
        let entries = vec![entry];
        message(group, Body::Append { head, entries })
    }

    /// What the other side gets, frame by frame.
    async fn taken(outbox: &Outbox) -> Vec<Vec<GroupMessage>> {
        let mut pieces = Vec::new();
        outbox.take(&mut pieces).await;
        let mut bytes: BytesMut = pieces
            .iter()
            .flat_map(|piece| piece.iter().copied())
            .collect();
        let mut frames = Vec::new();
        while let Some(frame) = Frame::take(&mut bytes, PEER_FRAME_BYTES_MAX).unwrap() {
            frames.push(decode_peer(&frame).unwrap().messages);
        }
        assert!(bytes.is_empty());
        frames
    }

    #[tokio::test]
    async fn all_that_waits_leaves_together_in_frames_of_a_bounded_size() {
        let outbox = Outbox::new(PeerLane::Log);
        outbox.open();
        let large = PEER_FRAME_BYTES_TARGET / 2;
        let messages: Vec<_> = (1..=3).map(|group| append(group, large)).collect();
        outbox.push(messages.clone());
        let small = message(4, Body::BeatReply { beat: 1 });
        outbox.push(vec![small.clone()]);
        let frames = taken(&outbox).await;
        let expected: Vec<_> = messages.into_iter().chain([small]).collect();
        assert!(
            frames.len() > 1,
            "one frame would be larger than its target"
        );
        assert_eq!(frames.concat(), expected);
    }

    #[tokio::test]
    async fn full_link_of_beats_drops_the_oldest_and_one_that_is_down_keeps_few() {
        let outbox = Outbox::new(PeerLane::Beats);
        let few = LINK_MESSAGES_WHILE_DOWN_MAX as u64;
        outbox.push((0..few + 10).map(beat).collect());
        let kept: Vec<_> = (10..few + 10).map(beat).collect();
        assert_eq!(taken(&outbox).await.concat(), kept);

        outbox.open();
        let many = LINK_MESSAGES_MAX as u64;
        outbox.push((0..many + 10).map(beat).collect());
        let kept: Vec<_> = (10..many + 10).map(beat).collect();
        assert_eq!(taken(&outbox).await.concat(), kept);
    }

    #[tokio::test]
    async fn full_link_of_the_log_drops_the_newest_and_one_that_is_down_keeps_none() {
        let outbox = Outbox::new(PeerLane::Log);
        outbox.push(vec![append(1, 10)]);
        outbox.open();
        let bytes = 2 << 20;
        let most = LINK_BYTES_MAX / bytes;
        let messages = (0..most as u64 + 2).map(|group| append(group, bytes));
        outbox.push(messages.collect());
        let frames = taken(&outbox).await.concat();
        let groups: Vec<_> = frames.iter().map(|message| message.group.0).collect();
        // Each takes a little more than its body.
        assert_eq!(groups, (0..most as u64 - 1).collect::<Vec<_>>());

        outbox.push(vec![append(1, bytes)]);
        outbox.close();
        outbox.open();
        outbox.push(vec![append(2, 10)]);
        assert_eq!(taken(&outbox).await.concat(), [append(2, 10)]);
    }
}
