//! A member's disk after somebody has written over one of its files: a journal's, a segment's, an
//! index's. The first byte chooses the file, the others are what it holds now.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{
    Entry, Hard, Incarnation, Index, Kind, LogId, Micros, NodeId, NodeRef, Persist, Term, WriteSeq,
};
use kontiki_storage::{Error, Hands, Recovered, Settings, SimDisk, Storage, verify_on};
use kontiki_wire::{GroupId, Offset};

use crate::lies::seal;

const GROUP: GroupId = GroupId(3);
const ENTRIES: u64 = 24;

/// Files so small that there are several of each kind.
fn settings() -> Settings {
    Settings {
        journal_file_bytes: 4 << 10,
        segment_bytes: 2 << 10,
        hot_bytes_max: 0,
        ..Settings::default()
    }
}

/// What a disk that nobody has touched holds.
struct Grown {
    disk: SimDisk,
    files: Vec<(PathBuf, Vec<u8>)>,
    truth: Found,
}

/// Everything that can be read from a disk: each group's term and vote, and its entries.
type Found = BTreeMap<GroupId, (Hard, Vec<Entry>)>;

fn open(disk: &SimDisk) -> Result<(Storage, Hands, Recovered), Error> {
    Storage::open_by_hand(Arc::new(disk.clone()), settings(), Arc::new(|_| {}))
}

fn grown() -> &'static Grown {
    static GROWN: OnceLock<Grown> = OnceLock::new();
    GROWN.get_or_init(|| {
        let disk = SimDisk::default();
        let (storage, mut hands, _) = open(&disk).expect("an empty disk");
        for index in 1..=ENTRIES {
            storage.persist(write(index));
            hands.write();
            let placed = Placed {
                index: Index(index),
                offset: Offset(index - 1),
                count: 1,
            };
            storage.applied(GROUP, &[placed]);
            hands.work();
        }
        hands.idle();
        hands.idle();
        hands.work();
        drop((storage, hands));
        let (storage, _hands, recovered) = open(&disk).expect("a disk that nobody has touched");
        assert!(recovered.damage.is_empty(), "{recovered:?}");
        let truth = read(&storage, &recovered).expect("a disk that nobody has touched");
        let files = disk.files();
        Grown { disk, files, truth }
    })
}

fn write(index: u64) -> Writes {
    let body = Bytes::from(vec![index as u8; 40 + 9 * (index as usize % 14)]);
    let entry = Entry {
        id: LogId {
            term: Term(1 + index / 10),
            index: Index(index),
        },
        kind: Kind::Batch,
        time: Micros(1_000 * index),
        checksum: crc32c::crc32c(&body),
        body,
    };
    let vote = NodeRef {
        id: NodeId(2),
        incarnation: Incarnation(3),
    };
    let persist = Persist {
        seq: WriteSeq(0),
        hard: index.is_multiple_of(10).then_some(Hard {
            term: entry.id.term,
            vote: Some(vote),
            recovering: false,
        }),
        truncate_from: None,
        append: vec![entry],
        commit: Index(index - 1),
    };
    Writes {
        seq: index,
        writes: vec![GroupWrite {
            group: GROUP,
            persist,
        }],
    }
}

fn read(storage: &Storage, recovered: &Recovered) -> Result<Found, Error> {
    let mut found = Found::new();
    for group in &recovered.groups {
        let mut entries: Vec<Entry> = Vec::new();
        let log = storage.log(group.group);
        let log = log.expect("a group that was recovered has a log");
        let mut next = group.base.index.next();
        while next <= group.last {
            let read = log.entries(next, group.last, 700)?;
            let Some(last) = read.last() else { break };
            next = last.id.index.next();
            entries.extend(read);
        }
        let placed = entries.len() as u64;
        let _ = log.read(Offset(0), Offset(placed), 1 << 16);
        let _ = log.offset_at(5_000);
        found.insert(group.group, (group.hard, entries));
    }
    Ok(found)
}

/// The disk with one file as the bytes say.
fn touched(bytes: &[u8], change: impl FnOnce(&Path, &mut [u8])) -> Option<SimDisk> {
    let (which, content) = bytes.split_first()?;
    let Grown { disk, files, .. } = grown();
    let (path, _) = &files[usize::from(*which) % files.len()];
    let disk = disk.copied();
    let edited = disk.edit(path, |file| {
        file.clear();
        file.extend_from_slice(content);
        change(path, file);
    });
    edited.ok().map(|()| disk)
}

/// Whether a walk over the disk finds nothing damaged.
fn verify(disk: &SimDisk) -> bool {
    let verified = verify_on(Arc::new(disk.clone()), Arc::new(|_, _| {}));
    verified.is_ok_and(|verified| verified.is_sound())
}

/// Whatever the file holds, what is read is the truth, or the damage is reported.
pub(crate) fn damaged(bytes: &[u8]) {
    let Some(disk) = touched(bytes, |_, _| {}) else {
        return;
    };
    let sound = verify(&disk);
    // What does not open is reported too.
    let Ok((storage, _hands, recovered)) = open(&disk) else {
        return;
    };
    if !recovered.damage.is_empty() {
        assert!(!sound, "damage that a walk does not see");
        return;
    }
    if let Ok(found) = read(&storage, &recovered) {
        assert_eq!(found, grown().truth, "wrong or missing in silence");
    }
}

/// With checksums that match, a lie may be believed; it brings nobody down.
pub(crate) fn forged(bytes: &[u8]) {
    let Some(disk) = touched(bytes, reseal) else {
        return;
    };
    verify(&disk);
    let Ok((storage, mut hands, recovered)) = open(&disk) else {
        return;
    };
    let _ = read(&storage, &recovered);
    let mut groups = recovered.groups.iter();
    let last = groups
        .find(|group| group.group == GROUP)
        .map(|group| group.last.0);
    let next = last.unwrap_or(0).saturating_add(1);
    if next < 1 << 40 {
        storage.persist(write(next));
        hands.work();
    }
}

/// Makes the checksums of headers match: the 64 bytes that a magic begins, an index's header and marks,
/// a sealed segment's trailer.
fn reseal(path: &Path, file: &mut [u8]) {
    if path.extension() == Some("index".as_ref()) {
        let header = file.len().min(32);
        seal(&mut file[..header]);
        file[header..].chunks_mut(56).for_each(seal);
        return;
    }
    if let Some(at) = file.len().checked_sub(16)
        && file[at + 4..].starts_with(b"KTKF")
    {
        let length = crate::lies::number(file, at);
        if let Some(from) = at.checked_sub(length) {
            let checksum = crc32c::crc32c(&file[from..at]);
            file[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
        }
        seal(&mut file[at..]);
    }
    for at in (0..file.len().saturating_sub(63)).step_by(8) {
        if file[at..].starts_with(b"KTKJ") {
            let ops = crate::lies::number(file, at + 32);
            if let Some(ops) = file.get(at + 64..).and_then(|rest| rest.get(..ops)) {
                let checksum = crc32c::crc32c(ops);
                file[at + 44..at + 48].copy_from_slice(&checksum.to_le_bytes());
            }
        }
        if file[at..].starts_with(b"KTK") {
            seal(&mut file[at..at + 64]);
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let numbered = grown().files.iter().zip(0u8..);
    numbered
        .map(|((_, bytes), which)| [&[which], &bytes[..]].concat())
        .collect()
}
