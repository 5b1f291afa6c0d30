//! What a data directory holds, put together from its parts.

use std::{io::IoSlice, path::Path, sync::Arc};

use kontiki_raft::{Entry, Hard, Index, LogId};
use kontiki_wire::GroupId;

use crate::{
    Error, Recovered, RecoveredGroup, Settings, adoption,
    disk::{Disk, Open, read_whole, write_again},
    fields::{Fields, PutFields},
    group::Group,
    journal::{
        Begin, Draft, End, Journal, Replay, ReplayedGroup, Standing, begun_salt, prepare, replay,
    },
    layout,
    planted::{Planted, plants},
    segment::{self, Broken, Expected, GroupSegments, Neighbours, Rewritten},
    state::{Checkpoint, State},
    unapplied::{Held, Unapplied},
};

/// A directory that is ready for its threads.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    pub(crate) groups: Vec<(Arc<Group>, Standing)>,
    /// Groups that are not to come back.
    pub(crate) removed: Vec<GroupId>,
    pub(crate) journal: Journal,
    pub(crate) salt: u64,
    /// The journal's files; all but the last are free.
    pub(crate) files: Vec<u32>,
    pub(crate) state: State,
    /// Segments that are damaged and not mended yet.
    pub(crate) broken: Vec<(Arc<Group>, Vec<Broken>)>,
}

/// Reads everything, decides what is torn and what is damaged, and begins a journal file that repeats
/// all that no segment keeps.
pub(crate) fn open(disk: &Arc<dyn Disk>, settings: &Settings) -> Result<Opened, Error> {
    let state = State::open(disk)?;
    let disk = &**disk;
    disk.make_dir(Path::new(layout::JOURNAL_DIR))?;
    disk.make_dir(Path::new(layout::GROUPS_DIR))?;
    let salt = salt(disk)?;
    let mut replay = replay(disk, salt)?;
    newest_is_there(disk, &state, &mut replay)?;
    finish_adoptions(disk, &replay)?;
    remove_leftovers(disk, &state, &mut replay)?;
    host_knows(disk, settings, &mut replay);
    let mut checkpoints = state.checkpoints()?;
    let mut groups = Vec::new();
    let mut rebuilt = Vec::new();
    let replayed = std::mem::take(&mut replay.groups);
    let held_max = settings.unapplied_bytes_max / (replayed.len() as u64).max(1);
    for (id, group) in replayed {
        let kept = checkpoints.remove(&id);
        let was_kept = kept.is_some();
        let opened = open_group(disk, id, group, kept, held_max, &mut replay.damage)?;
        if opened.is_rebuilt {
            // Whoever stops before the next one is due would have to make it again.
            rebuilt.extend(opened.checkpoint());
            if rebuilt.len() >= KEPT_TOGETHER {
                state.keep(&std::mem::take(&mut rebuilt))?;
            }
        } else if was_kept && opened.recovered.checkpoint.is_none() {
            // What was not told now must not be told when the group is mended.
            state.remove(id)?;
        }
        groups.push(opened);
    }
    if !rebuilt.is_empty() {
        state.keep(&rebuilt)?;
    }
    if !replay.damage.is_empty() {
        groups.iter_mut().for_each(OpenedGroup::forget);
    }
    let known = replay.reasons.iter();
    let known = known.filter(|sentence| !replay.damage.contains(sentence));
    let mut reasons: Vec<_> = known.chain(&replay.damage).cloned().collect();
    if !is_recovering(groups.iter().map(|group| &group.standing)) {
        reasons.clear();
    }
    let journal = begin(disk, settings, salt, &mut replay, &groups, &reasons)?;
    if reasons.is_empty() {
        remove_damaged(disk)?;
    }
    let mut recovered = Recovered {
        groups: Vec::new(),
        damage: reasons,
        torn: replay.torn,
    };
    let mut ready = Vec::new();
    let mut broken = Vec::new();
    for opened in groups {
        opened.group.lock().move_home(journal.number());
        let group = Arc::new(opened.group);
        if !opened.broken.is_empty() {
            broken.push((Arc::clone(&group), opened.broken));
        }
        ready.push((group, opened.standing));
        recovered.groups.push(opened.recovered);
    }
    let mut files = replay.files;
    files.push(journal.number());
    Ok(Opened {
        recovered,
        groups: ready,
        removed: replay.removed.into_iter().collect(),
        journal,
        salt,
        files,
        state,
        broken,
    })
}

/// The directory's salt, drawn when it is born. If its file is damaged, the journal still knows it.
fn salt(disk: &dyn Disk) -> Result<u64, Error> {
    if let Some(salt) = stored_salt(disk)? {
        return Ok(salt);
    }
    let path = layout::salt_path();
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

/// The salt in its own file, if that is sound.
pub(crate) fn stored_salt(disk: &dyn Disk) -> Result<Option<u64>, Error> {
    let bytes = read_whole(disk, &layout::salt_path())?.unwrap_or_default();
    let mut fields = Fields::new(&bytes);
    let (Some(salt), Some(checksum), true) = (fields.u64(), fields.u32(), fields.is_empty()) else {
        return Ok(None);
    };
    Ok((crc32c::crc32c(&salt.to_le_bytes()) == checksum).then_some(salt))
}

/// The state remembers which journal file was begun last: without that, the newest could be gone and
/// the one before it, closed cleanly, would seem to be all there is.
fn newest_is_there(disk: &dyn Disk, state: &State, replay: &mut Replay) -> Result<(), Error> {
    let known = state.newest_journal()?.unwrap_or_default();
    if known > replay.newest && replay.damage.is_empty() {
        let path = disk.full_path(&layout::journal_path(known));
        let sentence = format!("{} is missing or damaged, but was begun", path.display());
        replay.damage.push(sentence);
    }
    Ok(())
}

/// What is not there at all tells nothing of itself.
fn host_knows(disk: &dyn Disk, settings: &Settings, replay: &mut Replay) {
    let lost = settings.lost.iter().cloned();
    replay.damage.extend(lost);
    if settings.begun && replay.newest == 0 && replay.damage.is_empty() {
        let dir = disk.full_path(Path::new(layout::JOURNAL_DIR));
        let sentence = format!("{} is empty, but had begun", dir.display());
        replay.damage.push(sentence);
    }
}

/// Whether a group may have forgotten what it promised. Until the cluster's own group says that it has
/// not, groups may be missing that nobody can name.
pub(crate) fn is_recovering<'a>(standings: impl IntoIterator<Item = &'a Standing>) -> bool {
    let mut own_is_whole = false;
    for standing in standings {
        if standing.hard.recovering {
            return true;
        }
        own_is_whole |= standing.group == GroupId::CLUSTER;
    }
    !own_is_whole
}

/// Removes what was set aside of a damaged journal.
pub(crate) fn remove_damaged(disk: &dyn Disk) -> Result<(), Error> {
    let dir = Path::new(layout::JOURNAL_DIR);
    let names = disk.list(dir)?;
    let mut aside = names
        .iter()
        .filter(|name| layout::is_journal_aside(name))
        .peekable();
    if aside.peek().is_none() {
        return Ok(());
    }
    for name in aside {
        disk.remove(&dir.join(name))?;
    }
    disk.sync_dir(dir)
}

/// Moves in what was fetched of groups that begin with it, as the journal says. What was fetched of a group
/// that began without it is of no use; what was of one that has not begun is gone on with.
fn finish_adoptions(disk: &dyn Disk, replay: &Replay) -> Result<(), Error> {
    let names = disk.list(Path::new(layout::GROUPS_DIR))?;
    for id in names
        .iter()
        .filter_map(|name| layout::group_of_incoming_dir(name))
    {
        let known = replay.groups.get(&id);
        let begins = known.is_some_and(|group| group.kept > Index(0));
        if begins && !names.contains(&id.to_string()) {
            adoption::move_in(disk, id)?;
        } else if known.is_some() || replay.removed.contains(&id) {
            adoption::forgo(disk, id)?;
        }
    }
    Ok(())
}

/// Removes what is left of groups that were removed, and says so if there is a group that the journal
/// has never heard of.
fn remove_leftovers(disk: &dyn Disk, state: &State, replay: &mut Replay) -> Result<(), Error> {
    for name in disk.list(Path::new(layout::GROUPS_DIR))? {
        let Some(id) = layout::group_of_dir(&name) else {
            continue;
        };
        let dir = layout::group_dir(id);
        if replay.removed.contains(&id) {
            disk.remove_dir(&dir)?;
            disk.sync_dir(Path::new(layout::GROUPS_DIR))?;
            state.remove(id)?;
        } else if !replay.groups.contains_key(&id) {
            let dir = disk.full_path(&dir);
            let sentence = format!(
                "{} is there, but the journal has no such group",
                dir.display()
            );
            replay.damage.push(sentence);
            replay.groups.insert(id, ReplayedGroup::default());
        }
    }
    Ok(())
}

struct OpenedGroup {
    group: Group,
    standing: Standing,
    recovered: RecoveredGroup,
    /// Entries that no segment keeps.
    unkept: Vec<Entry>,
    broken: Vec<Broken>,
    /// Whether its checkpoint was made now, of what is durable in segments.
    is_rebuilt: bool,
}

impl OpenedGroup {
    /// The journal that kept its promises is damaged.
    fn forget(&mut self) {
        self.standing.hard.recovering = true;
        self.recovered.hard.recovering = true;
    }

    fn checkpoint(&self) -> Option<(GroupId, Checkpoint)> {
        let checkpoint = self.recovered.checkpoint.clone()?;
        Some((self.recovered.group, checkpoint))
    }
}

fn open_group(
    disk: &dyn Disk,
    id: GroupId,
    replayed: ReplayedGroup,
    checkpoint: Option<Checkpoint>,
    unapplied_bytes_max: u64,
    damage: &mut Vec<String>,
) -> Result<OpenedGroup, Error> {
    let expected = Expected {
        group: id,
        base: replayed.base,
        base_offset: replayed.base_offset,
        kept: replayed.kept,
        in_journal_from: replayed.in_journal_from(),
        journal_last: replayed.last,
        read_from: replayed.base.index.next(),
        unapplied_bytes_max,
    };
    let (mut segments, mut held) = open_segments(disk, expected, checkpoint)?;
    for _ in 0..ROUNDS_MAX {
        if !mend_alone(disk, expected, &mut segments)? {
            break;
        }
        (segments, held) = open_segments(disk, expected, held.checkpoint)?;
    }
    if segments.broken.iter().all(Broken::is_whole) {
        for broken in &mut segments.broken {
            broken.start_over(disk)?;
        }
    }
    let unkept = unkept(id, &replayed, &segments, damage);
    let is_rebuilt = held.is_rebuilt;
    let mut recovered = of_segments(id, replayed.base, &segments, held);
    add_journal(&mut recovered, replayed.hard, replayed.commit, &unkept);
    let standing = Standing {
        group: id,
        hard: replayed.hard,
        commit: recovered.commit,
        base: replayed.base,
        base_offset: replayed.base_offset,
        kept: segments.last.index,
        last: recovered.last,
    };
    let (group, broken) = Group::found(id, standing.base, standing.base_offset, segments);
    group.lock().hold(None, &unkept);
    Ok(OpenedGroup {
        group,
        standing,
        recovered,
        unkept,
        broken,
        is_rebuilt,
    })
}

/// What segments hold, without what the journal adds.
pub(crate) fn of_segments(
    group: GroupId,
    base: LogId,
    segments: &GroupSegments,
    held: Held,
) -> RecoveredGroup {
    let broken = segments.broken.iter();
    let mut configs = held.configs;
    configs.extend(segments.configs.iter().cloned());
    // The last entry of a checkpoint that was made now is held all the same.
    if let Some(first) = held.entries.first() {
        configs.split_off(&first.id.index);
    }
    RecoveredGroup {
        group,
        hard: Hard::default(),
        base,
        terms: segments.terms.clone(),
        configs,
        last: segments.last.index,
        commit: segments.last.index,
        checkpoint: held.checkpoint,
        tail: held.entries,
        missing: broken.clone().flat_map(Broken::missing).collect(),
        damage: broken.map(|broken| broken.damage.clone()).collect(),
    }
}

/// Adds what the journal knows: term and vote, how far it is committed, and the entries that follow.
pub(crate) fn add_journal(
    recovered: &mut RecoveredGroup,
    hard: Hard,
    commit: Index,
    unkept: &[Entry],
) {
    recovered.hard = hard;
    for entry in unkept {
        recovered.last = entry.id.index;
        let last = recovered.terms.last();
        if last.is_none_or(|&(_, term)| term != entry.id.term) {
            recovered.terms.push((entry.id.index, entry.id.term));
        }
        recovered.tail.push(entry.clone());
    }
    recovered.commit = match plants(Planted::WholeLogCommitted) {
        true => recovered.last,
        false => recovered.commit.max(commit).min(recovered.last),
    };
}

/// What was hidden behind damage that needed nobody's help is found in the next round.
const ROUNDS_MAX: usize = 4;
/// Checkpoints that a start has made and keeps with one sync.
const KEPT_TOGETHER: usize = 64;

/// Writes anew what is damaged and lacks no entry; true if there was any.
fn mend_alone(
    disk: &dyn Disk,
    expected: Expected,
    segments: &mut GroupSegments,
) -> Result<bool, Error> {
    let mut any = false;
    for broken in segments.broken.iter_mut().filter(|one| one.is_whole()) {
        let follows = |extent: &&segment::Extent| extent.last.index.next() == broken.first;
        let before = match segments.sealed.iter().find(follows) {
            Some(extent) => (extent.last, extent.end_offset),
            None if expected.base.index.next() == broken.first => {
                (expected.base, expected.base_offset)
            }
            None => continue,
        };
        let neighbours = Neighbours::of(disk, broken, before, None)?;
        match segment::rewrite(disk, broken, &neighbours)? {
            Rewritten::Whole(extent) => {
                tracing::warn!(damage = %broken.damage, "a segment was damaged and was written anew");
                segments.sealed.push(extent);
                any = true;
            }
            Rewritten::Contradiction(why) => {
                broken.damage = format!("{}, and {why}", broken.damage);
                broken.start_over(disk)?;
            }
        }
    }
    Ok(any)
}

/// A group's segments, and what is held of them: the checkpoint, if the segments have the entry that it
/// says it includes, and the entries after it. While some are damaged, what they are known to have kept counts.
pub(crate) fn open_segments(
    disk: &dyn Disk,
    expected: Expected,
    checkpoint: Option<Checkpoint>,
) -> Result<(GroupSegments, Held), Error> {
    if let Some(checkpoint) = checkpoint {
        let at = checkpoint.0;
        // The one it ends with too: it may be the last of the log, whose time a leader must know.
        let read_from = at.index;
        let expected = Expected {
            read_from,
            ..expected
        };
        let (segments, unapplied) = read_segments(disk, expected, Some(checkpoint.clone()))?;
        let fits = match segments.broken.is_empty() {
            true => includes(&segments, expected.base, at),
            // What segments had not kept is placed again, and so applied again; also what they had kept
            // behind the damage and the journal has still: it is taken from there.
            false => at.index <= expected.kept.min(segments.last.index),
        };
        if fits {
            return hold(segments, unapplied, Some(checkpoint));
        }
        let group = expected.group;
        tracing::warn!(%group, %at, "the checkpoint is beyond the log and is not used");
    }
    let (segments, unapplied) = read_segments(disk, expected, None)?;
    hold(segments, unapplied, None)
}

fn read_segments(
    disk: &dyn Disk,
    expected: Expected,
    checkpoint: Option<Checkpoint>,
) -> Result<(GroupSegments, Unapplied), Error> {
    let mut unapplied = Unapplied::new(expected.group, checkpoint, expected.unapplied_bytes_max);
    let segments = segment::recover(disk, expected, &mut unapplied)?;
    Ok((segments, unapplied))
}

/// While something is broken, nothing is to be applied.
fn hold(
    segments: GroupSegments,
    unapplied: Unapplied,
    checkpoint: Option<Checkpoint>,
) -> Result<(GroupSegments, Held), Error> {
    let held = match segments.broken.is_empty() {
        true => unapplied.held().map_err(Error::Unfit)?,
        false => Held::none(checkpoint),
    };
    Ok((segments, held))
}

fn includes(segments: &GroupSegments, base: LogId, at: LogId) -> bool {
    let upto = segments
        .terms
        .partition_point(|&(index, _)| index <= at.index);
    let term = upto
        .checked_sub(1)
        .map_or(base.term, |run| segments.terms[run].1);
    (base.index..=segments.last.index).contains(&at.index) && term == at.term
}

/// The journal's entries that follow the segments; none, and a sentence, if they do not.
fn unkept(
    id: GroupId,
    replayed: &ReplayedGroup,
    segments: &GroupSegments,
    damage: &mut Vec<String>,
) -> Vec<Entry> {
    let last = segments.last;
    let in_both = |entry: &&Entry| entry.id.index == last.index;
    if let Some(entry) = replayed.entries.iter().find(in_both) {
        let whole = segments.broken.is_empty();
        if whole && entry.id != last {
            damage.push(format!(
                "the last entry of group {id} is {last} in its segments and {} in the journal",
                entry.id
            ));
        }
        // A journal that is damaged ends at some time in the past, and what it has may have been
        // replaced since: then what follows there does not follow what segments end with. Nothing but
        // the same entry tells that it was not, and if the segments are damaged too, nothing does.
        if !damage.is_empty() && (!whole || entry.id != last) {
            return Vec::new();
        }
    }
    let after = replayed
        .entries
        .iter()
        .filter(|entry| entry.id.index > last.index);
    let entries: Vec<Entry> = after.cloned().collect();
    let after_all = replayed.last.next();
    let first = entries.first().map_or(after_all, |entry| entry.id.index);
    if replayed.last < last.index && damage.is_empty() {
        damage.push(format!(
            "group {id} ends with entry {} in the journal, but its segments go on to {last}",
            replayed.last
        ));
    }
    if first <= last.index.next() {
        return entries;
    }
    if damage.is_empty() {
        damage.push(format!(
            "entries {} to {} of group {id} are neither in its segments nor in the journal",
            last.index.next(),
            first.prev()
        ));
    }
    Vec::new()
}

/// The file that is begun next says that everything before it is durable. What an earlier process did
/// not sync is only seen so far.
fn make_durable(disk: &dyn Disk, replay: &Replay) -> Result<(), Error> {
    let (synced, end) = (replay.synced, replay.end.position);
    let from = if synced.file == end.file {
        synced.at
    } else {
        0
    };
    let file = disk.open(&layout::journal_path(end.file), Open::Write)?;
    write_again(&*file, from, end.at)
}

/// Begins a new journal file, with everything that is still needed. It is never an old one that is
/// written on: what a crash left behind its end must not be mixed with what comes now.
fn begin(
    disk: &dyn Disk,
    settings: &Settings,
    salt: u64,
    replay: &mut Replay,
    groups: &[OpenedGroup],
    reasons: &[String],
) -> Result<Journal, Error> {
    let number = replay.files.last().map_or(1, |last| last + 1);
    if replay.damage.is_empty() && replay.newest > 0 {
        make_durable(disk, replay)?;
    }
    let aside = match replay.damage.is_empty() {
        true => Vec::new(),
        false => std::mem::take(&mut replay.files),
    };
    let in_use = |file: &u32| {
        (replay.first_needed..=replay.newest).contains(file) || replay.turned_to == Some(*file)
    };
    let spare = replay.files.iter().rposition(|file| !in_use(file));
    let spare = spare.map(|at| layout::journal_path(replay.files.remove(at)));
    let prepared = prepare(
        disk,
        number,
        settings.journal_file_bytes,
        spare.as_deref(),
        false,
    )?;
    // Nothing goes on from a damaged journal: a start that is cut short before this file has taken over
    // must not leave one that seems whole as far as it goes.
    let previous = match replay.damage.is_empty() {
        true => replay.end,
        false => End::beyond(replay.newest),
    };
    let begin = Begin {
        previous,
        first_needed: replay.first_needed.max(1).min(number),
        size: prepared.size,
        damage: reasons.to_vec(),
    };
    let mut journal = Journal::begin(prepared, salt, &begin);
    journal.write()?;
    journal.sync()?;
    for group in groups {
        let mut draft = Draft::default();
        draft.whole(&group.standing, &group.unkept);
        let at = journal.operations(&draft);
        group.group.lock().lie(&draft.bodies, number, at);
        journal.write()?;
    }
    journal.sync()?;
    journal.freed(number);
    journal.write()?;
    journal.sync()?;
    // Those of a damaged journal are set aside; of any other, the newest must not seem to be all there is.
    if replay.damage.is_empty() && replay.newest > 0 {
        Journal::ended(disk, salt, replay.end)?.followed(number)?;
    }
    // Nothing needs them any more but people who want to know what happened.
    for file in &aside {
        disk.rename(&layout::journal_path(*file), &layout::journal_aside(*file))?;
    }
    if !aside.is_empty() {
        disk.sync_dir(Path::new(layout::JOURNAL_DIR))?;
    }
    Ok(journal)
}
