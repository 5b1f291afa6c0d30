//! Members, what is under way between them, and what befalls them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use kontiki_raft::{
    Body, Effect, Entry, Incarnation, Index, Input, Kind, Membership, Message, Micros, NodeId,
    NodeRef, Persist, Proposal, ProposalId, Raft, ReadId, Role, SendLog, Settings, Status, Term,
};

use crate::{
    disk::Disk,
    turmoil::{changes::GUESTS, dice::Dice, oracle::Oracle},
};

/// How long the turmoil lasts.
const TURMOIL: u64 = 5_000_000;
const MILLI: u64 = 1_000;
/// A group whose links are whole moves fewer messages in any life here.
const FLIGHTS_MAX: usize = 20_000;

pub(crate) struct Member {
    pub(crate) me: NodeRef,
    /// What it knew of the group when it was born.
    pub(crate) config: Membership,
    /// Whether it has ever run.
    pub(crate) exists: bool,
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    queue: VecDeque<Persist>,
    /// What it has fetched, from the first entry on.
    pub(crate) staged: Vec<Entry>,
    /// Disk and queue together.
    pub(crate) log: Vec<Entry>,
    pub(crate) handed: u64,
    pub(crate) boots: u64,
    timer: Option<Micros>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Flight {
        from: NodeRef,
        to: NodeRef,
        message: Message,
    },
    Written {
        at: usize,
        boot: u64,
    },
    Fetched {
        at: usize,
        boot: u64,
        upto: Index,
    },
    Timer {
        at: usize,
    },
    /// What was taken in without a look is looked at.
    Drained {
        at: usize,
    },
}

/// Inputs after which others are given first.
const BATCHED_PERCENT: u64 = 50;

/// One life of a group.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    settings: Settings,
    pub(crate) config: Membership,
    pub(crate) members: Vec<Member>,
    pub(crate) now: u64,
    /// By time, and then by order of birth.
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    born: u64,
    cut: BTreeSet<(usize, usize)>,
    loss: u64,
    peace: bool,
    slow_disk: Option<usize>,
    pub(crate) asked: u64,
    /// Stretches that took a log's place.
    pub(crate) installed: usize,
    pub(crate) oracle: Oracle,
    trace: DefaultHasher,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let count = dice.pick(&[1, 3, 3, 3, 5, 5]);
        let settings = Settings {
            append_bytes_max: dice.pick(&[100, 400, 1 << 20]),
            window_bytes_max: dice.pick(&[200, 1_000, 8 << 20]),
            window_messages_max: dice.pick(&[1, 3, 64]),
            uncommitted_bytes_max: dice.pick(&[300, 2_000, 32 << 20]),
            uncommitted_entries_max: dice.pick(&[4, 30, 4096]),
            tail_bytes_max: dice.pick(&[0, 300, 8 << 20]),
            reads_max: dice.pick(&[2, 1024]),
            notice_delay: Micros(seed % 2 * 1_000),
            ..Settings::default()
        };
        let config = Membership::of((1..=count).map(node));
        let founders = (1..=count).map(|id| Member::new(node(id), config.clone(), 0));
        let guests = (1..=GUESTS).map(|id| node(count + id));
        let guests = guests.map(|me| Member::new(me, Membership::default(), 0));
        let mut world = Self {
            seed,
            loss: dice.pick(&[0, 2, 10, 25]),
            dice,
            settings,
            members: founders.chain(guests).collect(),
            config,
            now: 0,
            agenda: BinaryHeap::new(),
            events: BTreeMap::new(),
            born: 0,
            cut: BTreeSet::new(),
            peace: false,
            slow_disk: None,
            asked: 0,
            installed: 0,
            oracle: Oracle::default(),
            trace: DefaultHasher::new(),
        };
        for at in 0..count as usize {
            world.members[at].exists = true;
            world.start(at, true);
        }
        world
    }

    /// Takes a safeguard away from every member, from its next start on.
    #[cfg(feature = "planted")]
    pub(crate) fn plant(&mut self, what: kontiki_raft::Planted) {
        self.settings.planted = Some(what);
        for at in 0..self.members.len() {
            self.crash(at, usize::MAX);
            self.start(at, false);
        }
    }

    /// How many changes of the configuration were done.
    pub(crate) fn changed(&self) -> usize {
        self.oracle.changed
    }

    /// The hash of everything that happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Things go wrong for a while.
    pub(crate) fn suffer(&mut self) {
        while self.now < TURMOIL {
            let until = self.now + self.dice.below(30 * MILLI);
            self.run(until);
            self.befall();
        }
    }

    /// Nothing goes wrong any more: the group elects, agrees, and everyone knows the same.
    pub(crate) fn recover(&mut self) {
        self.heal();
        self.peace = true;
        let seed = self.seed;
        let timeout = self.settings.election_timeout.0;
        self.run(self.now + 8 * timeout);
        let leader = self.leader();
        let leader = leader.unwrap_or_else(|| panic!("seed {seed}: no leader\n{}", self.told()));
        self.catch_up();
        let acknowledged = self.oracle.acknowledged;
        self.propose(leader, 1);
        self.read(leader);
        self.run(self.now + 4 * timeout);
        assert_eq!(
            self.oracle.acknowledged,
            acknowledged + 1,
            "seed {seed}: acknowledged\n{}",
            self.told()
        );
        assert!(
            self.oracle.is_settled(),
            "seed {seed}: something has no fate"
        );
        self.assert_equal();
        self.assert_quiet();
    }

    /// Everybody may take as long as it takes, if they get on: windows may be small, and links slow.
    fn catch_up(&mut self) {
        let timeout = self.settings.election_timeout.0;
        let known = |world: &Self| {
            let known = world.members.iter();
            let known = known.map(|member| member.handed + member.disk.log.len() as u64);
            known.sum::<u64>()
        };
        loop {
            let before = known(self);
            self.run(self.now + timeout);
            if known(self) == before {
                return;
            }
        }
    }

    /// What everybody knows.
    fn told(&self) -> String {
        let now = Micros(self.now);
        let told = self.members.iter().map(|member| {
            let status = member.raft.as_ref().map(|raft| raft.status(now));
            let base = member.disk.base;
            format!("{} with base {base} on its disk: {status:?}\n", member.me)
        });
        told.collect()
    }

    /// A follower restarts, its hint of what is committed lost, while nobody proposes anything.
    pub(crate) fn restart_an_idle_follower(&mut self) {
        let leader = self.leader();
        let Some(at) = (0..self.members.len()).find(|at| Some(*at) != leader) else {
            return;
        };
        let agreed = self.oracle.len();
        self.crash(at, usize::MAX);
        self.members[at].disk.commit = Index(0);
        self.start(at, false);
        self.run(self.now + self.settings.election_timeout.0);
        assert_eq!(self.oracle.len(), agreed, "the group was not idle");
        self.assert_equal();
    }

    fn assert_equal(&self) {
        for member in self.present() {
            let (seed, me) = (self.seed, member.me);
            let known = (member.handed as usize, member.log.len());
            let all = self.oracle.len();
            assert_eq!(known, (all, all), "seed {seed}: {me} knows another log");
        }
    }

    fn befall(&mut self) {
        let at = self.dice.below(self.members.len() as u64) as usize;
        match self.dice.below(1_000) {
            0..500 => {
                let to = self.leader().filter(|_| self.dice.percent(80));
                let count = 1 + self.dice.below(6);
                self.propose(to.unwrap_or(at), count);
            }
            500..700 => self.read(self.leader().unwrap_or(at)),
            700..720 => {
                let at = self.aim(at, 40);
                let keep = self.dice.below(4) as usize;
                self.crash(at, keep);
            }
            720..820 => self.start(at, false),
            820..840 => {
                let at = self.aim(at, 30);
                self.tear(at);
            }
            840..870 => self.cut.clear(),
            870..890 => {
                let to = self.dice.below(self.members.len() as u64) + 1;
                let from = self.leader().unwrap_or(at);
                self.turn(from, Input::Transfer { to: NodeId(to) });
            }
            890..900 => self.turn(at, Input::Campaign),
            900..903 => {
                self.members[at].queue.clear();
                self.turn(at, Input::PersistFailed);
                self.crash(at, 0);
            }
            903..912 => self.forget(at),
            912..915 => self.rebirth(at),
            915..955 => self.change(),
            955..970 => self.compact(at),
            970..985 => {
                let peer = NodeId(1 + self.dice.below(self.members.len() as u64));
                let open = self.dice.percent(80);
                self.turn(at, Input::Reachable { peer, open });
            }
            _ => self.slow_disk = self.dice.percent(50).then_some(at),
        }
    }

    /// The leader, so many times in a hundred, otherwise this one.
    fn aim(&mut self, at: usize, chance: u64) -> usize {
        let leader = self.leader().filter(|_| self.dice.percent(chance));
        leader.unwrap_or(at)
    }

    /// Some links break: of one member, one way, between halves, or all but those of a bridge.
    fn tear(&mut self, at: usize) {
        let count = self.members.len();
        let half = self.dice.below(1 << count);
        let shape = self.dice.below(4);
        for (from, to) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            let (one, other) = (half >> from & 1, half >> to & 1);
            let torn = match shape {
                0 => from == at || to == at,
                1 => from == at,
                2 => one != other,
                _ => one != other && from != at && to != at,
            };
            if torn {
                self.cut.insert((from, to));
            }
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
        self.loss = 0;
        self.slow_disk = None;
        for at in 0..self.members.len() {
            self.start(at, false);
            for peer in (1..=self.members.len() as u64).map(NodeId) {
                self.turn(at, Input::Reachable { peer, open: true });
            }
        }
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| {
            let raft = member.raft.as_ref()?;
            (raft.role() == Role::Leader).then(|| raft.status(Micros(0)).term)
        };
        let terms = self.members.iter().map(leads).enumerate();
        let (at, term) = terms.max_by_key(|(_, term)| *term)?;
        term.map(|_| at)
    }

    fn propose(&mut self, at: usize, count: u64) {
        let member = &self.members[at];
        if member.raft.is_none() {
            return;
        }
        let mut proposals = Vec::new();
        for _ in 0..count {
            self.asked += 1;
            let mut body = self.asked.to_le_bytes().to_vec();
            body.resize(8 + self.dice.below(60) as usize, 0);
            let id = ProposalId(self.asked);
            self.oracle.proposes(id, self.members[at].me.id);
            proposals.push(Proposal {
                id,
                kind: Kind::Batch,
                checksum: 0,
                body: Bytes::from(body),
            });
        }
        let time = Micros(self.now);
        self.turn(at, Input::Propose { time, proposals });
    }

    fn read(&mut self, at: usize) {
        if self.members[at].raft.is_some() {
            self.asked += 1;
            let id = ReadId(self.asked);
            self.oracle.reads(id, self.members[at].me.id);
            self.turn(at, Input::Read { id });
        }
    }

    pub(crate) fn crash(&mut self, at: usize, keep: usize) {
        let member = &mut self.members[at];
        for write in member.queue.drain(..).take(keep) {
            member.disk.write(&write);
        }
        member.disk.installs.clear();
        member.raft = None;
        self.oracle.crashed(member.me.id);
    }

    /// A member dies and loses most of its disk, unless others are needed that have not come home from
    /// that yet, or never will: nobody would know what was agreed.
    fn forget(&mut self, at: usize) {
        let mut impaired = self.impaired();
        impaired.insert(self.members[at].me);
        if !self.can_spare(&impaired) {
            return;
        }
        self.crash(at, 0);
        let kept = self.dice.below(self.members[at].disk.log.len() as u64 + 1);
        self.members[at].disk.lose(kept as usize);
    }

    /// Starts a member that is down.
    pub(crate) fn start(&mut self, at: usize, fresh: bool) {
        let member = &mut self.members[at];
        if member.raft.is_some() || !member.exists {
            return;
        }
        if self.dice.percent(30) {
            member.disk.commit = Index(0);
        }
        member.boots += 1;
        member.log = member.disk.log.clone();
        member.handed = member.disk.base.0;
        let boot = member.disk.boot(member.me, &member.config, fresh);
        let seed = self.seed ^ member.boots << 32 ^ at as u64;
        let raft = Raft::new(self.settings.clone(), boot, seed, Micros(self.now));
        member.raft = Some(raft.expect("the core starts from what it wrote"));
        self.settle(at);
    }

    fn run(&mut self, until: u64) {
        while let Some(&Reverse((time, order))) = self.agenda.peek()
            && time <= until
        {
            self.agenda.pop();
            self.now = time;
            let event = self.events.remove(&order).expect("it was put there");
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Flight { from, to, message } => {
                let (at, by) = (place(to), place(from));
                if !self.cut.contains(&(by, at)) && self.members[at].me == to {
                    self.turn(at, Input::Message { from, message });
                }
            }
            Event::Written { at, boot } => {
                let member = &mut self.members[at];
                if member.raft.is_none() || member.boots != boot {
                    return;
                }
                let Some(write) = member.queue.pop_front() else {
                    return;
                };
                member.disk.write(&write);
                self.turn(at, Input::Persisted { upto: write.seq });
            }
            Event::Fetched { at, boot, upto } => self.fetched(at, boot, upto),
            Event::Drained { at } => self.settle(at),
            Event::Timer { at } => {
                let due = self.members[at].raft.as_ref().and_then(Raft::next_deadline);
                self.members[at].timer = None;
                if due.is_some_and(|due| due.0 <= self.now) {
                    self.turn(at, Input::Timer);
                } else {
                    self.set_timer(at);
                }
            }
        }
    }

    pub(crate) fn turn(&mut self, at: usize, input: Input) {
        let is_change = matches!(input, Input::Change { .. });
        if is_change || matches!(input, Input::PersistFailed) {
            // What was committed before is judged by the configuration of before, and was given to a
            // disk that still worked.
            self.settle(at);
        }
        let now = Micros(self.now);
        let Some(raft) = &mut self.members[at].raft else {
            return;
        };
        (self.now, at, &input).hash(&mut self.trace);
        raft.handle(now, input);
        // A host may give several inputs before it asks for what comes of them. Who may be lost depends on the
        // configurations that there are, so those are asked for at once.
        if self.dice.percent(BATCHED_PERCENT) && !is_change {
            let wait = self.dice.below(2 * MILLI);
            self.schedule(wait, Event::Drained { at });
        } else {
            self.settle(at);
        }
    }

    /// Performs what a member wants, and looks at everything.
    pub(crate) fn settle(&mut self, at: usize) {
        let now = Micros(self.now);
        let mut effects = Vec::new();
        let Some(raft) = &mut self.members[at].raft else {
            return;
        };
        raft.drain(now, &mut effects);
        let status = raft.status(now);
        for effect in effects {
            self.perform(at, &status, effect);
        }
        let member = &self.members[at];
        if status.role == Role::Leader {
            self.oracle.leads(status.term, member.me, &member.log);
        }
        self.set_timer(at);
        assert!(
            self.events.len() < FLIGHTS_MAX,
            "seed {}: a storm",
            self.seed
        );
    }

    fn perform(&mut self, at: usize, status: &Status, effect: Effect) {
        let me = self.members[at].me;
        self.ends_change(me, &effect);
        match effect {
            Effect::Persist(write) => self.persist(at, write),
            Effect::Install { seq, stretch } => self.install(at, seq, &stretch),
            Effect::Fetch { upto, .. } => self.fetch(at, upto.index),
            Effect::Send { to, message } => self.send(at, to, message),
            Effect::SendLog(send) => self.send_log(at, &send),
            Effect::Committed(entries) => {
                for committed in entries {
                    let member = &mut self.members[at];
                    member.handed += 1;
                    assert_eq!(committed.entry.id.index.0, member.handed, "{me}: a gap");
                    let held = member.log.get(member.handed as usize - 1);
                    assert_eq!(held, Some(&committed.entry), "{me} committed a stranger");
                    let disks = self.members.iter().map(|m| (m.me, &m.disk)).collect();
                    self.oracle.commits(&committed, me.id, status, &disks);
                }
            }
            Effect::Fate { id, fate } => self.oracle.fate(id, fate, me.id),
            Effect::ReadReady { id, index } => self.oracle.read(id, Some(index.0), me.id),
            Effect::ReadFailed { id, .. } => self.oracle.read(id, None, me.id),
            Effect::RoleChanged { .. }
            | Effect::TransferEnded { .. }
            | Effect::ChangeEnded { .. }
            | Effect::ConfigChanged { .. }
            | Effect::StretchRefused { .. }
            | Effect::Removed { .. } => {}
            Effect::Forgot => panic!("seed {}: {me} forgets, and its disk has not", self.seed),
            Effect::Halt { reason } => panic!("seed {}: {me} halts: {reason}", self.seed),
        }
    }

    pub(crate) fn persist(&mut self, at: usize, write: Persist) {
        if let Some(from) = write.truncate_from {
            let member = &mut self.members[at];
            assert!(from.0 > member.handed, "{}: a commit was cut", member.me);
            member.log.truncate(from.0 as usize - 1);
        }
        for entry in &write.append {
            self.follows(at, entry);
            self.members[at].log.push(entry.clone());
        }
        let member = &mut self.members[at];
        if let Some(hard) = write.hard {
            let before = member.queue.iter().rev().find_map(|write| write.hard);
            let before = before.unwrap_or(member.disk.hard);
            assert!(hard.term >= before.term, "{}: an earlier term", member.me);
            assert!(
                hard.term > before.term || before.vote.is_none() || before.vote == hard.vote,
                "{}: two votes in a term",
                member.me
            );
        }
        let kept = member.log.len() - write.append.len();
        for (at, entry) in (kept..).zip(&write.append) {
            let before = at
                .checked_sub(1)
                .map_or(Term(0), |at| member.log[at].id.term);
            self.oracle.holds(entry, before);
        }
        member.queue.push_back(write);
        let boot = member.boots;
        let slow = !self.peace && self.slow_disk == Some(at);
        let last = if slow { 400 * MILLI } else { 3 * MILLI };
        let wait = 50 + self.dice.below(last);
        self.schedule(wait, Event::Written { at, boot });
    }

    fn send(&mut self, from: usize, to: NodeRef, message: Message) {
        let member = &self.members[from];
        Oracle::sends(member.me, to, &message, &member.disk);
        let from = member.me;
        assert_ne!(from, to, "a message to itself: {message:?}");
        if self.dice.percent(self.loss) {
            return;
        }
        let copies = 1 + usize::from(!self.peace && self.dice.percent(3));
        for _ in 0..copies {
            let late = !self.peace && self.dice.percent(3);
            let last = if late { 600 * MILLI } else { 4 * MILLI };
            let wait = 50 + self.dice.below(last);
            let message = message.clone();
            self.schedule(wait, Event::Flight { from, to, message });
        }
    }

    fn send_log(&mut self, at: usize, send: &SendLog) {
        if !self.peace && self.dice.percent(20) {
            return;
        }
        let (first, mut bytes) = (send.head.prev.index.0 as usize, 0);
        let disk = &self.members[at].disk;
        if first < disk.base.0 as usize {
            return;
        }
        let entries = disk.log[first..send.last.0 as usize]
            .iter()
            .take_while(|entry| {
                let fits = bytes == 0 || bytes + entry.body.len() as u64 <= send.bytes_max;
                bytes += entry.body.len().max(1) as u64;
                fits
            })
            .cloned()
            .collect();
        let body = Body::Append {
            head: send.head,
            entries,
        };
        let message = Message {
            term: send.term,
            body,
        };
        self.send(at, send.to, message);
    }

    fn set_timer(&mut self, at: usize) {
        let member = &mut self.members[at];
        let due = member.raft.as_ref().and_then(Raft::next_deadline);
        if due.is_some() && member.timer.is_none_or(|timer| due < Some(timer)) {
            member.timer = due;
            let wait = due.map_or(0, |due| due.0.saturating_sub(self.now));
            self.schedule(wait, Event::Timer { at });
        }
    }

    pub(crate) fn schedule(&mut self, wait: u64, event: Event) {
        self.born += 1;
        self.events.insert(self.born, event);
        self.agenda.push(Reverse((self.now + wait, self.born)));
    }
}

impl Member {
    pub(crate) fn new(me: NodeRef, config: Membership, boots: u64) -> Self {
        Self {
            me,
            config,
            exists: false,
            raft: None,
            disk: Disk::default(),
            queue: VecDeque::new(),
            staged: Vec::new(),
            log: Vec::new(),
            handed: 0,
            boots,
            timer: None,
        }
    }
}

/// Where a member stands.
fn place(node: NodeRef) -> usize {
    node.id.0 as usize - 1
}

fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id * 7),
    }
}
