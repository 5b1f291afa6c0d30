//! Bytes from many places on their way to one write.

use std::{io::IoSlice, ops::Range};

use bytes::Bytes;

use crate::{Error, disk::File};

/// What is below this is copied; what is larger goes to the kernel from where it is.
const COPY_BELOW: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Gather {
    arena: Vec<u8>,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl Gather {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        let from = self.arena.len();
        self.arena.extend_from_slice(bytes);
        let to = self.arena.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(last)) => last.end = to,
            _ => self.pieces.push(Piece::Copied(from..to)),
        }
    }

    pub(crate) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BELOW {
            self.copy(bytes);
        } else {
            self.pieces.push(Piece::Shared(bytes.clone()));
        }
    }

    /// Writes everything in one go, and is empty again if that worked.
    pub(crate) fn write_to(&mut self, file: &dyn File, at: u64) -> Result<(), Error> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let mut slices = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            slices.push(IoSlice::new(match piece {
                Piece::Copied(range) => &self.arena[range.clone()],
                Piece::Shared(bytes) => bytes,
            }));
        }
        file.write_at(at, &slices)?;
        self.arena.clear();
        self.pieces.clear();
        Ok(())
    }
}
