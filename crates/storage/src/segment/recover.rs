//! Finding a group's segments again.
//!
//! A segment may end torn: whatever was not synced is in the journal still. What had been synced and is
//! not there any more is damage, unless the journal still has it. Segments are told apart by their
//! names, so damage to one says nothing about the next; what is damaged stays as it is until it is
//! written anew.

use std::{collections::BTreeSet, io::IoSlice, ops::Bound, path::Path};

use kontiki_raft::{Index, LogId, Membership, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::{Disk, File, Open, write_again},
    layout::{self, segment::HEADER_BYTES},
    segment::{
        apart::{self, Opened},
        broken::Broken,
        configs::configs,
        extent::Extent,
        frame::{Footer, SegmentHeader},
        index::{self, Marks, mark_due, outline},
        outline::Outline,
        read::{Frames, footer},
        salvage::{Piece, certain_last, salvage},
        write,
    },
    unapplied::Unapplied,
};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// No log reaches further.
const FIRST_MAX: u64 = u64::MAX / 2;

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
    /// The end of the log, as the journal tells it.
    pub(crate) journal_last: Index,
    /// Entries from here on are to be read.
    pub(crate) read_from: Index,
    /// Bytes of them that are held; of more a checkpoint is made.
    pub(crate) unapplied_bytes_max: u64,
}

impl Expected {
    /// The last entry that can be nowhere but in segments, of which the last begins with this entry.
    fn kept_here_alone(&self, last_segment: Option<Index>) -> Index {
        let before = self.in_journal_from.prev();
        // A journal that is damaged itself may tell of less than segments keep. A segment is durable
        // when the next one is begun.
        let durable = last_segment.map_or(self.kept, |first| first.prev().max(self.kept));
        if durable > self.journal_last {
            before.max(durable)
        } else {
            before
        }
    }
}

/// A group's segments.
#[derive(Debug)]
pub(crate) struct GroupSegments {
    /// Those that are not written any more.
    pub(crate) sealed: Vec<Extent>,
    /// The one that is, and its marks.
    pub(crate) tail: Option<(Extent, Marks)>,
    /// Where each term begins; not complete if something is broken.
    pub(crate) terms: Vec<(Index, Term)>,
    /// Configurations before the entries that are to be read; none if something is broken.
    pub(crate) configs: Vec<(Index, Membership)>,
    /// The last entry; its term is not known if something is broken.
    pub(crate) last: LogId,
    /// The offset after the last record; not known if something is broken.
    pub(crate) end_offset: Offset,
    /// What is damaged or not there, in order.
    pub(crate) broken: Vec<Broken>,
}

/// Finds a group's segments, and makes them durable. The entries that are to be read go to `unapplied`;
/// nothing of them counts if something is broken.
pub(crate) fn recover(
    disk: &dyn Disk,
    expected: Expected,
    unapplied: &mut Unapplied,
) -> Result<GroupSegments, Error> {
    let dir = layout::group_dir(expected.group);
    let names = disk.list(&dir)?;
    for name in names.iter().filter(|name| layout::is_left_by_mending(name)) {
        disk.remove(&dir.join(name))?;
    }
    let names = Names::of(&names, expected.base.index);
    let mut recovery = Recovery {
        disk,
        expected,
        kept: expected.kept_here_alone(names.segments.last().copied()),
        names,
        unapplied,
        found: GroupSegments {
            sealed: Vec::new(),
            tail: None,
            terms: Vec::new(),
            configs: Vec::new(),
            last: expected.base,
            end_offset: expected.base_offset,
            broken: Vec::new(),
        },
    };
    recovery.remove_stray_bodies()?;
    recovery.run()?;
    let mut found = recovery.found;
    make_durable(disk, &expected, &found)?;
    if !found.broken.is_empty() {
        found.configs = Vec::new();
    }
    Ok(found)
}

/// A process that ended leaves what it wrote and what it named, but did not sync: all of that is seen
/// now, and would be gone after a power cut. It is written again, because a system whose sync has failed
/// takes what it did not write for written.
fn make_durable(disk: &dyn Disk, expected: &Expected, found: &GroupSegments) -> Result<(), Error> {
    let marks = found.tail.iter().flat_map(|(_, marks)| marks.iter());
    let kept = marks.take_while(|mark| mark.id.index <= expected.kept);
    let kept = kept.last().map_or(0, |mark| mark.position);
    let tail = found.tail.iter().map(|(extent, _)| (extent, kept));
    let sealed = found.sealed.iter().map(|extent| (extent, 0));
    let mut is_durable = true;
    for (extent, from) in sealed.chain(tail) {
        // One that was only begun has no entry yet.
        if extent.last.index.max(extent.first) > expected.kept {
            let path = layout::segment_path(expected.group, extent.first);
            write_again(&*disk.open(&path, Open::Write)?, from, u64::MAX)?;
            is_durable = false;
        }
    }
    if !is_durable {
        write::sync_names(disk, expected.group)?;
    }
    Ok(())
}

/// What a directory's names tell: with which entries segments begin.
#[derive(Default)]
struct Names {
    segments: BTreeSet<Index>,
    bodies: BTreeSet<Index>,
    indexes: BTreeSet<Index>,
}

impl Names {
    fn of(names: &[String], base: Index) -> Self {
        let possible = |first: &Index| *first > base && first.0 <= FIRST_MAX;
        let firsts = |of: fn(&str) -> Option<Index>| {
            let firsts = names.iter().filter_map(|name| of(name));
            firsts.filter(possible).collect()
        };
        Self {
            segments: firsts(layout::segment_first),
            bodies: firsts(layout::bodies_first),
            indexes: firsts(layout::index_first),
        }
    }

    /// Where the first segment after `index` begins. An index file without its segment tells of one
    /// that was there, if it is not the last: that may only have been begun.
    fn after(&self, index: Index, kept: Index) -> Option<Index> {
        let after = (Bound::Excluded(index), Bound::Unbounded);
        let segment = self.segments.range(after).next();
        let index = self.indexes.range(after).next();
        let index = index.filter(|index| **index <= kept || segment.is_some());
        segment.into_iter().chain(index).min().copied()
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    expected: Expected,
    names: Names,
    /// The last entry that can be nowhere but in segments.
    kept: Index,
    unapplied: &'a mut Unapplied,
    found: GroupSegments,
}

/// Frames as far as they are sound.
struct Scanned {
    extent: Extent,
    marks: Marks,
    /// Configurations before those that were to be read.
    configs: Vec<(Index, Membership)>,
    /// What is wrong after them, unless the segment ends there.
    broken: Option<Error>,
    /// Whether the index has other marks.
    unmarked: bool,
}

/// What became of a segment.
enum Found {
    /// It was taken in, whole or broken.
    Taken,
    /// The journal has everything from here on.
    Cut,
}

impl Recovery<'_> {
    /// Removes bodies that no segment needs: of one that was not begun, or was written anew since.
    fn remove_stray_bodies(&mut self) -> Result<(), Error> {
        let group = self.expected.group;
        for first in std::mem::take(&mut self.names.bodies) {
            let needed = match self.names.segments.contains(&first) {
                true => {
                    let path = layout::segment_path(group, first);
                    matches!(apart::open_either(self.disk, &path)?, Opened::Joined(_))
                }
                // The segment was lost, and people may want to look for it.
                false => first <= self.kept,
            };
            if needed {
                self.names.bodies.insert(first);
            } else {
                self.disk.remove(&layout::bodies_path(group, first))?;
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Error> {
        while self.found.tail.is_none() {
            let at = self.found.last.index.next();
            let here = self.names.segments.contains(&at);
            let next = self.names.after(at, self.kept);
            if !here && next.is_none() && at > self.kept {
                return self.remove_from(at);
            }
            let found = if here {
                self.segment(at, next)?
            } else {
                self.gap(at, next)?
            };
            if matches!(found, Found::Cut) {
                let after = self.found.last.index.next();
                let tail = self.found.tail.as_ref();
                let behind = tail.map_or(after, |(tail, _)| after.max(tail.first.next()));
                return self.remove_from(behind);
            }
        }
        Ok(())
    }

    /// Entries from `first` on have no segment.
    fn gap(&mut self, first: Index, next: Option<Index>) -> Result<Found, Error> {
        let kept = self.kept;
        if first > kept {
            return Ok(Found::Cut);
        }
        let path = self
            .disk
            .full_path(&layout::segment_path(self.expected.group, first));
        let damage = format!("{} is missing", path.display());
        let last = next.map_or(kept, Index::prev);
        let mut broken = Broken::new(self.expected.group, (first, last), Vec::new(), damage);
        broken.unbounded = true;
        broken.sealed = next.is_some();
        self.take_broken(broken);
        Ok(Found::Taken)
    }

    /// Takes in one segment.
    fn segment(&mut self, first: Index, next: Option<Index>) -> Result<Found, Error> {
        let kept = self.kept;
        let path = layout::segment_path(self.expected.group, first);
        let (file, is_apart) = match apart::open_either(self.disk, &path)? {
            Opened::Joined(joined) => (joined, true),
            Opened::Whole(_) => (self.disk.open(&path, Open::Write)?, false),
        };
        let size = file.size()?;
        let header = match self.header(&*file, first)? {
            Ok(header) => header,
            Err(what) => {
                let begin = (HEADER_BYTES as u64, first);
                let behind = self.behind_damage(first, next, begin)?;
                if first > kept && behind.is_none() {
                    return Ok(Found::Cut);
                }
                let damage = self.damaged(&path, 0, &what);
                let footer = footer(&*file, size)?;
                return self.broken((first, next), footer, behind, &damage);
            }
        };
        let footer = footer(&*file, size)?
            .filter(|footer| footer.group == header.group && footer.first == first)
            .filter(|footer| footer.last.index >= first)
            .filter(|footer| next.is_none_or(|next| footer.last.index.next() == next));
        if let Some(footer) = &footer
            && footer.last.index < self.expected.read_from
            && let Some(mut configs) = self.configs(first, &footer.outline, footer.end)?
        {
            self.take_terms(&footer.outline.terms);
            self.found.configs.append(&mut configs);
            self.take(Extent::sealed(footer, header.base_offset), None);
            return Ok(Found::Taken);
        }
        if is_apart && first > kept && !self.is_worth_reading(first, footer.as_ref())? {
            return Ok(Found::Cut);
        }
        let end = footer.as_ref().map_or(size, |footer| footer.end);
        let whole = next.is_some() || footer.is_some();
        let mut scanned = self.scan(&header, end, whole)?;
        let after = scanned.extent.last.index.next();
        let ends_early = match &footer {
            Some(footer) => footer.last.index.next() != after,
            None => next.is_some_and(|next| next > after),
        };
        let is_damaged = scanned.broken.is_some() || ends_early;
        let goes_on = next.is_some_and(|next| next == after);
        let behind = match scanned.broken.is_some() && footer.is_none() {
            true => self.behind_damage(first, next, (scanned.extent.end, after))?,
            false => None,
        };
        if is_damaged && !goes_on && (after <= kept || behind.is_some())
            || next.is_some_and(|next| next < after)
            || (next.is_none() && after <= kept && footer.is_none())
        {
            let why = match &scanned.broken {
                Some(broken) => broken.to_string(),
                None => self.damaged(&path, scanned.extent.end, "entries are missing"),
            };
            return self.broken((first, next), footer, behind, &why);
        }
        if is_apart && (is_damaged && !goes_on || footer.is_none()) {
            // It was written whole: nothing is cut off from it or added.
            let why = self.damaged(&path, scanned.extent.end, "its end is not what it was");
            let begin = (HEADER_BYTES as u64, first);
            let behind = self.behind_damage(first, next, begin)?;
            return self.broken((first, next), footer, behind, &why);
        }
        // Not before: where an entry stands behind damage, its mark alone may tell.
        if scanned.unmarked {
            index::append(self.disk, header.group, first, 0, &scanned.marks)?;
        }
        self.take_terms(&outline(&scanned.marks).terms);
        self.found.configs.append(&mut scanned.configs);
        if goes_on && footer.is_none() {
            // Its end was lost before, and the next segment goes on from there.
            self.seal(&*file, &scanned)?;
        } else if is_damaged && !goes_on {
            file.set_size(scanned.extent.end)?;
            file.sync()?;
            self.take(scanned.extent, Some(scanned.marks));
            return Ok(Found::Cut);
        }
        let marks = (footer.is_none() && next.is_none()).then_some(scanned.marks);
        self.take(scanned.extent, marks);
        Ok(Found::Taken)
    }

    /// Whether a segment whose bodies lie apart, all of which the journal has as far as it goes, is whole, or has
    /// more than that. Nothing is cut off from such a one, so it is looked at before anything of it counts.
    fn is_worth_reading(&self, first: Index, footer: Option<&Footer>) -> Result<bool, Error> {
        let Some(footer) = footer else {
            let begin = (HEADER_BYTES as u64, first);
            return Ok(self.behind_damage(first, None, begin)?.is_some());
        };
        let group = self.expected.group;
        let whole = Piece {
            first,
            last: footer.last.index,
            at: HEADER_BYTES as u64,
            end: footer.end,
        };
        let path = layout::segment_path(group, first);
        Ok(footer.last.index > self.expected.journal_last
            || salvage(self.disk, &path, group, (first, whole.last))? == [whole])
    }

    /// Writes a footer that was lost.
    fn seal(&self, file: &dyn File, scanned: &Scanned) -> Result<(), Error> {
        let (extent, outline) = (&scanned.extent, outline(&scanned.marks));
        let footer = extent.footer(self.expected.group, outline).encode();
        file.set_size(extent.end)?;
        file.write_at(extent.end, &[IoSlice::new(&footer)])?;
        file.sync()
    }

    /// The last sound entry of the last segment, which is damaged, if the journal tells of less than that:
    /// then it is damaged as well, and what stands behind the damage here may stand nowhere else. The
    /// damage is `at` a byte where an entry is to begin.
    fn behind_damage(
        &self,
        first: Index,
        next: Option<Index>,
        at: (u64, Index),
    ) -> Result<Option<Index>, Error> {
        if next.is_some() {
            return Ok(None);
        }
        let group = self.expected.group;
        let marks = index::load(self.disk, group, first)?;
        let path = layout::segment_path(group, first);
        let last = certain_last(self.disk, &path, group, at, &marks)?;
        Ok(last.filter(|last| *last > self.expected.journal_last.max(self.kept)))
    }

    /// Takes in a segment of which not everything is sound; `behind` is how far it goes, if nothing else
    /// tells.
    fn broken(
        &mut self,
        (first, next): (Index, Option<Index>),
        footer: Option<Footer>,
        behind: Option<Index>,
        damage: &str,
    ) -> Result<Found, Error> {
        let (group, kept) = (self.expected.group, self.kept);
        let footer = footer
            .filter(|footer| footer.group == group && footer.first == first)
            .filter(|footer| next.is_none_or(|next| footer.last.index.next() == next));
        let sealed_last = footer.as_ref().map(|footer| footer.last.index);
        let limit = next.map(Index::prev).or(sealed_last);
        let path = layout::segment_path(group, first);
        let known = limit.or(behind);
        let range = (first, known.unwrap_or(Index(FIRST_MAX)));
        let mut pieces = salvage(self.disk, &path, group, range)?;
        let last = known.unwrap_or_else(|| {
            let mut end = first;
            // What the journal has is taken from there, and all that follows it.
            pieces.retain(|piece| {
                let reached = piece.first.prev() <= kept || piece.first == end;
                if reached {
                    end = piece.last.next();
                }
                reached
            });
            kept.max(end.prev())
        });
        let mut broken = Broken::new(group, (first, last), pieces, damage.to_owned());
        broken.sealed = limit.is_some();
        broken.footer = footer;
        self.take_broken(broken);
        Ok(Found::Taken)
    }

    fn take_broken(&mut self, broken: Broken) {
        self.found.last = LogId {
            term: Term(0),
            index: broken.last,
        };
        self.found.broken.push(broken);
    }

    /// The header of a segment, if it fits what is before it.
    fn header(
        &self,
        file: &dyn File,
        first: Index,
    ) -> Result<Result<SegmentHeader, String>, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let read = match file.read_at(0, &mut bytes) {
            Ok(read) => read,
            Err(error) if error.is_damage() => return Ok(Err("it cannot be read".to_owned())),
            Err(error) => return Err(error),
        };
        let header = match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) => header,
            Err(what) => return Ok(Err(what.to_owned())),
        };
        let follows_broken = self
            .found
            .broken
            .last()
            .is_some_and(|broken| broken.last.next() == first);
        let expected = SegmentHeader {
            group: self.expected.group,
            first,
            // What is before a segment that cannot be read, its own header alone tells.
            term_before: if follows_broken {
                header.term_before
            } else {
                self.found.last.term
            },
            base_offset: if follows_broken {
                header.base_offset
            } else {
                self.found.end_offset
            },
        };
        if header == expected {
            return Ok(Ok(header));
        }
        Ok(Err(format!(
            "it begins with entry {} of group {} at offset {}, but entry {} of group {} at offset {} is next",
            header.first,
            header.group,
            header.base_offset,
            expected.first,
            expected.group,
            expected.base_offset
        )))
    }

    fn damaged(&self, path: &Path, at: u64, what: &str) -> String {
        let error = Error::Damaged {
            path: self.disk.full_path(path),
            at,
            what: what.to_owned(),
        };
        error.to_string()
    }

    /// Removes what the journal has: every segment and index from this entry on.
    fn remove_from(&self, first: Index) -> Result<(), Error> {
        let group = self.expected.group;
        let segments = self.names.segments.range(first..);
        let segments = segments.map(|first| layout::segment_path(group, *first));
        let indexes = self.names.indexes.range(first..);
        let indexes = indexes.map(|first| layout::index_path(group, *first));
        let bodies = self.names.bodies.range(first..);
        let bodies = bodies.map(|first| layout::bodies_path(group, *first));
        // A segment goes before what it needs.
        let paths: Vec<_> = segments.chain(indexes).chain(bodies).collect();
        for path in &paths {
            self.disk.remove(path)?;
        }
        if paths.is_empty() {
            return Ok(());
        }
        self.disk.sync_dir(&layout::group_dir(group))
    }

    /// The configurations of a segment that are not among the entries to be read; `None` if one of them
    /// is damaged.
    fn configs(
        &self,
        first: Index,
        outline: &Outline,
        end: u64,
    ) -> Result<Option<Vec<(Index, Membership)>>, Error> {
        let all = &outline.configs;
        let before = all.partition_point(|(index, _)| *index < self.expected.read_from);
        match configs(self.disk, self.expected.group, first, &all[..before], end) {
            Ok(configs) => Ok(Some(configs)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Goes through the frames of a segment up to `end`: from its first if `whole`, or else from where
    /// something is wanted or a crash may have left something. What is before that is verified when it
    /// is read, but for configurations, which are always read.
    fn scan(&mut self, header: &SegmentHeader, end: u64, whole: bool) -> Result<Scanned, Error> {
        let mut marks = index::load(self.disk, header.group, header.first)?;
        let known = marks.len();
        let trusted = self.expected.kept.min(self.expected.read_from.prev());
        marks.retain(|mark| !whole && mark.id.index <= trusted && mark.position < end);
        let from_first = marks.is_empty();
        let scanned = match self.scan_from(header, marks, end)? {
            Some(scanned) => scanned,
            None if from_first => {
                let path = layout::segment_path(header.group, header.first);
                return Err(Error::Unfit(format!(
                    "{} has an entry that is no configuration and says it is one",
                    self.disk.full_path(&path).display()
                )));
            }
            None => return self.scan(header, end, true),
        };
        Ok(Scanned {
            unmarked: known != scanned.marks.len(),
            ..scanned
        })
    }

    /// `None` if the last mark does not lead to its entry, or another not to its configuration.
    fn scan_from(
        &mut self,
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
        let broken = loop {
            let found = match frames.next() {
                Ok(None) => break None,
                Ok(Some(found)) => found,
                Err(error) if error.is_damage() => break Some(error),
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
                self.unapplied.push(found.header.entry(found.body));
            }
        };
        if mark.is_some_and(|mark| extent.last.index < mark.id.index) {
            return Ok(None);
        }
        extent.marks = u32::try_from(marks.len()).expect("marks are at least 64 bytes apart");
        let Some(configs) = self.configs(first, &outline(&marks), extent.end)? else {
            return Ok(None);
        };
        Ok(Some(Scanned {
            extent,
            configs,
            marks,
            broken,
            unmarked: false,
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
}
