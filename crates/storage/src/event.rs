//! What storage says unasked.

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{Error, RecoveredGroup};

/// What storage tells the driver, from its own threads.
#[derive(Debug)]
pub enum Event {
    /// All writes up to and including this one are durable.
    Persisted {
        /// [`kontiki_broker::Writes::seq`].
        upto: u64,
    },
    /// A reader found damage: segments of this group do not give these entries any more. Nothing of the
    /// group is lost that is in the journal, and what is asked of it is still done, but it is to be
    /// ended and [`crate::Storage::mend`]ed.
    Damaged {
        /// The group.
        group: GroupId,
        /// What is missing now, ascending, both ends included.
        missing: Vec<(Index, Index)>,
        /// What was found, for people.
        what: String,
    },
    /// What was given to [`crate::Storage::mend`] has been taken in.
    Mending {
        /// The group.
        group: GroupId,
        /// What is still missing.
        missing: Vec<(Index, Index)>,
        /// Why what was fetched was not of use, for people: it has to be fetched again.
        refused: Option<String>,
    },
    /// The group is whole again, or was taken in ([`crate::Storage::adopt`]), and can be started as a start
    /// would.
    Mended(Box<RecoveredGroup>),
    /// All that there was of a group is gone, as [`crate::Storage::remove`] asked: it can be born anew,
    /// after [`crate::Storage::revive`].
    Removed {
        /// The group.
        group: GroupId,
    },
    /// A write or sync failed: storage is poisoned.
    Failed(Error),
}
