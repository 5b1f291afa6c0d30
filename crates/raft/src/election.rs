//! Pre-vote, vote, taking and leaving leadership (§5.2, §5.4.1; dissertation §9.6).
//!
//! Voters never consult their own configuration: who counts is the asker's question.

use std::mem;

use bytes::Bytes;

use crate::{
    effect::{Effect, Fate},
    entry::{Entry, Kind},
    ids::{Hard, LogId, Micros, NodeRef, Term},
    input::Planted,
    message::{Body, Message, Session},
    progress::Progress,
    pulse::{Beats, Ends, Reads},
    raft::Raft,
    role::{Candidate, Leader, PreCandidate, State},
};

impl Raft {
    /// Whether this member may lead. One that is left out by a configuration that nobody knows to be
    /// committed still may: it may be the one whose log nobody may pass over, and then nobody else would
    /// be elected. Its own vote counts for nothing (dissertation §4.2.2).
    pub(crate) fn electable(&self) -> bool {
        let mut open = self.configs.since(self.commit);
        self.is_whole() && open.any(|config| config.is_voter(self.me))
    }

    /// Whether it stands for election if there is a reason to.
    pub(crate) fn stands(&self) -> bool {
        self.electable() && !self.retiring && !self.is_left_out()
    }

    /// Whether it needs nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.electable() && self.reached(|node| *node == self.me)
    }

    /// Waits for a leader from now on, for a newly drawn time in (E, 2E].
    pub(crate) fn wait_for_leader(&mut self) {
        let timeout = self.settings.election_timeout;
        self.patience = timeout.after(Micros(self.random.up_to(timeout.0)));
        self.election_at = self.now.after(self.patience);
    }

    /// The host wants this member to lead.
    pub(crate) fn on_campaign(&mut self) {
        if !self.stands() || self.state.leader().is_some() {
            return;
        }
        if self.now < self.silent_until && !self.is_alone() {
            self.election_at = self.election_at.min(self.silent_until);
            return;
        }
        self.pre_campaign("the host asked for it");
    }

    /// The host is about to stop: members that all do must not hand leadership round among them.
    pub(crate) fn on_retire(&mut self) {
        self.retiring = true;
        if matches!(self.state, State::PreCandidate(_) | State::Candidate(_)) {
            self.follow(self.hard.term, None, "it is about to stop");
        }
    }

    /// Asks whether an election would be won, before disturbing anyone with a new term.
    pub(crate) fn pre_campaign(&mut self, why: &'static str) {
        if self.settings.plants(Planted::CampaignWithoutPreVote) {
            return self.campaign(false, why);
        }
        self.round += 1;
        self.why = why;
        self.state = State::PreCandidate(PreCandidate {
            asked: false,
            granted: Vec::new(),
        });
        self.wait_for_leader();
        self.try_campaign();
    }

    fn try_campaign(&mut self) {
        let State::PreCandidate(asker) = &self.state else {
            return;
        };
        let yes = |node: &NodeRef| *node == self.me || asker.granted.contains(node);
        if self.reached(yes) {
            self.campaign(false, "a quorum would vote for it");
        }
    }

    /// Asks for votes in a new term.
    pub(crate) fn campaign(&mut self, transfer: bool, why: &'static str) {
        let term = Term(self.hard.term.0 + 1);
        if !term.is_plausible() {
            return;
        }
        self.hard = Hard {
            term,
            vote: Some(self.me),
            ..self.hard
        };
        self.grant_owed = false;
        self.why = why;
        self.state = State::Candidate(Candidate {
            asked: false,
            transfer,
            granted: Vec::new(),
        });
        self.wait_for_leader();
    }

    /// Whether a candidate's own vote, and the log it advertises, are durable. Were the request to
    /// leave earlier, a crash could lose what it says, and the late request still win.
    fn own_vote_durable(&self) -> bool {
        self.writes.durable_hard() == self.hard && self.writes.durable() == self.log.last().index
    }

    /// Leads if a quorum, its own durable vote included, has voted for this member.
    pub(crate) fn try_lead(&mut self) {
        let State::Candidate(candidate) = &self.state else {
            return;
        };
        let planted = self.settings.plants(Planted::LeadBeforeOwnVote);
        let own = planted || self.own_vote_durable();
        let yes = |node: &NodeRef| match *node == self.me {
            true => own,
            false => candidate.granted.contains(node),
        };
        if own && self.reached(yes) {
            self.lead();
        }
    }

    fn lead(&mut self) {
        let last = self.log.last();
        let mut peers = self.configs.latest().members();
        peers.retain(|peer| peer.id != self.me.id);
        let progress = |peer| Progress::new(peer, Session(1), last.index.next());
        self.state = State::Leader(Box::new(Leader {
            peers: peers.into_iter().map(progress).collect(),
            noop: last.index.next(),
            sessions: 1,
            beats: Beats::new(self.now),
            reads: Reads::default(),
            ends: Ends::default(),
            change: None,
            summoned: false,
            stepping_out: false,
            rest_since: None,
            rests_until: None,
        }));
        self.why = "a quorum voted for it";
        self.heard_at = None;
        self.end_handover(Some("this member was elected again"));
        self.push_noop();
    }

    /// Appends an entry that means nothing, in the leader's own term.
    pub(crate) fn push_noop(&mut self) {
        let noop = Entry {
            id: LogId {
                term: self.hard.term,
                index: self.log.last().index.next(),
            },
            kind: Kind::Noop,
            time: self.log.last_time(),
            checksum: 0,
            body: Bytes::new(),
        };
        self.proposals.push(noop.id.index, None);
        self.log.push(noop);
    }

    /// Follows in `term`, which is at least the current one. Whatever hung on another role ends.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<NodeRef>, why: &'static str) {
        if term > self.hard.term {
            self.hard = Hard {
                term,
                vote: None,
                ..self.hard
            };
            self.grant_owed = false;
        }
        self.why = why;
        let before = mem::replace(&mut self.state, State::follower(leader, self.commit));
        match before {
            State::Follower(_) => {}
            State::PreCandidate(_) | State::Candidate(_) => self.wait_for_leader(),
            State::Leader(mut was) => {
                self.wait_for_leader();
                for id in self.proposals.abandon_after(self.commit) {
                    let fate = Fate::Unknown { leader };
                    self.effects.push(Effect::Fate { id, fate });
                }
                self.lose_change(was.change, leader);
                self.fail_reads(&mut was.reads);
                // Who hands over of itself waits for no word of its end, which may never come here.
                self.handover = self.handover.filter(|handover| handover.asked > 0);
            }
        }
        self.leader_known();
    }

    /// `from` speaks as the leader of the current term. Whether it may.
    pub(crate) fn hear(&mut self, from: NodeRef) -> bool {
        match &mut self.state {
            State::Follower(follower) => match follower.leader {
                Some(leader) if leader != from => {
                    let term = self.hard.term;
                    self.halt(format!("both {leader} and {from} lead term {term}"));
                    return false;
                }
                Some(_) => {}
                None => {
                    follower.leader = Some(from);
                    self.why = "a leader was heard";
                    self.leader_known();
                }
            },
            State::PreCandidate(_) | State::Candidate(_) => {
                self.follow(self.hard.term, Some(from), "a leader was heard");
            }
            State::Leader(_) => {
                let term = self.hard.term;
                self.halt(format!("both {from} and this member lead term {term}"));
                return false;
            }
        }
        self.removed = None;
        self.heard_at = Some(self.now);
        self.election_at = self.now.after(self.patience);
        self.ask_home(from);
        true
    }

    /// Whether there is a leader whose term should not be ended: one that was heard less than E ago,
    /// this member itself with its quorum, which may be nobody else, or, after a restart, one that may
    /// have been heard.
    fn has_live_leader(&self) -> bool {
        self.hears_leader(self.now)
    }

    /// The same, for a host that has heard otherwise.
    #[must_use]
    pub fn hears_leader(&self, now: Micros) -> bool {
        let timeout = self.settings.election_timeout;
        let heard = match &self.state {
            State::Leader(_) if self.is_alone() => return true,
            State::Leader(leader) => Some(leader.beats.quorum_sent_at),
            _ => self.heard_at,
        };
        now < self.silent_until || heard.is_some_and(|at| now.since(at) < timeout)
    }

    /// Whether a log that ends so lacks what this one may have committed (§5.4.1).
    fn is_behind(&self, last: LogId) -> bool {
        let ours = self.log.last();
        match self.settings.plants(Planted::VoteByLength) {
            true => last.index < ours.index,
            false => last < ours,
        }
    }

    pub(crate) fn on_pre_vote(&mut self, from: NodeRef, term: Term, round: u64, last: LogId) {
        let granted = term >= self.hard.term && !self.is_behind(last) && !self.has_live_leader();
        self.send(from, Body::PreVoteReply { round, granted });
        self.tell_removed(from);
    }

    /// A refusal carries the later term that made it, so that the two sides of a healed split, one
    /// with the longer log and one with the later term, cannot refuse each other for ever.
    pub(crate) fn on_pre_vote_reply(
        &mut self,
        from: NodeRef,
        term: Term,
        round: u64,
        granted: bool,
    ) {
        if term > self.hard.term {
            return self.follow(term, None, "a later term was heard of");
        }
        let State::PreCandidate(asker) = &mut self.state else {
            return;
        };
        let counts = self.configs.latest().is_voter(from);
        if granted && counts && round == self.round && !asker.granted.contains(&from) {
            asker.granted.push(from);
            self.try_campaign();
        }
    }

    pub(crate) fn on_vote(&mut self, from: NodeRef, term: Term, last: LogId, transfer: bool) {
        if term > self.hard.term {
            if self.has_live_leader() && !transfer {
                return;
            }
            self.follow(term, None, "a later term was heard of");
        }
        let ours = term == self.hard.term;
        let free = match (self.hard.vote, &self.state) {
            (Some(vote), _) => vote == from,
            (None, State::Follower(follower)) => follower.leader.is_none(),
            (None, State::PreCandidate(_)) => true,
            (None, State::Candidate(_) | State::Leader(_)) => false,
        };
        let free = free || self.settings.plants(Planted::VoteTwice);
        let behind =
            self.is_behind(last) && !(transfer && self.settings.plants(Planted::TransferUnready));
        if !ours || !free || behind {
            self.send(from, Body::VoteReply { granted: false });
            return;
        }
        if matches!(self.state, State::PreCandidate(_)) {
            self.follow(term, None, "it gave its vote");
        }
        self.hard.vote = Some(from);
        self.grant_owed = true;
        self.wait_for_leader();
    }

    pub(crate) fn on_vote_reply(&mut self, from: NodeRef, granted: bool) {
        let State::Candidate(candidate) = &mut self.state else {
            return;
        };
        let counts = self.configs.latest().is_voter(from);
        if granted && counts && !candidate.granted.contains(&from) {
            candidate.granted.push(from);
            self.try_lead();
        }
    }

    /// Sends the requests of a campaign, once each: pre-votes at once, votes when they are true.
    pub(crate) fn send_votes(&mut self, out: &mut Vec<Effect>) {
        let last = self.log.last();
        let early = self.settings.plants(Planted::UngatedVoteRequest)
            || self.settings.plants(Planted::LeadBeforeOwnVote);
        let durable = early || self.own_vote_durable();
        let body = match &mut self.state {
            State::PreCandidate(asker) if !asker.asked => {
                asker.asked = true;
                let round = self.round;
                Body::PreVote { round, last }
            }
            State::Candidate(candidate) if !candidate.asked && durable => {
                candidate.asked = true;
                let transfer = candidate.transfer;
                Body::Vote { last, transfer }
            }
            _ => return,
        };
        let config = self.configs.latest();
        let others = config.voters.union(&config.outgoing);
        out.extend(
            others
                .filter(|node| **node != self.me)
                .map(|node| Effect::Send {
                    to: *node,
                    message: Message {
                        term: self.hard.term,
                        body: body.clone(),
                    },
                }),
        );
    }

    /// Sends the vote that was asked for, once it is durable.
    pub(crate) fn send_grant(&mut self, out: &mut Vec<Effect>) {
        let early = self.settings.plants(Planted::UngatedVoteReply);
        if !self.grant_owed || !(early || self.writes.durable_hard() == self.hard) {
            return;
        }
        self.grant_owed = false;
        let term = self.hard.term;
        out.extend(self.hard.vote.map(|to| Effect::Send {
            to,
            message: Message {
                term,
                body: Body::VoteReply { granted: true },
            },
        }));
    }
}
