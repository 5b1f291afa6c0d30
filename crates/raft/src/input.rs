//! What goes in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    entry::{Entry, Kind},
    ids::{Hard, Index, LogId, Micros, NodeId, NodeRef, ProposalId, ReadId, Term, WriteSeq},
    message::Message,
};

/// Who counts. Joint when `outgoing` is not empty (§6). Always whole sets, never differences.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Membership {
    /// The voters, or the incoming half while joint.
    pub voters: BTreeSet<NodeRef>,
    /// The outgoing half while joint, otherwise empty.
    pub outgoing: BTreeSet<NodeRef>,
    /// They copy and do not count.
    pub learners: BTreeSet<NodeRef>,
    /// Voters of the outgoing half that become learners when the joint configuration is left.
    pub next_learners: BTreeSet<NodeRef>,
}

/// Voters of one half of a configuration.
pub const VOTERS_MAX: usize = 15;
/// Members of any one kind in a configuration.
pub const MEMBERS_MAX: usize = 64;

/// The bounds and periods of a group; the same on every member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// E: nobody campaigns before this much silence, and a leader without a quorum's answers for this
    /// long steps down. Campaigns start after a random time in (E, 2E].
    pub election_timeout: Micros,
    /// Between two beats; at most a third of `election_timeout`.
    pub beat_interval: Micros,
    /// Bytes of bodies in one append; one entry that is larger travels alone.
    pub append_bytes_max: u64,
    /// Unanswered bytes to one follower.
    pub window_bytes_max: u64,
    /// Unanswered appends to one follower.
    pub window_messages_max: usize,
    /// Bytes that a leader admits before they are committed and on its own disk; when nothing waits,
    /// one proposal of any size is admitted.
    pub uncommitted_bytes_max: u64,
    /// Entries that a leader admits before they are committed and on its own disk.
    pub uncommitted_entries_max: usize,
    /// Bytes of durable, applied entries kept in memory for followers; older ones are asked of the
    /// host with [`crate::Effect::SendLog`].
    pub tail_bytes_max: u64,
    /// How long the news of a commit waits for the next append to carry it while appends follow each other
    /// within that time; the first after a pause is told at once.
    pub notice_delay: Micros,
    /// How long a group in which all is said rests without a beat, its members being watched by their hosts
    /// instead; at least `election_timeout`, or 0: then it never rests. Not 0 only where the host does watch
    /// them ([`crate::Raft::rests_with`]).
    pub rest: Micros,
    /// Reads that may wait for confirmation.
    pub reads_max: usize,
    /// A promise to break, for tests that must notice.
    #[cfg(feature = "planted")]
    pub planted: Option<Planted>,
}

/// A safeguard that tests take away to prove that they would notice: each loses committed entries,
/// elects two leaders, answers with the past, or stands still.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "exported under the feature alone")
)]
pub enum Planted {
    /// Votes are asked for before the own vote and the log advertised are durable.
    UngatedVoteRequest,
    /// The same, and leadership does not wait for the own vote either.
    LeadBeforeOwnVote,
    /// A grant leaves before it is durable.
    UngatedVoteReply,
    /// An acknowledgement leaves before the entries are durable.
    UngatedAppended,
    /// A leader counts its own log before it is durable.
    CountSelfBeforeDurable,
    /// A leader commits an entry of an earlier term because a quorum has it (§5.4.2, figure 8).
    CommitOldTermByCount,
    /// A leader commits what is durable on its own disk.
    CommitWithoutQuorum,
    /// A follower takes the leader's commit index for its own log, verified or not.
    CommitUnverified,
    /// A follower acknowledges all of its log, whatever the leader's says.
    AcknowledgeUnverified,
    /// A follower takes entries without having what they follow.
    AppendUnchecked,
    /// A follower cuts its log after each append, and so what a later one has brought before.
    CutBeyondConflict,
    /// A follower keeps entries that conflict with the leader's.
    KeepConflict,
    /// Logs are compared by their length alone when votes are given.
    VoteByLength,
    /// A vote is given to whoever asks, given before or not.
    VoteTwice,
    /// A vote of an earlier term is counted in a later one.
    CountStaleVote,
    /// A transfer does not wait for the target to have the whole log, and its voters do not look.
    TransferUnready,
    /// A leader answers a read without asking whether it still leads.
    ReadUnconfirmed,
    /// A new leader's read does not wait for the first entry of its term.
    ReadBeforeNoop,
    /// A leader without a quorum's answers goes on.
    LeadWithoutQuorum,
    /// An election begins without asking whether it would be won.
    CampaignWithoutPreVote,
    /// What a follower has not answered is never sent again.
    WindowStaysShut,
    /// A leader counts what a recovering member has.
    CountRecovering,
    /// A recovering member is told to rejoin after what was proposed before it asked.
    RejoinAtOnce,
    /// A joint configuration's halves are counted as one set of voters.
    CountHalvesTogether,
    /// A change goes from one configuration to the next without the joint one between.
    ChangeWithoutJoint,
    /// A joint configuration is left before it is committed.
    LeaveJointUncommitted,
}

impl Settings {
    /// Whether this safeguard was taken away.
    #[cfg(feature = "planted")]
    pub(crate) fn plants(&self, what: Planted) -> bool {
        self.planted == Some(what)
    }

    /// Nothing is, outside of tests.
    #[cfg(not(feature = "planted"))]
    pub(crate) fn plants(&self, _what: Planted) -> bool {
        false
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            election_timeout: Micros(300_000),
            beat_interval: Micros(50_000),
            append_bytes_max: 1 << 20,
            window_bytes_max: 8 << 20,
            window_messages_max: 64,
            uncommitted_bytes_max: 32 << 20,
            uncommitted_entries_max: 4096,
            tail_bytes_max: 8 << 20,
            notice_delay: Micros(1_000),
            rest: Micros(0),
            reads_max: 1024,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

/// What the disk held when the member started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boot {
    /// This member.
    pub me: NodeRef,
    /// Whether the group is being born now: then there is no earlier promise to sit out, and the first
    /// election need not wait.
    pub fresh: bool,
    /// Whether the disk may have lost promises that this member gave, which `hard` does not say: then
    /// it is recovering from now on.
    pub forgot: bool,
    /// Term, vote and standing, as they are on the disk.
    pub hard: Hard,
    /// The compacted position: entries up to it are gone. The origin while nothing was compacted.
    pub base: LogId,
    /// The configuration in force at `base`, with the index of the entry that set it. At the origin it
    /// may be empty, in a member that joins: it will find in the log who counts, and until then it
    /// votes when it is asked, and does nothing of itself.
    pub base_config: (Index, Membership),
    /// The runs of terms after `base`: the first index of each, and the term. Covers everything up to
    /// the end of the log, the entries in `tail` included.
    pub terms: Vec<(Index, Term)>,
    /// Configuration entries after `base` that are not in `tail`.
    pub configs: BTreeMap<Index, Membership>,
    /// The end of the log. All of it is durable.
    pub last: Index,
    /// Known committed; at least `applied`.
    pub commit: Index,
    /// What the host's state machine has applied.
    pub applied: Index,
    /// Every entry after `applied`, and as many before as the host likes; contiguous up to `last`. A
    /// leader whose tail holds the last entry never goes back behind that entry's time.
    pub tail: Vec<Entry>,
}

/// A part of a group's log that is committed, and lies durably beside the own log of a member that lacks
/// it: what the host has fetched, and read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Stretch {
    /// What precedes it. If that is not in the own log, nothing of the own log stays.
    pub base: LogId,
    /// The configuration in force at `base`, with the index of the entry that set it.
    pub base_config: (Index, Membership),
    /// The runs of terms after `base`: the first index of each, and the term.
    pub terms: Vec<(Index, Term)>,
    /// Configuration entries after `base` that are not in `tail`.
    pub configs: BTreeMap<Index, Membership>,
    /// Where it ends.
    pub last: Index,
    /// What the checkpoint that came with it has applied; from `base` on.
    pub applied: Index,
    /// Every entry after `applied`, and as many before as the host likes; contiguous up to `last`. None if
    /// the giver has compacted them all: then a checkpoint is all there is.
    pub tail: Vec<Entry>,
    /// The time of the entry at `last`.
    pub time: Micros,
}

/// Something to be agreed on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Proposal {
    /// Comes back in exactly one of [`crate::Committed::proposal`] and [`crate::Effect::Fate`].
    pub id: ProposalId,
    /// `Batch` or `Command`.
    pub kind: Kind,
    /// CRC-32C of the body.
    pub checksum: u32,
    /// The content.
    pub body: Bytes,
}

/// Everything that can happen to a member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// [`crate::Raft::next_deadline`] has passed.
    Timer,
    /// From a peer whose identity and incarnation the host has verified.
    Message {
        /// The sender.
        from: NodeRef,
        /// What it said.
        message: Message,
    },
    /// Agree on these, in this order.
    Propose {
        /// The host's wall clock.
        time: Micros,
        /// At least one.
        proposals: Vec<Proposal>,
    },
    /// A linearizable read: tell me an index that is at least every commit known to anyone now
    /// (dissertation §6.4).
    Read {
        /// Comes back in exactly one of `ReadReady` and `ReadFailed`.
        id: ReadId,
    },
    /// Hand leadership to this voter. Comes back in exactly one [`crate::Effect::TransferEnded`].
    Transfer {
        /// The target.
        to: NodeId,
    },
    /// Campaign now if not leading; asked of the member that placement prefers.
    Campaign,
    /// Have these voters and these learners from now on, by way of a joint configuration (§6).
    Change {
        /// Comes back in exactly one [`crate::Effect::ChangeEnded`].
        id: ProposalId,
        /// Where the configuration that is to be changed was appended ([`crate::Status::config_index`]):
        /// a change is of what its asker has seen, or refused.
        expect: Index,
        /// Not joint: only its voters and its learners are looked at.
        target: Membership,
        /// Whether to do without the looks ahead: new voters that have not caught up, a majority that
        /// does not answer, more than half of the voters gone. What is safe stays safe; what is lost, if
        /// those who are left do not answer, is the group.
        force: bool,
    },
    /// The host is about to stop: this member stands for no election from now on, not even when a
    /// leader hands over to it. What it leads it leads until another does.
    Retire,
    /// Everything up to and including this write is durable.
    Persisted {
        /// Cumulative; a lower one than before is a no-op.
        upto: WriteSeq,
    },
    /// A write failed: this member promises nothing any more.
    PersistFailed,
    /// The disk has lost promises that this member may have given: it is recovering from now on.
    Forgot,
    /// The log up to here is dropped, or about to be: whoever lacks it is to fetch it, or what came of it.
    /// No more is taken for dropped than is durable here and was handed out, and nothing before the first
    /// configuration that this member knows: [`crate::Status::base`] says what was.
    Compacted {
        /// The last entry that is dropped.
        upto: Index,
    },
    /// What this member was told to fetch is on its disk up to here: for those who watch it.
    Fetched {
        /// The last entry that has arrived.
        upto: Index,
    },
    /// A stretch of committed log is whole, and durable beside the own log. Comes back in exactly one of
    /// [`crate::Effect::Install`] and [`crate::Effect::StretchRefused`].
    Arrived(Box<Stretch>),
    /// To one that rests ([`crate::Raft::rests_with`]): how lately the members were heard that are watched for
    /// it, each as is known. A leader is told when the last of what the member has answered left here, which is for
    /// those who look at it; a follower when the member was heard last, which counts as its leader's beat. To be
    /// given before any other input.
    Watched {
        /// The members, and when.
        heard: Vec<(NodeRef, Micros)>,
    },
    /// To one that rests: the members that are watched for it are not heard any longer, or one has said that
    /// it leads no more.
    Rouse,
    /// The peer cannot be reached, or can again: until then nothing but a probe is built for it.
    Reachable {
        /// The peer.
        peer: NodeId,
        /// Whether a link to it is open.
        open: bool,
    },
}
