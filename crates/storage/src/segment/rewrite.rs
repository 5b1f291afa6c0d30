//! Writing a damaged segment anew, beside the old one, which it replaces only when it is whole, fits its
//! neighbours, and is durable.

use std::io::IoSlice;

use kontiki_raft::{Index, LogId};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::{Disk, File, Open},
    layout::{self, segment::HEADER_BYTES},
    segment::{
        apart,
        broken::Broken,
        extent::Extent,
        frame::SegmentHeader,
        index::{self, Marks, mark_due, outline},
        read::{FoundEntry, Frames},
        salvage::Piece,
    },
};

/// Bytes of one read and of one write.
const CHUNK_BYTES: usize = 1 << 20;

/// What is known about a segment from outside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbours {
    /// The entry before its first, and the offset of its first record.
    pub(crate) before: (LogId, Offset),
    /// What the segment after it says that it follows.
    pub(crate) after: Option<SegmentHeader>,
    /// What was known of it before it was damaged.
    pub(crate) known: Option<Extent>,
}

impl Neighbours {
    /// Of a segment that follows this entry and offset.
    pub(crate) fn of(
        disk: &dyn Disk,
        broken: &Broken,
        before: (LogId, Offset),
        known: Option<Extent>,
    ) -> Result<Self, Error> {
        Ok(Self {
            before,
            after: header_of(disk, broken.group, broken.last.next())?,
            known,
        })
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Rewritten {
    /// It is as it was.
    Whole(Extent),
    /// What there is of it does not fit together; nothing was changed.
    Contradiction(String),
}

/// Writes a segment anew, of which everything is there.
pub(crate) fn rewrite(
    disk: &dyn Disk,
    broken: &Broken,
    neighbours: &Neighbours,
) -> Result<Rewritten, Error> {
    let (group, first) = (broken.group, broken.first);
    let aside = layout::mending_path(group, first);
    let mut copy = match Copy::new(disk, broken, neighbours.before)? {
        Ok(copy) => copy,
        Err(why) => return Ok(Rewritten::Contradiction(why)),
    };
    for (piece, path) in broken.sources() {
        let own = path == layout::segment_path(group, first);
        let from = (piece.at, piece.first);
        let opened = Frames::open(disk, &path, group, from, piece.end, CHUNK_BYTES);
        let copied = match opened {
            Ok(mut frames) => copy.take_in(&mut frames, &piece, own),
            Err(error) => Err(error),
        };
        match copied {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Ok(Rewritten::Contradiction(why)),
            // It was sound a moment ago.
            Err(error) if error.is_damage() => {
                return Ok(Rewritten::Contradiction(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    copy.extent.marks = u32::try_from(copy.marks.len()).expect("marks are at least 64 bytes apart");
    if let Err(why) = fits(broken, &copy, neighbours) {
        return Ok(Rewritten::Contradiction(why));
    }
    if broken.sealed {
        let footer = copy.extent.footer(group, outline(&copy.marks));
        copy.bytes.extend(footer.encode());
    }
    copy.flush()?;
    copy.file.sync()?;
    index::append(disk, group, first, 0, &copy.marks)?.sync()?;
    disk.rename(&aside, &layout::segment_path(group, first))?;
    disk.sync_dir(&layout::group_dir(group))?;
    apart::remove_bodies(disk, group, first)?;
    Ok(Rewritten::Whole(copy.extent))
}

/// A segment as it is written.
struct Copy {
    extent: Extent,
    marks: Marks,
    file: Box<dyn File>,
    bytes: Vec<u8>,
    /// Bytes written so far.
    written: u64,
}

impl Copy {
    fn new(
        disk: &dyn Disk,
        broken: &Broken,
        (before, base_offset): (LogId, Offset),
    ) -> Result<Result<Self, String>, Error> {
        if before.index.next() != broken.first {
            return Ok(Err(format!(
                "entry {} does not follow entry {}",
                broken.first, before.index
            )));
        }
        let header = SegmentHeader {
            group: broken.group,
            first: broken.first,
            term_before: before.term,
            base_offset,
        };
        let file = disk.open(
            &layout::mending_path(broken.group, broken.first),
            Open::Create,
        )?;
        file.set_size(0)?;
        Ok(Ok(Self {
            extent: Extent::empty(broken.first, before.term, base_offset),
            marks: Marks::new(),
            file,
            bytes: header.encode(),
            written: 0,
        }))
    }

    /// Copies a stretch of frames, the segment's own if `own`; or says what does not fit.
    fn take_in(
        &mut self,
        frames: &mut Frames,
        piece: &Piece,
        own: bool,
    ) -> Result<Result<(), String>, Error> {
        while let Some(found) = frames.next()? {
            frames.verify(&found)?;
            if own && found.position != self.extent.end {
                return Ok(Err(format!(
                    "entry {} was at byte {}, and belongs at byte {}",
                    found.header.id.index, found.position, self.extent.end
                )));
            }
            if let Err(why) = self.push(&found) {
                return Ok(Err(why));
            }
            if self.bytes.len() >= CHUNK_BYTES {
                self.flush()?;
            }
        }
        let reached = self.extent.last.index == piece.last;
        Ok(reached.then_some(()).ok_or_else(|| {
            format!(
                "entry {} is not where it was",
                self.extent.last.index.next()
            )
        }))
    }

    fn push(&mut self, found: &FoundEntry) -> Result<(), String> {
        let (header, extent) = (&found.header, &mut self.extent);
        let id = header.id;
        if id.index != extent.last.index.next() || id.term < extent.last.term {
            return Err(format!("entry {id} does not follow entry {}", extent.last));
        }
        if header.offset != extent.end_offset {
            return Err(format!(
                "the records of entry {id} begin at offset {}, and offset {} is next",
                header.offset, extent.end_offset
            ));
        }
        let due = mark_due(self.marks.last(), header, extent.end, extent.digest);
        self.marks.extend(due);
        extent.push(header, found.checksum);
        self.bytes.extend(header.encode().0);
        self.bytes.extend_from_slice(&found.body);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file
            .write_at(self.written, &[IoSlice::new(&self.bytes)])?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Whether a segment is the one that was there before, as far as anything tells of that.
fn fits(broken: &Broken, copy: &Copy, neighbours: &Neighbours) -> Result<(), String> {
    let extent = &copy.extent;
    if extent.last.index != broken.last {
        return Err(format!(
            "it ends with entry {}, and entry {} was its last",
            extent.last.index, broken.last
        ));
    }
    if let Some(footer) = &broken.footer
        && *footer != extent.footer(broken.group, outline(&copy.marks))
    {
        return Err("its footer tells of other entries".to_owned());
    }
    if let Some(known) = &neighbours.known
        && known != extent
    {
        return Err("it was known to hold other entries".to_owned());
    }
    if let Some(after) = &neighbours.after
        && (after.term_before, after.base_offset) != (extent.last.term, extent.end_offset)
    {
        return Err(format!(
            "it ends in term {} at offset {}, and the segment after it follows term {} at offset {}",
            extent.last.term, extent.end_offset, after.term_before, after.base_offset
        ));
    }
    Ok(())
}

/// The header of a segment, if it has a sound one.
fn header_of(
    disk: &dyn Disk,
    group: GroupId,
    first: Index,
) -> Result<Option<SegmentHeader>, Error> {
    let file = match apart::open(disk, &layout::segment_path(group, first)) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(0, &mut bytes)?;
    let header = SegmentHeader::decode(&bytes[..read]).ok();
    Ok(header.filter(|header| header.group == group && header.first == first))
}
