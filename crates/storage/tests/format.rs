//! The format on disk: a data directory of today's, byte for byte, and one of an earlier day that must
//! still open.
//!
//! A change of format fails here. If it is meant, the version in `layout.rs` goes up, and
//! `tests/golden/` gets what the failure prints.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{fmt::Write, fs, path::Path};

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Settings, SimDisk};
use kontiki_wire::GroupId;

use crate::rig::{append, byhand::ByHand, entry, hard};

const GROUP: GroupId = GroupId(3);
const OTHER: GroupId = GroupId(4);

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 2 << 10,
        segment_bytes: 600,
        hot_bytes_max: 0,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

/// A directory with every kind of file and every kind of frame and operation.
fn directory() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let persist = Persist {
        hard: Some(hard(2, 9)),
        ..append(vec![
            entry(1, 1, b"stays in the journal"),
            entry(2, 2, b"is replaced"),
        ])
    };
    by_hand.queue(vec![(OTHER, persist)]);
    by_hand.queue(vec![(
        OTHER,
        Persist {
            truncate_from: Some(Index(2)),
            commit: Index(1),
            ..append(vec![entry(2, 3, b"replaces")])
        },
    )]);
    by_hand.write(GroupId(5), vec![entry(1, 1, b"is removed")]);
    by_hand.storage.remove(GroupId(5));
    by_hand.model.removed.insert(GroupId(5));
    for index in 1..=9 {
        by_hand.write(
            GROUP,
            vec![entry(
                index,
                1 + index / 4,
                format!("{index:0150}").as_bytes(),
            )],
        );
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    by_hand.checkpoint(
        GROUP,
        LogId {
            term: Term(1),
            index: Index(3),
        },
    );
    by_hand.hands.idle();
    by_hand.hands.idle();
    by_hand.hands.work();
    by_hand
}

/// One with segments whose bodies lie apart.
fn apart() -> ByHand {
    let settings = Settings {
        journal_file_bytes: 8 << 10,
        apart_bytes_min: 0,
        ..settings()
    };
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings);
    for index in 1..=8_u64 {
        let mut body = vec![0; 2_200];
        body[..8].copy_from_slice(&index.to_be_bytes());
        by_hand.write(GROUP, vec![entry(index, 1, &body)]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    by_hand
}

/// Every file with its bytes, sixteen to a line; lines of zeros are left out.
fn dump(disk: &SimDisk) -> String {
    let mut text = String::new();
    for (path, bytes) in disk.files() {
        writeln!(text, "{} {} bytes", path.display(), bytes.len()).unwrap();
        for (line, bytes) in bytes.chunks(16).enumerate() {
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            write!(text, "{:06x}", line * 16).unwrap();
            for byte in bytes {
                write!(text, " {byte:02x}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

/// The disk that [`dump`] wrote down.
fn load(text: &str) -> SimDisk {
    use kontiki_storage::{Disk, Open};
    let disk = SimDisk::default();
    for dir in ["journal", "groups/3", "state"] {
        disk.make_dir(Path::new(dir)).unwrap();
    }
    let mut path = "";
    for line in text.lines() {
        let mut words = line.split(' ');
        let first = words.next().unwrap();
        if let Some(size) = line
            .strip_suffix(" bytes")
            .and_then(|line| line.split(' ').nth(1))
        {
            path = first;
            let file = disk.open(Path::new(path), Open::Create).unwrap();
            file.set_size(size.parse().unwrap()).unwrap();
            continue;
        }
        let at = usize::from_str_radix(first, 16).unwrap();
        let line: Vec<u8> = words
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        disk.edit(Path::new(path), |bytes| {
            bytes[at..at + line.len()].copy_from_slice(&line)
        })
        .unwrap();
    }
    disk
}

/// A directory as it was written in the days of a version of the journal.
fn golden(name: &str) -> String {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    fs::read_to_string(format!("{golden}/{name}.txt")).unwrap_or_default()
}

#[test]
fn bytes_on_disk_are_those_of_the_format() {
    let now = dump(&directory().disk);
    assert!(
        now == golden("directory-2"),
        "the format has changed; it is now\n{now}"
    );
    let now = dump(&apart().disk);
    assert!(
        now == golden("apart-2"),
        "the format has changed; it is now\n{now}"
    );
}

#[test]
fn directory_of_an_earlier_day_opens() {
    opens(1);
}

#[test]
fn directory_of_today_opens() {
    opens(2);
}

fn opens(version: u32) {
    let by_hand = directory();
    let (next, recovered) = ByHand::new(load(&golden(&format!("directory-{version}"))), settings());
    assert_eq!(recovered.damage, Vec::<String>::new());
    let mut expected = by_hand.model.now().clone();
    expected.remove(&GroupId(5));
    assert_eq!(next.found(&recovered), expected);
    assert_eq!(
        recovered.groups[0]
            .checkpoint
            .as_ref()
            .map(|(at, _)| at.index),
        Some(Index(3))
    );
}

#[test]
fn directory_with_bodies_apart_opens() {
    let by_hand = apart();
    let (next, recovered) = ByHand::new(load(&golden("apart-2")), settings());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(next.found(&recovered), *by_hand.model.now());
}
