//! What a member is, with what exists only while it is that.

use crate::{
    effect::Role,
    ids::{Index, LogId, Micros, NodeRef, ProposalId},
    message::Session,
    progress::Progress,
    pulse::{Beats, Ends, Reads},
};

/// The role and its data.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum State {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// Follows, perhaps without knowing whom.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Follower {
    pub(crate) leader: Option<NodeRef>,
    /// Up to here the log equals that of the current term's leader. Begins at the commit index: what
    /// is committed is in every later leader's log.
    pub(crate) verified: Index,
    /// The leader's conversation; `None` until an append of this term was accepted.
    pub(crate) talk: Option<Talk>,
    /// The highest beat heard in this term.
    pub(crate) beat: u64,
    pub(crate) beat_owed: bool,
    /// What was verified when a beat last told of a later commit, if the last beat did.
    pub(crate) lacked: Option<Index>,
    /// The leader wants this member to take over.
    pub(crate) summons: Option<Summons>,
    /// The way back of a recovering member.
    pub(crate) way: Way,
    /// What the leader's log no longer has, and this member fetches.
    pub(crate) wanted: Option<Wanted>,
    /// It rests, and so waits for no beat, until then at the latest.
    pub(crate) rests_until: Option<Micros>,
}

/// What is to be fetched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Wanted {
    pub(crate) session: Session,
    pub(crate) upto: LogId,
    pub(crate) arrived: Index,
}

/// How far a recovering member has come with the leader of this term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Way {
    /// Not before then it asks again.
    pub(crate) ask_at: Micros,
    /// After this entry it counts again.
    pub(crate) home: Option<Index>,
}

/// What a follower owes the leader in one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Talk {
    pub(crate) session: Session,
    /// The highest acknowledgement sent in it.
    pub(crate) acked: Option<Index>,
    pub(crate) answer_owed: bool,
}

/// A request to campaign once `need` is durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Summons {
    pub(crate) need: LogId,
    pub(crate) until: Micros,
}

/// Leadership is on its way to `to`; kept after stepping down until it is known who leads, if anybody asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handover {
    pub(crate) to: NodeRef,
    pub(crate) until: Micros,
    /// How often the host has asked for it, and so is to hear of its end; a leader that the
    /// configuration does without hands over unasked.
    pub(crate) asked: u32,
}

/// Asks whether it would be elected.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PreCandidate {
    pub(crate) asked: bool,
    pub(crate) granted: Vec<NodeRef>,
}

/// Asks for votes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Candidate {
    /// Whether the requests have left: not before they are true on the own disk.
    pub(crate) asked: bool,
    /// The leader of the term before wants this.
    pub(crate) transfer: bool,
    pub(crate) granted: Vec<NodeRef>,
}

/// Leads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    /// Sorted by peer.
    pub(crate) peers: Vec<Progress>,
    /// The first entry of this leadership. Nothing is committed by count before it is.
    pub(crate) noop: Index,
    /// Sessions given so far.
    pub(crate) sessions: u64,
    pub(crate) beats: Beats,
    pub(crate) reads: Reads,
    /// How far the log went lately.
    pub(crate) ends: Ends,
    /// The change of the configuration that waits for its end.
    pub(crate) change: Option<ProposalId>,
    /// The target has been told to take over.
    pub(crate) summoned: bool,
    /// It hands over because the configuration does without it.
    pub(crate) stepping_out: bool,
    /// The first of the beats that have asked for a rest without anything having been to say since.
    pub(crate) rest_since: Option<u64>,
    /// It rests, and so does not beat, until then at the latest.
    pub(crate) rests_until: Option<Micros>,
}

impl State {
    /// What others may know of it.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Follower(follower) => Role::Follower {
                leader: follower.leader,
            },
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }

    /// A follower that knows nothing more.
    pub(crate) fn follower(leader: Option<NodeRef>, commit: Index) -> Self {
        Self::Follower(Follower {
            leader,
            verified: commit,
            talk: None,
            beat: 0,
            beat_owed: false,
            lacked: None,
            summons: None,
            way: Way::default(),
            wanted: None,
            rests_until: None,
        })
    }

    /// The leadership, if it is one.
    pub(crate) fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn leader_mut(&mut self) -> Option<&mut Leader> {
        match self {
            Self::Leader(leader) => Some(leader),
            _ => None,
        }
    }
}

impl Leader {
    /// What it knows of a peer.
    pub(crate) fn peer(&self, peer: NodeRef) -> Option<&Progress> {
        let at = self.peers.binary_search_by_key(&peer, |p| p.peer).ok()?;
        Some(&self.peers[at])
    }

    /// The same, to be changed.
    pub(crate) fn peer_mut(&mut self, peer: NodeRef) -> Option<&mut Progress> {
        let at = self.peers.binary_search_by_key(&peer, |p| p.peer).ok()?;
        Some(&mut self.peers[at])
    }
}
