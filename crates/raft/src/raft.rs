//! The door.

use std::{fmt, mem, sync::Arc};

use crate::{
    boot,
    effect::{Committed, Effect, Refused, Role},
    ids::{Hard, Index, Life, LogId, Micros, NodeRef, Term},
    input::{Boot, Input, Membership, Planted, Settings},
    invariants::Witness,
    log::{Log, Tail},
    membership::ConfigHistory,
    message::{Body, Message},
    proposals::Proposals,
    random::Random,
    role::{Handover, State},
    writes::Writes,
};

/// One member of one group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft {
    pub(crate) settings: Settings,
    pub(crate) me: NodeRef,
    /// Whether the disk takes writes; once one has failed, it never does again.
    pub(crate) sound: bool,
    /// Whether the host is about to stop.
    pub(crate) retiring: bool,
    /// This run.
    pub(crate) life: Life,
    pub(crate) random: Random,
    pub(crate) now: Micros,
    /// Until then nobody gets a vote: before the restart, a leader may have counted on that.
    pub(crate) silent_until: Micros,
    pub(crate) hard: Hard,
    /// The vote in `hard` was asked for and not answered yet.
    pub(crate) grant_owed: bool,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    pub(crate) configs: ConfigHistory,
    /// Invariant: `handed <= commit <= log.last`.
    pub(crate) commit: Index,
    /// Up to here entries were handed out as committed.
    pub(crate) handed: Index,
    pub(crate) state: State,
    /// When a leader was last heard.
    pub(crate) heard_at: Option<Micros>,
    /// How long this member waits for one, drawn anew for each election.
    pub(crate) patience: Micros,
    pub(crate) election_at: Micros,
    /// Counts the pre-votes asked for.
    pub(crate) round: u64,
    pub(crate) proposals: Proposals,
    /// A transfer under way, or waiting for word of its end.
    pub(crate) handover: Option<Handover>,
    /// What inputs have produced; [`Raft::drain`] adds what follows from the state.
    pub(crate) effects: Vec<Effect>,
    pub(crate) why: &'static str,
    pub(crate) witness: Witness,
    /// What was committed when this member was last told that the group goes on without it, unless it has
    /// heard a leader since.
    pub(crate) removed: Option<LogId>,
    announced: (Term, Role, bool),
    /// The configuration that was last said to be in force, where it was appended, and whether it was
    /// committed.
    pub(crate) announced_config: (Arc<Membership>, Index, bool),
    halted: Option<Halted>,
}

/// Nothing is done any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Halted {
    /// Until it has been said.
    reason: Option<String>,
}

/// What a member knows, for people and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This member.
    pub me: NodeRef,
    /// The current term.
    pub term: Term,
    /// What it is.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<NodeRef>,
    /// What precedes its log: everything up to there is compacted.
    pub base: LogId,
    /// The end of its log.
    pub last: LogId,
    /// The end of what is durable here.
    pub durable: Index,
    /// The end of what is committed.
    pub commit: Index,
    /// Whether it may have forgotten promises, and so gives none.
    pub recovering: bool,
    /// While it is recovering, the entry after which it counts again, once the leader has said so.
    pub home: Option<Index>,
    /// The configuration in force.
    pub config: Membership,
    /// Where it was appended: what a change of it is to expect.
    pub config_index: Index,
    /// What a leader knows of the others; empty when not leading.
    pub peers: Vec<PeerStatus>,
}

/// What a leader knows of one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: NodeRef,
    /// The end of what it has durably.
    pub matched: Index,
    /// Whether that counts for a quorum; not while it is recovering.
    pub counts: bool,
    /// While it is recovering, the entry after which it counts again, once it has asked.
    pub home: Option<Index>,
    /// How long ago it last answered a beat, in microseconds; `None` if it has not yet.
    pub heard: Option<Micros>,
    /// Whether appends are streamed to it (rather than probed).
    pub streaming: bool,
    /// Whether it has on its disk what the leader's log held an election timeout ago: as a learner it
    /// may become a voter.
    pub caught_up: bool,
    /// Whether it is no member any more, and only has to be told so.
    pub leaving: bool,
    /// While it fetches what the leader's log no longer has, how far that has come.
    pub fetched: Option<Index>,
}

impl PeerStatus {
    /// How far it has come, with what it fetches.
    #[must_use]
    pub fn has(&self) -> Index {
        self.matched.max(self.fetched.unwrap_or_default())
    }
}

/// What makes a log unfit to start from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootError {
    /// What does not fit.
    pub reason: String,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for BootError {}

impl Raft {
    /// Starts a member from what its disk held. `seed` is all the chance it will ever see.
    pub fn new(settings: Settings, boot: Boot, seed: u64, now: Micros) -> Result<Self, BootError> {
        let held = boot::verify(&settings, &boot).map_err(|reason| BootError { reason })?;
        let last = held.terms.last().index;
        let commit = boot.commit.min(last);
        let quiet = if boot.fresh {
            Micros(0)
        } else {
            settings.election_timeout
        };
        let state = State::follower(None, commit);
        let hard = boot.hard(held.terms.last());
        let config_index = held.configs.latest_index();
        let config = Arc::clone(held.configs.latest());
        let mut raft = Self {
            me: boot.me,
            sound: true,
            retiring: false,
            life: Life(Random::new(!seed).up_to(u64::MAX)),
            random: Random::new(seed),
            now,
            silent_until: now.after(quiet),
            hard,
            grant_owed: false,
            log: Log::new(held.terms, boot.tail, boot.applied, settings.tail_bytes_max),
            writes: Writes::new(boot.hard, last),
            configs: held.configs,
            commit,
            handed: boot.applied,
            removed: None,
            announced: (hard.term, state.role(), hard.recovering),
            announced_config: (config, config_index, config_index <= commit),
            state,
            heard_at: None,
            patience: Micros(0),
            election_at: Micros(0),
            round: 0,
            proposals: Proposals::default(),
            handover: None,
            effects: Vec::new(),
            why: "",
            witness: Witness::of(hard),
            halted: None,
            settings,
        };
        raft.wait_for_leader();
        if raft.is_alone() {
            raft.on_campaign();
        }
        raft.check();
        Ok(raft)
    }

    /// Takes in one thing that happened. Emits nothing: see [`Raft::drain`].
    pub fn handle(&mut self, now: Micros, input: Input) {
        if self.halted.is_some() {
            return;
        }
        self.now = self.now.max(now);
        self.stir(&input);
        match input {
            Input::Timer => self.on_timer(),
            Input::Message { from, message } => self.on_message(from, message),
            Input::Propose { time, proposals } => self.on_propose(time, proposals),
            Input::Read { id } => self.on_read(id),
            Input::Transfer { to } => self.on_transfer(to),
            Input::Change {
                id,
                expect,
                target,
                force,
            } => self.on_change(id, expect, &target, force),
            Input::Campaign => self.on_campaign(),
            Input::Retire => self.on_retire(),
            Input::Persisted { upto } => {
                self.on_persisted(upto);
                self.on_durable();
            }
            Input::PersistFailed => {
                self.sound = false;
                self.grant_owed = false;
                self.follow(self.hard.term, None, "a write failed");
            }
            Input::Compacted { upto } => self.on_compacted(upto),
            Input::Fetched { upto } => self.on_fetched(upto),
            Input::Arrived(stretch) => self.on_arrived(stretch),
            Input::Watched { heard } => self.on_watched(&heard),
            Input::Rouse => {
                self.on_rouse();
                self.on_timer();
            }
            Input::Reachable { peer, open } => self.on_reachable(peer, open),
            Input::Forgot => self.forget("its disk has lost what it had promised"),
        }
        self.try_rejoin();
        self.go_on_changing();
        self.stay_at_rest();
        self.check();
    }

    /// Moves out everything that is to be done, messages coalesced over all inputs since the last
    /// call.
    pub fn drain(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if let Some(halted) = &mut self.halted {
            out.extend(halted.reason.take().map(|reason| Effect::Halt { reason }));
            return;
        }
        self.now = self.now.max(now);
        if self.sound {
            let install = self.writes.form_install();
            out.extend(install.map(|(seq, stretch)| Effect::Install { seq, stretch }));
            let write = self.writes.form(self.hard, &self.log, self.commit);
            out.extend(write.map(Effect::Persist));
        }
        out.append(&mut self.effects);
        self.announce(out);
        self.announce_config(out);
        if self.sound {
            self.send_votes(out);
            self.send_grant(out);
            self.send_answers(out);
            self.send_beats(out);
            self.send_summons(out);
            self.send_appends(out);
        }
        self.hand_out(out);
        self.log.settle(self.handed.min(self.writes.durable()));
    }

    /// When to come back with [`Input::Timer`] if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        if self.halted.is_some() {
            return None;
        }
        let role = match &self.state {
            State::Leader(leader) => self.leader_deadline(leader),
            State::Follower(follower) if follower.rests_until.is_some() => follower.rests_until,
            _ => self.stands().then_some(self.election_at),
        };
        let handover = self.handover.map(|handover| handover.until);
        role.into_iter().chain(handover).min()
    }

    /// What it keeps in memory and could ask the host for, at most [`Settings::tail_bytes_max`].
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.log.settled_tail()
    }

    /// Keeps nothing of that.
    pub fn forget_tail(&mut self) {
        self.log.forget_settled();
    }

    /// Term, vote and standing, as they are or are about to be on the disk.
    #[must_use]
    pub fn hard(&self) -> Hard {
        self.hard
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.state.role()
    }

    /// What it knows.
    #[must_use]
    pub fn status(&self, now: Micros) -> Status {
        let leader = self.state.leader().into_iter();
        let peers = leader.flat_map(|leader| leader.peers.iter().map(move |peer| (leader, peer)));
        let peers = peers.map(|(leader, peer)| PeerStatus {
            peer: peer.peer,
            matched: peer.matched,
            counts: peer.counts,
            home: peer.rejoin.filter(|_| !peer.counts).map(|(_, index)| index),
            // The members of those who rest are watched, and it would rest no longer if one were silent.
            heard: match leader.rests_until {
                Some(_) if leader.rests(peer) => Some(Micros(0)),
                _ => peer.heard_at.map(|at| now.since(at)),
            },
            streaming: peer.is_streaming(),
            caught_up: self.has_caught_up(leader, peer),
            leaving: peer.leaving.is_some(),
            fetched: peer.fetched,
        });
        Status {
            me: self.me,
            term: self.hard.term,
            role: self.state.role(),
            leader: match self.state.role() {
                Role::Leader => Some(self.me),
                Role::Follower { leader } => leader,
                Role::PreCandidate | Role::Candidate => None,
            },
            base: self.log.base(),
            last: self.log.last(),
            durable: self.writes.durable(),
            commit: self.commit,
            recovering: self.is_recovering(),
            home: self.home(),
            config: (**self.configs.latest()).clone(),
            config_index: self.configs.latest_index(),
            peers: peers.collect(),
        }
    }

    fn on_timer(&mut self) {
        self.end_rest();
        match &self.state {
            State::Leader(_) => self.on_leader_timer(),
            State::Follower(follower) if follower.rests_until.is_some() => {}
            _ if self.now >= self.election_at && self.stands() => {
                self.pre_campaign("no leader was heard");
            }
            _ => {}
        }
        if self
            .handover
            .is_some_and(|handover| self.now >= handover.until)
        {
            self.end_handover(Some("the target did not take over in time"));
        }
    }

    fn on_message(&mut self, from: NodeRef, message: Message) {
        let Message { term, body } = message;
        if !self.sound || from.id == self.me.id || !term.is_plausible() || !self.listens(&body) {
            return;
        }
        if let State::Follower(follower) = &mut self.state
            && follower.leader == Some(from)
        {
            // Whatever it says, it has something to say.
            follower.rests_until = None;
        }
        match body {
            // These four deal with the term in their own way.
            Body::PreVote { round, last } => return self.on_pre_vote(from, term, round, last),
            Body::PreVoteReply { round, granted } => {
                return self.on_pre_vote_reply(from, term, round, granted);
            }
            Body::Vote { last, transfer } => return self.on_vote(from, term, last, transfer),
            Body::Removed { upto } => return self.on_removed(upto),
            Body::VoteReply { .. }
                if term < self.hard.term && self.settings.plants(Planted::CountStaleVote) => {}
            _ if term < self.hard.term => return self.refuse_stale(from, body),
            _ if term > self.hard.term => {
                let leads = matches!(
                    body,
                    Body::Append { .. }
                        | Body::Beat { .. }
                        | Body::Rest { .. }
                        | Body::Fetch { .. }
                );
                self.follow(term, leads.then_some(from), "a later term was heard of");
            }
            _ => {}
        }
        match body {
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { head, entries } => self.on_append(from, head, entries),
            Body::Appended {
                session,
                matched,
                counts,
            } => self.on_appended(from, session, matched, counts),
            Body::AppendRejected {
                session,
                prev,
                hint,
            } => self.on_rejected(from, session, prev, hint),
            Body::Beat { beat, commit } => self.on_beat(from, beat, commit),
            Body::Rest { beat, commit } => self.on_rest(from, beat, commit),
            Body::Resting { beat } => self.on_resting(from, beat),
            Body::Fetch { session, upto } => self.on_fetch(from, session, upto),
            Body::Fetching { session, arrived } => self.on_fetching(from, session, arrived),
            Body::BeatReply { beat } => self.on_beat_reply(from, beat, false),
            Body::TimeoutNow { need } => self.on_summons(from, need),
            Body::Rejoin { life } => self.on_rejoin(from, life),
            Body::RejoinAt { life, index } => self.on_rejoin_at(from, life, index),
            Body::Vouched { had } => self.on_vouched(from, had),
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::Removed { .. } => {}
        }
    }

    /// More is durable: on the candidate's own vote, the leader's own count and the target of a
    /// transfer things may hang. Acknowledgements follow from the state when it is drained.
    fn on_durable(&mut self) {
        match &self.state {
            State::Candidate(_) => self.try_lead(),
            State::Leader(_) => self.try_commit(),
            State::Follower(_) => self.try_summons(),
            State::PreCandidate(_) => {}
        }
    }

    /// Says what changed in role, term and leader since it was last said.
    fn announce(&mut self, out: &mut Vec<Effect>) {
        let role = self.state.role();
        let now = (self.hard.term, role, self.is_recovering());
        if self.announced == now {
            return;
        }
        self.announced = now;
        out.push(Effect::RoleChanged {
            term: self.hard.term,
            role,
            why: mem::take(&mut self.why),
        });
    }

    /// Hands out what has been committed, each entry once.
    fn hand_out(&mut self, out: &mut Vec<Effect>) {
        if self.handed == self.commit {
            return;
        }
        let entries = self.log.range(self.handed.next(), self.commit);
        let proposals = &mut self.proposals;
        let committed = entries.map(|entry| Committed {
            entry: entry.clone(),
            proposal: proposals.take(entry.id.index),
        });
        out.push(Effect::Committed(committed.collect()));
        self.handed = self.commit;
    }

    /// The commit index is at least `index`, which is in this log.
    pub(crate) fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index);
    }

    /// To be sent with the next drain.
    pub(crate) fn send(&mut self, to: NodeRef, body: Body) {
        let message = Message {
            term: self.hard.term,
            body,
        };
        self.effects.push(Effect::Send { to, message });
    }

    /// Whom to ask instead.
    pub(crate) fn not_leader(&self) -> Refused {
        match &self.state {
            State::Follower(follower) => Refused::NotLeader {
                leader: follower.leader,
            },
            _ => Refused::NotLeader { leader: None },
        }
    }

    /// From now on nothing is done any more.
    pub(crate) fn halt(&mut self, reason: String) {
        self.halted.get_or_insert(Halted {
            reason: Some(reason),
        });
    }
}
