//! A file that exists, batches written over it, a sync after each.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

/// How long one size is measured.
const TIME: Duration = Duration::from_millis(1_500);
/// The size of the file, as a member's journal has it.
pub(crate) const FILE_BYTES: u64 = 64 << 20;

/// What came of it.
pub(crate) struct Run {
    pub(crate) megabytes_per_second: f64,
    pub(crate) p50_us: u128,
    pub(crate) p99_us: u128,
}

/// Writes batches of so many bytes for a while.
pub(crate) fn run(bytes: usize) -> Run {
    let file = tempfile::tempfile().expect("TMPDIR is there to be written to");
    prepare(&file);
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
    let seconds = begun.elapsed().as_secs_f64();
    let written = (took.len() * bytes) as f64;
    took.sort_unstable();
    Run {
        megabytes_per_second: written / 1e6 / seconds,
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
