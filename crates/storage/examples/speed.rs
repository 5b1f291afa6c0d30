//! How fast the disk is through storage, beside the same bytes written to a bare file and synced.
//!
//! `cargo run --release -p kontiki-storage --example speed -- DIRECTORY [SECONDS]`
//!
//! Every figure of storage includes checksums, the journal, memory, and the move to segments in the
//! background. The two take turns of a twentieth of a second, so that both meet the same noise.

#![allow(clippy::unwrap_used, reason = "an example ends where it fails")]

use std::{
    env, fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{Entry, Index, Kind, LogId, Micros, Persist, Term, WriteSeq};
use kontiki_storage::{Event, Settings, Storage};
use kontiki_wire::{GroupId, Offset};

const GROUP: GroupId = GroupId(1);
const SHAPES: [(usize, usize); 5] = [
    (100, 1),
    (100, 256),
    (1 << 10, 1),
    (1 << 10, 64),
    (16 << 10, 64),
];
/// How long one of the two is measured before the other one is.
const SLICE: Duration = Duration::from_millis(50);
/// Bytes that are written for reopening and reading.
const BULK: u64 = 1 << 30;

fn main() {
    let mut args = env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory on the disk to measure"));
    let seconds = args
        .next()
        .map_or(4.0, |text| text.parse().expect("a number of seconds"));
    println!(
        "{:>14} {:>32} {:>32} {:>6} {:>6}",
        "bytes × count",
        "bare: p50 p99 p999 µs, MB/s",
        "storage: p50 p99 p999 µs, MB/s",
        "p50 ×",
        "MB/s ×"
    );
    for (bytes, count) in SHAPES {
        let (bare, kept) = side_by_side(&dir, bytes, count, Duration::from_secs_f64(seconds));
        println!(
            "{:>14} {:>32} {:>32} {:>6.2} {:>6.2}",
            format!("{bytes} × {count}"),
            bare.to_string(),
            kept.to_string(),
            kept.p50 / bare.p50,
            kept.megabytes_per_second / bare.megabytes_per_second
        );
    }
    paced(&dir, Duration::from_secs_f64(seconds));
    bulk(&dir);
}

/// Commits of 1 KiB × 16 that are due at even times, 20 MB a second; what each took is counted from when
/// it was due.
fn paced(dir: &Path, time: Duration) {
    const BYTES: usize = 16 << 10;
    let every = Duration::from_secs_f64(BYTES as f64 / 20e6);
    let storage_dir = dir.join("storage");
    let mut node = Node::open(&storage_dir);
    let body = Bytes::from(vec![7; 1 << 10]);
    let checksum = crc32c::crc32c(&body);
    let mut times = Vec::new();
    let begun = Instant::now();
    let mut due = begun;
    while begun.elapsed() < 4 * time {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        node.commit(&body, checksum, 16);
        times.push(due.elapsed());
        due += every;
    }
    println!(
        "paced, 1024 × 16 at 20 MB/s: p50 p99 p999 µs: {}",
        Figures::new(times, BYTES)
    );
    node.storage.close().unwrap();
    fs::remove_dir_all(storage_dir).unwrap();
}

/// What commits took, in microseconds.
struct Figures {
    p50: f64,
    p99: f64,
    p999: f64,
    megabytes_per_second: f64,
}

impl Figures {
    fn new(mut times: Vec<Duration>, bytes: usize) -> Self {
        times.sort_unstable();
        let at = |permille: usize| times[times.len() * permille / 1000].as_secs_f64() * 1e6;
        let seconds = times.iter().sum::<Duration>().as_secs_f64();
        Self {
            p50: at(500),
            p99: at(990),
            p999: at(999),
            megabytes_per_second: (times.len() * bytes) as f64 / 1e6 / seconds,
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            p50,
            p99,
            p999,
            megabytes_per_second,
        } = self;
        write!(f, "{p50:.0} {p99:.0} {p999:.0}, {megabytes_per_second:.1}")
    }
}

/// Commits one after the other for a while.
fn slice(times: &mut Vec<Duration>, mut commit: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < SLICE {
        let before = Instant::now();
        commit();
        times.push(before.elapsed());
    }
}

fn side_by_side(dir: &Path, bytes: usize, count: usize, time: Duration) -> (Figures, Figures) {
    let mut bare = Bare::new(dir, bytes * count);
    let storage_dir = dir.join("storage");
    let mut node = Node::open(&storage_dir);
    // The first file of a directory is not zeroed; the second is, and every one that is used again.
    let large = Bytes::from(vec![7; 1 << 20]);
    let large_checksum = crc32c::crc32c(&large);
    for _ in 0..200 {
        node.commit(&large, large_checksum, 1);
    }
    let body = Bytes::from(vec![7; bytes]);
    let checksum = crc32c::crc32c(&body);
    let (mut bare_times, mut times) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < time {
        slice(&mut bare_times, || bare.commit());
        slice(&mut times, || node.commit(&body, checksum, count));
    }
    node.storage.close().unwrap();
    fs::remove_dir_all(storage_dir).unwrap();
    fs::remove_file(dir.join("bare")).unwrap();
    (
        Figures::new(bare_times, bytes * count),
        Figures::new(times, bytes * count),
    )
}

/// A file that has its size already and is overwritten, so that a sync has no metadata to commit.
struct Bare {
    file: fs::File,
    body: Vec<u8>,
    at: u64,
}

impl Bare {
    const SIZE: u64 = 64 << 20;

    fn new(dir: &Path, bytes: usize) -> Self {
        let path = dir.join("bare");
        fs::write(&path, vec![0; Self::SIZE as usize]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.sync_all().unwrap();
        Self {
            file,
            body: vec![7; bytes],
            at: 0,
        }
    }

    fn commit(&mut self) {
        self.file.write_all_at(&self.body, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at = (self.at + self.body.len() as u64) % (Self::SIZE - self.body.len() as u64);
    }
}

struct Node {
    storage: Storage,
    events: mpsc::Receiver<Event>,
    seq: u64,
    last: u64,
}

impl Node {
    fn open(dir: &Path) -> Self {
        let (sender, events) = mpsc::channel();
        let tell = Arc::new(move |event| {
            // At the end nobody listens any more.
            let _ = sender.send(event);
        });
        let (storage, recovered) = Storage::open(dir, Settings::default(), tell).unwrap();
        assert!(recovered.damage.is_empty());
        let last = recovered.groups.first().map_or(0, |group| group.last.0);
        let (seq, last) = (0, last);
        Self {
            storage,
            events,
            seq,
            last,
        }
    }

    /// Appends entries, waits until they are durable, and places them.
    fn commit(&mut self, body: &Bytes, checksum: u32, count: usize) {
        self.seq += 1;
        let first = self.last + 1;
        self.last += count as u64;
        let entry = |index| Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Batch,
            time: Micros(index),
            checksum,
            body: body.clone(),
        };
        let persist = Persist {
            seq: WriteSeq(self.seq),
            hard: None,
            truncate_from: None,
            append: (first..=self.last).map(entry).collect(),
            commit: Index(0),
        };
        let write = GroupWrite {
            group: GROUP,
            persist,
        };
        self.storage.persist(Writes {
            seq: self.seq,
            writes: vec![write],
        });
        loop {
            match self.events.recv().unwrap() {
                Event::Persisted { upto } if upto == self.seq => break,
                Event::Persisted { .. } => {}
                Event::Failed(error) => panic!("{error}"),
                other => panic!("{other:?}"),
            }
        }
        let place = |index| Placed {
            index: Index(index),
            offset: Offset(index - 1),
            count: 1,
        };
        let placed: Vec<_> = (first..=self.last).map(place).collect();
        self.storage.applied(GROUP, &placed);
    }
}

/// Writes much, opens it again, and reads it.
fn bulk(dir: &Path) {
    let dir = dir.join("storage");
    let body = Bytes::from(vec![7; 16 << 10]);
    let checksum = crc32c::crc32c(&body);
    let mut node = Node::open(&dir);
    let begun = Instant::now();
    while node.last * (body.len() as u64) < BULK {
        node.commit(&body, checksum, 64);
    }
    let megabytes = BULK as f64 / 1e6;
    let rate = |begun: Instant| megabytes / begun.elapsed().as_secs_f64();
    println!("written, 16384 × 64 a commit: {:.0} MB/s", rate(begun));
    let until = Offset(node.last);
    read(&node, "after writing", until);
    let at = LogId {
        term: Term(1),
        index: Index(node.last - 1000),
    };
    node.storage
        .checkpoint(GROUP, at, Bytes::from_static(b"state"));
    // The checkpoint is kept when the journal turns to another file.
    for _ in 0..100 {
        node.commit(&body, checksum, 64);
    }
    drop(node);
    let begun = Instant::now();
    let node = Node::open(&dir);
    println!(
        "opened after a crash: {:.0} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    read(&node, "from segments", until);
    let begun = Instant::now();
    node.storage.close().unwrap();
    println!("closed: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    drop(Node::open(&dir));
    println!(
        "opened after a clean stop: {:.0} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    fs::remove_dir_all(dir).unwrap();
}

fn read(node: &Node, what: &str, until: Offset) {
    let log = node.storage.log(GROUP).unwrap();
    // After a restart, nothing is placed until the log was applied again.
    let until = if log.read(Offset(0), Offset(1), 1).is_ok() {
        until
    } else {
        return;
    };
    let mut from = Offset(0);
    let mut bytes = 0;
    let begun = Instant::now();
    while from < until {
        match log.read(from, until, 512 << 10) {
            Ok(batches) if !batches.is_empty() => {
                bytes += batches.iter().map(|batch| batch.batch.len()).sum::<usize>();
                from = Offset(batches.last().unwrap().offset.0 + 1);
            }
            _ => break,
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "read {what}: {:.0} MB at {:.0} MB/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds
    );
}
