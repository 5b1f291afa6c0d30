//! What members of a group say to each other.

use crate::{
    entry::Entry,
    ids::{Index, Life, LogId, Term},
};

/// Tells one leadership's conversation with one follower from any earlier one: an answer of another
/// session is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Session(pub u64);

impl Session {
    /// No conversation. A rejection that carries it asks the leader to begin one.
    pub const NONE: Self = Self(0);
}

/// One message. Sender, receiver and group are the envelope's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// The sender's term. A pre-vote asks for the term after it.
    pub term: Term,
    /// The content.
    pub body: Body,
}

/// What precedes the entries of an append (§5.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AppendHead {
    /// The leader's conversation with this follower.
    pub session: Session,
    /// The entry before the first one sent.
    pub prev: LogId,
    /// The leader's commit index; the follower uses it only as far as its log is verified.
    pub commit: Index,
}

/// The kinds of message.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    /// Would you vote for me in the next term? Changes nothing at the receiver (dissertation §9.6).
    PreVote {
        /// Tells this round's answers from an earlier round's.
        round: u64,
        /// The end of the asker's log.
        last: LogId,
    },
    /// The answer to a pre-vote; `term` is always the responder's own.
    PreVoteReply {
        /// The round asked.
        round: u64,
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me in `term` (§5.2). Sent only when the own vote and the log advertised are durable.
    Vote {
        /// The end of the asker's log, durable at the asker.
        last: LogId,
        /// Set when the leader of the term before told the asker to campaign: it passes stickiness.
        transfer: bool,
    },
    /// The answer to a vote; a grant is durable when it leaves.
    VoteReply {
        /// Whether it was granted.
        granted: bool,
    },
    /// Entries after `head.prev`, possibly none.
    Append {
        /// What precedes the entries.
        head: AppendHead,
        /// Contiguous, starting at `head.prev.index + 1`.
        entries: Vec<Entry>,
    },
    /// Everything up to `matched` is equal to the leader's log and durable at the sender.
    Appended {
        /// The conversation answered.
        session: Session,
        /// The end of what is matched and durable.
        matched: Index,
        /// Whether the sender counts for a quorum; not while it is recovering.
        counts: bool,
    },
    /// `prev` is not in the sender's log; or the sender knows of no conversation and wants one, since
    /// a restart has left it unsure how far its log equals the leader's.
    AppendRejected {
        /// The conversation answered, or [`Session::NONE`].
        session: Session,
        /// The position refused.
        prev: LogId,
        /// The greatest position of the sender's log with neither index nor term beyond `prev`.
        hint: LogId,
    },
    /// I lead. Independent of appends and of any disk.
    Beat {
        /// Counts this leadership's beats; echoed.
        beat: u64,
        /// The leader's commit index; the follower uses it only as far as its log is verified.
        commit: Index,
    },
    /// The answer to a beat; promises nothing about the disk.
    BeatReply {
        /// The beat answered.
        beat: u64,
    },
    /// The same as a beat, and: I have nothing more to say. If you have all of it, rest (see `rest.rs`).
    Rest {
        /// Counted with the other beats.
        beat: u64,
        /// The leader's commit index, where its log ends.
        commit: Index,
    },
    /// The answer to that of one who has all of it and waits for no more beats.
    Resting {
        /// The beat answered.
        beat: u64,
    },
    /// Campaign at once (dissertation §3.10), as soon as `need` is durable at the receiver.
    TimeoutNow {
        /// The end of the leader's log.
        need: LogId,
    },
    /// I may have forgotten what I promised: after which entry do I count again?
    Rejoin {
        /// The sender's run that asks.
        life: Life,
    },
    /// After the entry of this term at `index`, once it is committed without you.
    RejoinAt {
        /// The run that asked.
        life: Life,
        /// An entry that was proposed after it had begun.
        index: Index,
    },
    /// You are no member any more, which you seem not to know: so says the latest configuration up to
    /// `upto`, which is committed. Answers a pre-vote, whatever the terms of the two.
    Removed {
        /// The end of what is committed.
        upto: LogId,
    },
    /// You have acknowledged this entry to me in this term: if you do not have it, you have forgotten.
    Vouched {
        /// The entry.
        had: LogId,
    },
    /// My log begins after what you need. Fetch what is committed up to `upto`, from whom you like.
    Fetch {
        /// The conversation that goes on when you have it.
        session: Session,
        /// What is committed.
        upto: LogId,
    },
    /// So much of it has arrived.
    Fetching {
        /// The conversation answered.
        session: Session,
        /// The last entry that is on the sender's disk, if not yet in its log.
        arrived: Index,
    },
}
