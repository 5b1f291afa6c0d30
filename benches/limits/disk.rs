//! A file that exists, batches written over it, a sync after each.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::Barrier,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

/// How long one size is measured.
const TIME: Duration = Duration::from_millis(1_500);
/// The size of the file, as a member's journal has it.
pub(crate) const FILE_BYTES: u64 = 64 << 20;

/// What came of it.
pub(crate) struct Run {
    bytes: usize,
    megabytes_per_second: f64,
    p50_us: u128,
    p99_us: u128,
}

impl Run {
    /// As a line of a table.
    pub(crate) fn tell(&self) {
        println!(
            "{:>12} {:>12.1} {:>9} {:>9}",
            self.bytes, self.megabytes_per_second, self.p50_us, self.p99_us
        );
    }
}

/// Writes batches of so many bytes for a while, to so many files at once, as members do that share a disk: what each
/// of them gets.
pub(crate) fn run(bytes: usize, files: usize) -> Run {
    let all = Barrier::new(files);
    let runs: Vec<_> = thread::scope(|scope| {
        let start = || {
            scope.spawn(|| {
                let file = prepared();
                all.wait();
                write_for_a_while(&file, bytes)
            })
        };
        let threads: Vec<_> = (0..files).map(|_| start()).collect();
        let done = threads.into_iter().map(ScopedJoinHandle::join);
        done.map(|took| took.expect("no panic")).collect()
    });
    summed_up(bytes, &runs)
}

fn prepared() -> File {
    let file = tempfile::tempfile().expect("TMPDIR is there to be written to");
    prepare(&file);
    file
}

/// How long each batch took.
fn write_for_a_while(file: &File, bytes: usize) -> Vec<Duration> {
    let batch: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    let mut took = Vec::new();
    let (begun, mut at) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        let before = Instant::now();
        file.write_all_at(&batch, at)
            .expect("a write to a temporary file");
        file.sync_data().expect("a sync of a temporary file");
        took.push(before.elapsed());
        at = (at + bytes as u64) % (FILE_BYTES - bytes as u64);
    }
    took
}

fn summed_up(bytes: usize, runs: &[Vec<Duration>]) -> Run {
    let rates = runs.iter().map(|took| {
        let seconds = took.iter().sum::<Duration>().as_secs_f64();
        (took.len() * bytes) as f64 / 1e6 / seconds
    });
    let megabytes_per_second = rates.sum::<f64>() / runs.len() as f64;
    let mut took = runs.concat();
    took.sort_unstable();
    Run {
        bytes,
        megabytes_per_second,
        p50_us: took[took.len() / 2].as_micros(),
        p99_us: took[took.len() * 99 / 100].as_micros(),
    }
}

/// So that no sync has metadata to write.
pub(crate) fn prepare(file: &File) {
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)
            .expect("room for a journal file");
    }
    file.sync_all().expect("a sync of a temporary file");
}
