//! Gives the agreed order a meaning: members, topics, offsets, producers.
//!
//! [`Broker`] hosts all groups of a node, the cluster's own and one for each topic it keeps. Like the
//! groups inside it, it is pure: [`Input`]s in, [`Effect`]s out, no clock, disk, socket, chance or
//! `async`. It cannot fail: it refuses (data), asserts (our bug) or halts (an effect).

#![forbid(unsafe_code)]

mod append;
mod apply;
mod balancing;
mod broker;
mod catalogue;
mod chores;
mod cluster;
mod cursor;
mod early;
mod effect;
mod epoch;
mod fetching;
mod group;
mod homes;
mod input;
mod invariants;
mod leading;
mod members;
mod mend;
mod meter;
mod newcomer;
mod offsets;
mod outbox;
mod placement;
mod placing;
mod planted;
mod producers;
mod pursuit;
mod rebuild;
mod recovery;
mod relays;
mod remains;
mod requests;
mod resting;
mod rotation;
mod status;
mod steering;
mod tails;
mod tickets;
mod timers;
mod tokens;
mod topics;
mod trust;
mod turn;
mod versions;

pub use apply::CheckpointEvery;
pub use broker::{Broker, Settings};
pub use cluster::cluster_state;
pub use cursor::{Cursor, Extent, Step};
pub use effect::{Effect, GroupWrite, Members, Placed, Writes};
pub use fetching::FETCH_BYTES_MIN;
pub use input::{GroupBoot, Input, Now, StreamId, Ticket};
#[cfg(feature = "planted")]
pub use planted::{Planted, plant};
pub use rebuild::Rebuild;
pub use remains::{GroupRemains, Remains, remains};
pub use resting::REST;
