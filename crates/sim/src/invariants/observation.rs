//! What can be seen of a member from outside.

use bytes::Bytes;
use kontiki_broker::{Effect, GroupBoot, Input};
use kontiki_raft::LogId;
use kontiki_wire::GroupId;

/// One thing that happened to a member, or that it did.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// It started from what its disk held. Told before anything of the new life.
    Started {
        /// All groups on the disk.
        groups: &'a [GroupBoot],
    },
    /// It has this state of a group, as a checkpoint would keep it.
    Has {
        /// Of which group.
        group: GroupId,
        /// After which entry.
        at: LogId,
        /// The state.
        state: &'a Bytes,
    },
    /// It takes this in.
    Took {
        /// What.
        input: &'a Input,
    },
    /// It asks for this to be done. Told in the order in which the drain gave it.
    Does {
        /// What.
        effect: &'a Effect,
    },
    /// It crashed or was stopped; what was not synced may be lost.
    Died,
    /// Its disk was damaged or wiped behind its back: it may start from less than it had synced.
    Harmed,
}
