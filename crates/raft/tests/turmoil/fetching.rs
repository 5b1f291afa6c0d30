//! Logs are dropped from the front, and who needs what is gone fetches it from whoever has it.

use kontiki_raft::{Index, Input, Micros, Raft, Stretch, WriteSeq};

use crate::turmoil::world::{Event, World};

const MILLI: u64 = 1_000;

impl World {
    /// A member drops a part of its log, sometimes more than it should.
    pub(crate) fn compact(&mut self, at: usize) {
        let now = Micros(self.now);
        let Some(raft) = &self.members[at].raft else {
            return;
        };
        let floor = raft.compaction_floor(now).0;
        let upto = match self.dice.percent(50) {
            true => floor,
            false => self.dice.below(raft.status(now).last.index.0 + 1),
        };
        self.turn(at, Input::Compacted { upto: Index(upto) });
        let member = &mut self.members[at];
        let Some(raft) = &member.raft else { return };
        let base = raft.status(now).base.index;
        // A stretch that is on its way into the log has its base with it.
        if member.disk.installs.is_empty() && base.0 > 0 {
            member.disk.base = base;
            member.disk.base_config = raft.config_at(base);
        }
    }

    /// A member was told to fetch up to `upto`: it takes a while.
    pub(crate) fn fetch(&mut self, at: usize, upto: Index) {
        let boot = self.members[at].boots;
        let wait = self.dice.below(60 * MILLI);
        self.schedule(wait, Event::Fetched { at, boot, upto });
    }

    /// It has fetched what somebody has to give, and goes on until that is enough.
    pub(crate) fn fetched(&mut self, at: usize, boot: u64, upto: Index) {
        let member = &self.members[at];
        let commit = member.raft.as_ref().map(|raft| self.commit_of(raft));
        if member.boots != boot || commit.is_none_or(|commit| commit >= upto.0) {
            return;
        }
        self.fetch(at, upto);
        let from = self.dice.below(self.members.len() as u64) as usize;
        // What a host gives as committed, its core has told it of.
        self.settle(from);
        let giver = &self.members[from];
        let Some(raft) = giver.raft.as_ref().filter(|_| from != at) else {
            return;
        };
        // What is to be cut is on the disk until the cut has arrived.
        let (disk, log) = (giver.disk.log.iter(), &giver.log);
        let stays = disk.zip(log).take_while(|(one, other)| one.id == other.id);
        let known = self.commit_of(raft).min(stays.count() as u64);
        let first = giver.disk.base.0;
        if known < first.max(1) {
            return;
        }
        let last = match self.dice.percent(30) {
            true => first.max(1) + self.dice.below(known - first.max(1) + 1),
            false => known,
        };
        let applied = self.dice.below(last + 1);
        let giver = &self.members[from];
        let stretch = giver
            .disk
            .stretch(&giver.config, applied as usize, last as usize);
        // What was fetched before may be on its way into the log still, and begins with the same.
        if known as usize > self.members[at].staged.len() {
            let committed = &self.members[from].disk.log[..known as usize];
            self.members[at].staged = committed.to_vec();
        }
        self.turn(at, Input::Arrived(Box::new(stretch)));
    }

    /// A stretch is to take the log's place.
    pub(crate) fn install(&mut self, at: usize, seq: WriteSeq, stretch: &Stretch) {
        let member = &mut self.members[at];
        let write = member
            .disk
            .install(seq, stretch, &member.log, &member.staged);
        self.persist(at, write);
        let member = &mut self.members[at];
        member.handed = member.handed.max(stretch.applied.0);
        self.installed += 1;
    }

    fn commit_of(&self, raft: &Raft) -> u64 {
        raft.status(Micros(self.now)).commit.0
    }
}
