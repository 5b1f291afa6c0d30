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
        if !self.takes(member, &segments, at)? {
            return None;
        }
        let path = &segments[at];
        let bodies = path.with_extension("bodies");
        // Those that the journal has as well are damaged with it.
        let has_bodies = disk.links(&bodies).is_ok_and(|links| links == 1);
        match has_bodies && chance.permille(500) {
            true => spoil(
                disk,
                &bodies,
                std::slice::from_ref(path),
                usize::MAX,
                chance,
            ),
            false => spoil(disk, path, &segments, usize::MAX, chance),
        }
    }

    /// Whether a segment of a member may be damaged, because it is whole everywhere else: then it is taken for
    /// damaged from now on.
    fn takes(&mut self, member: usize, segments: &[PathBuf], at: usize) -> Option<bool> {
        let path = &segments[at];
        let dir = path.parent()?.to_owned();
        let first = number(path)?;
        let next = segments
            .get(at + 1)
            .filter(|next| next.parent() == Some(&*dir));
        let end = next.and_then(|next| number(next)).unwrap_or(u64::MAX);
        let meets = |(other, from, to, whose): &(PathBuf, u64, u64, usize)| {
            *other == dir && *whose != member && first < *to && *from < end
        };
        if self.segments.iter().any(meets) {
            return Some(false);
        }
        self.segments.push((dir, first, end, member));
        Some(true)
    }

    /// Damages the journal of a member that is down, and with it the segments that have their bodies in it, if
    /// those are whole everywhere else.
    pub(crate) fn damage_journal(
        &mut self,
        member: usize,
        disk: &SimDisk,
        chance: &mut Chance,
    ) -> Option<String> {
        let paths: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
        let segments = paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "segment"));
        let segments: Vec<PathBuf> = segments.cloned().collect();
        for (at, path) in segments.iter().enumerate() {
            let links = disk.links(&path.with_extension("bodies"));
            if links.is_ok_and(|links| links > 1) && !self.takes(member, &segments, at)? {
                return None;
            }
        }
        damage_journal(disk, chance)
    }
}

/// Damages the journal of a member that is down. What its last write brought is spared, which tells of
/// what was synced before: without such a witness damage looks like a torn write, and has to.
fn damage_journal(disk: &SimDisk, chance: &mut Chance) -> Option<String> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let journals: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "journal"))
        .collect();
    if journals.is_empty() {
        return None;
    }
    let often = match newest_follows(disk) {
        true => FOLLOWING_PERMILLE,
        false => NEWEST_PERMILLE,
    };
    if chance.permille(often) {
        return lose_newest(disk, chance);
    }
    // Rather the newest ones: the others may be free.
    let from = journals.len().saturating_sub(3);
    let path = chance.pick(&journals[from..]).clone();
    let upto = disk.last_write(&path);
    spoil(disk, &path, &journals, upto, chance)
}

/// Of a thousand damaged journals, those whose newest file goes, and the small state with it,
const NEWEST_PERMILLE: u64 = 200;
/// and if the file before it is still there, which alone can say what is missing.
const FOLLOWING_PERMILLE: u64 = 500;

/// Whether the newest journal file goes on from one that is there.
fn newest_follows(disk: &SimDisk) -> bool {
    let files = disk.files();
    let begun = files.iter().filter(|(path, bytes)| is_begun(path, bytes));
    let numbers: Vec<_> = begun.filter_map(|(path, _)| number(path)).collect();
    matches!(numbers[..], [.., before, newest] if before + 1 == newest)
}

/// The newest journal file that was begun is no journal file any more, and what knew of it is gone, too: all
/// that is left seems whole.
fn lose_newest(disk: &SimDisk, chance: &mut Chance) -> Option<String> {
    let files = disk.files();
    let (newest, _) = files.iter().rfind(|(path, bytes)| is_begun(path, bytes))?;
    // Where it is gone, or only its first sector, other things tell of it.
    let what = match chance.below(4) {
        0 => {
            disk.remove(newest).ok()?;
            // On a disk that is to fail the name may come back with the next power cut.
            let _ = disk.sync_dir(newest.parent()?);
            "is gone"
        }
        1 => {
            let first = |bytes: &mut Vec<u8>| bytes[..SECTOR_BYTES].fill(0);
            disk.edit(newest, first).ok()?;
            "does not begin any more"
        }
        _ => {
            disk.edit(newest, |bytes| bytes.fill(0)).ok()?;
            "is empty"
        }
    };
    lose_state(disk);
    Some(format!(
        "{} {what}, and the small state is gone",
        newest.display()
    ))
}

/// Whether a journal file begins with a frame that was written for it.
fn is_begun(path: &Path, bytes: &[u8]) -> bool {
    const NUMBER: std::ops::Range<usize> = 8..12;
    let is_journal = path.extension().is_some_and(|end| end == "journal");
    let named = number(path).and_then(|number| u32::try_from(number).ok());
    let says = bytes.get(NUMBER);
    is_journal
        && bytes.len() >= SECTOR_BYTES
        && named.is_some_and(|named| says == Some(&named.to_le_bytes()))
}

/// Takes all of the small state away.
pub(crate) fn lose_state(disk: &SimDisk) {
    let files = disk.files();
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("state")) {
        // A disk that is to fail may do so here: then less is lost.
        let _ = disk.remove(path);
    }
    let _ = disk.sync_dir(Path::new("state"));
}

/// Leaves an empty disk.
pub(crate) fn wipe(chance: &mut Chance) -> SimDisk {
    SimDisk::seeded(chance.next())
}

/// Does something to a file, and says what. Where single bytes are hit, they are before `upto`.
fn spoil(
    disk: &SimDisk,
    path: &Path,
    others: &[PathBuf],
    upto: usize,
    chance: &mut Chance,
) -> Option<String> {
    // Bytes go bad more often than files.
    let how = *chance.pick(&[0, 0, 0, 1, 1, 1, 2, 3, 4]);
    let other = chance.pick(others).clone();
    if how == 4 {
        disk.remove(path).ok()?;
        disk.sync_dir(path.parent()?).ok()?;
        return Some(format!("{} is gone", path.display()));
    }
    let swapped = disk.files().into_iter().find(|(name, _)| *name == other);
    // What was written lately is what others may not have yet.
    let is_late = chance.permille(500);
    let mut what = None;
    let edited = disk.edit(path, |bytes| {
        let end = upto.min(bytes.len());
        if end == 0 {
            return;
        }
        let at = match is_late {
            true => end - 1 - chance.below(end.min(LATE_BYTES)),
            false => chance.below(end),
        };
        what = Some(match how {
            0 => {
                bytes[at] ^= 1 << chance.below(8);
                format!("has a bit flipped at byte {at}")
            }
            1 => {
                let from = at / SECTOR_BYTES * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES * (1 + chance.below(8))).min(end);
                bytes[from..to].fill(0);
                format!("has zeros in it from byte {from}")
            }
            2 => {
                bytes.truncate(at);
                format!("is cut at byte {at}")
            }
            _ => {
                if let Some((_, swapped)) = swapped {
                    *bytes = swapped;
                }
                format!("holds what {} held", other.display())
            }
        });
    });
    edited.ok()?;
    what.map(|what| format!("{} {what}", path.display()))
}

/// So far back from the end of what was written.
const LATE_BYTES: usize = 4 << 10;

/// The number in a segment's or a journal file's name.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use kontiki_storage::{Fault, Open};

    use super::*;

    /// The simulator took a file away, failed to sync, and said that nothing was damaged.
    #[test]
    fn what_a_failing_disk_has_lost_is_told() {
        let path = Path::new("journal/0000000007.journal");
        for calls in 0..20 {
            for seed in 0..40 {
                let disk = SimDisk::seeded(1);
                disk.make_dir(Path::new("journal")).unwrap();
                let mut bytes = vec![7; SECTOR_BYTES];
                bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
                let file = disk.open(path, Open::Create).unwrap();
                file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
                let before = disk.files();
                disk.fail_after(calls, Fault::Broken);
                let told = lose_newest(&disk, &mut Chance::new(seed));
                assert_eq!(told.is_some(), disk.files() != before, "{seed}, {calls}");
            }
        }
    }
}
