//! The door: starts a node from its disk, takes inputs to the groups they are for, and says what is to
//! be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Micros, NodeId, NodeRef, ProposalId};
use kontiki_wire::{
    AppendRefused, Batch, ClusterId, ClusterState, Epoch, GroupId, GroupMessage, Member,
    MemberStatus, Refusal, TopicInfo, TopicName, limits::MEMBERS_MAX,
};

use crate::{
    apply::CheckpointEvery,
    chores::Chore,
    cluster::{Cluster, let_go_by, placed_on, unapplied},
    early::Early,
    effect::{Effect, Members},
    fetching::Fetching,
    group::Group,
    input::{GroupBoot, Input, Now, StreamId},
    mend::Mending,
    outbox::Outbox,
    placing::Placing,
    resting::Resting,
    steering::Steering,
    tails::Tails,
    tickets::Tickets,
    timers::Timers,
};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// This node.
    pub me: NodeRef,
    /// The bounds and periods of every group.
    pub raft: kontiki_raft::Settings,
    /// The state of the cluster's own group before its first entry. Its members are the voters that
    /// group is born with.
    pub birth: ClusterState,
    /// How often a topic's state is kept.
    pub checkpoints: CheckpointEvery,
    /// Bytes from which on a log of which this node has nothing is fetched as it lies in files, and not sent
    /// by its leader: [`crate::FETCH_BYTES_MIN`]. None is, with the greatest number there is.
    pub fetch_bytes_min: u64,
    /// Why this node may have forgotten what it promised, if it may have; for people.
    pub damage: Option<String>,
    /// All the chance it will ever see.
    pub seed: u64,
}

/// All groups of a node.
#[derive(Clone, Debug)]
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) started: Micros,
    /// Whether the cluster's own group was born with this start: then no group had an earlier life.
    pub(crate) newborn: bool,
    /// Whether the node is about to stop.
    pub(crate) retiring: bool,
    pub(crate) cluster: Cluster,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) tails: Tails,
    /// Groups of which the disk has lost something; none of them is among `groups`.
    pub(crate) mending: BTreeMap<GroupId, Mending>,
    /// Groups of which the log is fetched before they begin; none of them is among `groups`.
    pub(crate) fetching: BTreeMap<GroupId, Fetching>,
    /// Groups whose files are to go, and may be here still.
    pub(crate) going: BTreeSet<GroupId>,
    /// Groups that the cluster's own log, as it is here, places on this node beyond what is applied of it, each with
    /// the last entry that does.
    pub(crate) returning: BTreeMap<GroupId, Index>,
    /// Where the cluster's own log ended on the disk at the start: an earlier life may have applied what is
    /// no later.
    pub(crate) found: Index,
    /// Groups that the disk knows and the cluster's state does not yet.
    pub(crate) parked: BTreeMap<GroupId, GroupBoot>,
    /// Groups whose files the log on the disk lets this node remove beyond the state on the disk, each
    /// with the last entry that does.
    pub(crate) doomed: BTreeMap<GroupId, Index>,
    /// Removed topics whose files stay until the entry that removed them is durable here.
    pub(crate) leaving: VecDeque<(Index, GroupId)>,
    pub(crate) early: Early,
    pub(crate) outbox: Outbox,
    pub(crate) timers: Timers<GroupId>,
    pub(crate) resting: Resting,
    pub(crate) chores: Timers<Chore>,
    /// Groups led here that are not made of those who are to keep them.
    pub(crate) steering: BTreeMap<GroupId, Steering>,
    pub(crate) placing: Placing,
    /// Topics that were handed over to whom is to lead them, and when that was last tried.
    pub(crate) reluctant: BTreeMap<GroupId, Micros>,
    /// Topics that persons have had handed over from here, and to whom, until the cluster's state shows it.
    pub(crate) chosen: BTreeMap<GroupId, NodeId>,
    /// Since when there are links to peers.
    pub(crate) open_since: BTreeMap<NodeId, Micros>,
    /// Members that have come since this node's state, by what they say of themselves.
    pub(crate) strangers: BTreeMap<String, Member>,
    pub(crate) tickets: Tickets,
    /// Groups to be drained. Invariant: exactly those that are `touched`, each once.
    pub(crate) touched: VecDeque<GroupId>,
    proposals: u64,
    life: Life,
    /// Kept for its allocation alone; empty between drains.
    pub(crate) scratch: Vec<kontiki_raft::Effect>,
}

/// Whether anything is still to be expected of this node.
#[derive(Clone, Debug)]
enum Life {
    Running,
    /// The disk failed: whoever waits is told, and then the node stops.
    Failing {
        reason: String,
    },
    /// An invariant does not hold: nothing more is said than that.
    Broken {
        reason: String,
    },
    Ended,
}

impl Broker {
    /// Starts a node from what its disk held. The cluster's own group is always among `groups`; for
    /// each topic in its state that this node keeps and that is not among them, a group is born. Says
    /// what is wrong if the parts do not fit together.
    ///
    /// A group on the disk that the cluster's state does not have is removed if its topic was deleted.
    /// If its number has not been given yet, the state on the disk is older than the group, because
    /// checkpoints are not waited for: the group is kept until the cluster's log gives it its topic.
    pub fn new(settings: Settings, groups: Vec<GroupBoot>, now: Now) -> Result<Self, String> {
        let count = groups.len();
        let mut groups: BTreeMap<GroupId, GroupBoot> =
            groups.into_iter().map(|boot| (boot.group, boot)).collect();
        if groups.len() != count {
            return Err("a group was given twice".to_owned());
        }
        let Some(own) = groups.remove(&GroupId::CLUSTER) else {
            return Err("the cluster's own group is missing".to_owned());
        };
        let cluster = Cluster::restore(settings.birth.clone(), own.checkpoint.as_ref())?;
        cluster.check_build(settings.me.id, &own.boot.tail)?;
        let to_come = unapplied(&own.boot.tail, cluster.applied().index);
        let grain = Micros(settings.raft.beat_interval.0 / TIMER_GRAINS_PER_BEAT);
        let mut broker = Self {
            started: now.monotonic,
            newborn: own.boot.fresh,
            retiring: false,
            cluster,
            groups: BTreeMap::new(),
            tails: Tails::default(),
            mending: BTreeMap::new(),
            fetching: BTreeMap::new(),
            going: BTreeSet::new(),
            returning: placed_on(settings.me.id, to_come),
            found: own.boot.last,
            parked: BTreeMap::new(),
            doomed: let_go_by(to_come),
            leaving: VecDeque::new(),
            early: Early::default(),
            outbox: Outbox::default(),
            timers: Timers::new(grain),
            resting: Resting::new(!settings.seed),
            chores: Timers::new(grain),
            steering: BTreeMap::new(),
            placing: Placing::default(),
            reluctant: BTreeMap::new(),
            chosen: BTreeMap::new(),
            open_since: BTreeMap::new(),
            strangers: BTreeMap::new(),
            tickets: Tickets::default(),
            touched: VecDeque::new(),
            proposals: 0,
            life: Life::Running,
            scratch: Vec::new(),
            settings,
        };
        broker.open(own, groups, now)?;
        broker.check_versions(now);
        broker.tell_members();
        Ok(broker)
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        if !matches!(self.life, Life::Running) {
            return;
        }
        match input {
            Input::Timer => {
                self.wake(now);
                self.do_chores(now);
            }
            Input::Peer { from, messages } => self.hear(now, from, messages),
            Input::Beat { from, beat } => self.beaten(now, from, &beat),
            Input::Reachable { peer, open } => {
                self.feed_all(now, &kontiki_raft::Input::Reachable { peer, open });
                self.open_since.remove(&peer);
                if open {
                    self.open_since.insert(peer, now.monotonic);
                    self.ask_again(now, peer);
                }
            }
            Input::Append {
                stream,
                group,
                batch,
            } => self.append(stream, group, &batch),
            Input::Request { ticket, request } => self.request(now, ticket, request),
            Input::Command { ticket, command } => self.relay(now, ticket, command),
            Input::Relayed { from, command } => self.relayed(now, from, command),
            Input::Introduced { member } => self.introduced(member),
            Input::Disowned { by } => self.disowned(now, by),
            Input::Outdated { by } => self.outdated(now, by),
            Input::Asked { from, missing } => self.outbox.find(from, missing),
            Input::Found { from, found } => self.found(now, from, found),
            Input::Damaged {
                group,
                missing,
                what,
            } => self.damaged(now, group, missing, what),
            Input::Mending {
                group,
                missing,
                refused,
            } => self.taken_in(now, group, missing, refused),
            Input::Mended(boot) => self.mended(now, *boot),
            Input::Removed { group } => self.check(|broker| broker.gone(now, group)),
            Input::Inquired { from, inquiry } => {
                self.inquired(now, from, inquiry.group);
                let to = from;
                self.outbox.fetch(Effect::Stocktake { to, inquiry });
            }
            Input::Stock { from, stock } => self.stocked(now, from, stock),
            Input::Fetching { group, bytes, of } => self.fetching(now, group, bytes, of),
            Input::Fetched {
                group,
                from,
                failed,
            } => self.fetched(now, group, from, failed),
            Input::Persisted { upto } => self.persisted(now, upto),
            Input::Retire => self.retire(now),
            Input::PersistFailed => self.persist_failed(now),
        }
    }

    /// Moves out everything that is to be done, coalesced over all inputs since the last call. In the
    /// order given, an effect may rely on the ones before it having been handed on.
    pub fn drain(&mut self, now: Now, out: &mut Vec<Effect>) {
        if matches!(self.life, Life::Ended) {
            return;
        }
        while let Some(group) = self.touched.pop_front() {
            self.turn(now, group);
        }
        self.check(|broker| broker.tickets.balance());
        let mark = out.len();
        self.outbox.drain(out);
        let reason = match std::mem::replace(&mut self.life, Life::Ended) {
            Life::Failing { reason } => reason,
            Life::Broken { reason } => {
                out.truncate(mark);
                reason
            }
            running => {
                self.life = running;
                return;
            }
        };
        out.push(Effect::Halt { reason });
    }

    /// When to come back with [`Input::Timer`] if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let alarms = [self.timers.next(), self.chores.next()];
        alarms.into_iter().flatten().min()
    }

    /// A topic as this node knows it, by name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<TopicInfo> {
        self.cluster.topic(name).map(|topic| self.topic_info(topic))
    }

    /// The state of the cluster's own group, as applied here.
    #[must_use]
    pub fn cluster(&self) -> &ClusterState {
        self.cluster.state()
    }

    /// What this node knows of itself and its groups.
    #[must_use]
    pub fn status(&self, now: Now) -> MemberStatus {
        self.member_status(now)
    }

    /// The group of a topic, by name.
    #[must_use]
    pub fn group(&self, name: &TopicName) -> Option<GroupId> {
        self.cluster.topic(name).map(|topic| topic.group)
    }

    /// A group's state as its checkpoint would keep it now: at equal positions it is equal on every
    /// replica. `None` if this node does not keep the group.
    #[must_use]
    pub fn state(&self, group: GroupId) -> Option<(LogId, Bytes)> {
        let kept = self.groups.get(&group)?;
        Some(match kept.log() {
            Some(log) => log.checkpoint(),
            None => self.cluster.checkpoint(),
        })
    }

    /// Marks a group as one to be drained.
    pub(crate) fn touch(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id)
            && !group.touched
        {
            group.touched = true;
            self.touched.push_back(id);
        }
    }

    /// Gives an input to a group, if this node has it.
    pub(crate) fn feed(&mut self, now: Now, id: GroupId, input: kontiki_raft::Input) {
        self.tell_watched(now, id);
        if let Some(group) = self.groups.get_mut(&id) {
            group.feed(now, input);
            self.touch(id);
        }
    }

    pub(crate) fn next_proposal(&mut self) -> ProposalId {
        self.proposals += 1;
        ProposalId(self.proposals)
    }

    /// Runs something that may find an invariant broken.
    pub(crate) fn check(&mut self, run: impl FnOnce(&mut Self) -> Result<(), String>) {
        if let Err(reason) = run(self) {
            self.break_off(reason);
        }
    }

    /// Nothing more is to be said but this.
    pub(crate) fn break_off(&mut self, reason: String) {
        if !matches!(self.life, Life::Broken { .. } | Life::Ended) {
            self.life = Life::Broken { reason };
        }
    }

    fn wake(&mut self, now: Now) {
        while let Some(id) = self.timers.take_due(now.monotonic) {
            let Some(group) = self.groups.get_mut(&id) else {
                self.wake_mending(now, id);
                self.wake_fetching(now, id);
                continue;
            };
            match group.next_deadline() {
                Some(deadline) if deadline <= now.monotonic => {
                    self.feed(now, id, kontiki_raft::Input::Timer);
                }
                later => {
                    let later = self.wake_at(id, later);
                    self.timers.want(id, later);
                }
            }
        }
    }

    fn hear(&mut self, now: Now, from: NodeRef, messages: Vec<GroupMessage>) {
        for GroupMessage { group, message } in messages {
            if let Some(known) = self.groups.get_mut(&group) {
                known.hear_of(&message.body);
                let input = kontiki_raft::Input::Message { from, message };
                self.feed(now, group, input);
            } else if let Some(fetching) = self.fetching.get_mut(&group) {
                fetching.hear(from, &message);
            } else if self.cluster.is_to_come(group) {
                self.early.keep(group, from, message);
            }
        }
    }

    fn append(&mut self, stream: StreamId, id: GroupId, batch: &Batch) {
        let proposal = self.next_proposal();
        match self.admit(id) {
            Ok(group) => {
                group.append(proposal, stream, batch);
                self.touch(id);
            }
            Err(refusal) => {
                let sequence = batch.header().sequence;
                let refused = AppendRefused { sequence, refusal };
                self.outbox.answer(stream, Err(refused));
            }
        }
    }

    /// The group, if it may take a batch here and now.
    fn admit(&mut self, id: GroupId) -> Result<&mut Group, Refusal> {
        let Some(topic) = self.cluster.topic_of(id) else {
            let name = format!("group {id}");
            return Err(Refusal::NoSuchTopic { name });
        };
        let ask = |member| Refusal::NotLeader {
            leader: Some(self.cluster.name(member)),
        };
        let preferred = NodeId(topic.preferred);
        if self.mending.contains_key(&id) || self.fetching.contains_key(&id) {
            return Err(Refusal::NotLeader { leader: None });
        }
        let Some(group) = self.groups.get_mut(&id) else {
            // Not kept here: whoever keeps it knows its leader.
            return Err(match preferred == self.settings.me.id {
                true => Refusal::NotLeader { leader: None },
                false => ask(preferred),
            });
        };
        if !group.leads() {
            let leader = group.other_leader();
            let leader = leader.map(|leader| self.cluster.name(leader.id));
            return Err(Refusal::NotLeader { leader });
        }
        if group.collected_count() >= self.settings.raft.uncommitted_entries_max {
            return Err(Refusal::Busy);
        }
        Ok(group)
    }

    /// Somebody is a member of whom this node's state does not know yet.
    fn introduced(&mut self, member: Member) {
        let unheard = member.id >= self.cluster.state().next_member;
        let known = self.strangers.get(&member.name);
        let room = known.is_some() || self.strangers.len() < MEMBERS_MAX;
        if unheard && room && known != Some(&member) {
            // One for each name, which a certificate is for: nobody crowds out the others.
            self.strangers.insert(member.name.clone(), member);
            self.tell_members();
        }
    }

    /// Tells who is a member, as far as this node knows.
    pub(crate) fn tell_members(&mut self) {
        let state = self.cluster.state();
        self.strangers.retain(|_, one| one.id >= state.next_member);
        let mut members = Members::of(state);
        members.list.extend(self.strangers.values().cloned());
        members.list.sort_by_key(|member| member.id);
        members.list.dedup_by_key(|member| member.id);
        self.outbox.members(members);
        self.tell_trust();
    }

    /// Tells what is agreed on about certificates.
    pub(crate) fn tell_trust(&mut self) {
        self.outbox.trust(&self.cluster.state().trust);
    }

    /// A member that has seen this one go says so: its number was given and is on no list any more.
    fn disowned(&mut self, now: Now, by: NodeId) {
        if self.is_led(now) {
            return;
        }
        let by = self.cluster.name(by);
        self.expelled(&format!(
            "{by} says that it is a member of the cluster no more"
        ));
    }

    /// Whether the cluster goes on here. Then nobody's word alone is believed that it goes on without this node:
    /// who is left out hears no leader, and is told again.
    pub(crate) fn is_led(&self, now: Now) -> bool {
        let own = self.groups.get(&GroupId::CLUSTER);
        own.is_some_and(|own| own.hears_leader(now.monotonic))
    }

    /// Nothing that this node has counts any longer.
    pub(crate) fn expelled(&mut self, why: &str) {
        let me = self.cluster.name(self.settings.me.id);
        self.outbox.expelled(format!(
            "{me} was removed ({why}), and what it keeps counts no more: to have it back, let it join \
             with a new token and an empty directory"
        ));
    }

    fn persisted(&mut self, now: Now, upto: u64) {
        let confirmed = match self.outbox.confirmed(upto) {
            Ok(confirmed) => confirmed,
            Err(reason) => return self.break_off(reason),
        };
        for (group, upto) in confirmed {
            self.feed(now, group, kontiki_raft::Input::Persisted { upto });
        }
    }

    fn retire(&mut self, now: Now) {
        self.retiring = true;
        self.feed_all(now, &kontiki_raft::Input::Retire);
    }

    fn persist_failed(&mut self, now: Now) {
        let reason = "a write to the disk failed, and nothing can be promised after that";
        self.feed_all(now, &kontiki_raft::Input::PersistFailed);
        self.life = Life::Failing {
            reason: reason.to_owned(),
        };
    }

    /// Gives an input to every group.
    pub(crate) fn feed_all(&mut self, now: Now, input: &kontiki_raft::Input) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.feed(now, id, input.clone());
        }
    }
}

/// Groups are woken at most so many times between two beats, whatever their number.
const TIMER_GRAINS_PER_BEAT: u64 = 8;
