//! Damage at rest: what a disk no longer gives, or gives otherwise, though it was written and synced.
//! Wherever it strikes, a good copy is left on another member, so whatever is lost is a fault of ours.

use std::path::{Path, PathBuf};

use kontiki_storage::{Disk, SECTOR_BYTES, SimDisk};

use crate::{chance::Chance, faults::Kind};

/// What a story's disks may suffer: both kinds together could leave no good copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Harm {
    /// Nothing.
    None,
    /// Segments of any members, no entry's on two of them.
    Segments,
    /// Whatever this one member has promised, by its journal or its whole disk.
    Memory(usize),
}

/// What was damaged of whom, so that it is not damaged elsewhere, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Atlas {
    /// Group directory, first index of the segment, the entries after its last; and whose.
    segments: Vec<(PathBuf, u64, u64, usize)>,
}

impl Harm {
    /// Only among three and more is there a majority without the one that is hit.
    pub(crate) fn draw(chance: &mut Chance, members: usize) -> Self {
        match chance.below(3) {
            _ if members < 3 => Self::None,
            0 => Self::Segments,
            1 => Self::Memory(chance.below(members)),
            _ => Self::None,
        }
    }

    /// Whether a member may be hit in this way.
    pub(crate) fn allows(self, kind: Kind, member: usize) -> bool {
        match self {
            Self::None => false,
            Self::Segments => kind == Kind::SegmentDamaged,
            Self::Memory(victim) => kind != Kind::SegmentDamaged && victim == member,
        }
    }
}

impl Atlas {
    /// Damages one segment of a member that is down, if there is one that is whole everywhere else.
    pub(crate) fn damage_segment(
        &mut self,
        member: usize,
        disk: &SimDisk,
        chance: &mut Chance,
    ) -> Option<String> {
        let mut segments = Vec::new();
        for (path, _) in disk.files() {
            if path.extension().is_some_and(|end| end == "segment") {
                segments.push(path);
            }
        }
        if segments.is_empty() {
            return None;
        }
        let at = chance.below(segments.len());
        let path = segments[at].clone();
        let dir = path.parent()?.to_owned();
        let first = number(&path)?;
        let next = segments
            .get(at + 1)
            .filter(|next| next.parent() == Some(&*dir));
        let end = next.and_then(|next| number(next)).unwrap_or(u64::MAX);
        let meets = |(other, from, to, whose): &(PathBuf, u64, u64, usize)| {
            *other == dir && *whose != member && first < *to && *from < end
        };
        if self.segments.iter().any(meets) {
            return None;
        }
        self.segments.push((dir, first, end, member));
        spoil(disk, &path, &segments, chance)
    }
}

/// Damages the journal of a member that is down.
pub(crate) fn damage_journal(disk: &SimDisk, chance: &mut Chance) -> Option<String> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let journals: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "journal"))
        .collect();
    if journals.is_empty() {
        return None;
    }
    // Rather the newest ones: the others may be free.
    let from = journals.len().saturating_sub(3);
    let path = chance.pick(&journals[from..]).clone();
    spoil(disk, &path, &journals, chance)
}

/// Leaves an empty disk.
pub(crate) fn wipe(chance: &mut Chance) -> SimDisk {
    SimDisk::seeded(chance.next())
}

/// Does something to a file, and says what.
fn spoil(disk: &SimDisk, path: &Path, others: &[PathBuf], chance: &mut Chance) -> Option<String> {
    let how = chance.below(5);
    let other = chance.pick(others).clone();
    if how == 4 {
        disk.remove(path).ok()?;
        disk.sync_dir(path.parent()?).ok()?;
        return Some(format!("{} is gone", path.display()));
    }
    let swapped = disk.files().into_iter().find(|(name, _)| *name == other);
    let mut what = "";
    let edited = disk.edit(path, |bytes| {
        if bytes.is_empty() {
            return;
        }
        let at = chance.below(bytes.len());
        match how {
            0 => {
                what = "has a bit flipped";
                bytes[at] ^= 1 << chance.below(8);
            }
            1 => {
                what = "has zeros in it";
                let from = at / SECTOR_BYTES * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES * (1 + chance.below(8))).min(bytes.len());
                bytes[from..to].fill(0);
            }
            2 => {
                what = "is cut";
                bytes.truncate(at);
            }
            _ => {
                what = "holds what another one held";
                if let Some((_, swapped)) = swapped {
                    *bytes = swapped;
                }
            }
        }
    });
    edited.ok()?;
    Some(format!("{} {what}", path.display()))
}

/// The first index in a segment's name.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}
