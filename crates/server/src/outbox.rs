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
    LINK_BYTES_MAX, LINK_MESSAGES_MAX, LINK_MESSAGES_WHILE_DOWN_MAX, PEER_FRAME_BYTES_TARGET,
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
                PeerLane::Log => queue.push_if_it_fits(message),
            }
        }
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
        queue.bytes = 0;
    }

    /// Waits until something is there and moves it all out as encoded pieces, in order.
    pub(crate) async fn take(&self, pieces: &mut Vec<Bytes>) {
        loop {
            let messages = self.lock().take();
            if !messages.is_empty() {
                encode(messages, pieces);
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

    fn take(&mut self) -> VecDeque<GroupMessage> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
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
