//! Keeps it: one journal for all groups, each topic's segments, the small state in fjall.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "segments are being built")]

mod disk;
mod error;
mod event;
mod fields;
mod group;
mod journal;
mod layout;
mod log;
mod node;
mod os_disk;
mod recover;
mod recovered;
mod settings;
mod storage;
mod writer;

pub use disk::{Disk, File, Open};
pub use error::Error;
pub use event::Event;
pub use log::Log;
pub use recovered::{Recovered, RecoveredGroup};
pub use settings::Settings;
pub use storage::Storage;
