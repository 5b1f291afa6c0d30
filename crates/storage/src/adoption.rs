//! How a group begins with what was fetched of it: first the journal says so, then its directory takes its
//! place. Whatever a crash leaves of that, a start finishes.

use std::path::Path;

use kontiki_raft::{Hard, LogId, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::Disk,
    journal::Standing,
    layout::{self, GROUPS_DIR},
    planted::{Planted, plants},
    state::Checkpoint,
};

/// A log that is whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) last: LogId,
    pub(crate) end_offset: Offset,
    pub(crate) checkpoint: Checkpoint,
}

impl Whole {
    /// What the journal is to say of the group.
    pub(crate) fn standing(&self, group: GroupId, forgot: bool) -> Standing {
        Standing {
            group,
            hard: Hard {
                term: match plants(Planted::AdoptedTermLost) {
                    true => Term(0),
                    false => self.last.term,
                },
                vote: None,
                recovering: forgot,
            },
            commit: self.last.index,
            kept: self.last.index,
            last: self.last.index,
            ..Standing::default()
        }
    }
}

/// What was fetched of a group takes its place, durably.
pub(crate) fn move_in(disk: &dyn Disk, group: GroupId) -> Result<(), Error> {
    disk.rename(&layout::incoming_dir(group), &layout::group_dir(group))?;
    disk.sync_dir(Path::new(GROUPS_DIR))
}

/// Removes what was fetched of a group.
pub(crate) fn forgo(disk: &dyn Disk, group: GroupId) -> Result<(), Error> {
    disk.remove_dir(&layout::incoming_dir(group))?;
    disk.sync_dir(Path::new(GROUPS_DIR))
}
