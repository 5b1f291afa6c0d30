//! The door.

use std::fmt;

use crate::{
    effect::{Effect, Role},
    ids::{Index, LogId, Micros, NodeRef, Term},
    input::{Boot, Input, Membership, Settings},
};

/// One member of one group.
#[derive(Clone, Debug)]
pub struct Raft {
    role: Role,
}

/// What a member knows, for people and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This member.
    pub me: NodeRef,
    /// The current term.
    pub term: Term,
    /// What it is.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<NodeRef>,
    /// The end of its log.
    pub last: LogId,
    /// The end of what is durable here.
    pub durable: Index,
    /// The end of what is committed.
    pub commit: Index,
    /// The configuration in force.
    pub config: Membership,
    /// What a leader knows of the others; empty when not leading.
    pub peers: Vec<PeerStatus>,
}

/// What a leader knows of one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: NodeRef,
    /// The end of what it has durably.
    pub matched: Index,
    /// How long ago it last answered a beat, in microseconds; `None` if it has not yet.
    pub heard: Option<Micros>,
    /// Whether appends are streamed to it (rather than probed).
    pub streaming: bool,
}

/// What makes a log unfit to start from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootError {
    /// What does not fit.
    pub reason: String,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for BootError {}

impl Raft {
    /// Starts a member from what its disk held. `seed` is all the chance it will ever see.
    pub fn new(
        _settings: Settings,
        _boot: Boot,
        _seed: u64,
        _now: Micros,
    ) -> Result<Self, BootError> {
        Ok(Self {
            role: Role::Candidate,
        })
    }

    /// Takes in one thing that happened. Emits nothing: see [`Raft::drain`].
    pub fn handle(&mut self, _now: Micros, _input: Input) {}

    /// Moves out everything that is to be done, messages coalesced over all inputs since the last
    /// call.
    pub fn drain(&mut self, _now: Micros, _out: &mut Vec<Effect>) {}

    /// When to come back with [`Input::Timer`] if nothing else happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        None
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What it knows.
    pub fn status(&self, _now: Micros) -> Status {
        unreachable!("skeleton")
    }
}
