//! Everything that can be on the agenda.

use kontiki_broker::Input;
use kontiki_raft::{NodeRef, SendLog};
use kontiki_wire::GroupId;

/// Counts the starts of a member: what was planned in one life means nothing in the next.
pub(crate) type Life = u32;

/// Names a client's way to a member.
pub(crate) type PipeId = u64;

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something in the process of a member; void once that has ended.
    Process {
        member: usize,
        life: Life,
        what: Process,
    },
    /// What one member says reaches the process of another, if it is still the one they were for.
    Arrive {
        to: usize,
        life: Life,
        said: Box<Input>,
    },
    /// A member's machine starts its process.
    Start { member: usize },
    /// The power of a member goes now, if it has not yet within the calls it was given.
    PowerOff { member: usize, life: Life },
    /// What is on its way between a client and a member arrives.
    Carry { pipe: PipeId, up: bool },
    /// A client learns that its way to a member has ended.
    Cut { pipe: PipeId },
    /// A client looks at what it waits for.
    Producer { producer: usize, what: Wake },
    /// The same.
    Consumer { consumer: usize, turn: u32 },
    /// The same.
    Reader { reader: usize },
    /// An order is given, or given up or again.
    Operator { order: usize, turn: u32 },
    /// A question has waited for long enough.
    Unanswered { pipe: PipeId },
    /// A fault sets in.
    Begin { fault: usize },
    /// A fault is over.
    End { fault: usize },
}

/// What happens in a member's process.
#[derive(Debug)]
pub(crate) enum Process {
    /// The driver takes what is queued.
    Turn,
    /// The deadline it asked for.
    Timer,
    /// The disk has done what was asked of it.
    Written,
    /// The background does the next thing.
    Settle,
    /// Nothing was written since so many writes.
    Quiet { writes: u64, again: bool },
    /// The background looks again.
    LookAgain,
    /// The log is read for a follower.
    Read { group: GroupId, send: Box<SendLog> },
    /// The next piece of a log that is fetched comes.
    Fetch { group: GroupId },
    /// A fetch is found dead.
    FetchLost { group: GroupId, from: NodeRef },
    /// A link to a peer is dialled.
    Dial { to: usize, pause: u64 },
    /// A link to a peer is found dead, if it is still that one.
    LinkLost { to: usize, number: u64 },
    /// A link to a peer, if it is still that one, may have been silent for too long.
    LinkSilent { to: usize, number: u64 },
    /// A subscription's pump looks.
    Pump { pipe: PipeId },
}

/// What a producer wakes up for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    /// To write something.
    Make,
    /// To find the leader.
    Route { turn: u32 },
    /// To look whether an answer is overdue.
    Watch { turn: u32 },
}
