//! Walks a data directory whose member does not run, and tells what of it is damaged. Every frame, body,
//! header, footer and mark is read; nothing is written.

mod finding;
mod frames;
mod journal;
mod marks;
mod read_only;
mod segments;
mod state;
mod window;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::{Disk, Open},
    journal::{Replay, ReplayedGroup},
    layout,
    os_disk::OsDisk,
};

pub use finding::{Finding, Outlook, Verified, VerifiedGroup};
use frames::is_plausible;
use read_only::{Progress, ReadOnly};
pub(crate) use state::Copy;

/// Walks a data directory and tells what is damaged. Refuses one that a process has open. `progress` is
/// told now and then how many bytes of how many have been read. A small part is copied to the directory
/// for temporary files; when `progress` is told, the copy is gone.
///
/// It judges as the next start would, but reads everything, where a start leaves what is below its
/// checkpoints to its readers. It fails only if it cannot look: what is damaged is part of the answer.
pub fn verify(dir: &Path, progress: Progress) -> Result<Verified, Error> {
    let (disk, _lock) = OsDisk::lock_for_reading(dir)?;
    verify_on(Arc::new(disk), progress)
}

/// The same for what is on a disk of any kind.
pub fn verify_on(disk: Arc<dyn Disk>, progress: Progress) -> Result<Verified, Error> {
    let mut out = Verified::default();
    sizes(&*disk, Path::new(layout::JOURNAL_DIR), &mut out)?;
    for name in disk.list(Path::new(layout::GROUPS_DIR))? {
        sizes(&*disk, &Path::new(layout::GROUPS_DIR).join(name), &mut out)?;
    }
    let total = out.bytes;
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly::new(disk, total, Arc::clone(&progress)));
    let said = state::state(&disk, &mut out)?;
    let disk = &*disk;
    let replay = match journal::journal(disk, said.newest_journal, &mut out) {
        Ok(replay) => Some(replay),
        Err(error) if error.is_denied() => return Err(error),
        Err(error) => {
            let dir = disk.full_path(Path::new(layout::JOURNAL_DIR));
            out.add(Finding::damage(&dir, error.to_string(), Outlook::Refused));
            None
        }
    };
    let seen = replay.as_ref().map(|replay| replay.seen.clone());
    let groups = groups(disk, replay, &mut out)?;
    for (id, known) in &groups {
        segments::group(disk, *id, known, &mut out)?;
    }
    behind_damage(disk, seen.unwrap_or_default(), &mut out);
    for (group, at) in said.checkpoints {
        let walked = out.groups.iter().find(|walked| walked.group == group);
        if walked.is_some_and(|walked| walked.last < at.index) {
            let path = disk.full_path(Path::new(layout::STATE_DIR));
            let what = format!("the checkpoint at entry {} is beyond the log", at.index);
            out.add(Finding::remark(&path, what, Outlook::Rebuilt).of(group));
        }
    }
    if let Some(known) = groups.get(&GroupId::CLUSTER) {
        add_commands(known, &mut out);
    }
    progress(total, total);
    Ok(out)
}

/// Names the entries that are in the journal behind its damage, or in it: a start does not take them.
fn behind_damage(disk: &dyn Disk, seen: BTreeMap<GroupId, Index>, out: &mut Verified) {
    let path = disk.full_path(Path::new(layout::JOURNAL_DIR));
    for (group, seen) in seen {
        let walked = out.groups.iter().find(|walked| walked.group == group);
        let last = walked.map_or(Index(0), |walked| walked.last);
        if last < seen && is_plausible(seen) {
            let what = "these entries, and perhaps more, are in what is damaged or behind it";
            let finding = Finding::damage(&path, what, Outlook::Rejoins).of(group);
            out.add(finding.entries(last.next(), seen));
        }
    }
}

/// Counts the files of a directory.
fn sizes(disk: &dyn Disk, dir: &Path, out: &mut Verified) -> Result<(), Error> {
    for name in disk.list(dir)? {
        let path: PathBuf = dir.join(name);
        // What cannot be opened is told when its turn comes.
        if let Ok(file) = disk.open(&path, Open::Read) {
            out.files += 1;
            out.bytes += file.size()?;
        }
    }
    Ok(())
}

/// The groups that the journal knows, and those that only have a directory.
fn groups(
    disk: &dyn Disk,
    replay: Option<Replay>,
    out: &mut Verified,
) -> Result<BTreeMap<GroupId, ReplayedGroup>, Error> {
    let was_read = replay.is_some();
    let replay = replay.unwrap_or_default();
    let mut groups = replay.groups;
    for (id, known) in &mut groups {
        let indexes = [known.base.index, known.kept, known.last, known.commit];
        if !indexes.into_iter().all(is_plausible) {
            let path = disk.full_path(Path::new(layout::JOURNAL_DIR));
            let what = "it tells of more entries than a log can have";
            out.add(Finding::damage(&path, what, Outlook::Refused).of(*id));
            *known = ReplayedGroup::default();
        }
    }
    for name in disk.list(Path::new(layout::GROUPS_DIR))? {
        let dir = Path::new(layout::GROUPS_DIR).join(&name);
        let path = disk.full_path(&dir);
        match layout::group_of_dir(&name) {
            None if layout::group_of_incoming_dir(&name).is_some() => {
                let what = "a log that was being fetched is there";
                out.add(Finding::remark(&path, what, Outlook::Ignored));
            }
            None => out.add(Finding::remark(
                &path,
                "it is not a group's directory",
                Outlook::Ignored,
            )),
            Some(id) if replay.removed.contains(&id) => {
                let what = "the group was removed, and its files are to go";
                out.add(Finding::remark(&path, what, Outlook::Ignored).of(id));
            }
            Some(id) if !groups.contains_key(&id) => {
                if was_read {
                    let what = "it is there, but the journal has no such group";
                    out.add(Finding::damage(&path, what, Outlook::Rejoins).of(id));
                }
                groups.insert(id, ReplayedGroup::default());
            }
            Some(_) => {}
        }
    }
    Ok(groups)
}

/// The cluster's commands that only the journal has.
fn add_commands(known: &ReplayedGroup, out: &mut Verified) {
    let included = out.cluster.as_ref().map(|kept| kept.0.index);
    let last = out.commands.last().map(|entry| entry.id.index);
    let mut next = last.or(included).unwrap_or_default().next();
    for entry in &known.entries {
        if entry.id.index == next {
            out.commands.push(entry.clone());
            next = next.next();
        }
    }
}
