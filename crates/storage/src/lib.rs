//! Keeps it: one journal for all groups, each topic's segments, the small state in fjall.

#![forbid(unsafe_code)]
mod adoption;
mod cached;
mod command;
mod direct;
mod disk;
mod entry_kind;
mod error;
mod event;
mod fields;
mod gather;
mod group;
mod hands;
mod incoming;
mod journal;
mod layout;
mod log;
mod mender;
mod node;
mod os_disk;
mod planted;
mod recover;
mod recovered;
mod rehearsal;
mod segment;
mod settings;
mod settler;
mod shipment;
mod sim_disk;
mod state;
mod storage;
mod unapplied;
mod verify;
mod walk;
mod writer;

pub use disk::{Disk, File, Open};
pub use error::Error;
pub use event::Event;
pub use group::Stocked;
pub use hands::Hands;
pub use incoming::{Incoming, NotTaken};
pub use log::Log;
#[cfg(feature = "planted")]
pub use planted::{Planted, plant};
pub use recovered::{Recovered, RecoveredGroup};
pub use rehearsal::{rehearse, rehearse_on};
pub use settings::Settings;
pub use shipment::Shipment;
pub use sim_disk::{Fault, SECTOR_BYTES, SimDisk, Unsynced};
pub use storage::Storage;
pub use verify::{Finding, Outlook, Verified, VerifiedGroup, verify, verify_on};
pub use walk::Walked;
