//! A walk over a directory finds whatever is damaged in it, says where, and changes nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{path::PathBuf, sync::Arc};

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Settings, SimDisk, Verified, verify_on};
use kontiki_wire::GroupId;

use crate::rig::{append, byhand::ByHand, entry, hard};

const GROUP: GroupId = GroupId(3);
const QUIET: GroupId = GroupId(4);

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 16 << 10,
        segment_bytes: 3 << 10,
        hot_bytes_max: 0,
    }
}

/// Mostly zeros, so that few bytes tell much.
fn body(index: u64) -> Vec<u8> {
    let mut body = vec![0; 600 + 40 * (index % 14) as usize];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

/// Two groups, several sealed segments and one that is not, a checkpoint, a mark after the last write.
fn grown() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let persist = Persist {
        hard: Some(hard(2, 9)),
        ..append(vec![entry(1, 1, &[9; 60]), entry(2, 2, &[8; 60])])
    };
    by_hand.queue(vec![(QUIET, persist)]);
    by_hand.hands.write();
    for index in 1..=30 {
        by_hand.write(GROUP, vec![entry(index, 1 + index / 10, &body(index))]);
        by_hand.place(GROUP, index - 1);
        by_hand.hands.work();
        if index == 20 {
            let at = LogId {
                term: Term(1),
                index: Index(9),
            };
            by_hand.checkpoint(GROUP, at);
        }
    }
    by_hand.hands.idle();
    by_hand.hands.idle();
    by_hand
}

fn verify(disk: &SimDisk) -> Verified {
    verify_on(Arc::new(disk.clone()), Arc::new(|_, _| {})).unwrap()
}

/// Whether anything that was promised is not there any more, or is read differently.
fn hurts(disk: SimDisk, by_hand: &ByHand) -> bool {
    let Ok((next, recovered)) = ByHand::try_new(disk, settings()) else {
        return true;
    };
    !recovered.damage.is_empty()
        || !matches!(next.try_found(&recovered), Ok(found) if found == *by_hand.model.now())
}

/// The bytes of a file that say something, and some of those that do not; a third of them.
fn telling(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let tells = |at: &usize| bytes[*at] != 0 || at.is_multiple_of(61);
    (0..bytes.len()).filter(tells).step_by(3)
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files()
}

#[test]
fn whole_directory_is_sound() {
    let by_hand = grown();
    let verified = verify(&by_hand.disk);
    assert_eq!(verified.findings, []);
    assert!(verified.is_sound());
    assert_eq!(verified.groups.len(), 2);
    let walked = &verified.groups[0];
    assert_eq!((walked.group, walked.last), (GROUP, Index(30)));
    assert!(walked.segments > 3 && walked.entries > 10, "{walked:?}");
}

#[test]
fn every_flipped_bit_that_hurts_is_found() {
    let by_hand = grown();
    let mut found = 0;
    for (path, bytes) in files(&by_hand.disk) {
        for at in telling(&bytes) {
            let disk = by_hand.disk.copied();
            disk.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8))
                .unwrap();
            let before = files(&disk);
            let verified = verify(&disk);
            assert!(files(&disk) == before, "it changes nothing");
            found += u32::from(!verified.is_sound());
            if hurts(disk, &by_hand) {
                assert!(!verified.is_sound(), "byte {at} of {}", path.display());
            }
        }
    }
    assert!(found > 600, "{found}");
}
