//! What a process does for its broker, and what becomes of what it sends.

use std::collections::BTreeSet;

use bytes::BytesMut;
use kontiki_broker::{Broker, Effect, Input, Members, Now, Settings, StreamId, Ticket};
use kontiki_raft::{Body, Index, Message, Micros, NodeRef, Role, SendLog};
use kontiki_wire::{
    ClusterCommand, ClusterId, ClusterState, DeliveredBatch, Epoch, Frame, GroupId, GroupMessage,
    Member, MemberBeat, Offset, Relay, Request, limits::PEER_FRAME_BYTES_MAX,
};

use crate::world::{Happening, Node, World, clients::SHOTS};

/// A link that is closed is dialled again after this.
const DIAL_AGAIN: u64 = 500_000;

impl Node {
    /// Whether it may be started.
    pub(crate) fn is_down(&self) -> bool {
        self.broker.is_none() && self.expelled.is_none() && !self.is_dead
    }

    /// A few batches from the one that holds `from` on.
    pub(crate) fn read(&self, group: GroupId, from: Offset, until: Offset) -> Vec<DeliveredBatch> {
        let placed = &self.placed[&group];
        let first = placed.range(..=from).next_back().unwrap();
        let rest = placed.range(*first.0..until).take(5);
        let batch = |(offset, index): (&Offset, &Index)| {
            let entry = self.disk.entry(group, *index).unwrap();
            DeliveredBatch {
                offset: *offset,
                time: entry.time.0,
                batch: entry.body.clone(),
            }
        };
        rest.map(batch).collect()
    }
}

impl World {
    fn settings(&mut self, number: usize) -> Settings {
        let member = |node: &Node| Member {
            id: node.me.id.0,
            incarnation: node.me.incarnation.0,
            name: node.name.clone(),
            ..Member::default()
        };
        Settings {
            cluster: ClusterId(7),
            epoch: Epoch::FIRST,
            me: self.nodes[number].me,
            raft: kontiki_raft::Settings {
                rest: kontiki_broker::REST,
                ..kontiki_raft::Settings::default()
            },
            birth: ClusterState {
                members: self.nodes[..self.founders].iter().map(member).collect(),
                ..ClusterState::default()
            },
            checkpoints: kontiki_broker::CheckpointEvery::default(),
            fetch_bytes_min: u64::MAX,
            damage: None,
            seed: self.chance.next(),
        }
    }

    pub(crate) fn start(&mut self, number: usize) {
        let settings = self.settings(number);
        let now = self.now_at(number);
        let node = &mut self.nodes[number];
        assert!(node.broker.is_none() && node.expelled.is_none());
        node.members = Members::default();
        let boots = node.disk.boots(node.me);
        node.life += 1;
        node.topics.clear();
        node.watermarks.clear();
        node.wake_at = None;
        node.drain_due = false;
        node.broker = Some(Broker::new(settings, boots, now).unwrap());
        let life = node.life;
        let node = number;
        self.at(self.now + DIAL_AGAIN, Happening::Dial { node, life });
        self.soon(number);
        self.links(number, true);
    }

    /// A node dials whoever it knows; who has seen it go refuses, and says why.
    pub(crate) fn dial(&mut self, number: usize) {
        let me = self.nodes[number].me;
        let life = self.nodes[number].life;
        let node = number;
        self.at(self.now + DIAL_AGAIN, Happening::Dial { node, life });
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            let peer = &self.nodes[other];
            let knows = self.nodes[number].members.find(peer.me.id.0).is_some();
            let pair = (number.min(other), number.max(other));
            if knows
                && peer.broker.is_some()
                && peer.members.is_gone(me.id.0)
                && !self.cut.contains(&pair)
            {
                let by = peer.me.id;
                self.input(number, Input::Disowned { by });
            }
        }
    }

    /// The links of a node break when it dies and are made again when it is back.
    fn links(&mut self, number: usize, open: bool) {
        let peer = self.nodes[number].me.id;
        if open {
            for other in (0..self.nodes.len()).filter(|other| *other != number) {
                if self.nodes[other].broker.is_some() {
                    let peer = self.nodes[other].me.id;
                    self.input(number, Input::Reachable { peer, open });
                }
            }
        }
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            self.input(other, Input::Reachable { peer, open });
        }
    }

    /// The power goes at one node.
    pub(crate) fn crash(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.broker.take().is_none() {
            return;
        }
        node.disk.crash(&mut self.chance);
        let tickets = std::mem::take(&mut node.tickets);
        let life = node.life;
        let streams = &self.streams;
        let is_of = |stream: StreamId| streams[&stream].0 == number && streams[&stream].1 == life;
        self.oracle.died(is_of, &tickets);
        self.links(number, false);
    }

    pub(crate) fn now_at(&self, number: usize) -> Now {
        let node = &self.nodes[number];
        Now {
            monotonic: Micros(node.origin + self.now),
            wall: Micros(1_700_000_000_000_000 + self.now + node.skew),
        }
    }

    /// The node is drained in a moment; until then its inputs pile up.
    fn soon(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].drain_due, true) {
            return;
        }
        let life = self.nodes[node].life;
        self.in_a_while(100, Happening::Drain { node, life });
    }

    pub(crate) fn input(&mut self, number: usize, input: Input) {
        let now = self.now_at(number);
        if let Some(broker) = &mut self.nodes[number].broker {
            broker.handle(now, input);
            self.soon(number);
        }
    }

    pub(crate) fn request(&mut self, number: usize, request: Request) -> Option<Ticket> {
        let ticket = self.ticket(number)?;
        self.input(number, Input::Request { ticket, request });
        Some(ticket)
    }

    /// A ticket for a node that is up.
    pub(crate) fn ticket(&mut self, number: usize) -> Option<Ticket> {
        self.nodes[number].broker.as_ref()?;
        self.counter += 1;
        let ticket = Ticket(self.counter);
        self.oracle.requested(ticket);
        self.nodes[number].tickets.push(ticket);
        Some(ticket)
    }

    pub(crate) fn drain(&mut self, number: usize) {
        let now = self.now_at(number);
        self.nodes[number].drain_due = false;
        let Some(broker) = &mut self.nodes[number].broker else {
            return;
        };
        let mut effects = Vec::new();
        broker.drain(now, &mut effects);
        let mut applied = BTreeSet::new();
        for effect in effects {
            if let Effect::Applied { group, .. } = &effect {
                assert!(applied.insert(*group), "one application for each group");
            }
            self.perform(number, effect);
        }
        let node = &self.nodes[number];
        // It may have been told that it is a member no more.
        let Some(broker) = node.broker.as_ref() else {
            return;
        };
        for group in applied {
            if let Some((at, state)) = broker.state(group) {
                self.oracle.state(group, at, state);
            }
        }
        let deadline = broker.next_deadline().map(|at| {
            let at = at.0.saturating_sub(node.origin);
            at.max(self.now + 1)
        });
        if let Some(deadline) = deadline
            && node.wake_at.is_none_or(|at| deadline < at)
        {
            let life = node.life;
            self.nodes[number].wake_at = Some(deadline);
            let node = number;
            self.at(deadline, Happening::Wake { node, life });
        }
    }

    fn perform(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Persist(writes) => {
                let upto = writes.seq;
                let sync_max = self.faults.sync_max;
                let node = &mut self.nodes[number];
                node.disk.queue(writes);
                node.persists += 1;
                let synced_at = (self.now + self.chance.between(50, sync_max)).max(node.synced_at);
                node.synced_at = synced_at;
                let life = node.life;
                let node = number;
                self.at(synced_at, Happening::Synced { node, life, upto });
            }
            Effect::Send { to, messages, .. } => self.send(number, to, messages),
            Effect::Beat { to, beat } => self.beat(number, to, &beat),
            Effect::SendLog { group, send } => self.send_log(number, group, &send),
            Effect::Applied {
                group,
                placed,
                watermark,
            } => {
                let node = &mut self.nodes[number];
                for one in &placed {
                    let entry = node.disk.entry(group, one.index);
                    let entry = entry.expect("whatever is applied was given to the disk");
                    self.oracle.placed(group, one, entry);
                    if one.count > 0 {
                        let placed = node.placed.entry(group).or_default();
                        placed.insert(one.offset, one.index);
                    }
                }
                let before = node.watermarks.insert(group, watermark.0);
                assert!(before.is_none_or(|before| before <= watermark.0));
            }
            Effect::Checkpoint { group, at, state } => {
                self.oracle.state(group, at, state.clone());
                self.nodes[number].disk.checkpoint(group, at, state);
            }
            Effect::Answer { stream, answer } => {
                let (_, _, producer) = self.streams[&stream];
                let it = &self.producers[producer];
                let is_shot = it.id.0 >= SHOTS;
                self.oracle
                    .answered(self.now, stream, it.id, it.group, is_shot, &answer);
                let delay_max = self.faults.delay_max;
                self.in_a_while(delay_max, Happening::Answered { stream, answer });
            }
            Effect::Respond { ticket, response } => {
                self.oracle.responded(ticket, &response);
                self.responses.insert(ticket, response);
            }
            Effect::TopicMade(topic) => {
                let first = self.nodes[number].topics.insert(topic.group);
                assert!(first, "n{} has {} already", number + 1, topic.name);
            }
            Effect::TopicRemoved(group) => {
                let node = &mut self.nodes[number];
                node.topics.remove(&group);
                node.watermarks.remove(&group);
                node.disk.remove(group);
            }
            Effect::RoleChanged {
                group, term, role, ..
            } => {
                if role == Role::Leader {
                    self.oracle.led(group, term, number);
                }
            }
            Effect::TopicClosed(group) => {
                self.nodes[number].topics.remove(&group);
            }
            Effect::Ask { .. }
            | Effect::Find { .. }
            | Effect::Mend { .. }
            | Effect::Inquire { .. }
            | Effect::Stocktake { .. }
            | Effect::Fetch { .. }
            | Effect::Adopt { .. }
            | Effect::Forgo(_)
            | Effect::Fetching { .. }
            | Effect::Mending { .. } => panic!("no disk here loses anything: {effect:?}"),
            Effect::Halt { reason } => self.nodes[number].halted = Some(reason),
            Effect::Members(members) => self.nodes[number].members = members,
            Effect::Trust(_) => {}
            Effect::Relay { to, command } => self.relay(number, to, command),
            Effect::Expelled { why } => {
                self.crash(number);
                self.nodes[number].expelled = Some(why);
            }
        }
    }

    /// Whether a node takes what comes from another, as its host decides: somebody it has not heard of is
    /// introduced, and somebody who is a member no more is told so.
    pub(crate) fn admits(&mut self, to: usize, from: NodeRef) -> bool {
        let number = from.id.0 as usize - 1;
        let members = &self.nodes[to].members;
        if self.nodes[to].broker.is_none() || members.next == 0 {
            return false;
        }
        if members.is_gone(from.id.0) {
            let by = self.nodes[to].me.id;
            self.input(number, Input::Disowned { by });
            return false;
        }
        if members.find(from.id.0).is_none() {
            let member = Member {
                id: from.id.0,
                incarnation: from.incarnation.0,
                name: self.nodes[number].name.clone(),
                ..Member::default()
            };
            self.input(to, Input::Introduced { member });
        }
        true
    }

    /// Whether what is sent now arrives.
    fn arrives(&mut self, number: usize, to: NodeRef) -> bool {
        let known = self.nodes[number].members.find(to.id.0).is_some();
        let to = to.id.0 as usize - 1;
        let pair = (number.min(to), number.max(to));
        // Who was just admitted has not started yet.
        known
            && to < self.nodes.len()
            && !self.cut.contains(&pair)
            && !self.chance.permille(self.faults.lost)
    }

    fn relay(&mut self, number: usize, to: NodeRef, command: ClusterCommand) {
        // What the other end would not read closes the link.
        let mut frame = BytesMut::new();
        Relay { command }.encode(&mut frame);
        let frame = Frame::take(&mut frame, PEER_FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        let command = Relay::decode(&frame).unwrap().command;
        if self.arrives(number, to) {
            let from = self.nodes[number].me;
            let to = to.id.0 as usize - 1;
            let delay_max = self.faults.delay_max;
            self.in_a_while(delay_max, Happening::Relay { to, from, command });
        }
    }

    fn beat(&mut self, number: usize, to: NodeRef, beat: &MemberBeat) {
        self.nodes[number].sends += 1;
        let from = self.nodes[number].me;
        if !self.arrives(number, to) {
            return;
        }
        let to = to.id.0 as usize - 1;
        for _ in 0..=u64::from(self.chance.permille(self.faults.doubled)) {
            let beat = beat.clone();
            let delay_max = self.faults.delay_max;
            self.in_a_while(delay_max, Happening::Beat { to, from, beat });
        }
    }

    fn send(&mut self, number: usize, to: NodeRef, messages: Vec<GroupMessage>) {
        self.nodes[number].sends += 1;
        let from = self.nodes[number].me;
        if !self.arrives(number, to) {
            return;
        }
        let to = to.id.0 as usize - 1;
        let copies = 1 + u64::from(self.chance.permille(self.faults.doubled));
        for _ in 0..copies {
            let messages = messages.clone();
            let delay_max = self.faults.delay_max;
            self.in_a_while(delay_max, Happening::Deliver { to, from, messages });
        }
    }

    fn send_log(&mut self, number: usize, group: GroupId, send: &SendLog) {
        let first = send.head.prev.index.next();
        let entries = self.nodes[number].disk.entries(group, first, send.last);
        if entries.is_empty() {
            return;
        }
        let body = Body::Append {
            head: send.head,
            entries,
        };
        let message = Message {
            term: send.term,
            body,
        };
        self.send(number, send.to, vec![GroupMessage { group, message }]);
    }
}
