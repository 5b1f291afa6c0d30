//! A member's disk as the core's contract has it: writes arrive in the order they were emitted, each
//! whole or not at all.

use std::collections::BTreeMap;

use kontiki_raft::{Boot, Entry, Hard, Index, LogId, Membership, NodeRef, Persist, Term};

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: Hard,
    /// From index 1 on: nothing is ever compacted here.
    pub(crate) log: Vec<Entry>,
    pub(crate) commit: Index,
    /// Promises were lost, and no write has arrived since.
    pub(crate) forgot: bool,
}

impl Disk {
    /// The write has arrived.
    pub(crate) fn write(&mut self, write: &Persist) {
        self.hard = write.hard.unwrap_or(self.hard);
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
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for LogId { term, index } in self.log.iter().map(|entry| entry.id) {
            if terms.last().is_none_or(|run| run.1 != term) {
                terms.push((index, term));
            }
        }
        Boot {
            me,
            fresh,
            forgot: self.forgot,
            hard: self.hard,
            base: LogId::ORIGIN,
            base_config: (Index(0), config.clone()),
            terms,
            configs: BTreeMap::new(),
            last: Index(self.log.len() as u64),
            commit: self.commit,
            applied: Index(0),
            tail: self.log.clone(),
        }
    }
}
