//! A log that is taken over from another disk as it lies there.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::path::Path;

use bytes::Bytes;
use kontiki_broker::Rebuild;
use kontiki_raft::{Entry, Index, LogId, Term};
use kontiki_storage::{Error, Event, Fault, NotTaken, RecoveredGroup, SimDisk, Storage};
use kontiki_wire::{BatchBuilder, ProducerId, Record};

use crate::rig::{GROUP, Rig, append, byhand::ByHand, entry, hard, only, place, read_all, small};

const COUNT: u64 = 600;

/// A batch of one record, the next of one of three producers.
fn batch(index: u64) -> Entry {
    let mut builder = BatchBuilder::new(1024);
    let record = Record {
        value: vec![index as u8; 200].into(),
        ..Record::default()
    };
    builder.push(&record).unwrap();
    let (producer, sequence) = (ProducerId(u128::from(index % 3)), (index - 1) / 3);
    let term = 1 + index / 100;
    entry(index, term, builder.finish(producer, 0, sequence).bytes())
}

/// A disk with a log in many segments, the last of which is not sealed.
fn giver(dir: &Path) -> (Rig, Vec<Entry>) {
    let entries: Vec<_> = (1..=COUNT).map(batch).collect();
    let (mut rig, _) = Rig::open(dir, small());
    for some in entries.chunks(25) {
        rig.write(GROUP, append(some.to_vec()));
        let index = |entry: &Entry| entry.id.index.0;
        rig.place(GROUP, index(&some[0]), index(&some[some.len() - 1]));
    }
    rig.storage.close().unwrap();
    (Rig::open(dir, small()).0, entries)
}

/// All that there is from an entry on, in pieces that end anywhere.
fn pieces(giver: &Rig, first: Index) -> Vec<Bytes> {
    let mut shipment = giver.log(GROUP).ship(first);
    let sizes = [1, 63, 64, 1_000, 40_000].into_iter().cycle();
    let pieces = sizes.map_while(|size| shipment.next(size).unwrap());
    pieces.collect()
}

fn adopt(storage: &Storage, pieces: &[Bytes]) {
    let mut incoming = storage.take_in(GROUP).unwrap();
    for piece in pieces {
        incoming.take(piece).unwrap();
    }
    storage.adopt(incoming, false).unwrap();
}

fn mended(rig: &mut Rig) -> RecoveredGroup {
    loop {
        if let Some(Event::Mended(group)) = rig.said().pop() {
            return *group;
        }
        std::thread::yield_now();
    }
}

fn assert_is_the_log(group: &RecoveredGroup, entries: &[Entry], last: Index) {
    let held = &entries[..last.0 as usize];
    let mut rebuild = Rebuild::new(None).unwrap();
    held.iter().for_each(|entry| rebuild.apply(entry).unwrap());
    assert_eq!(group.checkpoint, Some(rebuild.checkpoint()));
    let id = held.last().unwrap().id;
    assert_eq!((group.last, group.commit), (last, last));
    assert_eq!((group.hard.term, group.hard.vote), (id.term, None));
    assert_eq!(group.tail, held[held.len() - 1..]);
    assert_eq!(group.missing, []);
    assert_eq!(group.terms[0], (Index(1), Term(1)));
}

#[test]
fn log_that_is_fetched_is_the_log_of_the_group_from_its_first_record_on() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (giver, entries) = giver(there.path());
    let stocked = giver.log(GROUP).stocked(Index(1));
    assert!(
        stocked.last.0 > COUNT / 2 && stocked.last.0 < COUNT,
        "{stocked:?}"
    );

    let (mut taker, _) = Rig::open(here.path(), small());
    adopt(&taker.storage, &pieces(&giver, Index(1)));
    let group = mended(&mut taker);
    assert_is_the_log(&group, &entries, stocked.last);
    let last = stocked.last.0;
    let read = read_all(&taker.log(GROUP), 0, last, 3_000);
    assert_eq!(read, read_all(&giver.log(GROUP), 0, last, 3_000));

    // It goes on by what its leader sends, and a start finds all of it.
    taker.write(GROUP, append(entries[last as usize..].to_vec()));
    taker.storage.applied(GROUP, &[place(last + 1, last, 1)]);
    drop(taker);
    let (taker, recovered) = Rig::open(here.path(), small());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(only(&recovered).last, Index(COUNT));
    assert_eq!(
        read_all(&taker.log(GROUP), 0, last, 3_000).len() as u64,
        last
    );
}

#[test]
fn fetch_that_broke_off_is_gone_on_with_from_another_whose_files_end_elsewhere() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (giver, entries) = giver(there.path());
    let all = pieces(&giver, Index(1));
    let (taker, _) = Rig::open(here.path(), small());
    let mut incoming = taker.storage.take_in(GROUP).unwrap();
    for piece in &all[..all.len() / 2] {
        incoming.take(piece).unwrap();
    }
    let (next, bytes) = (incoming.next(), incoming.bytes());
    assert!(next > Index(100) && bytes > 0);
    drop((incoming, taker));

    let settings = kontiki_storage::Settings {
        segment_bytes: 20_000,
        ..small()
    };
    let (mut taker, recovered) = Rig::open(here.path(), settings);
    assert!(recovered.groups.is_empty() && recovered.damage.is_empty());
    let incoming = taker.storage.take_in(GROUP).unwrap();
    assert_eq!((incoming.next(), incoming.bytes()), (next, bytes));
    drop(incoming);
    adopt(&taker.storage, &pieces(&giver, next));
    let last = giver.log(GROUP).stocked(Index(1)).last;
    assert_is_the_log(&mended(&mut taker), &entries, last);
}

#[test]
fn what_is_not_what_it_is_to_be_is_refused_and_what_was_before_it_is_kept() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (giver, entries) = giver(there.path());
    let whole = pieces(&giver, Index(1)).concat();
    let (mut taker, _) = Rig::open(here.path(), small());
    for at in [5_000, 5_040, 20_000, 50_001, 70_007] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        let mut incoming = taker.storage.take_in(GROUP).unwrap();
        let first = incoming.bytes() as usize;
        let taken = incoming.take(&damaged[first..]);
        assert!(matches!(taken, Err(NotTaken::Refused(_))), "byte {at}");
        assert!(incoming.bytes() <= at as u64, "byte {at}");
        assert!(incoming.bytes() + 1_000 > at as u64, "byte {at}");
        assert!(matches!(incoming.take(&whole), Err(NotTaken::Refused(_))));
        assert!(taker.storage.adopt(incoming, false).is_err());
    }
    let incoming = taker.storage.take_in(GROUP).unwrap();
    let rest = Bytes::from(whole[incoming.bytes() as usize..].to_vec());
    drop(incoming);
    // A gap, and what comes twice, are refused too.
    for from in [0, 64] {
        let mut incoming = taker.storage.take_in(GROUP).unwrap();
        let taken = incoming.take(&whole[from..]);
        assert!(matches!(taken, Err(NotTaken::Refused(_))));
    }
    adopt(&taker.storage, &[rest]);
    let last = giver.log(GROUP).stocked(Index(1)).last;
    assert_is_the_log(&mended(&mut taker), &entries, last);
}

fn try_adopt(storage: &Storage, pieces: &[Bytes]) -> Result<(), NotTaken> {
    let mut incoming = storage.take_in(GROUP).map_err(NotTaken::Failed)?;
    for piece in pieces {
        incoming.take(piece)?;
    }
    storage.adopt(incoming, false).map_err(NotTaken::Failed)
}

#[test]
fn every_write_and_sync_of_what_is_fetched_that_fails_poisons() {
    let there = tempfile::tempdir().unwrap();
    let (giver, _) = giver(there.path());
    let pieces = pieces(&giver, Index(1));
    let mut failures = 0;
    for calls in 0.. {
        let (mut taker, _) = ByHand::new(SimDisk::default(), small());
        taker.disk.fail_after(calls, Fault::Broken);
        let taken = try_adopt(&taker.storage, &pieces);
        let failed = taker.disk.took_fault();
        taker.listen();
        if !failed {
            taken.unwrap();
            break;
        }
        failures += 1;
        assert!(matches!(taken, Err(NotTaken::Failed(_))), "call {calls}");
        assert!(taker.failed.is_some(), "call {calls} failed unheard");
        let again = taker.storage.take_in(GROUP);
        assert!(matches!(again, Err(Error::Poisoned)), "call {calls}");
    }
    assert!(failures > 20, "{failures}");
}

#[test]
fn what_is_fetched_of_a_group_that_is_removed_meanwhile_is_refused_and_poisons_nothing() {
    let there = tempfile::tempdir().unwrap();
    let (giver, _) = giver(there.path());
    let all = pieces(&giver, Index(1)).concat();
    let (mut taker, _) = ByHand::new(SimDisk::default(), small());
    let mut incoming = taker.storage.take_in(GROUP).unwrap();
    incoming.take(&all[..50_000]).unwrap();
    taker.storage.remove(GROUP);
    let settle = |taker: &mut ByHand| {
        for _ in 0..3 {
            taker.hands.write();
            taker.hands.work();
        }
        taker.listen();
    };
    settle(&mut taker);
    assert!(matches!(
        incoming.take(&all[50_000..]),
        Err(NotTaken::Refused(_))
    ));
    // Born again, it is another to whoever was late, and may be fetched from its beginning.
    let anew = taker.storage.take_in(GROUP).unwrap();
    assert_eq!(anew.next(), Index(1));
    drop(anew);
    assert!(matches!(
        incoming.take(&all[50_000..]),
        Err(NotTaken::Refused(_))
    ));
    try_adopt(&taker.storage, &[all.into()]).unwrap();
    settle(&mut taker);
    assert!(taker.failed.is_none(), "{:?}", taker.failed);
    let mended = |event: &Event| matches!(event, Event::Mended(_));
    assert!(taker.said.iter().any(mended), "{:?}", taker.said);
}

#[test]
fn what_was_fetched_of_a_group_that_begins_without_it_is_gone() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (giver, entries) = giver(there.path());
    let all = pieces(&giver, Index(1));
    let (mut taker, _) = Rig::open(here.path(), small());
    let mut incoming = taker.storage.take_in(GROUP).unwrap();
    incoming.take(&all.concat()[..50_000]).unwrap();
    drop(incoming);
    taker.write(GROUP, append(entries[..3].to_vec()));
    drop(taker);
    let (_taker, recovered) = Rig::open(here.path(), small());
    assert_eq!(only(&recovered).last, Index(3));
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert!(!here.path().join("groups/7.incoming").exists());
}

#[test]
fn group_that_was_removed_can_be_born_anew_when_its_files_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.fill(GROUP, 1, 100, 1);
    rig.storage.remove(GROUP);
    loop {
        match rig.said().pop() {
            Some(Event::Removed { group }) => break assert_eq!(group, GROUP),
            _ => std::thread::yield_now(),
        }
    }
    assert!(rig.storage.log(GROUP).is_none(), "nobody has asked for it");
    rig.storage.revive(GROUP);
    let mut first = append(vec![batch(1)]);
    first.hard = Some(hard(9, 2));
    rig.write(GROUP, first);
    drop(rig);
    let (rig, recovered) = Rig::open(dir.path(), small());
    let group = only(&recovered);
    assert_eq!((group.last, group.hard), (Index(1), hard(9, 2)));
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(group.base, LogId::ORIGIN);
    let log = rig.log(GROUP);
    assert_eq!(log.entries(Index(1), Index(1), 1).unwrap(), [batch(1)]);
}
