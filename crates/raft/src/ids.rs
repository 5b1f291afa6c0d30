//! The numbers of Raft, one type for each, so that none can stand for another, and the few of them that
//! a member keeps beside its log.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A member's number, unique in its cluster and never given twice.
    NodeId
);
number!(
    /// A data directory's birth mark: the same member with an empty disk is another replica.
    Incarnation
);
number!(
    /// A term of leadership; 0 is before the first election.
    Term
);
number!(
    /// A position in a group's log; the first entry has index 1, and 0 is the common origin.
    Index
);
number!(
    /// Counts a group's persist operations; completions are cumulative.
    WriteSeq
);
number!(
    /// Names a proposal, chosen by the host.
    ProposalId
);
number!(
    /// Names a linearizable read, chosen by the host.
    ReadId
);
number!(
    /// Tells one run of a member from every other; drawn at its start.
    Life
);
number!(
    /// Microseconds on a clock that only the host knows. As `now` it is monotonic with an arbitrary
    /// origin; in an entry's `time` it counts from the Unix epoch.
    Micros
);

/// A member as a voter knows it: its number and the birth mark of its disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeRef {
    /// The member.
    pub id: NodeId,
    /// The data directory it had when it was admitted.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Where an entry stands and who put it there: two logs with the same `LogId` are equal up to it.
/// Ordered as Raft compares logs: by term, then by index (§5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogId {
    /// The term of the leader that appended it.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

impl LogId {
    /// The position before the first entry, common to all logs.
    pub const ORIGIN: Self = Self {
        term: Term(0),
        index: Index(0),
    };
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether a correct group can reach it.
    pub(crate) fn is_plausible(self) -> bool {
        self.0 <= NUMBER_MAX
    }

    /// The position before this one; the origin is before itself.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Term {
    /// Whether a correct group can reach it.
    pub(crate) fn is_plausible(self) -> bool {
        self.0 <= NUMBER_MAX
    }
}

impl Micros {
    /// This much later; the end of time at most.
    #[must_use]
    pub fn after(self, wait: Self) -> Self {
        Self(self.0.saturating_add(wait.0))
    }

    /// How long ago `earlier` was; 0 if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// No correct group reaches this term or index: a message that names one beyond is ignored, and sums
/// of what is left cannot overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX / 2;

/// Term, vote and standing: one record, always written whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Hard {
    /// The current term.
    pub term: Term,
    /// Who got this member's vote in it.
    pub vote: Option<NodeRef>,
    /// Whether this member may have forgotten a vote or an acknowledgement, and so gives none until it
    /// has rejoined.
    pub recovering: bool,
}
