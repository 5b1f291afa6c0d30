//! What a start finds.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::{Entry, Hard, Index, LogId, Membership, Term};
use kontiki_wire::GroupId;

/// What the disk held.
#[derive(Debug)]
pub struct Recovered {
    /// Every group that has anything on disk.
    pub groups: Vec<RecoveredGroup>,
    /// Damage below what was known durable in the journal, one sentence each, found at this start or at
    /// an earlier one: whatever is recovering is so because of that. A group that is not among `groups`
    /// may have been among them; if it is the cluster's own, it has to be started as one that forgot.
    /// A torn tail is not damage.
    pub damage: Vec<String>,
    /// What was cut off as a torn tail, for the log; `None` after a clean stop.
    pub torn: Option<String>,
}

/// One group as the disk held it. The fields are those of [`kontiki_raft::Boot`]. If anything is missing,
/// `terms` and `tail` tell nothing, and the checkpoint could not be held against the log.
#[derive(Debug)]
pub struct RecoveredGroup {
    /// Which.
    pub group: GroupId,
    /// Term, vote and standing: recovering from when the journal was found damaged until it has rejoined.
    pub hard: Hard,
    /// Entries up to it are gone.
    pub base: LogId,
    /// Runs of terms after `base`, to the end of the log.
    pub terms: Vec<(Index, Term)>,
    /// Configuration entries after `base` and up to the checkpoint, by index.
    pub configs: BTreeMap<Index, Membership>,
    /// The end of the log.
    pub last: Index,
    /// Known committed.
    pub commit: Index,
    /// The latest checkpoint that the log reaches.
    pub checkpoint: Option<(LogId, Bytes)>,
    /// Every entry after the checkpoint, and the one that it ends with.
    pub tail: Vec<Entry>,
    /// Committed entries that were here and are not readable any more, ascending, both ends included.
    /// Until they are [`crate::Storage::mend`]ed, the group cannot be started.
    pub missing: Vec<(Index, Index)>,
    /// What was found damaged, one sentence each, for people.
    pub damage: Vec<String>,
}
