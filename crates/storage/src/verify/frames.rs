//! One segment, from its header to its footer: every frame, every body, the index beside it.

use std::path::PathBuf;

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Micros, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::Disk,
    journal::ReplayedGroup,
    layout::{
        self,
        segment::{ENTRY_BYTES, ENTRY_MAGIC, HEADER_BYTES},
    },
    segment::{EntryHeader, Footer, Outline, SegmentHeader, add_to_digest, footer},
    verify::{
        finding::{Finding, Outlook, Verified, VerifiedGroup},
        marks::MarkCheck,
        window::{WINDOW_BYTES, Window},
    },
};

/// Bytes of the cluster's commands that are kept: they have the topics' names.
const COMMANDS_BYTES_MAX: usize = 8 << 20;

/// Entries that a log can have.
const INDEX_MAX: u64 = 1 << 62;

/// Where the next entry of a group must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) next: Index,
    /// The term of the entry before.
    pub(crate) term: Term,
    /// The offset after the records before; `None` behind damage that hides it.
    pub(crate) offset: Option<Offset>,
}

/// A segment to be gone through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) group: GroupId,
    pub(crate) first: Index,
    /// The first entry of the segment after it, if there is one.
    pub(crate) after: Option<Index>,
}

struct Walk<'a> {
    place: Place,
    path: PathBuf,
    known: &'a ReplayedGroup,
    chain: &'a mut Chain,
    out: &'a mut Verified,
    tally: &'a mut VerifiedGroup,
    window: Window,
    marks: MarkCheck,
    footer: Option<Footer>,
    /// The byte after the last frame, as far as is known.
    end: u64,
    /// The CRC-32C of all frames' header checksums; `None` behind damage, up to the next mark.
    digest: Option<u32>,
    /// Frames were passed over.
    gaps: bool,
    outline: Outline,
    times: Option<(Micros, Micros)>,
}

/// Goes through a segment and tells what is wrong with it; `chain` is then what must follow it. Fails
/// only if it cannot be read.
pub(crate) fn segment(
    disk: &dyn Disk,
    place: Place,
    known: &ReplayedGroup,
    chain: &mut Chain,
    out: &mut Verified,
    tally: &mut VerifiedGroup,
) -> Result<(), Error> {
    let path = layout::segment_path(place.group, place.first);
    let window = Window::open(disk, &path)?;
    let size = window.size();
    let footer = footer(window.file(), size)?;
    let footer = footer.filter(|footer| {
        (footer.group, footer.first) == (place.group, place.first)
            && is_plausible(footer.last.index)
    });
    let mut walk = Walk {
        path: disk.full_path(&path),
        marks: MarkCheck::open(disk, place.group, place.first)?,
        end: footer.as_ref().map_or(size, |footer| footer.end),
        footer,
        place,
        known,
        chain,
        out,
        tally,
        window,
        digest: Some(0),
        gaps: false,
        outline: Outline::default(),
        times: None,
    };
    walk.tally.segments += 1;
    if walk.header()? {
        let whole = walk.frames()?;
        walk.check_footer(whole);
    }
    walk.check_marks()
}

impl Walk<'_> {
    /// Checks the segment's header; false if nothing of the segment can be this group's.
    fn header(&mut self) -> Result<bool, Error> {
        let expected = SegmentHeader {
            group: self.place.group,
            first: self.place.first,
            term_before: self.chain.term,
            base_offset: self.chain.offset.unwrap_or_default(),
        };
        let bytes = self.window.bytes(0, HEADER_BYTES)?;
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(what) => {
                if !self.is_torn() {
                    let outlook = self.outlook(self.chain.next);
                    self.add(Finding::damage(&self.path, what, outlook).at(0));
                    return Ok(true);
                }
                self.torn(0, what);
                return Ok(false);
            }
        };
        if (header.group, header.first) != (expected.group, expected.first) {
            let what = format!(
                "it is the segment of group {} that begins with entry {}",
                header.group, header.first
            );
            self.missing(0, &what, self.last(), None);
            return Ok(false);
        }
        if self.chain.offset.is_none() {
            // Damage before it hid where it must begin.
            self.chain.offset = Some(header.base_offset);
            self.chain.term = header.term_before;
        } else if header != expected {
            let what = format!(
                "its header says that offset {} follows term {}, but offset {} follows term {}",
                header.base_offset, header.term_before, expected.base_offset, expected.term_before
            );
            let outlook = self.outlook(self.chain.next);
            self.add(Finding::damage(&self.path, what, outlook).at(0));
        }
        Ok(true)
    }

    /// Goes through the frames; false if it could not be followed where they end.
    fn frames(&mut self) -> Result<bool, Error> {
        let mut at = HEADER_BYTES as u64;
        while at < self.end {
            let what = match self.frame_header(at)? {
                Ok((header, checksum)) => {
                    let wrong = self.what_is_wrong(at, &header)?;
                    if let Some(what) = wrong.filter(|_| self.is_torn()) {
                        self.torn(at, what);
                        return Ok(false);
                    }
                    self.entry(at, &header, checksum, wrong)?;
                    at += header.frame_bytes();
                    continue;
                }
                Err(what) => what,
            };
            if self.is_torn() {
                self.torn(at, &what);
                return Ok(false);
            }
            if self.footer.is_none() && self.last() < Some(self.chain.next) {
                // All entries are there: it is what seals them that is not.
                return Ok(true);
            }
            let Some((found_at, header)) = self.behind(at)? else {
                let end_offset = self.footer.as_ref().map(|footer| footer.end_offset);
                self.missing(at, &what, self.last(), end_offset);
                return Ok(false);
            };
            self.missing(at, &what, header.id.index.prev(), Some(header.offset));
            at = found_at;
        }
        Ok(true)
    }

    /// The last entry that the segment must have, as far as something tells.
    fn last(&self) -> Option<Index> {
        let next = self.place.after.map(Index::prev);
        let footer = self.footer.as_ref().map(|footer| footer.last.index);
        let kept = Some(self.known.kept).filter(|&kept| kept >= self.chain.next);
        next.or(footer).or(kept)
    }

    /// Whether what is broken here was being written when the process ended: then the journal has it.
    fn is_torn(&self) -> bool {
        let next = self.chain.next;
        // A segment is synced before the next is begun.
        self.place.after.is_none() && next > self.known.kept && next >= self.known.in_journal_from()
    }

    fn torn(&mut self, at: u64, what: &str) {
        let what = format!("its last write was torn: {what}");
        self.add(Finding::remark(&self.path, what, Outlook::Rebuilt).at(at));
    }

    fn frame_header(&mut self, at: u64) -> Result<Result<(EntryHeader, u32), String>, Error> {
        let (group, next, left) = (self.place.group, self.chain.next, self.end - at);
        let bytes = self.window.bytes(at, ENTRY_BYTES)?;
        let decoded = match EntryHeader::decode(bytes) {
            Ok(decoded) => decoded,
            Err(what) => return Ok(Err(what.to_owned())),
        };
        let header = decoded.0;
        if (header.group, header.id.index) != (group, next) {
            return Ok(Err(format!(
                "entry {} of group {} is there instead of entry {next} of group {group}",
                header.id.index, header.group
            )));
        }
        if header.frame_bytes() > left {
            return Ok(Err("the file ends inside an entry".to_owned()));
        }
        Ok(Ok(decoded))
    }

    /// What is wrong with an entry whose header is sound.
    fn what_is_wrong(
        &mut self,
        at: u64,
        header: &EntryHeader,
    ) -> Result<Option<&'static str>, Error> {
        let body = at + ENTRY_BYTES as u64;
        let computed = self.window.checksum(body, u64::from(header.body_bytes))?;
        let misplaced = self
            .chain
            .offset
            .is_some_and(|offset| offset != header.offset);
        Ok(if computed != Some(header.body_checksum) {
            Some("an entry's checksum does not match its body")
        } else if misplaced {
            Some("an entry's offset does not follow the one before it")
        } else if header.id.term < self.chain.term {
            Some("an entry's term is lower than the one before it")
        } else {
            None
        })
    }

    /// Takes in an entry whose header is sound.
    fn entry(
        &mut self,
        at: u64,
        header: &EntryHeader,
        checksum: u32,
        wrong: Option<&'static str>,
    ) -> Result<(), Error> {
        let index = header.id.index;
        let end_offset = Offset(header.offset.0.saturating_add(u64::from(header.count)));
        let digest = self.marks.frame(header, at, self.digest)?;
        let digest = digest.or(self.digest);
        self.digest = digest.map(|digest| add_to_digest(digest, checksum));
        match wrong {
            Some(what) => {
                let finding = Finding::damage(&self.path, what, self.outlook(index))
                    .at(at)
                    .entries(index, index)
                    .offsets(Some(header.offset), Some(end_offset));
                self.add(finding);
            }
            None => {
                self.compare_with_journal(at, header);
                self.tally.entries += 1;
                self.tally.bytes += u64::from(header.body_bytes);
                self.keep_command(at, header)?;
            }
        }
        self.outline.push(header.id, header.kind, at);
        let first_time = self.times.map_or(header.time, |(first, _)| first);
        self.times = Some((first_time, header.time));
        *self.chain = Chain {
            next: index.next(),
            term: header.id.term,
            offset: Some(end_offset),
        };
        Ok(())
    }

    /// What the journal still has of the same entries must be the same.
    fn compare_with_journal(&mut self, at: u64, header: &EntryHeader) {
        let index = header.id.index;
        let ahead = index.0.checked_sub(self.known.in_journal_from().0);
        let slot = ahead.and_then(|ahead| usize::try_from(ahead).ok());
        let Some(entry) = slot.and_then(|slot| self.known.entries.get(slot)) else {
            return;
        };
        if (entry.id, entry.checksum) != (header.id, header.body_checksum) {
            let what = "the journal has another entry of the same index";
            let finding = Finding::damage(&self.path, what, Outlook::Unseen)
                .at(at)
                .entries(index, index);
            self.add(finding);
        }
    }

    /// Keeps an entry of the cluster's own group that its checkpoint does not include.
    fn keep_command(&mut self, at: u64, header: &EntryHeader) -> Result<(), Error> {
        let included = self
            .out
            .cluster
            .as_ref()
            .map_or(LogId::ORIGIN, |kept| kept.0);
        let last = self.out.commands.last().map_or(included, |entry| entry.id);
        let len = header.body_bytes as usize;
        let bytes = self.out.commands_bytes.saturating_add(len);
        if self.place.group != GroupId::CLUSTER
            || header.id.index != last.index.next()
            || bytes > COMMANDS_BYTES_MAX
            || len > WINDOW_BYTES
        {
            return Ok(());
        }
        let body = self.window.bytes(at + ENTRY_BYTES as u64, len)?;
        let entry = header.entry(Bytes::copy_from_slice(body));
        self.out.commands.push(entry);
        self.out.commands_bytes = bytes;
        Ok(())
    }

    /// The first frame behind damage at `at`: one that a mark leads to, or one before that which fits.
    /// Nothing but its checksum and its place in the order says that it is a frame and not a part of a
    /// body, so it is only good for telling what is damaged.
    fn behind(&mut self, at: u64) -> Result<Option<(u64, EntryHeader)>, Error> {
        let mut marked = None;
        let mut from = at;
        while let Some(mark) = self.marks.behind(from, self.chain.next)? {
            let bytes = self.window.bytes(mark.position, ENTRY_BYTES)?;
            if let Ok((header, _)) = EntryHeader::decode(bytes)
                && header.id == mark.id
                && self.fits(&header, mark.position)
            {
                marked = Some((mark.position, header));
                break;
            }
            from = mark.position;
        }
        let limit = marked.map_or(self.end, |(position, _)| position);
        let found = self.search(at, limit)?;
        let found = found.filter(|(_, header)| {
            marked.is_none_or(|(_, marked)| header.id.index < marked.id.index)
        });
        if found.or(marked).is_some() {
            self.digest = None;
            self.gaps = true;
        }
        Ok(found.or(marked))
    }

    fn fits(&self, header: &EntryHeader, at: u64) -> bool {
        header.group == self.place.group
            && header.id.index >= self.chain.next
            && is_plausible(header.id.index)
            && self.last().is_none_or(|last| header.id.index <= last)
            && header.id.term >= self.chain.term
            && self
                .chain
                .offset
                .is_none_or(|offset| header.offset >= offset)
            && at.saturating_add(header.frame_bytes()) <= self.end
    }

    fn search(&mut self, mut at: u64, limit: u64) -> Result<Option<(u64, EntryHeader)>, Error> {
        const MAGIC: [u8; 4] = ENTRY_MAGIC.to_le_bytes();
        while at < limit {
            let bytes = self.window.bytes(at, WINDOW_BYTES)?;
            let whole = (bytes.len() + 1).saturating_sub(ENTRY_BYTES);
            let candidates: Vec<usize> = (0..whole)
                .filter(|&from| bytes[from..].starts_with(&MAGIC))
                .collect();
            if whole == 0 {
                break;
            }
            for from in candidates {
                let position = at + from as u64;
                let bytes = self.window.bytes(position, ENTRY_BYTES)?;
                if let Ok((header, _)) = EntryHeader::decode(bytes)
                    && self.fits(&header, position)
                    && position < limit
                {
                    return Ok(Some((position, header)));
                }
            }
            at += whole as u64;
        }
        Ok(None)
    }

    /// Tells that the entries up to `last` cannot be read, and goes on behind them.
    fn missing(
        &mut self,
        at: u64,
        what: &str,
        last: impl Into<Option<Index>>,
        end: Option<Offset>,
    ) {
        let next = self.chain.next;
        let mut finding = Finding::damage(&self.path, what, self.outlook(next))
            .at(at)
            .offsets(self.chain.offset, end);
        if let Some(last) = last.into().filter(|&last| last >= next) {
            finding = finding.entries(next, last);
            self.chain.next = last.next();
        }
        self.chain.offset = end;
        self.add(finding);
    }

    fn outlook(&self, index: Index) -> Outlook {
        outlook(self.known, index)
    }

    fn add(&mut self, finding: Finding) {
        self.out.add(finding.of(self.place.group));
    }

    /// Holds the footer against the frames; `whole` if they were followed to their end.
    fn check_footer(&mut self, whole: bool) {
        let is_tail = self.place.after.is_none();
        let Some(footer) = self.footer.clone() else {
            if whole && !is_tail {
                let what = "its footer is missing or not valid";
                self.add(Finding::damage(&self.path, what, Outlook::Rebuilt).at(self.end));
            }
            return;
        };
        let last = LogId {
            term: self.chain.term,
            index: self.chain.next.prev(),
        };
        let mut told = footer.clone();
        told.last = last;
        told.end_offset = self.chain.offset.unwrap_or(footer.end_offset);
        if let Some(digest) = self.digest {
            told.digest = digest;
        }
        if !self.gaps {
            (told.first_time, told.last_time) = self.times.unwrap_or_default();
            told.outline.clone_from(&self.outline);
        }
        if whole && told != footer {
            let what = "its footer says something else than the entries before it";
            self.add(Finding::damage(&self.path, what, Outlook::Unseen).at(self.end));
        }
    }

    fn check_marks(self) -> Result<(), Error> {
        let count = self.footer.as_ref().map(|footer| footer.marks);
        let Some(wrong) = self.marks.end(count)? else {
            return Ok(());
        };
        // The index of the last segment is not synced before that is sealed.
        let finding = if self.place.after.is_none() {
            Finding::remark(&wrong.path, wrong.what, Outlook::Rebuilt)
        } else {
            Finding::damage(&wrong.path, wrong.what, Outlook::Rebuilt)
        };
        self.out.add(finding.at(wrong.at).of(self.place.group));
        Ok(())
    }
}

/// Whether a log can be so long. Beyond that there is no counting.
pub(crate) fn is_plausible(index: Index) -> bool {
    index.0 <= INDEX_MAX
}

/// What becomes of a damaged entry: the journal has it still, or others do.
pub(crate) fn outlook(known: &ReplayedGroup, index: Index) -> Outlook {
    if (known.in_journal_from()..=known.last).contains(&index) {
        Outlook::Rebuilt
    } else {
        Outlook::Mended
    }
}
