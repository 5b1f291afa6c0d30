//! Keeps it: one journal for all groups, each topic's segments, the small state in fjall.

#![forbid(unsafe_code)]
mod command;
mod disk;
mod entry_kind;
mod error;
mod event;
mod fields;
mod gather;
mod group;
mod journal;
mod layout;
mod log;
mod node;
mod os_disk;
mod recover;
mod recovered;
mod segment;
mod settings;
mod settler;
mod state;
mod storage;
mod writer;

pub use disk::{Disk, File, Open};
pub use error::Error;
pub use event::Event;
pub use log::Log;
pub use recovered::{Recovered, RecoveredGroup};
pub use settings::Settings;
pub use storage::Storage;
