//! Keeps it: one journal for all groups, each topic's segments, the small state in fjall.

mod error;
mod storage;

pub use error::Error;
pub use storage::{Event, Log, Recovered, RecoveredGroup, Settings, Storage};
