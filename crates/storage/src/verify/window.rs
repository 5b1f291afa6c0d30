//! A file of any size, looked at through a window of a fixed size.

use std::path::Path;

use crate::{
    Error,
    disk::{Disk, File},
    segment,
};

/// Bytes of the window, and of one read.
pub(crate) const WINDOW_BYTES: usize = 1 << 20;

/// A file that is read.
#[derive(Debug)]
pub(crate) struct Window {
    file: Box<dyn File>,
    size: u64,
    bytes: Vec<u8>,
    at: u64,
}

impl Window {
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let file = segment::open_to_read(disk, path)?;
        Ok(Self {
            size: file.size()?,
            file,
            bytes: Vec::new(),
            at: 0,
        })
    }

    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` on: `count` of them, which is at most [`WINDOW_BYTES`], or as many as there
    /// are.
    pub(crate) fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8], Error> {
        let count = count.min(WINDOW_BYTES);
        let end = at.saturating_add(count as u64).min(self.size);
        if at < self.at || end > self.at + self.bytes.len() as u64 {
            self.fill(at)?;
        }
        let from = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(from..).unwrap_or_default();
        Ok(&bytes[..count.min(bytes.len())])
    }

    /// The CRC-32C of the `count` bytes from `at` on; `None` if the file ends before.
    pub(crate) fn checksum(&mut self, mut at: u64, count: u64) -> Result<Option<u32>, Error> {
        let mut left = count;
        let mut checksum = 0;
        while left > 0 {
            let known = self.at..self.at + self.bytes.len() as u64;
            if !known.contains(&at) {
                self.fill(at)?;
            }
            let from = usize::try_from(at - self.at).unwrap_or(usize::MAX);
            let bytes = self.bytes.get(from..).unwrap_or_default();
            let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if take == 0 {
                return Ok(None);
            }
            checksum = crc32c::crc32c_append(checksum, &bytes[..take]);
            at += take as u64;
            left -= take as u64;
        }
        Ok(Some(checksum))
    }

    /// Moves the window so that it begins at `at`.
    fn fill(&mut self, at: u64) -> Result<(), Error> {
        let left = self.size.saturating_sub(at);
        let len = usize::try_from(left).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        self.at = at;
        self.bytes.resize(len, 0);
        let read = self.file.read_at(at, &mut self.bytes);
        // After a failure nothing in it counts.
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }
}
