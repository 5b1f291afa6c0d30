//! The seam between storage and the operating system. What is above it, recovery included, is the
//! same code on a real disk, in the fault tests and in the simulator.

use std::{
    fmt,
    io::IoSlice,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::Error;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made empty if it does not exist.
    Create,
    /// The same for a file that is written from its beginning to its end and not read meanwhile. What
    /// follows a write within the same 4 KiB is not kept, and the file's length may grow by that much.
    Onwards,
}

impl Open {
    /// Whether a file that does not exist is made.
    pub(crate) fn makes(self) -> bool {
        matches!(self, Self::Create | Self::Onwards)
    }
}

/// A directory tree. Paths are relative to its root.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The path as people know it, for messages.
    fn full_path(&self, path: &Path) -> PathBuf;
    /// The path in the operating system, if that is where this disk is.
    fn native_path(&self, path: &Path) -> Option<PathBuf>;
    /// The names in a directory, sorted; none if there is no such directory.
    fn list(&self, dir: &Path) -> Result<Vec<String>, Error>;
    /// Makes a directory and those above it, durably. No error if it exists.
    fn make_dir(&self, dir: &Path) -> Result<(), Error>;
    /// Opens a file. A new name is durable after [`Disk::sync_dir`].
    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error>;
    /// Renames a file, replacing the target. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error>;
    /// Gives a file one more name, which no other file has. Durable after [`Disk::sync_dir`]. False, and nothing
    /// is done, if this disk's files have but one.
    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error>;
    /// How many names a file has.
    fn links(&self, path: &Path) -> Result<u64, Error>;
    /// Removes a file's name, and the file with its last one. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> Result<(), Error>;
    /// Removes a directory and everything in it. No error if it does not exist.
    fn remove_dir(&self, dir: &Path) -> Result<(), Error>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), Error>;
    /// A number that nobody outside can guess.
    fn draw(&self) -> u64;
}

/// An open file, read and written at explicit positions.
pub trait File: Send + Sync + fmt::Debug {
    /// Its length.
    fn size(&self) -> Result<u64, Error>;
    /// Fills `buf` from `at` on as far as the file reaches, and says how far that was.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error>;
    /// Writes all pieces, one after the other, from `at` on.
    fn write_at(&self, at: u64, pieces: &[IoSlice<'_>]) -> Result<(), Error>;
    /// Makes what was written durable, and the length with it.
    fn sync(&self) -> Result<(), Error>;
    /// Cuts or extends with zeros.
    fn set_size(&self, size: u64) -> Result<(), Error>;
    /// Reserves room up to `size` and extends to it, without writing.
    fn allocate(&self, size: u64) -> Result<(), Error>;
    /// What is durable of these bytes need not be kept in the system's memory any more.
    fn uncache(&self, _bytes: Range<u64>) {}
}

/// The whole of a file; `None` if it does not exist.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = usize::try_from(file.size()?).map_err(|_| {
        Error::Foreign(format!(
            "{} is larger than this machine can address",
            disk.full_path(path).display()
        ))
    })?;
    let mut bytes = vec![0; size];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Writes what a file shows once more, and syncs it. After a sync that has failed, perhaps in an earlier
/// life, a system takes what it did not write for written: then a sync alone does nothing.
pub(crate) fn write_again(file: &dyn File, from: u64, to: u64) -> Result<(), Error> {
    const PIECE: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        bytes.resize((to - at).min(PIECE) as usize, 0);
        let read = file.read_at(at, &mut bytes)?;
        if read == 0 {
            break;
        }
        file.write_at(at, &[IoSlice::new(&bytes[..read])])?;
        at += read as u64;
    }
    file.sync()
}
