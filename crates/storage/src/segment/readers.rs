//! Readers that stopped in the middle of a segment, kept for whoever reads on there. Most read a log from one end to
//! the other, some hundred KiB at a time: to open the files and to look for the place each time anew, and to read
//! again what was read beyond it, would cost more than the reading.
//!
//! What one of them alone reads of a sealed segment does not stay in the system's memory: pages that it has to find
//! for a log are dear, most of all in a virtual machine whose host takes back what is free, and those of everybody
//! else would have to go for them. What another begins while the first is there, or within a minute, does stay: many
//! may read the same.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kontiki_raft::Index;
use kontiki_wire::{GroupId, Offset};

use crate::segment::{
    extent::Extent,
    read::{Frames, Target},
};

/// Readers that are kept, over all groups. Each holds up to [`Stopped::BYTES_MAX`], and a file or two.
const KEPT_MAX: usize = 32;
/// Segments of which it is remembered when somebody was in them.
const BEGUN_MAX: usize = 4 * KEPT_MAX;
/// Whoever begins a segment so soon after another has read in it shares it with that one. A reader that nobody has
/// come back for in such a time makes room when somebody else reads.
const SOON: Duration = Duration::from_secs(60);

/// A reader that stopped before an entry.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) frames: Frames,
    pub(crate) group: GroupId,
    /// The first index of the segment.
    pub(crate) first: Index,
    /// The entry.
    pub(crate) index: Index,
    pub(crate) offset: Offset,
}

impl Stopped {
    /// Bytes of the piece that was read last, at most; of a longer one, what was not given yet is read again.
    pub(crate) const BYTES_MAX: usize = (1 << 20) + (128 << 10);

    fn is_at(&self, group: GroupId, first: Index, target: Target) -> bool {
        let at_target = match target {
            Target::Index(index) => self.index == index,
            Target::Offset(offset) => self.offset == offset,
            Target::Time(_) => false,
        };
        at_target && (self.group, self.first) == (group, first)
    }
}

/// The readers, and who else reads the same.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// With the time when each stopped, the latest last.
    stopped: VecDeque<(Instant, Stopped)>,
    /// The segments that somebody was in last, the latest last.
    begun: VecDeque<Begun>,
    /// How often files were forgotten.
    forgotten: u64,
}

/// What is remembered of a segment that somebody began to read.
#[derive(Debug)]
struct Begun {
    group: GroupId,
    first: Index,
    /// When somebody did so, or stopped in it, last.
    at: Instant,
    /// Another was there soon before.
    shared: bool,
}

/// When a reader began, told by what had been forgotten by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(u64);

impl Readers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whoever reads on: one that stopped at this place, if there is one, and what is needed to keep the reader
    /// afterwards. To be asked for before a file is opened.
    pub(crate) fn resume(
        &self,
        group: GroupId,
        extent: &Extent,
        target: Target,
        now: Instant,
    ) -> (Since, Option<Frames>) {
        let mut known = self.lock();
        let since = Since(known.forgotten);
        let mut stopped = known.stopped.iter();
        let at = stopped.rposition(|(_, stopped)| stopped.is_at(group, extent.first, target));
        let stopped = at.and_then(|at| known.stopped.remove(at));
        let is_shared = known.is_shared(group, extent.first);
        let frames = stopped.map(|(_, mut stopped)| {
            stopped.frames.read_on(extent.end, is_shared);
            stopped.frames
        });
        let gone = known.let_go(now, KEPT_MAX);
        // Files are closed while nobody waits.
        drop(known);
        drop(gone);
        (since, frames)
    }

    /// Notes that a segment is begun at `now`, and says whether it is shared.
    pub(crate) fn begin(&self, group: GroupId, first: Index, now: Instant) -> bool {
        let mut known = self.lock();
        let before = known.take_begun(group, first);
        if known.begun.len() == BEGUN_MAX {
            known.begun.pop_front();
        }
        let shared = before.is_some_and(|before| now.duration_since(before.at) < SOON);
        known.begun.push_back(Begun {
            group,
            first,
            at: now,
            shared,
        });
        shared
    }

    /// Keeps a reader that stopped at `now`, unless files were forgotten since it began: it may have one of those.
    pub(crate) fn keep(&self, since: Since, stopped: Stopped, now: Instant) {
        let mut known = self.lock();
        if known.forgotten != since.0 {
            return;
        }
        let gone = known.let_go(now, KEPT_MAX - 1);
        let (group, first) = (stopped.group, stopped.first);
        if let Some(begun) = known.take_begun(group, first) {
            known.begun.push_back(Begun { at: now, ..begun });
        }
        known.stopped.push_back((now, stopped));
        drop(known);
        drop(gone);
    }

    /// The files of a group are others from now on, or gone: nobody shall hold those that were.
    pub(crate) fn forget(&self, group: GroupId) {
        let mut known = self.lock();
        known.forgotten += 1;
        known.begun.retain(|begun| begun.group != group);
        let (gone, left) = std::mem::take(&mut known.stopped)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, stopped)| stopped.group == group);
        known.stopped = left;
        drop(known);
        drop(gone);
    }
}

impl Known {
    /// Takes out the oldest until there are no more than `most`, and those that nobody has come back for.
    fn let_go(&mut self, now: Instant, most: usize) -> Vec<(Instant, Stopped)> {
        let old = |(at, _): &(Instant, Stopped)| now.duration_since(*at) >= SOON;
        let old = self
            .stopped
            .iter()
            .take_while(|stopped| old(stopped))
            .count();
        let many = self.stopped.len().saturating_sub(most);
        self.stopped.drain(..old.max(many)).collect()
    }

    fn take_begun(&mut self, group: GroupId, first: Index) -> Option<Begun> {
        let at = self.begun.iter().position(|begun| begun.is(group, first))?;
        self.begun.remove(at)
    }

    fn is_shared(&self, group: GroupId, first: Index) -> bool {
        let mut begun = self.begun.iter();
        begun.any(|begun| begun.is(group, first) && begun.shared)
    }
}

impl Begun {
    fn is(&self, group: GroupId, first: Index) -> bool {
        (self.group, self.first) == (group, first)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Entry, Kind, LogId, Micros, Term};
    use kontiki_wire::{DeliveredBatch, PlacedEntry};

    use super::*;
    use crate::{
        SimDisk,
        disk::{Disk, File},
        layout,
        segment::{self, Marks, Recent, SegmentRead, outline},
    };

    const GROUP: GroupId = GroupId(7);
    const BODY_BYTES: usize = 1_000;

    fn body(index: u64) -> Vec<u8> {
        let mut body = vec![7; BODY_BYTES];
        body[..8].copy_from_slice(&index.to_be_bytes());
        body
    }

    /// What a reader gets at once.
    const PIECE_BYTES: usize = 10 * BODY_BYTES;

    struct Growing {
        disk: SimDisk,
        file: Box<dyn File>,
        marks: Marks,
        extent: Extent,
        sealed: bool,
    }

    impl Growing {
        fn new() -> Self {
            let disk = SimDisk::seeded(1);
            disk.make_dir(&layout::group_dir(GROUP)).unwrap();
            let begun = segment::begin(&disk, GROUP, Index(1), Term(0), Offset(0)).unwrap();
            Self {
                disk,
                file: begun.1,
                marks: Marks::new(),
                extent: begun.0,
                sealed: false,
            }
        }

        fn grow_to(&mut self, last: u64) {
            let bodies = (self.extent.last.index.0 + 1..=last).map(body);
            self.add(bodies);
        }

        fn add(&mut self, bodies: impl Iterator<Item = Vec<u8>>) {
            let placed = |(index, body): (u64, Vec<u8>)| PlacedEntry {
                offset: Offset(index - 1),
                count: 1,
                entry: Entry {
                    id: LogId {
                        term: Term(1),
                        index: Index(index),
                    },
                    kind: Kind::Batch,
                    time: Micros(index),
                    checksum: crc32c::crc32c(&body),
                    body: body.into(),
                },
            };
            let indexes = self.extent.last.index.0 + 1..;
            let run: Vec<_> = indexes.zip(bodies).map(placed).collect();
            let known = self.marks.last().copied();
            let appended =
                segment::append(&self.disk, &*self.file, GROUP, self.extent, known, &run);
            let (extent, marks) = appended.unwrap();
            self.extent = extent;
            self.marks.extend(marks);
        }

        fn seal(&mut self) {
            let (disk, outline) = (&self.disk, outline(&self.marks));
            segment::seal(disk, &*self.file, GROUP, &self.extent, outline).unwrap();
            self.sealed = true;
        }

        /// Takes its name from it, and leaves it to whoever has it open.
        fn unlink(&self) {
            let path = layout::segment_path(GROUP, Index(1));
            self.disk.remove(&path).unwrap();
        }

        fn read(&self, recent: &Recent, from: u64) -> Result<Vec<DeliveredBatch>, crate::Error> {
            let segment = SegmentRead {
                group: GROUP,
                extent: self.extent,
                mark: None,
                sealed: self.sealed,
            };
            let range = (Offset(from), self.extent.end_offset);
            segment.batches(&self.disk, recent, range, PIECE_BYTES)
        }

        fn resume(&self, readers: &Readers, offset: u64, now: Instant) -> (Since, Option<Frames>) {
            readers.resume(GROUP, &self.extent, Target::Offset(Offset(offset)), now)
        }

        /// The offset after what is read from there.
        fn read_from(&self, recent: &Recent, from: u64) -> u64 {
            let batches = self.read(recent, from).unwrap();
            assert_eq!(batches[0].offset, Offset(from));
            let offsets = batches.iter().map(|batch| batch.offset.0);
            assert!(offsets.eq(from..from + batches.len() as u64));
            for batch in &batches {
                assert_eq!(batch.batch, body(batch.offset.0 + 1));
            }
            from + batches.len() as u64
        }
    }

    #[test]
    fn who_reads_on_opens_nothing_anew() {
        let mut log = Growing::new();
        log.grow_to(3_000);
        let recent = Recent::default();
        let mut next = log.read_from(&recent, 0);
        assert_eq!(next, 10);
        log.unlink();
        while next < 3_000 {
            next = log.read_from(&recent, next);
        }
        assert!(log.read(&recent, 0).unwrap_err().is_missing());
    }

    #[test]
    fn a_segment_that_has_grown_is_read_on() {
        let mut log = Growing::new();
        log.grow_to(15);
        let recent = Recent::default();
        assert_eq!(log.read_from(&recent, 0), 10);
        log.grow_to(2_500);
        log.unlink();
        assert_eq!(log.read_from(&recent, 10), 20);
        assert_eq!(log.read_from(&recent, 20), 30);
    }

    #[test]
    fn who_begins_elsewhere_reads_what_is_there() {
        let mut log = Growing::new();
        log.grow_to(500);
        let recent = Recent::default();
        log.read_from(&recent, 0);
        for from in [0, 9, 11, 300, 10, 10] {
            log.read_from(&recent, from);
        }
    }

    #[test]
    fn nobody_reads_on_in_files_that_are_gone_or_others() {
        let mut log = Growing::new();
        log.grow_to(100);
        let recent = Recent::default();
        log.read_from(&recent, 0);
        log.unlink();
        recent.forget(GroupId(8));
        log.read_from(&recent, 10);
        recent.forget(GROUP);
        assert!(log.read(&recent, 20).unwrap_err().is_missing());
    }

    fn at(log: &Growing, offset: u64) -> Stopped {
        let disk = &log.disk;
        let frames = Frames::all(disk, GROUP, Index(1), log.extent.end).unwrap();
        Stopped {
            frames,
            group: GROUP,
            first: Index(1),
            index: Index(offset + 1),
            offset: Offset(offset),
        }
    }

    #[test]
    fn who_began_before_files_were_forgotten_keeps_none() {
        let mut log = Growing::new();
        log.grow_to(10);
        let (readers, now) = (Readers::default(), Instant::now());
        let resume = |offset| log.resume(&readers, offset, now);
        let (since, none) = resume(5);
        assert!(none.is_none());
        readers.forget(GROUP);
        readers.keep(since, at(&log, 5), now);
        let (since, none) = resume(5);
        assert!(none.is_none());
        readers.keep(since, at(&log, 5), now);
        assert!(resume(5).1.is_some());
    }

    #[test]
    fn readers_are_bounded_and_the_latest_stay() {
        let mut log = Growing::new();
        log.grow_to(1);
        let (readers, now) = (Readers::default(), Instant::now());
        let resume = |offset| log.resume(&readers, offset, now);
        let (since, _) = resume(0);
        for offset in 0..2 * KEPT_MAX as u64 {
            readers.keep(since, at(&log, offset), now);
        }
        assert_eq!(readers.lock().stopped.len(), KEPT_MAX);
        assert!(resume(KEPT_MAX as u64 - 1).1.is_none());
        assert!(resume(KEPT_MAX as u64).1.is_some());
        assert!(resume(KEPT_MAX as u64).1.is_none());
    }

    #[test]
    fn readers_that_nobody_came_back_for_make_room() {
        let mut log = Growing::new();
        log.grow_to(1);
        let (readers, now) = (Readers::default(), Instant::now());
        let resume = |offset| log.resume(&readers, offset, now);
        let (since, _) = resume(0);
        readers.keep(since, at(&log, 1), now);
        readers.keep(since, at(&log, 2), now + SOON / 2);
        readers.keep(since, at(&log, 3), now + SOON);
        assert_eq!(readers.lock().stopped.len(), 2);
        assert!(resume(1).1.is_none());
        assert!(resume(2).1.is_some());
    }

    #[test]
    fn a_segment_is_shared_if_it_is_begun_twice_within_a_minute() {
        let (readers, now) = (Readers::default(), Instant::now());
        assert!(!readers.begin(GROUP, Index(1), now));
        assert!(!readers.begin(GROUP, Index(2), now));
        assert!(!readers.begin(GroupId(8), Index(1), now));
        assert!(readers.begin(GROUP, Index(1), now + SOON / 2));
        assert!(readers.begin(GROUP, Index(1), now + SOON));
        assert!(!readers.begin(GROUP, Index(2), now + SOON));
        assert!(!readers.begin(GROUP, Index(1), now + SOON * 2));
        for first in 3..3 + BEGUN_MAX as u64 {
            readers.begin(GROUP, Index(first), now + SOON);
        }
        assert_eq!(readers.lock().begun.len(), BEGUN_MAX);
    }

    #[test]
    fn who_is_still_there_shares_with_whoever_comes() {
        let mut log = Growing::new();
        log.grow_to(1);
        let (readers, now) = (Readers::default(), Instant::now());
        let (since, _) = log.resume(&readers, 0, now);
        assert!(!readers.begin(GROUP, Index(1), now));
        readers.keep(since, at(&log, 5), now + SOON);
        let later = now + SOON;
        for group in 100..99 + BEGUN_MAX as u64 {
            readers.begin(GroupId(group), Index(1), later);
        }
        assert!(readers.begin(GROUP, Index(1), later + SOON / 2));
    }

    #[test]
    fn whoever_was_in_a_segment_last_is_remembered_longest() {
        let mut log = Growing::new();
        log.grow_to(1);
        let (readers, now) = (Readers::default(), Instant::now());
        let (since, _) = log.resume(&readers, 0, now);
        readers.begin(GROUP, Index(1), now);
        readers.begin(GroupId(8), Index(1), now);
        readers.keep(since, at(&log, 5), now);
        for group in 100..99 + BEGUN_MAX as u64 {
            readers.begin(GroupId(group), Index(1), now);
        }
        assert!(readers.begin(GROUP, Index(1), now));
        assert!(!readers.begin(GroupId(8), Index(1), now));
    }

    #[test]
    fn who_is_joined_by_another_drops_nothing_any_more() {
        let mut log = Growing::new();
        log.grow_to(3_000);
        log.seal();
        let path = layout::segment_path(GROUP, Index(1));
        let recent = Recent::default();
        let mut next = 0;
        while next < 2_000 {
            next = log.read_from(&recent, next);
        }
        let dropped = log.disk.uncached(&path);
        assert!(dropped > 1_000 * BODY_BYTES as u64, "{dropped}");
        log.read_from(&recent, 0);
        while next < 3_000 {
            next = log.read_from(&recent, next);
        }
        assert_eq!(log.disk.uncached(&path), dropped);
    }

    #[test]
    fn tail_stays_in_memory() {
        let mut log = Growing::new();
        log.grow_to(3_000);
        let recent = Recent::default();
        let mut next = 0;
        while next < 3_000 {
            next = log.read_from(&recent, next);
        }
        assert_eq!(log.disk.uncached(&layout::segment_path(GROUP, Index(1))), 0);
    }

    #[test]
    fn what_is_read_ahead_is_bounded() {
        let mut log = Growing::new();
        log.add((0..9).map(|_| vec![7; 3 << 20]));
        let recent = Recent::default();
        for from in 0..8 {
            assert_eq!(log.read(&recent, from).unwrap().len(), 1);
            let known = recent.readers().lock();
            let (_, stopped) = known.stopped.back().unwrap();
            assert_eq!(stopped.offset, Offset(from + 1));
            assert!(stopped.frames.ahead() <= Stopped::BYTES_MAX);
        }
        let mut log = Growing::new();
        log.grow_to(5_000);
        let mut next = log.read_from(&recent, 0);
        let mut most = 0;
        while next < 4_000 {
            next = log.read_from(&recent, next);
            let known = recent.readers().lock();
            most = most.max(known.stopped.back().unwrap().1.frames.ahead());
        }
        assert_eq!(most, 1 << 20, "who reads on reads much at once");
    }

    #[test]
    fn followers_read_on_too() {
        let mut log = Growing::new();
        log.grow_to(100);
        log.seal();
        let recent = Recent::default();
        let segment = SegmentRead {
            group: GROUP,
            extent: log.extent,
            mark: None,
            sealed: true,
        };
        let read = |first| {
            let range = (Index(first), Index(100));
            segment.entries(&log.disk, &recent, range, PIECE_BYTES as u64)
        };
        assert_eq!(read(1).unwrap().len(), 10);
        log.unlink();
        let entries = read(11).unwrap();
        assert_eq!(entries[0].id.index, Index(11));
        assert_eq!(entries.len(), 10);
    }
}
