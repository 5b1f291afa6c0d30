//! What comes out.

use bytes::Bytes;
use kontiki_raft::{Index, LogId, NodeRef, Persist, Role, SendLog, Term};
use kontiki_wire::{
    Answer, ClusterCommand, ClusterState, GroupId, GroupMessage, Inquiry, Member, MemberBeat,
    Missing, Offset, PeerLane, PlacedEntry, Response, Topic, Trust,
};

use crate::input::{StreamId, Ticket};

/// One group's part of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupWrite {
    /// The group.
    pub group: GroupId,
    /// What to write.
    pub persist: Persist,
}

/// All that one drain asks the disk for: one append to the journal, one sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writes {
    /// Counts the node's writes; comes back in [`crate::Input::Persisted`].
    pub seq: u64,
    /// In order; a group may occur more than once.
    pub writes: Vec<GroupWrite>,
}

/// Where a committed entry's records went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The entry.
    pub index: Index,
    /// The offset of its first record; for an entry without records, that of the next one.
    pub offset: Offset,
    /// Its records; 0 for a no-op, a configuration, a command, and a batch that was a duplicate or
    /// out of sequence, which subscribers never see.
    pub count: u32,
}

/// Who is a member, as far as this node has applied the cluster's own log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// They, by ascending number.
    pub list: Vec<Member>,
    /// A number greater than that of every member there was until then. Who has a lower one and is not
    /// on the list is a member no more, and never will be again.
    pub next: u64,
    /// The version that the cluster is at, as far as this node knows.
    pub version: u16,
}

impl Members {
    /// Those of the cluster's state.
    #[must_use]
    pub fn of(state: &ClusterState) -> Self {
        Self {
            list: state.members.clone(),
            next: state.next_member,
            version: state.version,
        }
    }

    /// The member of this number.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Member> {
        let at = self.list.binary_search_by_key(&id, |member| member.id);
        at.ok().map(|at| &self.list[at])
    }

    /// Whether somebody was a member, and is none any more.
    #[must_use]
    pub fn is_gone(&self, id: u64) -> bool {
        id < self.next && self.find(id).is_none()
    }
}

/// Everything a node can ask for. Effects carry no ordering rule but their own order: whatever must wait
/// for the disk is emitted only when the disk has answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write and sync.
    Persist(Writes),
    /// Send now.
    Send {
        /// To whom.
        to: NodeRef,
        /// On which of the links.
        lane: PeerLane,
        /// What; of any groups.
        messages: Vec<GroupMessage>,
    },
    /// A beat for all groups that rest with a peer, on the lane of beats. May be lost.
    Beat {
        /// The receiver.
        to: NodeRef,
        /// What is said.
        beat: MemberBeat,
    },
    /// Read from the log and send.
    SendLog {
        /// The group.
        group: GroupId,
        /// What.
        send: SendLog,
    },
    /// These entries are committed and applied: tell storage where their records went, then raise the
    /// topic's watermark.
    Applied {
        /// The group.
        group: GroupId,
        /// In order of index, contiguous.
        placed: Vec<Placed>,
        /// The end of what subscribers may read.
        watermark: Offset,
    },
    /// Keep this small state; the log before it is not needed to start from it.
    Checkpoint {
        /// The group.
        group: GroupId,
        /// The last entry it includes.
        at: LogId,
        /// Its bytes.
        state: Bytes,
    },
    /// Answer a producer.
    Answer {
        /// On which stream.
        stream: StreamId,
        /// The acknowledgement or refusal.
        answer: Answer,
    },
    /// Answer a request.
    Respond {
        /// Which.
        ticket: Ticket,
        /// The response.
        response: Response,
    },
    /// This node keeps a topic from now on. Comes for every such topic at the start too, and is always
    /// followed by an [`Effect::Applied`] of its group, perhaps without entries, that says where its
    /// watermark stands.
    TopicMade(Topic),
    /// A topic was deleted, and the entry that deleted it is durable here: end its subscriptions and
    /// remove its files. Comes at the start for a group that is on the disk though its topic is gone.
    TopicRemoved(GroupId),
    /// A topic is not served here for now: end its subscriptions, they go on elsewhere. When it is whole
    /// again, [`Effect::TopicMade`] comes again.
    TopicClosed(GroupId),
    /// Ask a peer for entries that are missing here. What is lost on the way is asked for again.
    Ask {
        /// Whom.
        to: NodeRef,
        /// For what.
        missing: Missing,
    },
    /// Read what there is of these entries, committed and applied, and send it; if there is nothing, send
    /// that.
    Find {
        /// To whom.
        to: NodeRef,
        /// What.
        missing: Missing,
    },
    /// Give these to the disk for what it lacks.
    Mend {
        /// The group.
        group: GroupId,
        /// What a peer has.
        entries: Vec<PlacedEntry>,
    },
    /// For logs: what has changed about a group that is mended.
    Mending {
        /// The group.
        group: GroupId,
        /// A sentence.
        note: String,
    },
    /// For logs: how far a log is that is fetched.
    Fetching {
        /// The group.
        group: GroupId,
        /// A sentence.
        note: String,
    },
    /// Ask a peer how much of a group's log it has to be fetched. What is lost on the way is done without.
    Inquire {
        /// Whom.
        to: NodeRef,
        /// For what.
        inquiry: Inquiry,
    },
    /// Answer that question, with what there is in files that do not change any more.
    Stocktake {
        /// Whom.
        to: NodeRef,
        /// What was asked.
        inquiry: Inquiry,
    },
    /// Fetch a group's log from a peer as it lies there, going on where an earlier fetch came to. Tell of it
    /// with [`crate::Input::Fetching`], and at last with one [`crate::Input::Fetched`], unless
    /// [`Effect::TopicRemoved`] comes. At most one is under way.
    Fetch {
        /// The group.
        group: GroupId,
        /// Whom from.
        from: NodeRef,
    },
    /// Have the group begin with what was fetched, durably, and give it back as [`crate::Input::Mended`].
    Adopt {
        /// The group.
        group: GroupId,
        /// Whether this member may have forgotten what it promised in it.
        forgot: bool,
    },
    /// Remove what was fetched of a group, which begins without it.
    Forgo(GroupId),
    /// Hand a command over to a peer that is thought to lead the cluster's own group. What is lost on the
    /// way is sent again.
    Relay {
        /// To whom.
        to: NodeRef,
        /// What.
        command: ClusterCommand,
    },
    /// This node is a member no more: stop it. Nothing it keeps counts, and no start changes that.
    Expelled {
        /// Why, and what to do, for people.
        why: String,
    },
    /// The members, whenever they change and once at the start.
    Members(Members),
    /// What is agreed on about certificates, whenever it changes, and at the start if there is anything.
    Trust(Trust),
    /// For logs and metrics.
    RoleChanged {
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
        /// What this node is in it now.
        role: Role,
        /// Why, for people.
        why: &'static str,
    },
    /// Stop the node: something is wrong that must not spread.
    Halt {
        /// What.
        reason: String,
    },
}
