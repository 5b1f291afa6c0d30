//! Mistakes that the simulator makes on purpose, to prove that it would notice them: one at a time, in a
//! build with the feature `planted`, in the thread that asked for it. No signature of what is used knows
//! of them, and without the feature nothing of them is left.

#[cfg(feature = "planted")]
use std::cell::Cell;

/// A mistake in a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "exported under the feature alone")
)]
pub enum Planted {
    /// Batches that may be in the log are sent again as new ones.
    AmbiguousSentAnew,
    /// Of batches that may be in the log it is said that they are not.
    UnknownToldAsFailed,
    /// Answers are counted, whatever sequence they are of.
    AnsweredByCount,
    /// Sequences begin again without another epoch.
    EpochNotRaised,
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
