//! Breaks a cluster on purpose, repeatably: one seed is one story.

#![forbid(unsafe_code)]

mod agenda;
mod campaign;
mod carrying;
mod chance;
pub mod checker;
mod clock;
mod consumer;
mod damage;
mod delivery;
mod dump;
mod event;
mod faults;
mod fetching;
mod growth;
pub mod history;
mod hosting;
mod injury;
pub mod invariants;
mod keeping;
mod life;
mod linking;
mod member;
mod network;
mod operator;
mod pipe;
mod plan;
#[cfg(feature = "planted")]
pub mod planted;
mod producer;
mod reader;
mod script;
mod shrink;
mod story;
mod trace;
mod tuning;
mod world;

pub use campaign::{Failure, Sum, run, seeds, tell_guarded, telling};
pub use faults::{Counts, Fault, Kind};
pub use plan::{Choice, MEMBERS_MAX, Plan};
pub use script::Script;
pub use shrink::shrink;
pub use story::{Told, tell};
pub use trace::Trace;
