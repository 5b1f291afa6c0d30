//! What the journal says, as its frames are applied one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kontiki_raft::{Entry, Hard, Index, Kind, LogId};
use kontiki_wire::{GroupId, Offset};

use crate::{
    journal::{
        begin::End,
        frame::{self, Frame, Invalid, Position},
        op::{self, Op, Standing},
    },
    planted::{Planted, plants},
};

/// A group as the journal tells it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ReplayedGroup {
    pub(crate) hard: Hard,
    pub(crate) commit: Index,
    pub(crate) base: LogId,
    pub(crate) base_offset: Offset,
    /// Entries up to it were durable in segments when the journal last said so.
    pub(crate) kept: Index,
    /// The end of the log. `entries` ends here; what is before them must be in segments.
    pub(crate) last: Index,
    pub(crate) entries: VecDeque<Entry>,
}

/// Where the journal is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) file: u32,
    pub(crate) at: u64,
    pub(crate) what: String,
}

/// What the journal holds.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) groups: BTreeMap<GroupId, ReplayedGroup>,
    /// Groups that were removed, and not born anew since; their files may still be there.
    pub(crate) removed: BTreeSet<GroupId>,
    /// One sentence for each damage found just now.
    pub(crate) damage: Vec<String>,
    /// One sentence for each damage that was found at an earlier start, and from which groups may still
    /// be recovering.
    pub(crate) reasons: Vec<String>,
    /// Where the damage found just now is.
    pub(crate) spots: Vec<Spot>,
    /// After damage: the last entry of each group in whatever frames are still valid.
    pub(crate) seen: BTreeMap<GroupId, Index>,
    /// Only what is said of entries is wanted, not their bodies.
    pub(crate) bodiless: bool,
    /// What was cut.
    pub(crate) torn: Option<String>,
    /// Where the newest file ends; the default if there is none.
    pub(crate) end: End,
    /// How far the journal was known to be synced when its last frame was written.
    pub(crate) synced: Position,
    /// The first file that is needed until a new one has taken over everything.
    pub(crate) first_needed: u32,
    /// The newest file that was begun, 0 if none was.
    pub(crate) newest: u32,
    /// The file that the newest one says goes on, if it does: until a new one is begun, its name must
    /// stay.
    pub(crate) turned_to: Option<u32>,
    /// Every file there is.
    pub(crate) files: Vec<u32>,
}

impl Replay {
    pub(crate) fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Invalid> {
        if frame.header.kind != frame::Kind::Operations {
            return Ok(());
        }
        for op in op::decode(frame.ops, frame.bodies)? {
            self.apply_op(op)?;
        }
        Ok(())
    }

    fn apply_op(&mut self, op: Op) -> Result<(), Invalid> {
        let bodiless = self.bodiless;
        match op {
            Op::Persist {
                group,
                hard,
                truncate_from,
                entries,
                commit,
            } => {
                // One that was removed may be born anew.
                self.removed.remove(&group);
                let group = self.groups.entry(group).or_default();
                if let Some(hard) = hard {
                    group.hard = hard;
                }
                group.commit = group.commit.max(commit);
                let late = plants(Planted::TruncateAfterAppend);
                if let Some(from) = truncate_from.filter(|_| !late) {
                    group.truncate(from);
                }
                group.append(entries, bodiless)?;
                if let Some(from) = truncate_from.filter(|_| late) {
                    group.truncate(from);
                }
                Ok(())
            }
            Op::Standing(standing) => {
                self.removed.remove(&standing.group);
                let group = self.groups.entry(standing.group).or_insert_with(|| {
                    let last = standing.last;
                    ReplayedGroup {
                        last,
                        ..ReplayedGroup::default()
                    }
                });
                if group.last != standing.last {
                    return Err(Invalid::Meaning(
                        "a group does not end where this file says it ended",
                    ));
                }
                group.stand(&standing);
                Ok(())
            }
            Op::Whole { standing, entries } => {
                self.removed.remove(&standing.group);
                let group = self.groups.entry(standing.group).or_default();
                group.stand(&standing);
                group.entries.clear();
                group.last = standing.kept;
                group.append(entries, bodiless)?;
                if group.last != standing.last {
                    return Err(Invalid::Meaning(
                        "a group's entries are not those that this file says it has",
                    ));
                }
                Ok(())
            }
            Op::Removed(group) => {
                self.groups.remove(&group);
                self.removed.insert(group);
                Ok(())
            }
        }
    }

    pub(crate) fn apply_hards(&mut self, frame: &Frame<'_>) {
        if frame.header.kind != frame::Kind::Operations {
            return;
        }
        for op in op::decode(frame.ops, frame.bodies).unwrap_or_default() {
            if let Op::Persist { group, entries, .. } = &op
                && let Some(last) = entries.last()
            {
                let seen = self.seen.entry(*group).or_default();
                *seen = last.id.index.max(*seen);
            }
            let (group, hard) = match op {
                Op::Persist {
                    group,
                    hard: Some(hard),
                    ..
                } => (group, hard),
                Op::Standing(standing) | Op::Whole { standing, .. } => {
                    (standing.group, standing.hard)
                }
                Op::Removed(group) => {
                    self.groups.remove(&group);
                    continue;
                }
                Op::Persist { .. } => continue,
            };
            let known = &mut self.groups.entry(group).or_default().hard;
            let votes = hard.term == known.term && hard.vote.is_some();
            if hard.term > known.term || votes {
                *known = hard;
            }
        }
    }
}

impl ReplayedGroup {
    fn stand(&mut self, standing: &Standing) {
        self.hard = standing.hard;
        self.commit = standing.commit;
        self.base = standing.base;
        self.base_offset = standing.base_offset;
        self.kept = standing.kept;
    }

    fn truncate(&mut self, from: Index) {
        if from > self.last {
            return;
        }
        let held = self.entries.len() as u64;
        let cut = (self.last.0 - from.0 + 1).min(held);
        self.entries.truncate((held - cut) as usize);
        self.last = from.prev();
    }

    /// The first entry that the journal has; the one after the last if it has none.
    pub(crate) fn in_journal_from(&self) -> Index {
        Index(self.last.0 - self.entries.len() as u64).next()
    }

    fn append(&mut self, entries: Vec<Entry>, bodiless: bool) -> Result<(), Invalid> {
        for mut entry in entries {
            if bodiless && entry.kind == Kind::Batch {
                entry.body = Bytes::new();
            }
            if Some(entry.id.index.0) != self.last.0.checked_add(1) {
                return Err(Invalid::Meaning(
                    "an entry does not follow the one before it",
                ));
            }
            self.last = entry.id.index;
            self.entries.push_back(entry);
        }
        Ok(())
    }
}
