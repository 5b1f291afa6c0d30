//! What every member's disk and log must hold and what is committed, as it follows from what they were
//! seen to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kontiki_broker::{Effect, GroupBoot, Input, Placed, Writes};
use kontiki_raft::{
    Entry, Hard, Index, Kind, LogId, Membership, NodeId, NodeRef, Persist, Role, Term,
};
use kontiki_wire::GroupId;

use crate::invariants::{Observation, Sighting};

/// An entry in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) term: Term,
    /// Of the body; `None` if it came to the disk unseen.
    pub(super) checksum: Option<u32>,
}

/// An entry that was applied somewhere, and where its records went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Committed {
    pub(super) held: Held,
    pub(super) offset: u64,
    pub(super) count: u32,
}

/// One member's replica of one group.
#[derive(Clone, Default, Debug)]
pub(super) struct Replica {
    /// As the running member sees it; the entry with index 1 first.
    log: Vec<Held>,
    /// The configurations in it.
    configs: BTreeMap<Index, Membership>,
    /// The end of what is on the disk and is not about to be replaced.
    pub(super) durable: Index,
    /// As last asked to be written.
    pub(super) hard: Hard,
    pub(super) durable_hard: Hard,
    /// The end of what this life has applied.
    pub(super) applied: Index,
    /// The term in which it leads, by its own word.
    pub(super) leads: Option<Term>,
    /// It may have forgotten promises, and has not come home.
    pub(super) recovering: bool,
    /// The disk was harmed since the group was last taken up from it.
    pub(super) harmed: bool,
    /// When it was last taken up from the disk, entries were missing: its log is not known.
    pub(super) unknown: bool,
    /// What was durable, and is known on the disk to have been: all but what the last write brought.
    pub(super) witnessed: (Index, Hard),
}

/// One group's part of a write on its way.
#[derive(Clone, Debug)]
struct Pending {
    seq: u64,
    group: GroupId,
    hard: Option<Hard>,
    truncate_from: Option<Index>,
    last: Index,
}

/// One member.
#[derive(Clone, Default, Debug)]
pub(super) struct Member {
    groups: BTreeMap<GroupId, Replica>,
    pending: VecDeque<Pending>,
    /// What was durable when the disk was harmed or the group removed, if it had not been harmed before:
    /// promises were made of it.
    forgotten: BTreeMap<GroupId, Vec<Held>>,
    /// Groups whose files are on their way out.
    going: BTreeSet<GroupId>,
}

/// How often something rare was seen: a script that wants it can tell whether it came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Elections won, of any group.
    pub elections: u64,
    /// Entries cut from logs, for other entries to stand there.
    pub cut: u64,
    /// Starts of members that had lived before.
    pub restarts: u64,
    /// Removals of a topic's files.
    pub removals: u64,
    /// Appends to followers that were read from files.
    pub read_from_files: u64,
}

/// Everything.
#[derive(Clone, Default, Debug)]
pub(super) struct Ledger {
    pub(super) tally: Tally,
    members: BTreeMap<NodeId, Member>,
    /// By group, the entry with index 1 first.
    committed: BTreeMap<GroupId, Vec<Committed>>,
    /// With whom a group was born.
    founders: BTreeMap<GroupId, Membership>,
}

impl Replica {
    pub(super) fn last(&self) -> Index {
        Index(self.log.len() as u64)
    }

    pub(super) fn held(&self, index: Index) -> Option<Held> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.log.get(at).copied()
    }

    /// The configurations in it after `base`, and where they stand.
    pub(super) fn configs_after(&self, base: Index) -> impl Iterator<Item = (Index, &Membership)> {
        let all = self.configs.iter().map(|(at, config)| (*at, config));
        all.filter(move |(at, _)| *at > base)
    }

    /// The position at an index, the origin included.
    pub(super) fn id(&self, index: Index) -> Option<LogId> {
        if index == LogId::ORIGIN.index {
            return Some(LogId::ORIGIN);
        }
        let term = self.held(index)?.term;
        Some(LogId { term, index })
    }

    fn write(&mut self, persist: &Persist) {
        self.hard = persist.hard.unwrap_or(self.hard);
        if let Some(from) = persist.truncate_from {
            self.log.truncate(position(from));
            self.configs.split_off(&from);
            self.durable = self.durable.min(from.prev());
            self.witnessed.0 = self.witnessed.0.min(from.prev());
        }
        for entry in &persist.append {
            self.log.truncate(position(entry.id.index));
            self.configs.split_off(&entry.id.index);
            self.configs.extend(config(entry));
            self.log.push(held(entry));
        }
    }

    /// Takes up what a start found: what was known of it, as far as it is the same.
    fn start(&mut self, found: &GroupBoot) {
        let boot = &found.boot;
        self.leads = None;
        self.recovering = boot.forgot || boot.hard.recovering;
        self.unknown = !found.missing.is_empty();
        self.harmed = self.unknown;
        if self.harmed {
            // What is missing hides what is there, until it is mended.
            return;
        }
        let last = position(boot.last.next());
        self.log.truncate(last);
        let mut runs = boot.terms.iter().rev().peekable();
        let mut index = boot.last;
        let mut found = Vec::new();
        // Backwards, until what is known agrees: below that, logs with an equal position are equal.
        while index > boot.base.index {
            while runs.peek().is_some_and(|(first, _)| *first > index) {
                runs.next();
            }
            let Some((_, term)) = runs.peek() else { break };
            if self.held(index).is_some_and(|held| held.term == *term) {
                break;
            }
            found.push(Held {
                term: *term,
                checksum: None,
            });
            index = index.prev();
        }
        self.log.truncate(position(index.next()));
        self.log.extend(found.into_iter().rev());
        for entry in &boot.tail {
            if let Some(known) = self.log.get_mut(position(entry.id.index)) {
                *known = held(entry);
            }
        }
        self.configs.clone_from(&boot.configs);
        self.configs.extend(boot.tail.iter().filter_map(config));
        self.durable = boot.last;
        self.hard = boot.hard;
        self.durable_hard = boot.hard;
        self.witnessed = (boot.last, boot.hard);
        self.applied = boot.applied;
    }
}

/// Where an index stands in a vector that begins with index 1.
fn position(index: Index) -> usize {
    usize::try_from(index.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// The configuration that an entry is, and where.
pub(super) fn config(entry: &Entry) -> Option<(Index, Membership)> {
    let config = (entry.kind == Kind::Config).then(|| Membership::decode(&entry.body))??;
    Some((entry.id.index, config))
}

/// Whether these are a majority of a configuration: of both halves if it is joint.
pub(super) fn is_quorum(config: &Membership, yes: impl Fn(NodeId) -> bool) -> bool {
    [&config.voters, &config.outgoing].into_iter().all(|half| {
        let count = half.iter().filter(|voter| yes(voter.id)).count();
        half.is_empty() || count * 2 > half.len()
    })
}

fn held(entry: &Entry) -> Held {
    Held {
        term: entry.id.term,
        checksum: Some(entry.checksum),
    }
}

impl Member {
    fn start(&mut self, groups: &[GroupBoot]) {
        self.pending.clear();
        self.going.clear();
        let mut before = std::mem::take(&mut self.groups);
        for boot in groups {
            let mut replica = before.remove(&boot.group).unwrap_or_default();
            replica.start(boot);
            self.groups.insert(boot.group, replica);
        }
    }

    /// Takes in a write; how many entries it cuts.
    fn write(&mut self, writes: &Writes) -> u64 {
        let mut cut = 0;
        for one in &writes.writes {
            let replica = self.groups.entry(one.group).or_default();
            if let Some(from) = one.persist.truncate_from {
                cut += (replica.last().0 + 1).saturating_sub(from.0);
            }
            replica.write(&one.persist);
            self.pending.push_back(Pending {
                seq: writes.seq,
                group: one.group,
                hard: one.persist.hard,
                truncate_from: one.persist.truncate_from,
                last: replica.last(),
            });
        }
        cut
    }

    fn persisted(&mut self, upto: u64) {
        for replica in self.groups.values_mut() {
            replica.witnessed = (replica.durable, replica.durable_hard);
        }
        while self.pending.front().is_some_and(|one| one.seq <= upto) {
            let Some(done) = self.pending.pop_front() else {
                return;
            };
            let Some(replica) = self.groups.get_mut(&done.group) else {
                continue;
            };
            if let Some(hard) = done.hard {
                replica.durable_hard = hard;
                replica.recovering = hard.recovering;
            }
            let later = self.pending.iter().filter(|one| one.group == done.group);
            let replaced = later.filter_map(|one| one.truncate_from);
            replica.durable = replaced.map(Index::prev).fold(done.last, Index::min);
        }
    }

    /// What it holds of a group.
    pub(super) fn replica(&self, group: GroupId) -> Option<&Replica> {
        self.groups.get(&group)
    }

    /// Everything that it holds.
    pub(super) fn replicas(&self) -> impl Iterator<Item = (GroupId, &Replica)> {
        self.groups.iter().map(|(group, replica)| (*group, replica))
    }
}

impl Ledger {
    pub(super) fn member(&self, member: NodeRef) -> Option<&Member> {
        self.members.get(&member.id)
    }

    pub(super) fn replica(&self, member: NodeRef, group: GroupId) -> Option<&Replica> {
        self.member(member)?.replica(group)
    }

    /// Whether a member has an entry durably, or had it before its disk was harmed. What it has got while
    /// it is recovering is not counted: it has promised none of that.
    pub(super) fn kept(&self, member: NodeId, group: GroupId, id: LogId) -> bool {
        let Some(member) = self.members.get(&member) else {
            return false;
        };
        let replica = member.groups.get(&group);
        let has = |one: &&Replica| one.durable >= id.index && one.id(id.index) == Some(id);
        let now = replica.filter(has).is_some_and(|one| !one.recovering);
        let before = member.forgotten.get(&group);
        now || before
            .and_then(|log| log.get(position(id.index)))
            .is_some_and(|held| held.term == id.term)
    }

    /// The newest position at which any log of a group ends.
    pub(super) fn newest(&self, group: GroupId) -> LogId {
        let logs = self.members.values();
        let logs = logs.filter_map(|member| member.groups.get(&group));
        let ends = logs.filter_map(|replica| replica.id(replica.last()));
        ends.max().unwrap_or(LogId::ORIGIN)
    }

    /// What is committed of a group, the entry with index 1 first.
    pub(super) fn committed(&self, group: GroupId) -> &[Committed] {
        self.committed.get(&group).map_or(&[], Vec::as_slice)
    }

    /// The committed entry at an index.
    pub(super) fn committed_at(&self, group: GroupId, index: Index) -> Option<&Committed> {
        self.committed(group).get(position(index))
    }

    /// Who counts in a group as a member's own log has it: the configuration in force at `since`, with
    /// where it stands, and all after it. None if it is not told with whom the group was born.
    pub(super) fn counted(
        &self,
        member: NodeRef,
        group: GroupId,
        since: Index,
    ) -> Vec<(Index, &Membership)> {
        let configs = self.replica(member, group).map(|it| &it.configs);
        let mut all: Vec<_> = configs
            .into_iter()
            .flatten()
            .map(|(at, config)| (*at, config))
            .collect();
        match self.founders.get(&group) {
            Some(founders) => all.insert(0, (Index(0), founders)),
            None => return Vec::new(),
        }
        let past = all.partition_point(|(at, _)| *at <= since);
        all.split_off(past.saturating_sub(1))
    }

    /// The latest of these.
    pub(super) fn latest(&self, member: NodeRef, group: GroupId) -> Option<(Index, &Membership)> {
        self.counted(member, group, Index(u64::MAX)).pop()
    }

    /// What is known of an entry that a member has applied.
    pub(super) fn applied(
        &self,
        member: NodeRef,
        group: GroupId,
        placed: &Placed,
    ) -> Option<Committed> {
        let held = self.replica(member, group)?.held(placed.index)?;
        Some(Committed {
            held,
            offset: placed.offset.0,
            count: placed.count,
        })
    }

    pub(super) fn observe(&mut self, seen: Sighting<'_>) {
        let again = self.members.contains_key(&seen.member.id);
        let member = self.members.entry(seen.member.id).or_default();
        match seen.what {
            Observation::Started { groups } => {
                member.start(groups);
                self.tally.restarts += u64::from(again);
            }
            Observation::Took {
                input: Input::Persisted { upto },
            } => member.persisted(*upto),
            // Peers gave what was missing: the group is taken up from the disk again, unless it was removed
            // meanwhile.
            Observation::Took {
                input: Input::Mended(found),
            } => {
                if !member.going.contains(&found.group) {
                    member.groups.entry(found.group).or_default().start(found);
                }
            }
            Observation::Took {
                input: Input::Removed { group },
            } => {
                member.going.remove(group);
            }
            Observation::Harmed => {
                for (group, replica) in &mut member.groups {
                    replica.harmed = true;
                    if replica.recovering {
                        continue;
                    }
                    let durable = &replica.log[..position(replica.durable.next())];
                    member.forgotten.insert(*group, durable.to_vec());
                }
            }
            Observation::Does { effect } => self.effect(seen.member, effect),
            Observation::Took { .. } | Observation::Has { .. } | Observation::Died => {}
        }
    }

    fn effect(&mut self, from: NodeRef, effect: &Effect) {
        let member = self.members.entry(from.id).or_default();
        match effect {
            Effect::Persist(writes) => self.tally.cut += member.write(writes),
            Effect::RoleChanged {
                group, term, role, ..
            } => {
                let replica = member.groups.entry(*group).or_default();
                replica.leads = (*role == Role::Leader).then_some(*term);
                self.tally.elections += u64::from(*role == Role::Leader);
            }
            Effect::TopicMade(topic) => {
                member.groups.entry(topic.group).or_default();
                let founders = topic.founders.iter().map(|founder| NodeRef::from(*founder));
                self.founders.insert(topic.group, Membership::of(founders));
            }
            Effect::TopicRemoved(group) => {
                // Promises were made of it, and some have not heard of its end.
                if let Some(replica) = member.groups.remove(group) {
                    member.forgotten.insert(*group, replica.log);
                }
                member.going.insert(*group);
                self.tally.removals += 1;
            }
            Effect::SendLog { .. } => self.tally.read_from_files += 1,
            Effect::Members(members) => {
                // Whoever starts first knows nobody but those with whom the cluster is born.
                let founders = || Membership::of(members.list.iter().map(|member| member.node()));
                let own = self.founders.entry(GroupId::CLUSTER);
                own.or_insert_with(founders);
            }
            Effect::Applied { group, placed, .. } => {
                for one in placed {
                    self.apply(from, *group, one);
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, from: NodeRef, group: GroupId, placed: &Placed) {
        let Some(entry) = self.applied(from, group, placed) else {
            return;
        };
        let member = self.members.entry(from.id).or_default();
        if let Some(replica) = member.groups.get_mut(&group) {
            replica.applied = placed.index;
        }
        let committed = self.committed.entry(group).or_default();
        if position(placed.index) == committed.len() {
            committed.push(entry);
        }
    }
}
