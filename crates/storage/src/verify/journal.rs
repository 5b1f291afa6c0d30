//! The journal, judged as a start would judge it, and what it knows of the groups.

use std::path::Path;

use crate::{
    Error,
    disk::Disk,
    journal::{Replay, begun_salt, check},
    layout,
    recover::stored_salt,
    verify::finding::{Finding, Outlook, Verified},
};

/// Reads the journal and tells what is wrong with it; `newest` is the file that the small state says was
/// begun last.
pub(crate) fn journal(
    disk: &dyn Disk,
    newest: Option<u32>,
    out: &mut Verified,
) -> Result<Replay, Error> {
    let salt = salt(disk, out)?;
    let replay = check(disk, salt)?;
    for spot in &replay.spots {
        let path = disk.full_path(&layout::journal_path(spot.file));
        out.add(Finding::damage(&path, &*spot.what, Outlook::Rejoins).at(spot.at));
    }
    let dir = disk.full_path(Path::new(layout::JOURNAL_DIR));
    let recovering = replay.groups.values().any(|group| group.hard.recovering);
    for earlier in replay.reasons.iter().filter(|_| recovering) {
        let what = format!("found at an earlier start: {earlier}");
        out.add(Finding::damage(&dir, what, Outlook::Rejoins));
    }
    if let Some(torn) = &replay.torn {
        out.add(Finding::remark(&dir, torn, Outlook::Cut));
    }
    if let Some(newest) = newest.filter(|&newest| newest > replay.newest)
        && replay.damage.is_empty()
    {
        let path = disk.full_path(&layout::journal_path(newest));
        let what = "it is missing or damaged, but was begun";
        out.add(Finding::damage(&path, what, Outlook::Rejoins));
    }
    Ok(replay)
}

/// The directory's salt; if its file is damaged, the journal still knows it.
fn salt(disk: &dyn Disk, out: &mut Verified) -> Result<u64, Error> {
    if let Some(salt) = stored_salt(disk)? {
        return Ok(salt);
    }
    let begun = begun_salt(disk)?;
    let written = disk
        .list(Path::new(layout::JOURNAL_DIR))?
        .iter()
        .any(|name| layout::journal_number(name).is_some());
    // An empty directory has none yet.
    if written {
        let path = disk.full_path(&layout::salt_path());
        let what = "it is missing or its checksum does not match";
        let outlook = begun.map_or(Outlook::Rejoins, |_| Outlook::Rebuilt);
        out.add(Finding::damage(&path, what, outlook));
    }
    Ok(begun.unwrap_or_default())
}
