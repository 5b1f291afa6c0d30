//! Mistakes that the simulator makes on purpose, to prove that it would notice them: one at a time, in a
//! build with the feature `planted`, in the thread that asked for it. No signature of what is used knows
//! of them, and without the feature nothing of them is left.

#[cfg(feature = "planted")]
use std::cell::Cell;

/// A mistake in keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "exported under the feature alone")
)]
pub enum Planted {
    /// What is written is called durable without a sync.
    SyncLeftOut,
    /// A term and a vote alone are not worth a sync.
    VoteNotSynced,
    /// A sync that failed is tried again on the same file.
    SyncRetried,
    /// A write that failed is taken for done.
    WriteFailureIgnored,
    /// The end of a journal is cut where it cannot be read, whatever bears witness to what was there.
    DamageTakenForTorn,
    /// A journal file does not say that another was begun after it.
    SuccessorUntold,
    /// What a write replaces is cut after what it brings.
    TruncateAfterAppend,
    /// A new journal file repeats every group's term, but not its vote.
    VoteLostAtTurn,
    /// A journal file is used again as soon as the next one is begun.
    JournalFreedEarly,
    /// A journal file is used again though a segment has its bodies in it.
    BodiesOverwritten,
    /// Frames that an earlier use left in a journal file are taken for this one's.
    StaleFramesReplayed,
    /// All of a log is taken for committed at a start.
    WholeLogCommitted,
    /// A start that holds a part of a log forgets the configuration that its checkpoint ends with.
    CheckpointsConfigForgotten,
    /// That a group was removed is not written down.
    RemovalNotLogged,
    /// A segment is called durable without a sync.
    SegmentNotSynced,
    /// A new segment's name is not synced.
    SegmentNameNotSynced,
    /// Entries move to segments before their own write is durable.
    SegmentAheadOfJournal,
    /// What memory holds stays when the log is cut.
    CacheNotInvalidated,
    /// What is asked for from before memory begins is answered from where it begins.
    GapAtHandover,
    /// What begins where a segment ends is looked for in that segment.
    BorderOffByOne,
    /// A read goes on with the batch before the one that is asked for.
    BatchReadTwice,
    /// What is read from a segment is handed on unverified.
    ReadsUnverified,
    /// A group that begins with what was fetched of it begins in the first term there is.
    AdoptedTermLost,
}

/// Whether this mistake is made here and now: never, in a build that is used.
#[cfg(not(feature = "planted"))]
pub(crate) const fn plants(_what: Planted) -> bool {
    false
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Whether this mistake is made in this thread.
#[cfg(feature = "planted")]
pub(crate) fn plants(what: Planted) -> bool {
    PLANTED.get() == Some(what)
}

/// From now on this mistake, and no other, is made in this thread: a story runs in one.
#[cfg(feature = "planted")]
pub fn plant(what: Option<Planted>) {
    PLANTED.set(what);
}
