//! The files of a member, and the ways in which one of them can be wrong.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::plan::Random;

/// What each entry of a segment begins with.
const ENTRY: &[u8] = b"KTKE";
/// Bytes before an entry's body: its index from byte 16, the length of the body from byte 52.
const ENTRY_BYTES: usize = 64;

/// Entries among which every member is wounded at once. Damaged segments are found and mended one by one.
const HELICAL_MAX: usize = 1500;

/// What a file is to its member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    Journal,
    Salt,
    Segment,
    Index,
    State,
    Owner,
    MemberFile,
    Certificate,
}

impl Part {
    /// Those that a member puts right by itself.
    pub(crate) const REPAIRED: [Self; 5] = [
        Self::Journal,
        Self::Salt,
        Self::Segment,
        Self::Index,
        Self::State,
    ];
    /// Those that only a person can put right: they say who the member is, and nobody else knows.
    pub(crate) const IDENTITY: [Self; 3] = [Self::Owner, Self::MemberFile, Self::Certificate];

    /// The part of a member's folder that a path in it belongs to.
    fn of(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let extension = path.extension().and_then(|e| e.to_str());
        match (text, extension) {
            ("data/journal/salt", _) => Some(Self::Salt),
            ("data/owner", _) => Some(Self::Owner),
            ("member.toml", _) => Some(Self::MemberFile),
            // With a bit flipped in one of its names it is another's, and nothing here contradicts that.
            ("certs/client-ca.pem", _) => None,
            (_, Some("journal")) => Some(Self::Journal),
            (_, Some("segment")) => Some(Self::Segment),
            (_, Some("index")) => Some(Self::Index),
            (_, Some("pem" | "key")) => Some(Self::Certificate),
            // An empty lock says nothing that could be wrong.
            _ if text.starts_with("data/state/") && !text.ends_with("lock") => Some(Self::State),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Salt => "salt",
            Self::Segment => "segment",
            Self::Index => "index",
            Self::State => "state",
            Self::Owner => "owner",
            Self::MemberFile => "member.toml",
            Self::Certificate => "certificate",
        }
    }
}

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wound {
    BitFlip,
    ZeroedBlock,
    Garbage,
    Truncation,
    /// It and another of its kind take each other's place.
    Swap,
    /// Another member's file of the same name takes its place.
    Foreign,
    Deletion,
}

impl Wound {
    pub(crate) const ALL: [Self; 7] = [
        Self::BitFlip,
        Self::ZeroedBlock,
        Self::Garbage,
        Self::Truncation,
        Self::Swap,
        Self::Foreign,
        Self::Deletion,
    ];
}

/// All files of one kind, in a member's folder.
pub(crate) fn files(folder: &Path, part: Part) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            let inside = path.strip_prefix(folder).expect("a path inside").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if Part::of(&inside) == Some(part) {
                found.push(inside);
            }
        }
    }
    found.sort();
    found
}

/// Wounds one file of a member that does not run. Says what it did, or `None` if there was nothing to
/// do it to, or it changed nothing.
pub(crate) fn wound(
    folder: &Path,
    other: &Path,
    part: Part,
    wound: Wound,
    random: &mut Random,
) -> Option<String> {
    let files = files(folder, part);
    if files.is_empty() {
        return None;
    }
    let name = random.of(&files);
    let path = folder.join(&name);
    let before = fs::read(&path).expect("a file to wound");
    let mut what = format!("{wound:?} of {}", name.display());
    match wound {
        Wound::Deletion => fs::remove_file(&path).expect("a file to remove"),
        Wound::Swap => {
            let with = random.of(&files);
            let with = folder.join(with);
            let after = fs::read(&with).expect("a file to swap with");
            if after == before {
                return None;
            }
            fs::write(&path, &after).expect("a file to swap");
            fs::write(&with, &before).expect("a file to swap with");
            what.push_str(&format!(" with {}", with.display()));
        }
        Wound::Foreign => {
            let foreign = fs::read(other.join(&name)).ok()?;
            if foreign == before {
                return None;
            }
            fs::write(&path, foreign).expect("a file to replace");
        }
        _ => {
            let (after, how) = spoil(&before, wound, random)?;
            fs::write(&path, after).expect("a file to wound");
            what.push_str(&how);
        }
    }
    Some(what)
}

/// Wounds a stretch of the log in every member's segments, so that each run of some entries is left
/// sound in one member only. Says how many runs there are.
pub(crate) fn helical(folders: &[PathBuf], random: &mut Random) -> usize {
    let members: Vec<_> = folders.iter().map(|folder| entries(folder)).collect();
    let in_all = |key: &&Key| members.iter().all(|entries| entries.contains_key(*key));
    let mut keys: Vec<Key> = members[0].keys().filter(in_all).cloned().collect();
    if keys.is_empty() {
        return 0;
    }
    let first = random.below(keys.len() as u64) as usize;
    keys.rotate_left(first);
    keys.truncate(HELICAL_MAX);
    let mut sound = random.below(members.len() as u64) as usize;
    let (mut left, mut runs) = (&keys[..], 0);
    while !left.is_empty() {
        let (run, rest) = left.split_at(left.len().min(random.within(1..=8) as usize));
        for (_, entries) in members.iter().enumerate().filter(|(at, _)| *at != sound) {
            let (file, bytes) = &entries[&random.of(run)];
            let at = bytes.start + random.below(bytes.len() as u64) as usize;
            let mut all = fs::read(file).expect("a file to wound");
            all[at] ^= 1 << random.below(8);
            fs::write(file, all).expect("a file to wound");
        }
        (left, sound, runs) = (rest, (sound + 1) % members.len(), runs + 1);
    }
    runs
}

/// A group's folder, and the index of an entry.
type Key = (PathBuf, u64);

/// Where each entry stands in a member's sealed segments. What is committed of the others, only they and
/// the peers know.
fn entries(folder: &Path) -> BTreeMap<Key, (PathBuf, Range<usize>)> {
    let mut found = BTreeMap::new();
    let names = files(folder, Part::Segment);
    let sealed = names
        .windows(2)
        .filter(|two| two[0].parent() == two[1].parent());
    for name in sealed.map(|two| &two[0]) {
        let file = folder.join(name);
        let bytes = fs::read(&file).expect("a segment");
        let group = name.parent().expect("a group's folder");
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + ENTRY_BYTES) {
            if !header.starts_with(ENTRY) {
                at += 1;
                continue;
            }
            let index = u64::from_le_bytes(header[16..24].try_into().expect("8 bytes"));
            let body = u32::from_le_bytes(header[52..56].try_into().expect("4 bytes"));
            let end = at + ENTRY_BYTES + body as usize;
            found.insert((group.to_owned(), index), (file.clone(), at..end));
            at = end;
        }
    }
    found
}

/// Wounds bytes where they say something: what follows the last that is not zero is reserved room.
fn spoil(before: &[u8], wound: Wound, random: &mut Random) -> Option<(Vec<u8>, String)> {
    let used = before.iter().rposition(|byte| *byte != 0)? + 1;
    let mut bytes = before.to_vec();
    let at = random.below(used as u64) as usize;
    let how = match wound {
        Wound::BitFlip => {
            bytes[at] ^= 1 << random.below(8);
            format!(" at byte {at} of {used}")
        }
        Wound::ZeroedBlock | Wound::Garbage => {
            let block = random.of(&[512, 4096]);
            let start = at / block * block;
            let end = (start + block).min(bytes.len());
            for byte in &mut bytes[start..end] {
                *byte = match wound {
                    Wound::ZeroedBlock => 0,
                    _ => random.below(256) as u8,
                };
            }
            format!(" from byte {start} to {end} of {used}")
        }
        _ => {
            bytes.truncate(at);
            format!(" to {at} of {used} bytes")
        }
    };
    (bytes != before).then_some((bytes, how))
}
