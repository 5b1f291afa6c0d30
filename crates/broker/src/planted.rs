//! Mistakes that the simulator makes on purpose, to prove that it would notice them: one at a time, in a
//! build with the feature `planted`, in the thread that asked for it. No signature of what is used knows
//! of them, and without the feature nothing of them is left.

#[cfg(feature = "planted")]
use core::cell::Cell;

/// A mistake in giving the order a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "exported under the feature alone")
)]
pub enum Planted {
    /// A batch that was sent again gets offsets again.
    DuplicatePlaced,
    /// A batch that was sent again is acknowledged where it would stand now.
    DuplicateAnsweredAnew,
    /// Whether a batch was sent again is judged when it is proposed, by what is applied then.
    JudgedAtPropose,
    /// Epochs are not looked at.
    EpochIgnored,
    /// A checkpoint has the offsets and not the producers.
    ProducersNotKept,
    /// Restored producers are in the order of their names, not of their silence.
    SilenceNotKept,
    /// A checkpoint says that it includes the entry after its last one.
    CheckpointAhead,
    /// A deleted topic stays in the state that is kept.
    DeletedTopicKept,
    /// A new topic gets the number of one that was deleted.
    GroupReused,
    /// A topic that is made again takes the place of the one there is.
    CreateReplaces,
    /// The watermark is one record ahead of what is committed.
    WatermarkAhead,
    /// The first write that is durable confirms all that are on their way.
    ConfirmedEarly,
    /// A read that is confirmed does not wait until what it must show is applied.
    ReadBeforeApplied,
    /// Who is given a topic again that it has dropped takes itself for one that has promised nothing in it.
    DropForgotten,
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
