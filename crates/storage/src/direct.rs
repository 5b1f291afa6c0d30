//! Writing past the system's page cache: whole blocks, from aligned memory. The journal is read only at a
//! start, and a copy of it in the cache costs more than the write itself.

use std::{
    fs,
    io::{self, IoSlice},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// What positions, lengths and memory are multiples of. A device with larger blocks refuses it.
pub(crate) const BLOCK_BYTES: usize = 4 << 10;
/// Bytes of one call, at most.
const CALL_BYTES_MAX: usize = 1 << 20;

/// A file that is written onwards.
#[derive(Debug)]
pub(crate) struct Direct {
    file: fs::File,
    /// Room for one call, aligned from `skew` on.
    room: Box<[u8]>,
    skew: usize,
    /// The byte after the last one written. What its block has before it is in `last`.
    end: u64,
    last: Vec<u8>,
}

impl Direct {
    /// Opens a file that exists; `None` where the file system has no such way.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let opened = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_refusal(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let room = vec![0; CALL_BYTES_MAX + BLOCK_BYTES].into_boxed_slice();
        let skew = room.as_ptr().align_offset(BLOCK_BYTES);
        Ok(Some(Self {
            file,
            room,
            skew,
            end: 0,
            last: Vec::with_capacity(BLOCK_BYTES),
        }))
    }

    /// Writes all pieces from `at` on, and zeros behind them to the end of the block. False if it must be
    /// done in another way, and then nothing of it is done: this is not where the last write ended, or
    /// the device does not take blocks of this size.
    pub(crate) fn write_at(&mut self, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<bool> {
        let before = usize::try_from(at % BLOCK_BYTES as u64).expect("less than a block");
        if before > 0 && at != self.end {
            return Ok(false);
        }
        if let [piece] = pieces
            && before == 0
            && is_whole(piece)
        {
            let written = write(&self.file, piece, at, true)?;
            if written {
                self.end = at + piece.len() as u64;
                self.last.clear();
            }
            return Ok(written);
        }
        let mut filled = before;
        let mut to = at - before as u64;
        let room = &mut self.room[self.skew..][..CALL_BYTES_MAX];
        room[..before].copy_from_slice(&self.last[..before]);
        let first = to;
        for piece in pieces {
            let mut piece = &piece[..];
            while !piece.is_empty() {
                let count = piece.len().min(room.len() - filled);
                room[filled..filled + count].copy_from_slice(&piece[..count]);
                filled += count;
                piece = &piece[count..];
                if filled == room.len() {
                    if !write(&self.file, room, to, to == first)? {
                        return Ok(false);
                    }
                    to += filled as u64;
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            let whole = filled.next_multiple_of(BLOCK_BYTES);
            room[filled..whole].fill(0);
            if !write(&self.file, &room[..whole], to, to == first)? {
                return Ok(false);
            }
        }
        self.end = to + filled as u64;
        self.last.clear();
        self.last
            .extend_from_slice(&room[filled - filled % BLOCK_BYTES..filled]);
        Ok(true)
    }
}

/// Whether the device can take it from where it is.
fn is_whole(piece: &[u8]) -> bool {
    !piece.is_empty()
        && piece.len().is_multiple_of(BLOCK_BYTES)
        && piece.as_ptr().align_offset(BLOCK_BYTES) == 0
}

/// False if the device does not take it, which it says of the first call or of none.
fn write(file: &fs::File, bytes: &[u8], at: u64, is_first: bool) -> io::Result<bool> {
    match file.write_all_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if is_first && is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn slices<'a>(pieces: &[&'a [u8]]) -> Vec<IoSlice<'a>> {
        pieces.iter().map(|piece| IoSlice::new(piece)).collect()
    }

    /// `None` where the directory of temporary files knows no direct writes, as one in memory may not.
    fn direct(dir: &tempfile::TempDir) -> Option<(PathBuf, Direct)> {
        let path = dir.path().join("file");
        fs::write(&path, vec![9; 3 * BLOCK_BYTES]).unwrap();
        let direct = Direct::open(&path).unwrap();
        if direct.is_none() {
            eprintln!("NOT RUN: no direct writes in {}", dir.path().display());
        }
        Some((path, direct?))
    }

    #[test]
    fn writes_that_follow_each_other_join_and_zeros_end_the_block() {
        let dir = tempfile::tempdir().unwrap();
        let Some((path, mut direct)) = direct(&dir) else {
            return;
        };
        assert!(direct.write_at(0, &slices(&[b"one", b"two"])).unwrap());
        assert!(direct.write_at(6, &slices(&[&[3; 5000]])).unwrap());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..6], *b"onetwo");
        assert_eq!(bytes[6..5006], [3; 5000]);
        assert_eq!(bytes[5006..2 * BLOCK_BYTES], [0; 2 * BLOCK_BYTES - 5006]);
        assert_eq!(bytes[2 * BLOCK_BYTES..], [9; BLOCK_BYTES]);
    }

    #[test]
    fn more_than_a_call_takes_goes_out_in_several() {
        let dir = tempfile::tempdir().unwrap();
        let Some((path, mut direct)) = direct(&dir) else {
            return;
        };
        let long: Vec<u8> = (0..3 * CALL_BYTES_MAX + 77)
            .map(|at| (at % 251) as u8)
            .collect();
        let (head, tail) = long.split_at(CALL_BYTES_MAX - 1);
        assert!(direct.write_at(0, &slices(&[head, tail])).unwrap());
        let after = long.len() as u64;
        assert!(direct.write_at(after, &slices(&[b"after"])).unwrap());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..long.len()], long);
        assert_eq!(bytes[long.len()..][..5], *b"after");
        let exactly = CALL_BYTES_MAX as u64;
        assert!(
            direct
                .write_at(0, &slices(&[&long[..CALL_BYTES_MAX]]))
                .unwrap()
        );
        assert!(direct.write_at(exactly, &slices(&[b"next"])).unwrap());
        assert_eq!(fs::read(&path).unwrap()[CALL_BYTES_MAX..][..4], *b"next");
    }

    #[test]
    fn whole_blocks_in_aligned_memory_are_written_from_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let Some((path, mut direct)) = direct(&dir) else {
            return;
        };
        let memory = vec![7; 3 * BLOCK_BYTES];
        let skew = memory.as_ptr().align_offset(BLOCK_BYTES);
        let blocks = &memory[skew..][..2 * BLOCK_BYTES];
        let room = direct.room.clone();
        assert!(direct.write_at(0, &slices(&[b"one"])).unwrap());
        assert!(direct.write_at(0, &slices(&[blocks])).unwrap());
        assert_eq!(direct.room[direct.skew + 3..], room[direct.skew + 3..]);
        let after = blocks.len() as u64;
        assert!(direct.write_at(after, &slices(&[b"after"])).unwrap());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..blocks.len()], *blocks);
        assert_eq!(bytes[blocks.len()..][..6], *b"after\0");
    }

    #[test]
    fn what_does_not_follow_the_last_write_is_left_to_another_way() {
        let dir = tempfile::tempdir().unwrap();
        let Some((path, mut direct)) = direct(&dir) else {
            return;
        };
        assert!(direct.write_at(0, &slices(&[b"one"])).unwrap());
        assert!(!direct.write_at(7, &slices(&[b"far"])).unwrap());
        assert_eq!(fs::read(&path).unwrap()[..8], *b"one\0\0\0\0\0");
    }
}
