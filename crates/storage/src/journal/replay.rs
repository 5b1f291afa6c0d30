//! Reading back: what the journal says, and whether its end is torn or damaged.
//!
//! After a crash, the bytes of writes that were not synced may be there or not, in any mixture. So an
//! invalid frame proves nothing, and neither does a valid one after it. What proves something is a
//! valid header that says the journal had been synced beyond the invalid frame: then those bytes were
//! durable once, perhaps acknowledged, and have been damaged since. Without such a witness they are
//! taken for a torn write and cut.
//!
//! A file whose first frame cannot be read is no file, as one that was prepared and not begun. So the file
//! before it says that it was begun, once that is durable and before anything in it is promised: what is
//! followed by nothing that can be read has lost what followed.
//!
//! What stays ambiguous is the last synced write: until a later frame tells of its sync, damage to it
//! looks like a torn write. A following write, the mark that an idle journal writes, or a clean close
//! ends that.

use std::{collections::BTreeMap, path::Path};

use crate::{
    Error,
    disk::{Disk, Open},
    fields::Fields,
    journal::{
        begin::{Begin, End},
        frame::{Header, Invalid, Kind, Position},
        replayed::{Replay, Spot},
        scan::JournalFile,
    },
    layout::{
        self,
        journal::{ALIGN, HEADER_BYTES},
    },
    planted::{Planted, plants},
};

/// Reads the whole journal. Fails only if the disk does; damage is part of the answer.
pub(crate) fn replay(disk: &dyn Disk, salt: u64) -> Result<Replay, Error> {
    replay_into(Replay::default(), disk, salt)
}

/// The same, but the batches are only checked, not kept.
pub(crate) fn check(disk: &dyn Disk, salt: u64) -> Result<Replay, Error> {
    let bodiless = Replay {
        bodiless: true,
        ..Replay::default()
    };
    replay_into(bodiless, disk, salt)
}

fn replay_into(replay: Replay, disk: &dyn Disk, salt: u64) -> Result<Replay, Error> {
    let names = disk.list(Path::new(layout::JOURNAL_DIR))?;
    let numbers = names.iter().filter_map(|name| layout::journal_number(name));
    let files: Vec<u32> = numbers.filter(|&number| number > 0).collect();
    let mut begun = BTreeMap::new();
    for &file in &files {
        if let Some(begin) = JournalFile::open(disk, file, salt)?.begin(disk)? {
            begun.insert(file, begin);
        }
    }
    let mut replayer = Replayer {
        disk,
        salt,
        files: &files,
        begun: &begun,
        replay,
    };
    replayer.run()?;
    let mut replay = replayer.replay;
    replay.files = files;
    Ok(replay)
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
    /// The last frame said that this file was begun and goes on from before it.
    followed_by: Option<u32>,
}

impl Replayer<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let Some((&newest, begin)) = self.begun.last_key_value() else {
            self.after_newest(0, None)?;
            return self.hards_after_damage();
        };
        self.replay.newest = newest;
        self.replay.first_needed = self.first_needed(newest, begin)?;
        if let Some(chain) = self.chain(newest) {
            let mut sound = true;
            for pair in chain.windows(2) {
                let until = self.begun[&pair[1]].previous;
                sound = sound && self.earlier_file(pair[0], until)?;
            }
            if sound {
                self.newest_file(newest)?;
            }
        }
        let earlier = begin.damage.iter().cloned();
        self.replay.reasons.extend(earlier);
        self.hards_after_damage()
    }

    fn read(&self, file: u32) -> Result<JournalFile, Error> {
        JournalFile::open(self.disk, file, self.salt)
    }

    fn name(&self, file: u32) -> String {
        let path = self.disk.full_path(&layout::journal_path(file));
        path.display().to_string()
    }

    /// The first file that is still needed, as the newest file says: when it was begun, or since.
    fn first_needed(&self, newest: u32, begin: &Begin) -> Result<u32, Error> {
        let mut first = begin.first_needed;
        let mut file = self.read(newest)?;
        let mut at = 0;
        while let Ok(header) = file.header(at)? {
            if header.kind == Kind::Freed
                && let Ok(frame) = file.frame(at)?
            {
                first = first.max(Fields::new(frame.ops).u32().unwrap_or_default());
            }
            at = header.end();
        }
        Ok(first.clamp(1, newest))
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
                let what = format!("it {what}, and {} goes on from it", self.name(file));
                self.spot(before, 0, &what);
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
        if until.position.file != file {
            self.damaged(file, 0, "the file after it goes on from another one");
            return Ok(false);
        }
        let (end, stop) = self.frames(file, Some(until.position.at))?;
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
    fn newest_file(&mut self, file: u32) -> Result<(), Error> {
        let (end, stop) = self.frames(file, None)?;
        self.replay.end = end;
        self.replay.turned_to = stop.turned_to;
        let have = self.read(file)?.size();
        if have < self.begun[&file].size {
            self.damaged(file, have, "it is shorter than when it was begun");
        } else if let Invalid::Meaning(why) = stop.invalid {
            self.damaged(file, stop.at, why);
        } else if let Some(next) = stop.followed_by {
            let what = if self.files.contains(&next) {
                "its first frame is not valid, but the file before it says that it was begun"
            } else {
                "it is missing, but the file before it says that it was begun"
            };
            self.damaged(next, 0, what);
        } else if let Some(next) = stop.turned_to.filter(|next| !self.files.contains(next)) {
            let name = self.name(next);
            let sentence = format!("{name} is missing, and {} goes on there", self.name(file));
            self.replay.damage.push(sentence);
            self.spot(
                next,
                0,
                "it is missing, and the file before it goes on there",
            );
        } else {
            self.after_newest(file, Some(&stop))?;
        }
        Ok(())
    }

    /// Looks for a witness that something after the last valid frame had been synced: in the rest of
    /// the newest file, and in files that may have been begun after it.
    fn after_newest(&mut self, newest: u32, rest: Option<&Stop>) -> Result<(), Error> {
        let end = Position {
            file: newest,
            at: rest.map_or(0, |stop| stop.at),
        };
        let mut synced = None;
        if rest.is_some() {
            synced = self.read(newest)?.synced_according_to_rest(end.at)?;
        }
        for &file in self.files.iter().filter(|&&file| file > newest) {
            synced = synced.max(self.read(file)?.synced_according_to_rest(0)?);
        }
        let Some(synced) = synced else {
            return Ok(());
        };
        if synced > end && !plants(Planted::DamageTakenForTorn) {
            let (file, at, why) = match rest {
                Some(stop) if synced.file == newest => (newest, stop.at, stop.invalid.why()),
                _ => (synced.file, 0, "its first frame is not valid"),
            };
            let why = format!("{why}, but everything up to {synced} had been synced");
            self.damaged(file, at, &why);
        } else {
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
        self.spot(file, at, what);
    }

    fn spot(&mut self, file: u32, at: u64, what: &str) {
        let what = what.to_owned();
        self.replay.spots.push(Spot { file, at, what });
    }

    /// Applies the valid frames of a file up to `until`, or as far as they go.
    fn frames(&mut self, file: u32, until: Option<u64>) -> Result<(End, Stop), Error> {
        let mut bytes = self.read(file)?;
        let mut end = End {
            position: Position { file, at: 0 },
            chain: self.begun[&file].previous.chain,
        };
        let (mut turned_to, mut followed_by) = (None, None);
        let invalid = loop {
            if until.is_some_and(|until| end.position.at >= until) {
                break Invalid::Bytes("the next file goes on from another byte");
            }
            let frame = match bytes.frame(end.position.at)? {
                Ok(frame) => frame,
                Err(invalid) => break invalid,
            };
            if frame.header.chain != end.chain && !plants(Planted::StaleFramesReplayed) {
                break Invalid::Meaning("the frame does not follow the one before it");
            }
            if let Err(invalid) = self.replay.apply(&frame) {
                break invalid;
            }
            let named = Fields::new(frame.ops).u32();
            let names = |kind| named.filter(|_| frame.header.kind == kind);
            (turned_to, followed_by) = (names(Kind::Turn), names(Kind::Followed));
            end.position.at = frame.header.end();
            end.chain = frame.checksum;
            self.replay.synced = frame.header.synced;
        };
        let stop = Stop {
            at: end.position.at,
            invalid,
            turned_to,
            followed_by,
        };
        Ok((end, stop))
    }

    /// After damage: the terms and votes in whatever frames are still valid. A voter may forget an
    /// entry and be repaired; it must not forget a vote.
    fn hards_after_damage(&mut self) -> Result<(), Error> {
        if self.replay.damage.is_empty() {
            return Ok(());
        }
        let first = self.replay.first_needed;
        for &file in self.files.iter().filter(|&&file| file >= first) {
            let mut bytes = self.read(file)?;
            let mut at = 0;
            while at < bytes.size() {
                match bytes.frame(at)? {
                    Ok(frame) => {
                        self.replay.apply_hards(&frame);
                        at = frame.header.end();
                    }
                    Err(_) => at += ALIGN as u64,
                }
            }
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
