//! What the two threads are asked for.

use std::{
    fmt,
    sync::{Arc, mpsc::Sender},
};

use bytes::Bytes;
use kontiki_broker::Writes;
use kontiki_raft::{Index, LogId};
use kontiki_wire::{GroupId, PlacedEntry};

use crate::{
    Error, Event, RecoveredGroup,
    adoption::Whole,
    group::Group,
    journal::{Prepared, Standing},
};

/// Where the outcome of a close goes.
pub(crate) type Answer = Sender<Result<(), Error>>;

/// What the writer of the journal is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write and sync.
    Write(Writes),
    /// Say that a group was removed.
    Remove(GroupId),
    /// Say that a group begins with what was fetched of it.
    Adopt(Standing, Whole),
    /// The file that comes next is ready.
    Prepared(Prepared),
    /// Say that files before this one are not needed any more.
    Freed(u32),
    /// A group's segments are whole again: this is what they hold.
    Reopen(Arc<Group>, Box<RecoveredGroup>),
    /// Tell this, after all that was asked for before: a group that is found damaged as soon as it is
    /// whole again must be heard of as whole first.
    Tell(Event),
    /// Answer when everything queued before is durable.
    Flush(Answer),
    /// Seal the journal, answer, and end.
    Close(Answer),
    /// End as after a crash.
    Stop,
}

/// What the settler is asked for.
pub(crate) enum Task {
    /// Move this group's placed entries to its segments.
    Settle(Arc<Group>),
    /// Keep this once the group's segments reach it.
    Checkpoint {
        group: GroupId,
        at: LogId,
        state: Bytes,
    },
    /// Look at this segment, in which a reader found damage.
    Examine(Arc<Group>, Index),
    /// Take in what peers gave for what is missing.
    Mend {
        group: GroupId,
        entries: Vec<PlacedEntry>,
    },
    /// The journal will soon go on to this file.
    Prepare(u32),
    /// The journal has gone on to this file.
    Turned(u32),
    /// The journal went on elsewhere and does not need this file.
    Unused(u32),
    /// The journal says durably that files before this one are not needed.
    Freed(u32),
    /// Remove what was set aside of a damaged journal.
    Recovered,
    /// Remove this group.
    Remove(GroupId),
    /// The journal says durably that this group was removed.
    Removed(GroupId),
    /// Have a group begin with what was fetched of it, as one that may have forgotten promises or not.
    Adopt {
        group: GroupId,
        whole: Whole,
        forgot: bool,
    },
    /// The journal says durably that it does.
    Adopted(Arc<Group>, Whole),
    /// Remove what was fetched of this group.
    Forgo(GroupId),
    /// Settle everything, answer, and end.
    Close(Answer),
    /// End as after a crash.
    Stop,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settle(_) => "Settle",
            Self::Checkpoint { .. } => "Checkpoint",
            Self::Examine(..) => "Examine",
            Self::Mend { .. } => "Mend",
            Self::Prepare(_) => "Prepare",
            Self::Turned(_) => "Turned",
            Self::Unused(_) => "Unused",
            Self::Freed(_) => "Freed",
            Self::Recovered => "Recovered",
            Self::Remove(_) => "Remove",
            Self::Removed(_) => "Removed",
            Self::Adopt { .. } => "Adopt",
            Self::Adopted(..) => "Adopted",
            Self::Forgo(_) => "Forgo",
            Self::Close(_) => "Close",
            Self::Stop => "Stop",
        })
    }
}
