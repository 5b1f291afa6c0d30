//! Reading a journal file, a window at a time.

use crate::{
    Error,
    disk::{Disk, File, Open},
    journal::{
        begin::Begin,
        frame::{Frame, Header, Invalid, Kind, Place, Position, UNKNOWN_VERSION},
    },
    layout::{
        self,
        journal::{ALIGN, HEADER_BYTES},
    },
};

/// Bytes of one read.
const WINDOW_BYTES: u64 = 1 << 20;

/// A journal file that is read.
#[derive(Debug)]
pub(crate) struct JournalFile {
    file: Box<dyn File>,
    place: Place,
    size: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl JournalFile {
    pub(crate) fn open(disk: &dyn Disk, number: u32, salt: u64) -> Result<Self, Error> {
        let file = disk.open(&layout::journal_path(number), Open::Read)?;
        let place = Place { file: number, salt };
        let size = file.size()?;
        Ok(Self {
            file,
            place,
            size,
            window: Vec::new(),
            window_at: 0,
        })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` on: `count` of them, or as many as there are.
    fn bytes(&mut self, at: u64, count: u64) -> Result<&[u8], Error> {
        let end = at.saturating_add(count).min(self.size);
        let at = at.min(end);
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let len = count.max(WINDOW_BYTES).min(self.size - at) as usize;
            self.window.resize(len, 0);
            let read = self.file.read_at(at, &mut self.window)?;
            self.window.truncate(read);
            self.window_at = at;
        }
        let from = (at - self.window_at) as usize;
        let to = self.window.len().min((end - self.window_at) as usize);
        Ok(&self.window[from.min(to)..to])
    }

    /// The header at `at`, if one stands there that was written for there.
    pub(crate) fn header(&mut self, at: u64) -> Result<Result<Header, Invalid>, Error> {
        let place = self.place;
        let bytes = self.bytes(at, HEADER_BYTES as u64)?;
        Ok(place.header(at, bytes).map(|(header, _)| header))
    }

    /// The frame at `at`, verified but for its bodies.
    pub(crate) fn frame(&mut self, at: u64) -> Result<Result<Frame<'_>, Invalid>, Error> {
        let place = self.place;
        let header = match self.header(at)? {
            Ok(header) => header,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let bytes = self.bytes(at, header.frame_bytes())?;
        Ok(place.frame(at, bytes))
    }

    /// What the first frame says, if it is sound. Fails if it is of another version.
    pub(crate) fn begin(&mut self, disk: &dyn Disk) -> Result<Option<Begin>, Error> {
        match self.frame(0)? {
            Ok(frame) if frame.header.kind == Kind::Begin => Ok(Begin::decode(frame.ops)),
            Err(Invalid::Meaning(UNKNOWN_VERSION)) => {
                let path = disk.full_path(&layout::journal_path(self.place.file));
                let sentence = format!("{}: {UNKNOWN_VERSION}", path.display());
                Err(Error::Foreign(sentence))
            }
            _ => Ok(None),
        }
    }

    /// The greatest synced position that any header at or after `from` tells of. Only headers are
    /// looked at: one proves that everything it calls synced once was, whatever became of the rest.
    pub(crate) fn synced_according_to_rest(
        &mut self,
        from: u64,
    ) -> Result<Option<Position>, Error> {
        const BLOCK: usize = 4 << 10;
        let place = self.place;
        let mut synced = None;
        let mut at = from.next_multiple_of(ALIGN as u64);
        while at < self.size {
            let bytes = self.bytes(at, WINDOW_BYTES)?;
            let mut done = 0;
            while done + HEADER_BYTES <= bytes.len() {
                // An empty block is passed over as one.
                if bytes[done..].starts_with(&[0; BLOCK]) {
                    done += BLOCK;
                    continue;
                }
                if let Ok((header, _)) = place.header(at + done as u64, &bytes[done..]) {
                    synced = synced.max(Some(header.synced));
                }
                done += ALIGN;
            }
            // Fewer bytes than a header are left, at the end of the window or of the file.
            if done == 0 {
                break;
            }
            at += done as u64;
        }
        Ok(synced)
    }
}
