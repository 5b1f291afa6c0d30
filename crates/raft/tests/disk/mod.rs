//! A member's disk as the core's contract has it: writes arrive in the order they were emitted, each
//! whole or not at all.

use std::collections::BTreeMap;

use kontiki_raft::{
    Boot, Entry, Hard, Index, Kind, LogId, Membership, NodeRef, Persist, Stretch, Term, WriteSeq,
};

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: Hard,
    /// From index 1 on, what is compacted included: nobody may ask for that, but promises hang on it.
    pub(crate) log: Vec<Entry>,
    /// How much of it is compacted.
    pub(crate) base: Index,
    /// The configuration in force there, if anything is.
    pub(crate) base_config: Option<(Index, Membership)>,
    /// Writes on their way that put a stretch with another base in the log's place.
    pub(crate) installs: BTreeMap<WriteSeq, (Index, (Index, Membership))>,
    pub(crate) commit: Index,
    /// Promises were lost, and no write has arrived since.
    pub(crate) forgot: bool,
}

impl Disk {
    /// The write has arrived.
    pub(crate) fn write(&mut self, write: &Persist) {
        self.hard = write.hard.unwrap_or(self.hard);
        if let Some((base, config)) = self.installs.remove(&write.seq) {
            self.base = base;
            self.base_config = Some(config);
        }
        if let Some(from) = write.truncate_from {
            self.log.truncate(from.0 as usize - 1);
        }
        for entry in &write.append {
            let next = self.log.len() as u64 + 1;
            assert_eq!(entry.id.index.0, next, "a write left a gap in the log");
            self.log.push(entry.clone());
        }
        self.commit = write.commit;
        self.forgot = false;
    }

    /// Everything is lost but the first entries, and the knowledge that there was more.
    pub(crate) fn lose(&mut self, kept: usize) {
        self.log.truncate(kept);
        self.hard = Hard::default();
        self.base = Index(0);
        self.base_config = None;
        self.installs.clear();
        self.commit = Index(0);
        self.forgot = true;
    }

    /// The loss itself is on the disk, as storage sees to it when it finds a part damaged.
    #[allow(dead_code, reason = "for the explorer, which has states enough")]
    pub(crate) fn note(&mut self) {
        self.hard.recovering = true;
        self.forgot = false;
    }

    /// Whether it may have held more than it does.
    pub(crate) fn is_forgetful(&self) -> bool {
        self.forgot || self.hard.recovering
    }

    /// What a start finds. The state machine is in memory, so that everything is applied anew.
    pub(crate) fn boot(&self, me: NodeRef, config: &Membership, fresh: bool) -> Boot {
        let base = self.base.0 as usize;
        Boot {
            me,
            fresh,
            forgot: self.forgot,
            hard: self.hard,
            base: self.id_at(base),
            base_config: self.config_at(base, config),
            terms: runs(&self.log[base..]),
            configs: BTreeMap::new(),
            last: Index(self.log.len() as u64),
            commit: self.commit.max(self.base),
            applied: self.base,
            tail: self.log[base..].to_vec(),
        }
    }

    /// What this disk has to give of what is committed, up to `last`, with a checkpoint of `applied`.
    #[allow(dead_code, reason = "for those whose logs are compacted")]
    pub(crate) fn stretch(&self, config: &Membership, applied: usize, last: usize) -> Stretch {
        let base = self.base.0 as usize;
        let applied = applied.clamp(base, last);
        let configs = self.log[base..applied].iter().filter_map(config_of);
        Stretch {
            base: self.id_at(base),
            base_config: self.config_at(base, config),
            terms: runs(&self.log[base..last]),
            configs: configs.collect(),
            last: Index(last as u64),
            applied: Index(applied as u64),
            tail: self.log[applied..last].to_vec(),
            time: self.log[last - 1].time,
        }
    }

    /// The write that puts a stretch in the place of this log, whose entries up to its end are `all`.
    #[allow(dead_code, reason = "for those whose logs are compacted")]
    pub(crate) fn install(
        &mut self,
        seq: WriteSeq,
        stretch: &Stretch,
        log: &[Entry],
        all: &[Entry],
    ) -> Persist {
        let joins = stretch.base == LogId::ORIGIN
            || log.get(stretch.base.index.0 as usize - 1).map(|e| e.id) == Some(stretch.base);
        if !joins {
            let config = stretch.base_config.clone();
            self.installs.insert(seq, (stretch.base.index, config));
        }
        let all = &all[..stretch.last.0 as usize];
        let same = log.iter().zip(all).take_while(|(a, b)| a == b).count();
        Persist {
            seq,
            hard: None,
            truncate_from: Some(Index(same as u64 + 1)),
            append: all[same..].to_vec(),
            commit: stretch.last,
        }
    }

    fn id_at(&self, index: usize) -> LogId {
        let before = index.checked_sub(1).map(|at| self.log[at].id);
        before.unwrap_or(LogId::ORIGIN)
    }

    /// The configuration in force after so many entries, `founding` being that before the first.
    fn config_at(&self, count: usize, founding: &Membership) -> (Index, Membership) {
        let base = self.base.0 as usize;
        let last = self.log[base..count].iter().rev().find_map(config_of);
        last.or_else(|| self.base_config.clone())
            .unwrap_or_else(|| (Index(0), founding.clone()))
    }
}

/// The runs of terms.
fn runs(log: &[Entry]) -> Vec<(Index, Term)> {
    let mut terms: Vec<(Index, Term)> = Vec::new();
    for LogId { term, index } in log.iter().map(|entry| entry.id) {
        if terms.last().is_none_or(|run| run.1 != term) {
            terms.push((index, term));
        }
    }
    terms
}

/// The configuration that an entry holds, and where.
fn config_of(entry: &Entry) -> Option<(Index, Membership)> {
    let config = (entry.kind == Kind::Config).then(|| Membership::decode(&entry.body))?;
    Some((entry.id.index, config?))
}
