//! Reading back: what the journal says, and whether its end is torn or damaged.
//!
//! After a crash, the bytes of writes that were not synced may be there or not, in any mixture. So an
//! invalid frame proves nothing, and neither does a valid one after it. What proves something is a
//! valid header that says the journal had been synced beyond the invalid frame: then those bytes were
//! durable once, perhaps acknowledged, and have been damaged since. Without such a witness they are
//! taken for a torn write and cut.
//!
//! What stays ambiguous is the last synced write: until a later frame tells of its sync, damage to it
//! looks like a torn write. A following write, the mark that an idle journal writes, or a clean close
//! ends that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use kontiki_raft::{Entry, Hard, Index, LogId};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::{Disk, Open, read_whole},
    fields::Fields,
    journal::{
        begin::{Begin, End},
        frame::{Frame, Header, Invalid, Kind, Place, Position, UNKNOWN_VERSION},
        op::{self, Op, Standing},
    },
    layout::{
        self,
        journal::{ALIGN, HEADER_BYTES},
    },
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

/// What the journal holds.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) groups: BTreeMap<GroupId, ReplayedGroup>,
    /// Groups that were removed; their files may still be there.
    pub(crate) removed: BTreeSet<GroupId>,
    /// One sentence for each damage.
    pub(crate) damage: Vec<String>,
    /// What was cut.
    pub(crate) torn: Option<String>,
    /// Where the newest file ends; the default if there is none.
    pub(crate) end: End,
    /// The first file that is needed until a new one has taken over everything.
    pub(crate) first_needed: u32,
    /// The newest file that was begun, 0 if none was.
    pub(crate) newest: u32,
    /// Every file there is.
    pub(crate) files: Vec<u32>,
}

/// Reads the whole journal. Fails only if the disk does; damage is part of the answer.
pub(crate) fn replay(disk: &dyn Disk, salt: u64) -> Result<Replay, Error> {
    let names = disk.list(Path::new(layout::JOURNAL_DIR))?;
    let numbers = names.iter().filter_map(|name| layout::journal_number(name));
    let files: Vec<u32> = numbers.filter(|&number| number > 0).collect();
    let mut begun = BTreeMap::new();
    for &file in &files {
        if let Some(begin) = read_begin(disk, file, salt)? {
            begun.insert(file, begin);
        }
    }
    let mut replayer = Replayer {
        disk,
        salt,
        files: &files,
        begun: &begun,
        replay: Replay::default(),
    };
    replayer.run()?;
    let mut replay = replayer.replay;
    replay.files = files;
    Ok(replay)
}

/// The first frame of a file, if it is sound.
fn read_begin(disk: &dyn Disk, file: u32, salt: u64) -> Result<Option<Begin>, Error> {
    // Enough for any first frame: its sentences about damage are bounded.
    const BEGIN_BYTES_MAX: usize = 128 << 10;
    let opened = disk.open(&layout::journal_path(file), Open::Read)?;
    let mut bytes = vec![0; BEGIN_BYTES_MAX];
    let read = opened.read_at(0, &mut bytes)?;
    match (Place { file, salt }).frame_at(&bytes[..read], 0) {
        Ok(frame) if frame.header.kind == Kind::Begin => Ok(Begin::decode(frame.ops)),
        Err(Invalid::Meaning(UNKNOWN_VERSION)) => {
            let path = disk.full_path(&layout::journal_path(file));
            let sentence = format!("{}: {UNKNOWN_VERSION}", path.display());
            Err(Error::Foreign(sentence))
        }
        _ => Ok(None),
    }
}

struct Replayer<'a> {
    disk: &'a dyn Disk,
    salt: u64,
    files: &'a [u32],
    begun: &'a BTreeMap<u32, Begin>,
    replay: Replay,
}

/// Where and why the frames of a file went no further.
struct Stop {
    at: u64,
    invalid: Invalid,
    /// The last frame said that this file goes on.
    turned_to: Option<u32>,
}

impl Replayer<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let Some((&newest, begin)) = self.begun.last_key_value() else {
            self.after_newest(0, None)?;
            return self.hards_after_damage();
        };
        let bytes = self.read(newest)?;
        self.replay.newest = newest;
        self.replay.first_needed = self.first_needed(newest, begin, &bytes);
        if let Some(chain) = self.chain(newest) {
            let mut sound = true;
            for pair in chain.windows(2) {
                let until = self.begun[&pair[1]].previous;
                sound = sound && self.earlier_file(pair[0], until)?;
            }
            if sound {
                self.newest_file(newest, &bytes)?;
            }
        }
        self.hards_after_damage()?;
        let earlier = begin.damage.iter().cloned();
        self.replay.damage.extend(earlier);
        Ok(())
    }

    fn read(&self, file: u32) -> Result<Vec<u8>, Error> {
        let bytes = read_whole(self.disk, &layout::journal_path(file))?;
        Ok(bytes.unwrap_or_default())
    }

    fn place(&self, file: u32) -> Place {
        Place {
            file,
            salt: self.salt,
        }
    }

    fn name(&self, file: u32) -> String {
        let path = self.disk.full_path(&layout::journal_path(file));
        path.display().to_string()
    }

    /// The first file that is still needed, as the newest file says: when it was begun, or since.
    fn first_needed(&self, newest: u32, begin: &Begin, bytes: &[u8]) -> u32 {
        let mut first = begin.first_needed;
        let mut at = 0;
        while let Ok(frame) = self.place(newest).frame_at(bytes, at) {
            if frame.header.kind == Kind::Freed {
                first = first.max(Fields::new(frame.ops).u32().unwrap_or_default());
            }
            at = frame.header.end();
        }
        first.clamp(1, newest)
    }

    /// The files from `first` to `newest`, each linked from the one after it; or a sentence about the
    /// one that is missing.
    fn chain(&mut self, newest: u32) -> Option<Vec<u32>> {
        let first = self.replay.first_needed;
        let mut chain = vec![newest];
        let mut file = newest;
        while file > first {
            let before = self.begun[&file].previous.position.file;
            if before >= file || before < first {
                break;
            }
            if !self.begun.contains_key(&before) {
                let what = if self.files.contains(&before) {
                    "is damaged at byte 0: its first frame is not valid"
                } else {
                    "is missing"
                };
                let sentence = format!(
                    "{} {what}, and {} goes on from it",
                    self.name(before),
                    self.name(file)
                );
                self.replay.damage.push(sentence);
                return None;
            }
            chain.push(before);
            file = before;
        }
        chain.reverse();
        Some(chain)
    }

    /// Replays a file that another goes on from; false if it is damaged.
    fn earlier_file(&mut self, file: u32, until: End) -> Result<bool, Error> {
        let bytes = self.read(file)?;
        if until.position.file != file {
            self.damaged(file, 0, "the file after it goes on from another one");
            return Ok(false);
        }
        let (end, stop) = self.frames(file, &bytes, Some(until.position.at));
        if end == until {
            return Ok(true);
        }
        let why = if end.position.at == until.position.at {
            "its frames are not those that the next file goes on from"
        } else {
            stop.invalid.why()
        };
        self.damaged(file, stop.at, why);
        Ok(false)
    }

    /// Replays the newest file and decides about its end.
    fn newest_file(&mut self, file: u32, bytes: &[u8]) -> Result<(), Error> {
        let (end, stop) = self.frames(file, bytes, None);
        self.replay.end = end;
        let have = bytes.len() as u64;
        if have < self.begun[&file].size {
            self.damaged(file, have, "it is shorter than when it was begun");
        } else if let Invalid::Meaning(why) = stop.invalid {
            self.damaged(file, stop.at, why);
        } else if let Some(next) = stop.turned_to.filter(|next| !self.files.contains(next)) {
            let name = self.name(next);
            let sentence = format!("{name} is missing, and {} goes on there", self.name(file));
            self.replay.damage.push(sentence);
        } else {
            self.after_newest(file, Some((bytes, &stop)))?;
        }
        Ok(())
    }

    /// Looks for a witness that something after the last valid frame had been synced: in the rest of
    /// the newest file, and in files that a later writer may have begun.
    fn after_newest(&mut self, newest: u32, rest: Option<(&[u8], &Stop)>) -> Result<(), Error> {
        let end = Position {
            file: newest,
            at: rest.map_or(0, |(_, stop)| stop.at),
        };
        let mut last = None;
        let mut synced = None;
        if let Some((bytes, stop)) = rest {
            let found = self.place(newest).synced_according_to_rest(bytes, stop.at);
            last = found.map(|_| newest);
            synced = found;
        }
        for &file in self.files.iter().filter(|&&file| file > newest) {
            let found = self
                .place(file)
                .synced_according_to_rest(&self.read(file)?, 0);
            last = found.map(|_| file).or(last);
            synced = synced.max(found);
        }
        if let Some(synced) = synced.filter(|&synced| synced > end) {
            let why = rest.map_or("its first frame is not valid", |(_, stop)| {
                stop.invalid.why()
            });
            let file = if newest == 0 { synced.file } else { newest };
            let why = format!("{why}, and everything up to {synced} had been synced");
            self.damaged(file, end.at, &why);
        } else if last.is_some() {
            self.replay.torn = Some(format!(
                "the last write was torn: {} was cut at byte {}; nothing after it had been acknowledged",
                self.name(newest.max(1)),
                end.at
            ));
        }
        Ok(())
    }

    fn damaged(&mut self, file: u32, at: u64, what: &str) {
        let sentence = format!("{} is damaged at byte {at}: {what}", self.name(file));
        self.replay.damage.push(sentence);
    }

    /// Applies the valid frames of a file up to `until`, or as far as they go.
    fn frames(&mut self, file: u32, bytes: &[u8], until: Option<u64>) -> (End, Stop) {
        let place = self.place(file);
        let mut end = End {
            position: Position { file, at: 0 },
            chain: self.begun[&file].previous.chain,
        };
        let mut turned_to = None;
        let invalid = loop {
            if until.is_some_and(|until| end.position.at >= until) {
                break Invalid::Bytes("the next file goes on from another byte");
            }
            let frame = match place.frame_at(bytes, end.position.at) {
                Ok(frame) => frame,
                Err(invalid) => break invalid,
            };
            if frame.header.chain != end.chain {
                break Invalid::Meaning("the frame does not follow the one before it");
            }
            if let Err(invalid) = self.replay.apply(&frame) {
                break invalid;
            }
            let turns = frame.header.kind == Kind::Turn;
            turned_to = turns.then(|| Fields::new(frame.ops).u32()).flatten();
            end.position.at = frame.header.end();
            end.chain = frame.checksum;
        };
        let stop = Stop {
            at: end.position.at,
            invalid,
            turned_to,
        };
        (end, stop)
    }

    /// After damage: the terms and votes in whatever frames are still valid. A voter may forget an
    /// entry and be repaired; it must not forget a vote.
    fn hards_after_damage(&mut self) -> Result<(), Error> {
        if self.replay.damage.is_empty() {
            return Ok(());
        }
        let first = self.replay.first_needed;
        for &file in self.files.iter().filter(|&&file| file >= first) {
            let bytes = self.read(file)?;
            let mut at = 0;
            while at < bytes.len() as u64 {
                let Ok(frame) = self.place(file).frame_at(&bytes, at) else {
                    at += ALIGN as u64;
                    continue;
                };
                self.replay.apply_hards(&frame);
                at = frame.header.end();
            }
        }
        Ok(())
    }
}

impl Replay {
    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Invalid> {
        if frame.header.kind != Kind::Operations {
            return Ok(());
        }
        for op in op::decode(frame.ops, frame.bodies)? {
            self.apply_op(op)?;
        }
        Ok(())
    }

    fn apply_op(&mut self, op: Op) -> Result<(), Invalid> {
        match op {
            Op::Persist {
                group,
                hard,
                truncate_from,
                entries,
                commit,
            } => {
                let group = self.groups.entry(group).or_default();
                if let Some(hard) = hard {
                    group.hard = hard;
                }
                group.commit = group.commit.max(commit);
                if let Some(from) = truncate_from {
                    group.truncate(from);
                }
                group.append(entries)
            }
            Op::Standing(standing) => {
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
                let group = self.groups.entry(standing.group).or_default();
                group.stand(&standing);
                group.entries.clear();
                group.last = standing.kept;
                group.append(entries)?;
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

    fn apply_hards(&mut self, frame: &Frame<'_>) {
        if frame.header.kind != Kind::Operations {
            return;
        }
        for op in op::decode(frame.ops, frame.bodies).unwrap_or_default() {
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

    fn append(&mut self, entries: Vec<Entry>) -> Result<(), Invalid> {
        for entry in entries {
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

/// The salt that the newest sound first frame carries, if there is one.
pub(crate) fn begun_salt(disk: &dyn Disk) -> Result<Option<u64>, Error> {
    let names = disk.list(Path::new(layout::JOURNAL_DIR))?;
    for name in names.iter().rev() {
        let Some(file) = layout::journal_number(name) else {
            continue;
        };
        let opened = disk.open(&layout::journal_path(file), Open::Read)?;
        let mut bytes = [0; HEADER_BYTES];
        opened.read_at(0, &mut bytes)?;
        if let Ok((header, _)) = Header::decode(&bytes)
            && header.kind == Kind::Begin
            && header.position == (Position { file, at: 0 })
        {
            return Ok(Some(header.salt));
        }
    }
    Ok(None)
}
