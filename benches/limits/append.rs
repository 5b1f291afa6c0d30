//! One append from a client to a member, on to two more, and back, over bare parts: quinn with Kontiki's
//! settings, a block of a file that exists and a sync of it at each, nothing else.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::mpsc,
    time::{Duration, Instant},
};

use quinn::{RecvStream, SendStream};
use rustix::fs::OFlags;

use crate::{
    disk::{FILE_BYTES, prepare},
    wire::{Papers, dial_both, listen, on_a_thread},
};

/// How long one measurement takes.
const TIME: Duration = Duration::from_secs(3);
/// What is appended, and what is answered.
const RECORD: [u8; 160] = [7; 160];
const ANSWER: [u8; 40] = [9; 40];
/// What a disk takes at once.
const BLOCK: usize = 4096;

/// Microseconds of the whole way.
pub(crate) struct Run {
    pub(crate) p50_us: u128,
    pub(crate) p99_us: u128,
}

/// Appends one after the other; each is answered when it is on two of three disks, or at two of three members
/// if they have none.
pub(crate) fn run(disks: bool) -> Run {
    let papers = Papers::new();
    let mut threads = Vec::new();
    let mut followers = Vec::new();
    for _ in 0..2 {
        let (at, thread) = listen(
            &papers,
            move |mut streams| async move {
                let (mut writer, mut reader) = streams.pop().expect("one connection");
                let mut disk = disks.then(Disk::new);
                while took(&mut reader, RECORD.len()).await {
                    disk.iter_mut().for_each(Disk::write);
                    writer.write_all(&ANSWER).await.expect("a sound link");
                }
            },
            1,
        );
        followers.push(at);
        threads.push(thread);
    }
    let dialling = papers.clone();
    let (leader, thread) = listen(
        &papers,
        move |mut streams| async move {
            let (writer, reader) = streams.pop().expect("one connection");
            let first = dial_both(&dialling, followers[0]).await;
            let second = dial_both(&dialling, followers[1]).await;
            let disk = disks.then(Disk::new);
            lead(
                writer,
                reader,
                [(first.2, first.3), (second.2, second.3)],
                disk,
            )
            .await;
        },
        1,
    );
    threads.push(thread);
    let (done, took) = mpsc::channel();
    threads.push(on_a_thread(move || async move {
        let (_endpoint, _connection, writer, reader) = dial_both(&papers, leader).await;
        done.send(append(writer, reader).await)
            .expect("it is waited for");
    }));
    let mut took = took.recv().expect("nothing fails");
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("nothing fails"));
    took.sort_unstable();
    Run {
        p50_us: took[took.len() / 2].as_micros(),
        p99_us: took[took.len() * 99 / 100].as_micros(),
    }
}

async fn append(mut writer: SendStream, mut reader: RecvStream) -> Vec<Duration> {
    let (begun, mut all) = (Instant::now(), Vec::new());
    while begun.elapsed() < TIME {
        let before = Instant::now();
        writer.write_all(&RECORD).await.expect("a sound link");
        assert!(
            took(&mut reader, ANSWER.len()).await,
            "the member went away"
        );
        all.push(before.elapsed());
    }
    writer.finish().expect("it was not finished before");
    writer.stopped().await.ok();
    all
}

/// The first of two others that answers makes it a majority.
async fn lead(
    mut writer: SendStream,
    mut reader: RecvStream,
    [mut first, mut second]: [(SendStream, RecvStream); 2],
    mut disk: Option<Disk>,
) {
    let (mut sent, mut firsts, mut seconds) = (0_u64, 0, 0);
    while took(&mut reader, RECORD.len()).await {
        sent += 1;
        first.0.write_all(&RECORD).await.expect("a sound link");
        second.0.write_all(&RECORD).await.expect("a sound link");
        // They are given it before this member's own disk is.
        tokio::task::yield_now().await;
        disk.iter_mut().for_each(Disk::write);
        while firsts < sent && seconds < sent {
            tokio::select! {
                come = took(&mut first.1, ANSWER.len()) => firsts += u64::from(come),
                come = took(&mut second.1, ANSWER.len()) => seconds += u64::from(come),
            }
        }
        writer.write_all(&ANSWER).await.expect("a sound link");
    }
    for (mut writer, _) in [first, second] {
        writer.finish().expect("it was not finished before");
        writer.stopped().await.ok();
    }
}

/// Whether so many bytes have come, and not the end.
async fn took(reader: &mut RecvStream, bytes: usize) -> bool {
    let mut missing = bytes;
    while missing > 0 {
        match reader
            .read_chunk(missing, true)
            .await
            .expect("a sound link")
        {
            Some(chunk) => missing -= chunk.bytes.len(),
            None => return false,
        }
    }
    true
}

/// A file that exists, written past the page cache.
struct Disk {
    file: File,
    blocks: Vec<u8>,
    at: u64,
}

impl Disk {
    fn new() -> Self {
        let path = tempfile::NamedTempFile::new().expect("TMPDIR is there to be written to");
        prepare(path.as_file());
        let direct = OFlags::DIRECT.bits() as i32;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(direct)
            .open(path.path());
        Self {
            file: file.expect("a file system with direct writes under TMPDIR"),
            blocks: vec![7; 2 * BLOCK],
            at: 0,
        }
    }

    fn write(&mut self) {
        let from = self.blocks.as_ptr().align_offset(BLOCK);
        let block = &self.blocks[from..from + BLOCK];
        self.file
            .write_all_at(block, self.at)
            .expect("a write to a temporary file");
        self.file.sync_data().expect("a sync of a temporary file");
        self.at = (self.at + BLOCK as u64) % FILE_BYTES;
    }
}
