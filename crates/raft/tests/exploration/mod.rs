//! Exhaustive exploration of the real core: every state that a small group can reach.

mod bounds;
mod catalogue;
mod member;
mod search;
mod world;

pub(crate) use bounds::Bounds;
pub(crate) use search::{Outcome, explore};
