//! Readers that stop in the middle of a segment and are kept: whatever happens to the files meanwhile, nobody reads on
//! in what they were, and nothing that is gone is held.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::path::PathBuf;

use kontiki_raft::{Index, LogId, Term};
use kontiki_storage::{Settings, SimDisk};
use kontiki_wire::{GroupId, Offset};

use crate::rig::{
    byhand::{ByHand, offset, records},
    configuration, entry,
};

const GROUP: GroupId = GroupId(3);
const LAST: u64 = 200;

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 32 << 10,
        segment_bytes: 32 << 10,
        hot_bytes_max: 0,
        apart_bytes_min: u64::MAX,
        ..Settings::default()
    }
}

fn body(index: u64) -> Vec<u8> {
    if records(index) == 0 {
        return configuration(index);
    }
    let mut body = vec![index as u8; 800];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

/// A storage with some sealed segments and one that is not.
fn grown(settings: Settings) -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings.clone());
    for index in 1..=LAST {
        by_hand.write(GROUP, vec![entry(index, 1, &body(index))]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    let at = LogId {
        term: Term(1),
        index: Index(LAST - 3),
    };
    by_hand.checkpoint(GROUP, at);
    by_hand.hands.idle();
    by_hand.hands.idle();
    let (model, disk) = (by_hand.model.clone(), by_hand.disk.clone());
    by_hand.hands.close().unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings);
    assert_eq!(recovered.groups[0].missing, []);
    next.model = model;
    next
}

fn files(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    paths
        .filter(|path| path.starts_with("groups") && path.extension() == Some(extension.as_ref()))
        .collect()
}

/// Reads on from `next`, and says where to go on.
fn read_on(by_hand: &ByHand, next: u64) -> u64 {
    let log = by_hand.storage.log(GROUP).unwrap();
    let batches = log.read(Offset(next), Offset(offset(LAST + 1)), 5_000);
    let mut next = next;
    for batch in batches.unwrap() {
        let index = u64::from_be_bytes(batch.batch[..8].try_into().unwrap());
        assert_eq!((batch.offset.0, offset(index)), (next, next));
        assert_eq!(batch.batch, body(index));
        next += u64::from(records(index));
    }
    next
}

fn read_all(by_hand: &ByHand) {
    let mut next = 0;
    while next < offset(LAST + 1) {
        next = read_on(by_hand, next);
    }
}

#[test]
fn who_reads_alone_leaves_no_sealed_segment_in_memory_and_who_comes_soon_after_does() {
    for apart_bytes_min in [u64::MAX, 0] {
        let by_hand = grown(Settings {
            apart_bytes_min,
            ..settings()
        });
        let paths = files(
            &by_hand.disk,
            match apart_bytes_min {
                0 => "bodies",
                _ => "segment",
            },
        );
        assert!(paths.len() > 3, "{paths:?}");
        let told = || -> Vec<u64> {
            let told = paths.iter().map(|path| by_hand.disk.uncached(path));
            told.collect()
        };
        let before = told();
        read_all(&by_hand);
        let after = told();
        let dropped: Vec<u64> = before
            .iter()
            .zip(&after)
            .map(|(one, next)| next - one)
            .collect();
        // All but the one that is not sealed.
        let least = 15 << 10;
        assert!(
            dropped[..paths.len() - 1].iter().all(|some| *some > least),
            "{dropped:?}"
        );
        read_all(&by_hand);
        assert_eq!(told(), after, "another came soon after");
    }
}

#[test]
fn files_of_a_group_that_is_removed_are_not_held() {
    let mut by_hand = grown(settings());
    read_on(&by_hand, 0);
    assert_eq!(by_hand.disk.nameless_open(), 0);
    by_hand.storage.remove(GROUP);
    for _ in 0..3 {
        by_hand.hands.write();
        by_hand.hands.work();
    }
    by_hand.listen();
    assert_eq!(files(&by_hand.disk, "segment"), Vec::<PathBuf>::new());
    assert_eq!(by_hand.disk.nameless_open(), 0);
}

#[test]
fn files_that_were_damaged_and_written_anew_are_not_held() {
    let mut by_hand = grown(settings());
    let sound = by_hand.model.now()[&GROUP].clone();
    let next = read_on(&by_hand, 0);
    let path = files(&by_hand.disk, "segment").remove(0);
    by_hand
        .disk
        .edit(&path, |bytes| {
            let body = body(21);
            let mut windows = bytes.windows(body.len());
            let at = windows.position(|held| held == body).unwrap();
            bytes[at + 100] ^= 1;
        })
        .unwrap();
    let log = by_hand.storage.log(GROUP).unwrap();
    assert!(log.entries(Index(21), Index(21), 1).is_err());
    by_hand.hands.work();
    by_hand.listen();
    let told = format!("{:?}", by_hand.said.pop().unwrap());
    assert!(told.contains("Damaged"), "{told}");
    by_hand.mend(GROUP, &sound, vec![(Index(21), Index(21))]);
    assert_eq!(by_hand.disk.nameless_open(), 0);
    assert!(read_on(&by_hand, next) > next);
}
