//! The hot paths one by one: codec, core, journal, delivery. `cargo bench --bench paths`; the journal's disk
//! is that of TMPDIR. What they may take is guarded by `tests/work`, in counts instead of time.

#[path = "../tests/work/loads.rs"]
mod loads;

use std::{
    hint::black_box,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{Hard, Index, Persist, Term, WriteSeq};
use kontiki_storage::{Event, Log, Settings, Storage};
use kontiki_wire::{Batch, GroupId, Offset};
use loads::{Trio, batch, delivery, entry, peer_frame, read_batch};

/// How long each path is measured, in pieces of which the median counts.
const PIECES: usize = 9;
const PIECE: Duration = Duration::from_millis(100);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    println!(
        "{:<60} {:>12} {:>12} {:>10}",
        "", "ns each", "records/s", "MB/s"
    );
    for (count, size) in [(100, 100), (64, 1 << 10)] {
        codec(count, size);
        core(count, size);
        journal(count, size);
    }
}

fn codec(count: u32, size: usize) {
    let made = batch(count, size);
    let (bytes, entries) = (made.bytes().clone(), [entry(1, &made)]);
    let batches = vec![made.clone(); 16];
    let load = Load { count, size };
    load.path("a producer encodes a batch", 1, || {
        drop(black_box(batch(count, size)))
    });
    load.path("a member verifies it, a subscriber reads it", 1, || {
        read_batch(&bytes)
    });
    load.path("an append travels to a follower", 1, || {
        peer_frame(&entries)
    });
    load.path("a delivery travels to a subscriber", 16, || {
        delivery(&batches)
    });
}

fn core(count: u32, size: usize) {
    let made = batch(count, size);
    let mut trio = Trio::new();
    let load = Load { count, size };
    load.path("three cores agree on a batch", 1, || trio.append(&made));
}

/// The journal with one batch a sync and with many, and reading from memory what it took.
fn journal(count: u32, size: usize) {
    let made = batch(count, size);
    let load = Load { count, size };
    let mut disk = Disk::new();
    load.path("the journal syncs a batch", 1, || disk.write(&made, 1));
    load.path("the journal syncs 64 batches", 64, || disk.write(&made, 64));
    let log = disk.log();
    let until = disk.offset;
    let from = Offset(until.0 - 64 * u64::from(count));
    load.path("a delivery is found in memory", 64, || {
        let batches = log.read_hot(from, until, usize::MAX);
        assert_eq!(batches.map(|batches| batches.len()), Some(64));
    });
}

#[derive(Clone, Copy)]
struct Load {
    count: u32,
    size: usize,
}

impl Load {
    /// Prints what doing `work` takes, which handles so many batches.
    fn path(self, name: &str, batches: u32, mut work: impl FnMut()) {
        work();
        let mut pieces: Vec<f64> = (0..PIECES)
            .map(|_| {
                let (begun, mut times) = (Instant::now(), 0);
                while begun.elapsed() < PIECE {
                    work();
                    times += 1;
                }
                begun.elapsed().as_nanos() as f64 / f64::from(times)
            })
            .collect();
        pieces.sort_by(f64::total_cmp);
        let nanos = pieces[PIECES / 2];
        let records = f64::from(batches * self.count) * 1e9 / nanos;
        let name = format!("{name}, {} x {} B", self.count, self.size);
        let megabytes = records * self.size as f64 / 1e6;
        println!("{name:<60} {nanos:>12.0} {records:>12.0} {megabytes:>10.1}");
    }
}

const GROUP: GroupId = GroupId(7);

/// A member's storage, and one topic in it.
struct Disk {
    storage: Storage,
    persisted: mpsc::Receiver<u64>,
    seq: u64,
    index: u64,
    offset: Offset,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("TMPDIR is there to be written to");
        let (told, persisted) = mpsc::channel();
        let events = Arc::new(move |event| match event {
            // Nobody may wait any more.
            Event::Persisted { upto } => drop(told.send(upto)),
            other => panic!("a sound disk: {other:?}"),
        });
        let (storage, _) = Storage::open(dir.path(), Settings::default(), events)
            .expect("an empty directory is a new one");
        Self {
            storage,
            persisted,
            seq: 0,
            index: 0,
            offset: Offset(0),
            _dir: dir,
        }
    }

    /// Writes so many batches with one sync and waits for it; they are placed, as if they were committed.
    fn write(&mut self, batch: &Batch, count: u64) {
        self.seq += 1;
        let mut placed = Vec::new();
        let append = (0..count)
            .map(|_| {
                self.index += 1;
                placed.push(Placed {
                    index: Index(self.index),
                    offset: self.offset,
                    count: batch.header().count,
                });
                self.offset = Offset(self.offset.0 + u64::from(batch.header().count));
                entry(self.index, batch)
            })
            .collect();
        let persist = Persist {
            seq: WriteSeq(self.seq),
            hard: Some(Hard {
                term: Term(1),
                ..Hard::default()
            }),
            truncate_from: None,
            append,
            commit: Index(self.index),
        };
        let group = GROUP;
        self.storage.persist(Writes {
            seq: self.seq,
            writes: vec![GroupWrite { group, persist }],
        });
        while self.persisted.recv().expect("storage lives") < self.seq {}
        self.storage.applied(GROUP, &placed);
    }

    fn log(&self) -> Log {
        self.storage.log(GROUP).expect("it has been written to")
    }
}
