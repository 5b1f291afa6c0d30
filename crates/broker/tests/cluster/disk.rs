//! A disk that forgets at a crash what was not synced, and what the host's storage makes of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kontiki_broker::{GroupBoot, GroupWrite, Writes};
use kontiki_raft::{Boot, Entry, Hard, Index, Kind, LogId, Membership, NodeRef, Term};
use kontiki_wire::GroupId;

use crate::chance::Chance;

/// One group's log.
#[derive(Clone, Debug, Default)]
struct Log {
    hard: Hard,
    /// The entry with index 1 first.
    entries: Vec<Entry>,
    commit: Index,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// As the running process sees it.
    seen: BTreeMap<GroupId, Log>,
    /// As a crash leaves it.
    synced: BTreeMap<GroupId, Log>,
    unsynced: VecDeque<(u64, Vec<GroupWrite>)>,
    removing: Vec<GroupId>,
    /// Oldest first; a crash may lose the later ones that are not `kept`.
    checkpoints: BTreeMap<GroupId, Vec<(LogId, Bytes)>>,
    /// How many of a group's checkpoints no crash loses.
    kept: BTreeMap<GroupId, usize>,
}

impl Disk {
    /// A disk on which a new cluster's own group has just been laid out.
    pub(crate) fn boots(&self, me: NodeRef) -> Vec<GroupBoot> {
        if self.synced.is_empty() {
            return vec![GroupBoot {
                group: GroupId::CLUSTER,
                boot: boot(me, &Log::default(), Index(0), true),
                checkpoint: None,
                missing: Vec::new(),
                damage: String::new(),
            }];
        }
        let mut boots: Vec<_> = self
            .synced
            .iter()
            .map(|(group, log)| self.boot(me, *group, log))
            .collect();
        if !self.synced.contains_key(&GroupId::CLUSTER) {
            boots.push(self.boot(me, GroupId::CLUSTER, &Log::default()));
        }
        boots
    }

    fn boot(&self, me: NodeRef, group: GroupId, log: &Log) -> GroupBoot {
        let checkpoint = self.checkpoints.get(&group).and_then(|all| {
            let reached = |(at, _): &&(LogId, Bytes)| log.id(at.index) == Some(*at);
            all.iter().rev().find(reached).cloned()
        });
        let applied = checkpoint.as_ref().map_or(Index(0), |(at, _)| at.index);
        GroupBoot {
            group,
            boot: boot(me, log, applied, false),
            checkpoint,
            missing: Vec::new(),
            damage: String::new(),
        }
    }

    pub(crate) fn queue(&mut self, writes: Writes) {
        for write in &writes.writes {
            self.seen.entry(write.group).or_default().apply(write);
        }
        self.unsynced.push_back((writes.seq, writes.writes));
    }

    /// Everything up to a write is on the disk now.
    pub(crate) fn sync(&mut self, upto: u64) {
        while self.unsynced.front().is_some_and(|(seq, _)| *seq <= upto) {
            let (_, writes) = self.unsynced.pop_front().unwrap();
            for write in writes {
                self.synced.entry(write.group).or_default().apply(&write);
            }
        }
    }

    /// The power goes: of what was not synced a part may have arrived, always from the front.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        if chance.permille(500) {
            self.gone();
        }
        self.removing.clear();
        let unsynced = std::mem::take(&mut self.unsynced);
        let writes: Vec<_> = unsynced
            .into_iter()
            .flat_map(|(_, writes)| writes)
            .collect();
        let arrived = chance.between(0, writes.len() as u64 + 1) as usize;
        for write in &writes[..arrived] {
            self.synced.entry(write.group).or_default().apply(write);
        }
        self.seen = self.synced.clone();
        for (group, all) in &mut self.checkpoints {
            let kept = self.kept.get(group).copied().unwrap_or(0);
            let lost = chance.between(0, (all.len() - kept) as u64 + 1) as usize;
            all.truncate(all.len() - lost);
        }
    }

    pub(crate) fn checkpoint(&mut self, group: GroupId, at: LogId, state: Bytes) {
        let all = self.checkpoints.entry(group).or_default();
        if all.len() == 8 {
            all.remove(0);
            let kept = self.kept.entry(group).or_default();
            *kept = kept.saturating_sub(1);
        }
        all.push((at, state));
    }

    /// No crash loses a checkpoint that is there now.
    pub(crate) fn keep_checkpoints(&mut self) {
        let counts = self
            .checkpoints
            .iter()
            .map(|(group, all)| (*group, all.len()));
        self.kept = counts.collect();
    }

    /// A group's files go.
    /// Until the next sync, the removal itself may be undone by a crash.
    pub(crate) fn remove(&mut self, group: GroupId) {
        self.seen.remove(&group);
        self.removing.push(group);
    }

    /// Groups that are gone for good since the last call.
    pub(crate) fn gone(&mut self) -> Vec<GroupId> {
        let gone = std::mem::take(&mut self.removing);
        for group in &gone {
            self.synced.remove(group);
            for (_, writes) in &mut self.unsynced {
                writes.retain(|write| write.group != *group);
            }
            self.checkpoints.remove(group);
            self.kept.remove(group);
        }
        gone
    }

    pub(crate) fn entry(&self, group: GroupId, index: Index) -> Option<&Entry> {
        self.seen.get(&group)?.entries.get(index.0 as usize - 1)
    }

    pub(crate) fn entries(&self, group: GroupId, first: Index, last: Index) -> Vec<Entry> {
        let Some(log) = self.seen.get(&group) else {
            return Vec::new();
        };
        let last = (last.0 as usize).min(log.entries.len());
        let first = first.0 as usize - 1;
        log.entries.get(first..last).unwrap_or_default().to_vec()
    }
}

impl Log {
    fn apply(&mut self, write: &GroupWrite) {
        let persist = &write.persist;
        if let Some(hard) = persist.hard {
            assert!(hard.term >= self.hard.term, "a term never goes back");
            self.hard = hard;
        }
        if let Some(from) = persist.truncate_from {
            self.entries.truncate(from.0 as usize - 1);
        }
        for entry in &persist.append {
            assert_eq!(
                entry.id.index.0,
                self.entries.len() as u64 + 1,
                "group {} {:?}",
                write.group,
                write
            );
            assert_eq!(entry.checksum, kontiki_wire::entry_checksum(&entry.body));
            self.entries.push(entry.clone());
        }
        self.commit = self.commit.max(persist.commit);
    }

    fn id(&self, index: Index) -> Option<LogId> {
        let at = (index.0 as usize).checked_sub(1)?;
        self.entries.get(at).map(|entry| entry.id)
    }
}

fn boot(me: NodeRef, log: &Log, applied: Index, fresh: bool) -> Boot {
    let last = Index(log.entries.len() as u64);
    let mut terms: Vec<(Index, Term)> = Vec::new();
    for entry in &log.entries {
        if terms.last().is_none_or(|(_, term)| *term != entry.id.term) {
            terms.push((entry.id.index, entry.id.term));
        }
    }
    Boot {
        me,
        fresh,
        forgot: false,
        hard: log.hard,
        base: LogId::ORIGIN,
        base_config: (Index(0), Membership::default()),
        terms,
        configs: log.entries[..applied.0 as usize]
            .iter()
            .filter(|entry| entry.kind == Kind::Config)
            .map(|entry| (entry.id.index, Membership::decode(&entry.body).unwrap()))
            .collect(),
        last,
        commit: log.commit.min(last).max(applied),
        applied,
        tail: log.entries[applied.0 as usize..].to_vec(),
    }
}
