//! Agrees on one order: Raft, and nothing else.
//!
//! One [`Raft`] value is one member's view of one group. It is pure: no clock, no disk, no socket,
//! no randomness, no `async`. Values go in ([`Input`]), values come out ([`Effect`]), and what must
//! wait for the disk waits inside until [`Input::Persisted`] has come back, so that effects carry no
//! ordering rule for the host to remember. It knows nothing of topics.

#![forbid(unsafe_code)]

mod base;
mod beat;
mod boot;
mod change;
mod checksum;
mod effect;
mod election;
mod entry;
mod following;
mod ids;
mod input;
mod invariants;
mod log;
mod membership;
mod message;
mod progress;
mod proposals;
mod pulse;
mod quorum;
mod raft;
mod random;
mod rejoin;
mod replication;
mod rest;
mod role;
mod terms;
#[cfg(feature = "planted")]
mod timeless;
mod transfer;
mod writes;

pub use effect::{
    ChangeEnd, ChangeRefused, Committed, Effect, Fate, Persist, Refused, Role, SendLog,
};
pub use entry::{Entry, Kind};
pub use ids::{
    Hard, Incarnation, Index, Life, LogId, Micros, NodeId, NodeRef, ProposalId, ReadId, Term,
    WriteSeq,
};
#[cfg(feature = "planted")]
pub use input::Planted;
pub use input::{Boot, Input, MEMBERS_MAX, Membership, Proposal, Settings, Stretch, VOTERS_MAX};
pub use log::Tail;
pub use message::{AppendHead, Body, Message, Session};
pub use raft::{BootError, PeerStatus, Raft, Status};
