//! What a data directory holds, put together from its parts.

use std::{collections::BTreeMap, io::IoSlice, path::Path, sync::Arc};

use kontiki_raft::{Index, LogId, Persist, Term, WriteSeq};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error, Recovered, RecoveredGroup, Settings,
    disk::{Disk, Open, read_whole},
    fields::{Fields, PutFields},
    group::Group,
    journal::{
        Begin, Draft, Journal, Replay, ReplayedGroup, Standing, begun_salt, prepare, replay,
    },
    layout,
};

/// A directory that is ready for its threads.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) ledger: BTreeMap<GroupId, Standing>,
    pub(crate) journal: Journal,
    pub(crate) salt: u64,
}

/// Reads everything, decides what is torn and what is damaged, and begins a journal file that repeats
/// all that no segment keeps.
pub(crate) fn open(disk: &dyn Disk, settings: &Settings) -> Result<Opened, Error> {
    disk.make_dir(Path::new(layout::JOURNAL_DIR))?;
    disk.make_dir(Path::new(layout::GROUPS_DIR))?;
    let salt = salt(disk)?;
    let mut replay = replay(disk, salt)?;
    let replayed = std::mem::take(&mut replay.groups);
    let mut opened = Vec::new();
    for (id, group) in replayed {
        opened.push(open_group(id, group));
    }
    let journal = begin(disk, settings, salt, &replay, &opened)?;
    let mut recovered = Recovered {
        groups: Vec::new(),
        damage: replay.damage,
        torn: replay.torn,
    };
    let mut groups = Vec::new();
    let mut ledger = BTreeMap::new();
    for group in opened {
        ledger.insert(group.standing.group, group.standing);
        recovered.groups.push(group.recovered);
        groups.push(Arc::new(group.group));
    }
    Ok(Opened {
        recovered,
        groups,
        ledger,
        journal,
        salt,
    })
}

/// The directory's salt, drawn when it is born. If its file is damaged, the journal still knows it.
fn salt(disk: &dyn Disk) -> Result<u64, Error> {
    let path = layout::salt_path();
    let bytes = read_whole(disk, &path)?.unwrap_or_default();
    let mut fields = Fields::new(&bytes);
    if let (Some(salt), Some(checksum), true) = (fields.u64(), fields.u32(), fields.is_empty())
        && crc32c::crc32c(&salt.to_le_bytes()) == checksum
    {
        return Ok(salt);
    }
    let salt = match begun_salt(disk)? {
        Some(salt) => salt,
        None => disk.draw(),
    };
    let mut bytes = Vec::new();
    bytes.put_u64(salt);
    bytes.put_u32(crc32c::crc32c(&salt.to_le_bytes()));
    let file = disk.open(&path, Open::Create)?;
    file.set_size(0)?;
    file.write_at(0, &[IoSlice::new(&bytes)])?;
    file.sync()?;
    disk.sync_dir(Path::new(layout::JOURNAL_DIR))?;
    Ok(salt)
}

struct OpenedGroup {
    group: Group,
    standing: Standing,
    recovered: RecoveredGroup,
}

fn open_group(id: GroupId, replayed: ReplayedGroup) -> OpenedGroup {
    let entries: Vec<_> = replayed.entries.into();
    let mut terms: Vec<(Index, Term)> = Vec::new();
    for entry in &entries {
        if terms.last().is_none_or(|&(_, term)| term != entry.id.term) {
            terms.push((entry.id.index, entry.id.term));
        }
    }
    let group = Group::new(id, replayed.kept, Offset(0));
    group.lock().persist(
        0,
        &Persist {
            seq: WriteSeq(0),
            hard: None,
            truncate_from: None,
            append: entries.clone(),
            commit: Index(0),
        },
    );
    let standing = Standing {
        group: id,
        hard: replayed.hard,
        commit: replayed.commit,
        base: replayed.base,
        base_offset: replayed.base_offset,
        kept: replayed.kept,
        last: replayed.last,
    };
    OpenedGroup {
        group,
        standing,
        recovered: RecoveredGroup {
            group: id,
            hard: replayed.hard,
            base: LogId::ORIGIN,
            terms,
            configs: BTreeMap::new(),
            last: replayed.last,
            commit: replayed.commit.min(replayed.last),
            checkpoint: None,
            tail: entries,
        },
    }
}

/// Begins a new journal file. It is never an old one that is written on: what a crash left behind its
/// end must not be mixed with what comes now.
fn begin(
    disk: &dyn Disk,
    settings: &Settings,
    salt: u64,
    replay: &Replay,
    groups: &[OpenedGroup],
) -> Result<Journal, Error> {
    let number = replay.files.last().map_or(1, |last| last + 1);
    let prepared = prepare(disk, number, settings.journal_file_bytes, None, false)?;
    let first_needed = match replay.first_needed {
        0 => number,
        first => first,
    };
    let begin = Begin {
        previous: replay.end,
        first_needed,
        size: prepared.size,
        damage: replay.damage.clone(),
    };
    let mut journal = Journal::begin(prepared, salt, &begin);
    journal.write()?;
    journal.sync()?;
    for group in groups {
        let mut draft = Draft::default();
        draft.whole(&group.standing, &group.recovered.tail);
        journal.operations(&draft);
        journal.write()?;
    }
    journal.sync()?;
    journal.freed(number);
    journal.write()?;
    journal.sync()?;
    Ok(journal)
}
