//! One member as the explorer sees it: the core, its disk, the writes on their way, and what can happen
//! to it.

use bytes::Bytes;
use kontiki_raft::{
    Body, Effect, Entry, Incarnation, Index, Input, Kind, LogId, Membership, Message, Micros,
    NodeId, NodeRef, Persist, Proposal, ProposalId, Raft, Role, Settings, Status, Term, WriteSeq,
};

use crate::{disk::Disk, exploration::bounds::Bounds};

/// Everything that makes up a member's state.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    raft: Raft,
    disk: Disk,
    queue: Vec<Persist>,
    halted: Option<String>,
}

/// What happens to a member.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// It campaigns. Pre-votes promise nothing, so they are always granted here, in the same step.
    Campaign,
    /// It is asked to take a proposal, the first, the second ...
    Propose(u8),
    /// A message arrives.
    Arrive(NodeRef, Message),
    /// The oldest write on its way reaches the disk.
    Persist,
    /// It dies, loses every write on its way, and starts again.
    Crash,
    /// The same, and its disk is empty.
    Forget,
    /// It leads and finds that no quorum answers.
    StepDown,
    /// It leads and is asked for other voters.
    Change,
    /// Its link to a member was lost and is back.
    Renew(NodeId),
}

/// What promises hang on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Facts {
    pub(crate) me: NodeRef,
    pub(crate) term: Term,
    pub(crate) leads: bool,
    pub(crate) config: Membership,
    pub(crate) log: Vec<Entry>,
    pub(crate) commit: usize,
    pub(crate) disk: Vec<Entry>,
    pub(crate) forgot: bool,
}

/// What followed: what was sent, and to whom.
pub(crate) type Sent = Vec<(NodeRef, Message)>;

impl Member {
    /// One that begins with a log of these terms, all of which it has heard of.
    pub(crate) fn new(me: NodeRef, bounds: &Bounds, log: &[u64]) -> Self {
        let entry = |(index, term)| Entry {
            id: LogId { term, index },
            kind: Kind::Batch,
            time: Micros(0),
            checksum: 0,
            body: Bytes::new(),
        };
        let mut disk = Disk::default();
        disk.log.extend(
            (1..)
                .map(Index)
                .zip(log.iter().copied().map(Term))
                .map(entry),
        );
        let terms = bounds.logs.iter().copied().flatten().copied();
        disk.hard.term = Term(terms.max().unwrap_or_default());
        Self::start(me, bounds, disk).0
    }

    fn start(me: NodeRef, bounds: &Bounds, disk: Disk) -> (Self, Sent) {
        let settings = Settings {
            planted: bounds.planted,
            append_bytes_max: bounds.append_bytes_max,
            notice_delay: Micros(0),
            ..Settings::default()
        };
        // As if newly founded: what a restart must sit out is time, and time is not looked at.
        let boot = disk.boot(me, &of(bounds.voters), true);
        let raft = Raft::new(settings, boot, 0, LONG).expect("a disk that the core wrote itself");
        let mut member = Self {
            raft,
            disk,
            queue: Vec::new(),
            halted: None,
        };
        let mut sent = Vec::new();
        member.drain(&mut sent);
        member.rest();
        (member, sent)
    }

    /// The state after something happened.
    pub(crate) fn after(&self, event: &Event, bounds: &Bounds) -> (Self, Sent) {
        let mut next = self.clone();
        let mut sent = Vec::new();
        match event {
            Event::Campaign => next.campaign(&mut sent),
            Event::Propose(number) => next.take(propose(*number), &mut sent),
            Event::Arrive(from, message) => {
                let (from, message) = (*from, message.clone());
                next.take(Input::Message { from, message }, &mut sent);
            }
            Event::Persist => {
                let write = next.queue.remove(0);
                next.disk.write(&write);
                next.take(Input::Persisted { upto: write.seq }, &mut sent);
            }
            Event::Crash => {
                return Self::start(self.status().me, bounds, next.disk);
            }
            Event::Forget => {
                let mut disk = next.disk;
                disk.lose(0);
                disk.note();
                return Self::start(self.status().me, bounds, disk);
            }
            Event::StepDown => next.take(Input::Timer, &mut sent),
            Event::Change => next.take(
                Input::Change {
                    id: ProposalId(0),
                    expect: self.status().config_index,
                    target: of(bounds.target),
                    force: true,
                },
                &mut sent,
            ),
            Event::Renew(peer) => {
                for open in [false, true] {
                    let peer = *peer;
                    next.take(Input::Reachable { peer, open }, &mut sent);
                }
            }
        }
        next.rest();
        (next, sent)
    }

    /// Whether a write is on its way.
    pub(crate) fn is_writing(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What it found broken, if it did.
    pub(crate) fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// What it knows.
    pub(crate) fn status(&self) -> Status {
        self.raft.status(LONG)
    }

    /// What promises hang on.
    pub(crate) fn facts(&self) -> Facts {
        let status = self.status();
        let mut whole = self.disk.clone();
        self.queue.iter().for_each(|write| whole.write(write));
        Facts {
            me: status.me,
            term: status.term,
            leads: status.role == Role::Leader,
            config: status.config,
            log: whole.log,
            commit: status.commit.0 as usize,
            disk: self.disk.log.clone(),
            forgot: self.disk.is_forgetful(),
        }
    }

    /// What is queued for the disk.
    pub(crate) fn queue(&self) -> &[Persist] {
        &self.queue
    }

    fn campaign(&mut self, sent: &mut Sent) {
        self.raft.handle(LONG, Input::Campaign);
        let mut effects = Vec::new();
        self.raft.drain(LONG, &mut effects);
        let asked = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, message } => match message.body {
                Body::PreVote { round, .. } => Some((*to, message.term, round)),
                _ => None,
            },
            _ => None,
        });
        for (from, term, round) in asked {
            let granted = true;
            let body = Body::PreVoteReply { round, granted };
            let message = Message { term, body };
            if self.raft.role() == Role::PreCandidate {
                self.take(Input::Message { from, message }, sent);
            }
        }
    }

    fn take(&mut self, input: Input, sent: &mut Sent) {
        self.raft.handle(LONG, input);
        self.drain(sent);
    }

    fn drain(&mut self, sent: &mut Sent) {
        let mut effects = Vec::new();
        self.raft.drain(LONG, &mut effects);
        for effect in effects {
            match effect {
                Effect::Install { .. } | Effect::Fetch { .. } => {
                    unreachable!("nothing is compacted")
                }
                Effect::Persist(write) => self.queue.push(write),
                Effect::Send { to, message } if counts(&message.body) => sent.push((to, message)),
                Effect::Forgot => self.halted = Some("it forgets, and its disk has not".into()),
                Effect::Halt { reason } => self.halted = Some(reason),
                _ => {}
            }
        }
    }

    /// Forgets what no promise hangs on.
    fn rest(&mut self) {
        self.raft.forget_time();
        for (seq, write) in (1..).zip(&mut self.queue) {
            write.seq = WriteSeq(seq);
        }
    }
}

/// Whether a message can change what promises hang on. A pre-vote changes nothing; the answer to a beat
/// tells of a later term, but so does the answer to the append that left with the first beat.
fn counts(body: &Body) -> bool {
    !matches!(
        body,
        Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::BeatReply { .. }
            | Body::Resting { .. }
    )
}

fn propose(number: u8) -> Input {
    Input::Propose {
        time: Micros(0),
        proposals: vec![Proposal {
            id: ProposalId(number.into()),
            kind: Kind::Batch,
            checksum: 0,
            body: Bytes::from(format!("v{number}")),
        }],
    }
}

/// The three members.
pub(crate) fn nodes() -> [NodeRef; 3] {
    [1, 2, 3].map(|id| NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(1),
    })
}

/// These vote.
fn of(voters: &[u64]) -> Membership {
    Membership::of(
        nodes()
            .into_iter()
            .filter(|node| voters.contains(&node.id.0)),
    )
}

/// So late that every deadline has passed.
const LONG: Micros = Micros(1_000_000_000_000);
