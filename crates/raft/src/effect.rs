//! What comes out.

use crate::{
    entry::Entry,
    ids::{Hard, Index, LogId, NodeRef, ProposalId, ReadId, Term, WriteSeq},
    input::{Membership, Stretch},
    message::{AppendHead, Message},
};

/// One atomic write. Writes of a group reach the disk in the order of `seq`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Persist {
    /// Comes back in [`crate::Input::Persisted`].
    pub seq: WriteSeq,
    /// The new term and vote, if they changed.
    pub hard: Option<Hard>,
    /// Entries at and after this index are replaced.
    pub truncate_from: Option<Index>,
    /// Contiguous.
    pub append: Vec<Entry>,
    /// Known committed when this was written; a hint, never worth a sync of its own.
    pub commit: Index,
}

/// A committed entry, to be applied now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The proposal of this member that it carries, if it is one: its fate is *committed*.
    pub proposal: Option<ProposalId>,
}

/// Why a proposal, a read or a transfer was not taken. Nothing happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// Ask this one, or anyone if none is known.
    NotLeader {
        /// The leader this member knows.
        leader: Option<NodeRef>,
    },
    /// Leadership is being handed over.
    Transferring {
        /// To whom.
        to: NodeRef,
    },
    /// Too much is uncommitted already.
    Busy,
    /// Not a voter of this group.
    NotMember,
    /// A write of this member failed.
    Unsound,
}

/// How a proposal ended, other than by being committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// It certainly did not happen.
    Refused(Refused),
    /// Leadership was lost before it was committed: it may still be, or not.
    Unknown {
        /// The new leader, if known.
        leader: Option<NodeRef>,
    },
}

/// How a change of the configuration ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ChangeEnd {
    /// It is committed, and no longer joint.
    Done {
        /// Where the configuration was appended: what the next change is to expect.
        index: Index,
    },
    /// It certainly did not happen.
    Refused(ChangeRefused),
    /// Leadership was lost before it was done. The next leader has it and completes it, or has it not:
    /// its configuration says which.
    Unknown {
        /// The new leader, if known.
        leader: Option<NodeRef>,
    },
}

/// Why a change of the configuration was not taken, which says what to do about it. Nothing happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ChangeRefused {
    /// It is not for this member to take: ask the leader, or when the transfer has ended.
    Closed(Refused),
    /// The leader is so new that it has committed nothing yet: ask again in a moment.
    Unsettled,
    /// One is under way: ask again when the configuration at `index`, and the one that follows it if it
    /// is joint, are committed.
    UnderWay {
        /// Where the latest configuration was appended.
        index: Index,
    },
    /// The configuration is another than was expected: look at it, and ask again if it is still wanted.
    Outdated {
        /// Where the configuration in force was appended.
        index: Index,
    },
    /// It can never be a configuration, or not under this leader.
    Invalid {
        /// Why not.
        why: &'static str,
    },
    /// A voter that is to be new is not a member: make it a learner first.
    Stranger {
        /// Which.
        node: NodeRef,
    },
    /// A learner is too far behind to become a voter, or recovering: until it has caught up, it could
    /// only hold back what is to be committed.
    Behind {
        /// Which.
        node: NodeRef,
        /// How far it has come.
        matched: Index,
        /// How far the leader's log goes.
        last: Index,
    },
    /// Of the voters there are now fewer than half would stay, and with the others might go what only
    /// they can still give: do it in more than one step.
    TooMany {
        /// How many would stay.
        stay: usize,
        /// How many must.
        least: usize,
    },
    /// Of the voters that there would be, too few answer to ever commit it: get them back, or leave
    /// those out that do not come back.
    Silent {
        /// How many answer, the leader included.
        answering: usize,
        /// How many must.
        least: usize,
    },
}

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Follows, perhaps without knowing whom.
    Follower {
        /// The leader of the current term, once heard.
        leader: Option<NodeRef>,
    },
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// An append whose entries are no longer in memory: the host reads them from its log, as many as fit
/// into `bytes_max`, and sends them under `head`. All of them are committed, so that they cannot change
/// meanwhile. If the reading fails, nothing need be done: the peer is asked again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SendLog {
    /// To whom.
    pub to: NodeRef,
    /// The term to send under.
    pub term: Term,
    /// What precedes the entries.
    pub head: AppendHead,
    /// The last index to send; the first is `head.prev.index + 1`.
    pub last: Index,
    /// The bytes of bodies to send at most; the first entry is sent whatever its size.
    pub bytes_max: u64,
}

/// Everything a member can ask for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Write this and sync.
    Persist(Persist),
    /// Send this now; it promises nothing that is not durable.
    Send {
        /// To whom.
        to: NodeRef,
        /// What.
        message: Message,
    },
    /// Read these from the log and send them.
    SendLog(SendLog),
    /// These are committed, in order, and each comes exactly once per process; those up to the checkpoint
    /// of a stretch that was installed do not come any more.
    Committed(Vec<Committed>),
    /// How a proposal ended that was not committed.
    Fate {
        /// Which.
        id: ProposalId,
        /// How.
        fate: Fate,
    },
    /// The read may be answered from a state that has applied `index`.
    ReadReady {
        /// Which.
        id: ReadId,
        /// What must have been applied.
        index: Index,
    },
    /// The read cannot be confirmed here.
    ReadFailed {
        /// Which.
        id: ReadId,
        /// Why, and whom to ask.
        refused: Refused,
    },
    /// Role, term or known leader changed; for logs, metrics and routing.
    RoleChanged {
        /// The current term.
        term: Term,
        /// What this member is now.
        role: Role,
        /// Why, in a few words for people.
        why: &'static str,
    },
    /// The leader's word proves that this member's disk has lost what was durable there: it is recovering
    /// from now on. Whatever else that disk kept may be lost as well, so the host tells all that rely on
    /// it with [`crate::Input::Forgot`].
    Forgot,
    /// A transfer ended, once for each [`crate::Input::Transfer`]: `None` when the target leads, otherwise why
    /// not.
    TransferEnded {
        /// Why it failed.
        failed: Option<&'static str>,
    },
    /// How a change of the configuration ended.
    ChangeEnded {
        /// Which.
        id: ProposalId,
        /// How.
        end: ChangeEnd,
    },
    /// Another configuration is in force, be it that one was appended or that one was cut off; or the
    /// one in force was committed. For links, routing and people.
    ConfigChanged {
        /// Where it was appended.
        index: Index,
        /// Who counts and who copies.
        config: Membership,
        /// Whether it is committed, and so not cut off any more.
        committed: bool,
    },
    /// Nobody will send this member the entries after `after`. Get a [`Stretch`] of the log that ends at
    /// `upto` or later, or at least one that begins where it can be continued: from any member, and whoever
    /// has begun goes on where it was, for what is committed is the same everywhere. Asked again, it is for
    /// a later end.
    Fetch {
        /// Who leads.
        leader: NodeRef,
        /// The end of what is committed here.
        after: LogId,
        /// The end of what was committed when the leader said so.
        upto: LogId,
    },
    /// Put the stretch in the place of everything in the log after its base, or after the log's own if that
    /// is later, or of the whole log if the base is not there; at once or not at all. The state is now that of the checkpoint that came with it,
    /// unless the own one is later; what follows is handed out.
    Install {
        /// Stands in one order with those of [`Persist`]; comes back in [`crate::Input::Persisted`].
        seq: WriteSeq,
        /// As it was handed in.
        stretch: Box<Stretch>,
    },
    /// A stretch is of no use, and nothing was done with it.
    StretchRefused {
        /// Why not.
        why: String,
    },
    /// The group goes on without this member, which stands for no election until a leader speaks to it
    /// again, or its own log names it later than that.
    Removed {
        /// What was committed then. If this member has it, it may know why: [`Effect::ConfigChanged`].
        index: Index,
    },
    /// A peer said something that a correct peer never says, or an own invariant does not hold. The
    /// member does nothing any more; the host stops.
    Halt {
        /// What was found.
        reason: String,
    },
}
