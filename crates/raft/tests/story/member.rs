//! One member of a story: the core, its disk and the writes on their way there.

use std::collections::VecDeque;

use kontiki_raft::{
    Effect, Entry, Input, Membership, Micros, NodeRef, Persist, Raft, Role, Settings, Stretch,
    WriteSeq,
};

use crate::{disk::Disk, promises::View};

/// A member, running or not.
pub(crate) struct Member {
    pub(crate) me: NodeRef,
    config: Membership,
    seed: u64,
    pub(crate) disk: Disk,
    pub(crate) queue: VecDeque<Persist>,
    /// Its writes wait.
    pub(crate) held: bool,
    pub(crate) raft: Option<Raft>,
    /// What it has fetched, from the first entry on.
    pub(crate) staged: Vec<Entry>,
    /// Disk and queue together: what the running member takes for its log.
    log: Vec<Entry>,
    /// The configuration in force there.
    counted: Membership,
}

impl Member {
    /// One that never ran.
    pub(crate) fn new(me: NodeRef, config: Membership, seed: u64) -> Self {
        Self {
            me,
            seed: seed.wrapping_mul(1_000).wrapping_add(me.id.0),
            disk: Disk::default(),
            queue: VecDeque::new(),
            held: false,
            raft: None,
            staged: Vec::new(),
            log: Vec::new(),
            counted: config.clone(),
            config,
        }
    }

    /// Starts it from its disk.
    pub(crate) fn start(
        &mut self,
        settings: &Settings,
        now: Micros,
        fresh: bool,
    ) -> Result<(), String> {
        self.seed = self.seed.wrapping_add(1_000_000);
        let boot = self.disk.boot(self.me, &self.config, fresh);
        let raft = Raft::new(settings.clone(), boot, self.seed, now);
        self.raft = Some(raft.map_err(|error| error.to_string())?);
        self.queue.clear();
        self.log = self.disk.log.clone();
        Ok(())
    }

    /// It dies; the first `keep` of its writes had reached the disk.
    pub(crate) fn crash(&mut self, keep: usize) {
        for write in self.queue.drain(..).take(keep) {
            self.disk.write(&write);
        }
        self.disk.installs.clear();
        self.log = self.disk.log.clone();
        self.raft = None;
    }

    /// It dies, and its disk loses everything but so many entries.
    pub(crate) fn forget(&mut self, entries: usize) {
        self.crash(0);
        self.disk.lose(entries);
        self.log = self.disk.log.clone();
    }

    /// Up to `count` writes reach the disk: what comes back, and which they were.
    pub(crate) fn persist(&mut self, count: usize) -> Option<(Input, Vec<WriteSeq>)> {
        let count = count.min(self.queue.len());
        let mut arrived = Vec::new();
        for write in self.queue.drain(..count) {
            self.disk.write(&write);
            arrived.push(write.seq);
        }
        let upto = *arrived.last()?;
        Some((Input::Persisted { upto }, arrived))
    }

    /// Takes in one thing, and gives what followed. `None` if it does not run.
    pub(crate) fn turn(&mut self, now: Micros, input: Option<Input>) -> Option<Turn> {
        let raft = self.raft.as_mut()?;
        let mut before = raft.clone();
        let mut effects = Vec::new();
        if let Some(input) = input {
            raft.handle(now, input);
        }
        raft.drain(now, &mut effects);
        // The clock alone is no change.
        before.handle(now, NOTHING);
        before.drain(now, &mut Vec::new());
        let idle = effects.is_empty() && before == *raft;
        for effect in &effects {
            if let Effect::Install { seq, stretch } = effect {
                let write = self.disk.install(*seq, stretch, &self.log, &self.staged);
                let from = write.truncate_from.map_or(0, |i| i.0 as usize - 1);
                self.log.truncate(from);
                self.log.extend(write.append.iter().cloned());
                self.queue.push_back(write);
            }
            if let Effect::Persist(write) = effect {
                let from = write
                    .truncate_from
                    .map_or(self.log.len(), |i| i.0 as usize - 1);
                self.log.truncate(from);
                self.log.extend(write.append.iter().cloned());
                self.queue.push_back(write.clone());
            }
        }
        self.counted = raft.status(now).config;
        Some(Turn { effects, idle })
    }

    /// Whether it has anything to give, up to `last` if that is said.
    pub(crate) fn has(&self, last: Option<usize>) -> bool {
        let base = self.disk.base.0 as usize;
        base <= last.unwrap_or(self.disk.log.len()) && self.raft.is_some()
    }

    /// What it has to give of what it knows to be committed, up to `last` if that is said.
    pub(crate) fn give(&self, applied: Option<usize>, last: Option<usize>) -> Stretch {
        let commit = self
            .raft
            .as_ref()
            .map_or(0, |raft| raft.status(Micros(0)).commit.0);
        let last = last.unwrap_or(commit as usize).min(self.disk.log.len());
        self.disk
            .stretch(&self.config, applied.unwrap_or(last), last)
    }

    /// What promises are checked on. Of one that is down, only the disk is seen.
    pub(crate) fn view(&self) -> View<'_> {
        let status = self.raft.as_ref().map(|raft| raft.status(Micros(0)));
        let role = status.as_ref().map(|status| status.role);
        let commit = status.as_ref().map_or(0, |status| status.commit.0);
        View {
            me: self.me,
            term: status
                .as_ref()
                .map_or(self.disk.hard.term, |status| status.term),
            leads: role == Some(Role::Leader),
            config: &self.counted,
            log: &self.log,
            commit: commit as usize,
            disk: &self.disk.log,
            forgot: self.disk.is_forgetful(),
        }
    }
}

/// What followed from an input.
pub(crate) struct Turn {
    pub(crate) effects: Vec<Effect>,
    /// Nothing at all changed.
    pub(crate) idle: bool,
}

/// An input that changes nothing but the clock.
const NOTHING: Input = Input::Persisted { upto: WriteSeq(0) };
