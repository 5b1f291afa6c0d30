//! Writing: frames are staged, written in one call, and synced.

use std::{io::IoSlice, path::Path};

use crate::{
    Error, direct,
    disk::{Disk, File, Open},
    fields::PutFields,
    gather::Gather,
    journal::{
        begin::{Begin, End},
        frame::{Header, Kind, Position, frame_bytes},
        op::Draft,
    },
    layout::{self, journal::HEADER_BYTES},
    planted::{Planted, plants},
};

/// What a disk may lose at a time.
const BLOCK_BYTES: u64 = 4 << 10;
/// Room kept at the end of a file for the frames that end it.
const END_BYTES: u64 = 256;

/// A file that can be begun: of its full size, its name durable.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u32,
    pub(crate) file: Box<dyn File>,
    pub(crate) size: u64,
}

/// Prepares file `number` with room for `size` bytes, from `spare` if there is one. With `zeroed`, a
/// new file's room is written and synced, so that no later sync has metadata to commit; that takes a
/// while and is not for the thread that others wait for.
pub(crate) fn prepare(
    disk: &dyn Disk,
    number: u32,
    size: u64,
    spare: Option<&Path>,
    zeroed: bool,
) -> Result<Prepared, Error> {
    let path = layout::journal_path(number);
    match spare {
        // A group's bodies are in it: they are there by another name.
        Some(spare) if disk.links(spare)? > 1 && !plants(Planted::BodiesOverwritten) => {
            disk.remove(spare)?;
        }
        Some(spare) => disk.rename(spare, &path)?,
        None => {}
    }
    let file = disk.open(&path, Open::Onwards)?;
    let old = file.size()?;
    if old > size {
        file.set_size(size)?;
    } else if old < size {
        file.allocate(size)?;
        if zeroed {
            zero(&*file, old, size)?;
        }
    }
    if old != size {
        file.sync()?;
    }
    disk.sync_dir(Path::new(layout::JOURNAL_DIR))?;
    Ok(Prepared { number, file, size })
}

fn zero(file: &dyn File, from: u64, to: u64) -> Result<(), Error> {
    const CHUNK: u64 = 1 << 20;
    // Aligned, so that none of it is copied on its way past the page cache.
    let zeros = vec![0; CHUNK as usize + direct::BLOCK_BYTES];
    let zeros = &zeros[zeros.as_ptr().align_offset(direct::BLOCK_BYTES)..];
    let mut at = from;
    while at < to {
        let len = (to - at).min(CHUNK);
        file.write_at(at, &[IoSlice::new(&zeros[..len as usize])])?;
        at += len;
    }
    Ok(())
}

/// The file that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Box<dyn File>,
    number: u32,
    size: u64,
    salt: u64,
    staged: Gather,
    /// The end of what is staged; before [`Journal::write`], not all of it is in the file.
    end: u64,
    /// The end of what is in the file.
    written: u64,
    chain: u32,
    synced: Position,
}

impl Journal {
    /// Begins a file. Nothing is written yet.
    pub(crate) fn begin(prepared: Prepared, salt: u64, begin: &Begin) -> Self {
        let mut journal = Self {
            file: prepared.file,
            number: prepared.number,
            size: prepared.size,
            salt,
            staged: Gather::default(),
            end: 0,
            written: 0,
            chain: begin.previous.chain,
            synced: begin.previous.position,
        };
        let draft = Draft {
            ops: begin.encode(),
            ..Draft::default()
        };
        journal.stage(Kind::Begin, &draft);
        journal
    }

    /// The file that ended at `end`, to be told that another was begun.
    pub(crate) fn ended(disk: &dyn Disk, salt: u64, end: End) -> Result<Self, Error> {
        let Position { file: number, at } = end.position;
        let file = disk.open(&layout::journal_path(number), Open::Write)?;
        Ok(Self {
            size: file.size()?,
            file,
            number,
            salt,
            staged: Gather::default(),
            end: at,
            written: at,
            chain: end.chain,
            synced: end.position,
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The end of what is staged.
    pub(crate) fn position(&self) -> Position {
        Position {
            file: self.number,
            at: self.end,
        }
    }

    /// Whether a frame with so much in it still fits. A file that has only been begun takes any frame,
    /// and grows.
    pub(crate) fn fits(&self, content: u64) -> bool {
        self.end + frame_bytes(content) + END_BYTES <= self.size
    }

    /// Whether so much is in the file that the next one should be made ready.
    pub(crate) fn is_worth_a_next(&self) -> bool {
        self.end >= self.size / 4
    }

    /// Adds a frame of operations. Returns the byte of the file where its bodies begin, one after the other.
    pub(crate) fn operations(&mut self, draft: &Draft) -> u64 {
        let bodies_at = self.end + (HEADER_BYTES + draft.ops.len()) as u64;
        self.stage(Kind::Operations, draft);
        bodies_at
    }

    /// Adds a frame that says how far the journal is synced, in another block than anything before it,
    /// so that no one block is lost with its witness. False if the file has no room for that.
    pub(crate) fn mark(&mut self) -> bool {
        if !self.fits(2 * BLOCK_BYTES) {
            return false;
        }
        self.fill_block();
        self.stage(Kind::Mark, &Draft::default());
        true
    }

    /// Ends the block with a mark that is as long as it takes.
    fn fill_block(&mut self) {
        let mut left = self.end.next_multiple_of(BLOCK_BYTES) - self.end;
        if left == 0 {
            return;
        }
        if left < HEADER_BYTES as u64 {
            left += BLOCK_BYTES;
        }
        let filler = Draft {
            ops: vec![0; left as usize - HEADER_BYTES],
            ..Draft::default()
        };
        self.stage(Kind::Mark, &filler);
    }

    /// Adds a frame that says that files before `first_needed` may go.
    pub(crate) fn freed(&mut self, first_needed: u32) {
        self.stage_number(Kind::Freed, first_needed);
    }

    /// Ends the file durably: file `next` goes on.
    pub(crate) fn turn(&mut self, next: u32) -> Result<End, Error> {
        self.stage_number(Kind::Turn, next);
        self.write()?;
        self.sync()?;
        Ok(End {
            position: self.position(),
            chain: self.chain,
        })
    }

    /// Says durably that file `next`, which goes on from here, was durably begun: from then on it is
    /// missed when it cannot be read. Nothing that is in it may be promised before.
    pub(crate) fn followed(mut self, next: u32) -> Result<(), Error> {
        if plants(Planted::SuccessorUntold) {
            return Ok(());
        }
        self.stage_number(Kind::Followed, next);
        self.write()?;
        self.sync()
    }

    /// Ends the journal durably: the process stops on purpose.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.fill_block();
        self.stage(Kind::Close, &Draft::default());
        self.write()?;
        self.sync()
    }

    /// Writes what is staged.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        let done = self.staged.write_to(&*self.file, self.written);
        if done.is_err() && plants(Planted::WriteFailureIgnored) {
            self.staged = Gather::default();
        } else {
            done?;
        }
        self.written = self.end;
        Ok(())
    }

    /// Makes what is written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        assert!(self.staged.is_empty(), "a sync follows a write");
        self.sync_file()?;
        self.synced = self.position();
        Ok(())
    }

    fn sync_file(&self) -> Result<(), Error> {
        if plants(Planted::SyncLeftOut) {
            return Ok(());
        }
        match self.file.sync() {
            Err(_) if plants(Planted::SyncRetried) => self.file.sync(),
            done => done,
        }
    }

    fn stage_number(&mut self, kind: Kind, number: u32) {
        let mut draft = Draft::default();
        draft.ops.put_u32(number);
        self.stage(kind, &draft);
    }

    fn stage(&mut self, kind: Kind, draft: &Draft) {
        let fits = |bytes: u64| u32::try_from(bytes).expect("one write is far below 4 GiB");
        let header = Header {
            kind,
            position: self.position(),
            synced: self.synced,
            ops_bytes: fits(draft.ops.len() as u64),
            body_bytes: fits(draft.body_bytes),
            chain: self.chain,
            ops_checksum: crc32c::crc32c(&draft.ops),
            salt: self.salt,
        };
        let (bytes, checksum) = header.encode();
        let staged = &mut self.staged;
        staged.copy(&bytes);
        staged.copy(&draft.ops);
        for body in &draft.bodies {
            staged.share(&body.bytes);
        }
        let used = HEADER_BYTES as u64 + draft.content_bytes();
        let padding = header.frame_bytes() - used;
        staged.copy(&[0; layout::journal::ALIGN][..padding as usize]);
        self.end = header.end();
        self.chain = checksum;
    }
}
