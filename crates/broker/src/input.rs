//! What goes in.

use bytes::Bytes;
use kontiki_raft::{Boot, Index, LogId, Micros, NodeId, NodeRef};
use kontiki_wire::{
    Batch, ClusterCommand, Found, GroupId, GroupMessage, Inquiry, Member, MemberBeat, Missing,
    Request, Stock,
};

/// The two clocks of the host, read once for each turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic, arbitrary origin.
    pub monotonic: Micros,
    /// Since the Unix epoch. Nothing but entries' times depends on it.
    pub wall: Micros,
}

/// A producer's stream, numbered by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// A request that waits for its response, numbered by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// A group as the disk held it when the node started, or when it was whole again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupBoot {
    /// Which.
    pub group: GroupId,
    /// Its log. `applied` is the checkpoint's position, or 0 without one. If the log still begins at
    /// its origin, `base_config` may be left empty: the broker knows the voters a group is born with.
    pub boot: Boot,
    /// The checkpoint: its position and its bytes. `None`: start from the birth state.
    pub checkpoint: Option<(LogId, Bytes)>,
    /// Committed entries that the disk held and does not give any more, ascending, both ends included.
    /// Then nothing but the checkpoint counts of the rest: the group is mended first.
    pub missing: Vec<(Index, Index)>,
    /// What was found damaged, for people.
    pub damage: String,
}

/// Everything that can happen to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// [`crate::Broker::next_deadline`] has passed.
    Timer,
    /// Messages of a peer whose identity and incarnation the host has verified.
    Peer {
        /// The sender.
        from: NodeRef,
        /// What it said.
        messages: Vec<GroupMessage>,
    },
    /// A peer, verified as for [`Input::Peer`], beats for all groups that rest with this node.
    Beat {
        /// The sender.
        from: NodeRef,
        /// What it said.
        beat: MemberBeat,
    },
    /// A peer cannot be reached, or can again.
    Reachable {
        /// The peer.
        peer: NodeId,
        /// Whether its links are open.
        open: bool,
    },
    /// Append this batch. Answered by exactly one [`crate::Effect::Answer`] with the batch's first
    /// sequence.
    Append {
        /// Where the answer goes.
        stream: StreamId,
        /// The topic's group.
        group: GroupId,
        /// The batch, verified.
        batch: Batch,
    },
    /// Answered by exactly one [`crate::Effect::Respond`].
    Request {
        /// Where the response goes.
        ticket: Ticket,
        /// What is asked.
        request: Request,
    },
    /// Have the cluster's own group agree on a command of those that members ask for themselves, wherever
    /// its leader is. Answered by exactly one [`crate::Effect::Respond`], once this node has applied it.
    Command {
        /// Where the response goes.
        ticket: Ticket,
        /// What is to be agreed on.
        command: ClusterCommand,
    },
    /// A peer, verified as for [`Input::Peer`], hands over such a command to the one who leads.
    Relayed {
        /// The peer.
        from: NodeRef,
        /// What is to be agreed on.
        command: ClusterCommand,
    },
    /// A peer has shown a certificate of this cluster, and a number that no member had yet that this node
    /// has heard of: so it has come since, and is told in [`crate::Effect::Members`] until the cluster's
    /// log, which it may be the one to bring, tells of it.
    Introduced {
        /// As it says itself.
        member: Member,
    },
    /// A peer has refused a link to this node, since it has seen it go: this node's number was given, and
    /// no member has it any more ([`crate::Members::is_gone`]).
    Disowned {
        /// The peer.
        by: NodeId,
    },
    /// A peer has refused a link to this node, since it is in a later epoch of the cluster.
    Outdated {
        /// The peer.
        by: NodeId,
    },
    /// The writes up to and including this one are durable.
    Persisted {
        /// [`crate::Writes::seq`]; cumulative.
        upto: u64,
    },
    /// A peer, verified as for [`Input::Peer`], asks for entries that it lost. Answered by exactly one
    /// [`crate::Effect::Find`].
    Asked {
        /// The peer.
        from: NodeRef,
        /// What it asks for.
        missing: Missing,
    },
    /// A peer, verified as for [`Input::Peer`], answers to [`crate::Effect::Ask`].
    Found {
        /// The peer.
        from: NodeRef,
        /// What it has.
        found: Found,
    },
    /// The disk does not give what it held of a group: the group is ended and mended.
    Damaged {
        /// The group.
        group: GroupId,
        /// What is missing.
        missing: Vec<(Index, Index)>,
        /// What was found damaged, for people.
        what: String,
    },
    /// The disk has taken in what [`crate::Effect::Mend`] gave it.
    Mending {
        /// The group.
        group: GroupId,
        /// What is still missing.
        missing: Vec<(Index, Index)>,
        /// Why something was of no use, for people.
        refused: Option<String>,
    },
    /// The disk has all of a group again. Comes after every [`Input::Persisted`] of what was written of
    /// it before.
    Mended(Box<GroupBoot>),
    /// Everything that [`crate::Effect::TopicRemoved`] had removed of a group is gone.
    Removed {
        /// The group.
        group: GroupId,
    },
    /// A peer, verified as for [`Input::Peer`], asks how much there is of a log. Answered by exactly one
    /// [`crate::Effect::Stocktake`].
    Inquired {
        /// The peer.
        from: NodeRef,
        /// What it asks.
        inquiry: Inquiry,
    },
    /// A peer, verified as for [`Input::Peer`], answers to [`crate::Effect::Inquire`].
    Stock {
        /// The peer.
        from: NodeRef,
        /// What it has.
        stock: Stock,
    },
    /// What [`crate::Effect::Fetch`] has come to.
    Fetching {
        /// The group.
        group: GroupId,
        /// Bytes that are on the disk, those of earlier fetches included.
        bytes: u64,
        /// Bytes that there are.
        of: u64,
    },
    /// A fetch has ended.
    Fetched {
        /// The group.
        group: GroupId,
        /// Whom it was from.
        from: NodeRef,
        /// Why it has not come to the end of what there is, if it has not.
        failed: Option<String>,
    },
    /// The node is about to stop: it stands for no election from now on, and leads on what it leads
    /// until others do.
    Retire,
    /// A write failed: the node promises nothing any more.
    PersistFailed,
}
