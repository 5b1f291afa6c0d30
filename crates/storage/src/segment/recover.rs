//! Finding a group's segments again.
//!
//! A segment may end torn: whatever was not synced is in the journal still. What had been synced and is
//! not there any more is damage, unless the journal still has it. What is damaged, and what cannot be
//! reached because of it, is left as it is under another name.

use std::path::Path;

use kontiki_raft::{Entry, Index, LogId, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::{Disk, File, Open},
    layout::{
        self,
        segment::{HEADER_BYTES, TRAILER_BYTES},
    },
    segment::{
        extent::Extent,
        frame::{Footer, SegmentHeader},
        index::{self, Marks, mark_due, terms},
        read::Frames,
    },
};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// What is known of a group's segments, and what is wanted of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) group: GroupId,
    /// Entries up to it were trimmed.
    pub(crate) base: LogId,
    pub(crate) base_offset: Offset,
    /// Entries up to it were durable in segments.
    pub(crate) kept: Index,
    /// Entries from here on are in the journal.
    pub(crate) in_journal_from: Index,
    /// Entries from here on are to be read.
    pub(crate) read_from: Index,
}

/// A group's segments.
#[derive(Debug)]
pub(crate) struct GroupSegments {
    /// Those that are not written any more.
    pub(crate) sealed: Vec<Extent>,
    /// The one that is, and its marks.
    pub(crate) tail: Option<(Extent, Marks)>,
    /// Where each term begins.
    pub(crate) terms: Vec<(Index, Term)>,
    /// The last entry.
    pub(crate) last: LogId,
    /// The offset after the last record.
    pub(crate) end_offset: Offset,
    /// The entries that were to be read.
    pub(crate) entries: Vec<Entry>,
    /// What is not there any more.
    pub(crate) damage: Option<String>,
}

/// Finds a group's segments, as far as they are contiguous and sound, and makes them durable so far.
pub(crate) fn recover(disk: &dyn Disk, expected: Expected) -> Result<GroupSegments, Error> {
    let names = disk.list(&layout::group_dir(expected.group))?;
    let firsts: Vec<Index> = names
        .iter()
        .filter_map(|n| layout::segment_first(n))
        .collect();
    let mut recovery = Recovery {
        disk,
        expected,
        found: GroupSegments {
            sealed: Vec::new(),
            tail: None,
            terms: Vec::new(),
            last: expected.base,
            end_offset: expected.base_offset,
            entries: Vec::new(),
            damage: None,
        },
    };
    for (at, &first) in firsts.iter().enumerate() {
        let next = firsts.get(at + 1).copied();
        if !recovery.segment(first, next)? {
            recovery.leave(&firsts[at + 1..])?;
            break;
        }
    }
    Ok(recovery.found)
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    expected: Expected,
    found: GroupSegments,
}

/// Frames as far as they are sound.
struct Scanned {
    extent: Extent,
    marks: Marks,
    entries: Vec<Entry>,
    /// What is wrong after them, unless the segment ends there.
    broken: Option<Error>,
}

impl Recovery<'_> {
    /// Takes in one segment; false if what follows cannot be reached.
    fn segment(&mut self, first: Index, next: Option<Index>) -> Result<bool, Error> {
        let path = layout::segment_path(self.expected.group, first);
        let file = self.disk.open(&path, Open::Write)?;
        let size = file.size()?;
        let header = match self.header(&*file, first)? {
            Ok(header) => header,
            Err(what) => return self.headless(first, &path, &what),
        };
        let footer = footer(&*file, size)?
            .filter(|footer| footer.group == header.group && footer.first == first);
        if let Some(footer) = &footer
            && footer.last.index < self.expected.read_from
        {
            self.take_terms(&footer.terms);
            self.take(Extent::sealed(footer, header.base_offset), None);
            return Ok(self.reaches(next, &path));
        }
        let end = footer.as_ref().map_or(size, |footer| footer.end);
        let mut scanned = self.scan(&header, end, next.is_some() || footer.is_some())?;
        let after = scanned.extent.last.index.next();
        self.take_terms(&terms(&scanned.marks));
        self.found.entries.append(&mut scanned.entries);
        let Some(broken) = scanned.broken else {
            let marks = (footer.is_none() && next.is_none()).then_some(scanned.marks);
            if marks.is_some() && after > self.expected.kept.next() {
                file.sync()?;
            }
            self.take(scanned.extent, marks);
            return Ok(self.reaches(next, &path));
        };
        if next == Some(after) {
            // Its end was lost before, and the next segment goes on from there.
            self.take(scanned.extent, None);
            return Ok(true);
        }
        if self.is_lost(after) {
            self.found.damage = Some(broken.to_string());
            self.take(scanned.extent, None);
            return Ok(false);
        }
        file.set_size(scanned.extent.end)?;
        file.sync()?;
        self.take(scanned.extent, Some(scanned.marks));
        Ok(next.is_none())
    }

    /// Whether an entry that cannot be read had been durable here and is nowhere else.
    fn is_lost(&self, index: Index) -> bool {
        index <= self.expected.kept && index < self.expected.in_journal_from
    }

    /// The header of a segment, if it fits what is before it.
    fn header(
        &self,
        file: &dyn File,
        first: Index,
    ) -> Result<Result<SegmentHeader, String>, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let read = file.read_at(0, &mut bytes)?;
        let expected = SegmentHeader {
            group: self.expected.group,
            first: self.found.last.index.next(),
            term_before: self.found.last.term,
            base_offset: self.found.end_offset,
        };
        Ok(match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) if header == expected && header.first == first => Ok(header),
            Ok(header) => Err(format!(
                "it begins with entry {} of group {} at offset {}, but entry {} of group {} at offset {} is next",
                header.first,
                header.group,
                header.base_offset,
                expected.first,
                expected.group,
                expected.base_offset
            )),
            Err(what) => Err(what.to_owned()),
        })
    }

    /// A segment that cannot be used: torn before anything in it counted, or damaged.
    fn headless(&mut self, first: Index, path: &Path, what: &str) -> Result<bool, Error> {
        if self.is_lost(self.found.last.index.next()) {
            let name = self.disk.full_path(path);
            self.found.damage = Some(format!("{} is damaged at byte 0: {what}", name.display()));
        }
        self.leave(&[first])?;
        Ok(false)
    }

    /// Gets segments out of the way that cannot be used: aside if something is damaged, or else for
    /// good, for then the journal has what is in them.
    fn leave(&self, firsts: &[Index]) -> Result<(), Error> {
        for &first in firsts {
            let path = layout::segment_path(self.expected.group, first);
            if self.found.damage.is_some() {
                self.disk
                    .rename(&path, &path.with_extension("segment-left"))?;
            } else {
                self.disk.remove(&path)?;
            }
        }
        if firsts.is_empty() {
            return Ok(());
        }
        self.disk.sync_dir(&layout::group_dir(self.expected.group))
    }

    /// Goes through the frames of a segment up to `end`: from its first if `whole`, or else from where
    /// something is wanted or a crash may have left something. What is before that is verified when it
    /// is read.
    fn scan(&self, header: &SegmentHeader, end: u64, whole: bool) -> Result<Scanned, Error> {
        let mut marks = index::load(self.disk, header.group, header.first)?;
        let known = marks.len();
        let trusted = self.expected.kept.min(self.expected.read_from.prev());
        marks.retain(|mark| !whole && mark.id.index <= trusted && mark.position < end);
        let scanned = match self.scan_from(header, marks, end)? {
            Some(scanned) => scanned,
            None => {
                let scanned = self.scan_from(header, Marks::new(), end)?;
                scanned.expect("without a mark, a scan begins at the first frame")
            }
        };
        if known != scanned.marks.len() {
            index::append(self.disk, header.group, header.first, 0, &scanned.marks)?;
        }
        Ok(scanned)
    }

    /// `None` if the last mark does not lead to its entry.
    fn scan_from(
        &self,
        header: &SegmentHeader,
        mut marks: Marks,
        end: u64,
    ) -> Result<Option<Scanned>, Error> {
        let (group, first) = (header.group, header.first);
        let mut extent = Extent::empty(first, header.term_before, header.base_offset);
        let mut from = (HEADER_BYTES as u64, first);
        let mark = marks.last().copied();
        if let (Some(mark), Some(begin)) = (mark, marks.first()) {
            from = (mark.position, mark.id.index);
            extent.first_time = begin.time;
            extent.end = mark.position;
            extent.digest = mark.digest;
            extent.end_offset = mark.offset;
            extent.last.index = mark.id.index.prev();
        }
        let mut frames = Frames::new(self.disk, group, first, from, end, READ_BYTES)?;
        let mut entries = Vec::new();
        let broken = loop {
            let found = match frames.next() {
                Ok(None) => break None,
                Ok(Some(found)) => found,
                Err(error @ Error::Damaged { .. }) => break Some(error),
                Err(error) => return Err(error),
            };
            if found.header.offset != extent.end_offset {
                break Some(frames.misplaced(&found));
            }
            if let Err(error) = frames.verify(&found) {
                break Some(error);
            }
            let due = mark_due(marks.last(), &found.header, found.position, extent.digest);
            marks.extend(due);
            extent.push(&found.header, found.checksum);
            if found.header.id.index >= self.expected.read_from {
                entries.push(found.header.entry(found.body));
            }
        };
        if mark.is_some_and(|mark| extent.last.index < mark.id.index) {
            return Ok(None);
        }
        extent.marks = u32::try_from(marks.len()).expect("marks are at least 64 bytes apart");
        Ok(Some(Scanned {
            extent,
            marks,
            entries,
            broken,
        }))
    }

    fn take_terms(&mut self, terms: &[(Index, Term)]) {
        for &(index, term) in terms {
            let last = self.found.terms.last();
            if last.is_none_or(|&(_, known)| known != term) {
                self.found.terms.push((index, term));
            }
        }
    }

    fn take(&mut self, extent: Extent, marks: Option<Marks>) {
        self.found.last = extent.last;
        self.found.end_offset = extent.end_offset;
        match marks {
            Some(marks) => self.found.tail = Some((extent, marks)),
            None => self.found.sealed.push(extent),
        }
    }

    /// Whether the segment just taken reaches the next one.
    fn reaches(&mut self, next: Option<Index>, path: &Path) -> bool {
        let end = self.found.last.index.next();
        let Some(next) = next.filter(|&next| next != end) else {
            return true;
        };
        let name = self.disk.full_path(path);
        self.found.damage = Some(format!(
            "{} ends before entry {end}, but the segment after it begins with entry {next}",
            name.display()
        ));
        false
    }
}

/// The footer of a segment, if it has a sound one.
pub(crate) fn footer(file: &dyn File, size: u64) -> Result<Option<Footer>, Error> {
    let mut trailer = [0; TRAILER_BYTES];
    let Some(at) = size.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    if file.read_at(at, &mut trailer)? < TRAILER_BYTES {
        return Ok(None);
    }
    let len = Footer::bytes_before(&trailer).map(u64::from);
    let Some(from) = len.and_then(|len| at.checked_sub(len)) else {
        return Ok(None);
    };
    let mut bytes = vec![0; (size - from) as usize];
    let read = file.read_at(from, &mut bytes)?;
    let footer = Footer::decode(&bytes[..read]);
    Ok(footer.filter(|footer| footer.end == from))
}
