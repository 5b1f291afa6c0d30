//! The journal: one for the node, for all groups. What is acknowledged is here first.

mod append;
mod begin;
mod frame;
mod op;
mod replay;
mod replayed;
mod scan;

pub(crate) use append::{Journal, Prepared, prepare};
pub(crate) use begin::{Begin, End};
pub(crate) use frame::Position;
pub(crate) use op::{Body, Draft, Standing};
pub(crate) use replay::{begun_salt, check, replay};
pub(crate) use replayed::{Replay, ReplayedGroup};
