//! A disk that can only be read, and says how far it was.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Error,
    disk::{Disk, File, Open},
};

/// Bytes between two calls of [`Progress`].
const TELL_EVERY: u64 = 1 << 20;

/// Told how many bytes of how many have been looked at.
pub(crate) type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Another disk, for reading only: whatever would change it fails.
pub(crate) struct ReadOnly {
    disk: Arc<dyn Disk>,
    seen: Arc<Seen>,
}

/// How far each file was read, whoever read it how often.
struct Seen {
    progress: Progress,
    total: u64,
    reached: Mutex<Reached>,
}

#[derive(Default)]
struct Reached {
    files: BTreeMap<PathBuf, u64>,
    done: u64,
    told: u64,
}

struct ReadOnlyFile {
    file: Box<dyn File>,
    path: PathBuf,
    seen: Arc<Seen>,
}

impl ReadOnly {
    /// `disk`, of which `total` bytes are to be read.
    pub(crate) fn new(disk: Arc<dyn Disk>, total: u64, progress: Progress) -> Self {
        let seen = Arc::new(Seen {
            progress,
            total,
            reached: Mutex::default(),
        });
        Self { disk, seen }
    }
}

impl Seen {
    fn reached(&self, path: &Path, upto: u64) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match reached.files.get_mut(path) {
            Some(known) => std::mem::replace(known, upto.max(*known)),
            None => reached
                .files
                .insert(path.to_owned(), upto)
                .unwrap_or_default(),
        };
        reached.done += upto.saturating_sub(before);
        if reached.done >= reached.told + TELL_EVERY {
            reached.told = reached.done;
            (self.progress)(reached.done.min(self.total), self.total);
        }
    }
}

fn refused(path: &Path) -> Error {
    Error::Io {
        doing: "nothing is to be changed in",
        path: path.to_owned(),
        source: io::ErrorKind::ReadOnlyFilesystem.into(),
    }
}

impl Disk for ReadOnly {
    fn full_path(&self, path: &Path) -> PathBuf {
        self.disk.full_path(path)
    }

    fn native_path(&self, path: &Path) -> Option<PathBuf> {
        self.disk.native_path(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> Result<(), Error> {
        Err(refused(dir))
    }

    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        if how != Open::Read {
            return Err(refused(path));
        }
        Ok(Box::new(ReadOnlyFile {
            file: self.disk.open(path, how)?,
            path: path.to_owned(),
            seen: Arc::clone(&self.seen),
        }))
    }

    fn rename(&self, from: &Path, _: &Path) -> Result<(), Error> {
        Err(refused(from))
    }

    fn link(&self, _: &Path, to: &Path) -> Result<bool, Error> {
        Err(refused(to))
    }

    fn links(&self, path: &Path) -> Result<u64, Error> {
        self.disk.links(path)
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        Err(refused(path))
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        Err(refused(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        Err(refused(dir))
    }

    fn draw(&self) -> u64 {
        self.disk.draw()
    }
}

impl File for ReadOnlyFile {
    fn size(&self) -> Result<u64, Error> {
        self.file.size()
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let read = self.file.read_at(at, buf)?;
        self.seen
            .reached(&self.path, at.saturating_add(read as u64));
        Ok(read)
    }

    fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<(), Error> {
        Err(refused(&self.path))
    }

    fn sync(&self) -> Result<(), Error> {
        Err(refused(&self.path))
    }

    fn set_size(&self, _: u64) -> Result<(), Error> {
        Err(refused(&self.path))
    }

    fn allocate(&self, _: u64) -> Result<(), Error> {
        Err(refused(&self.path))
    }
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadOnly").field(&self.disk).finish()
    }
}

impl fmt::Debug for ReadOnlyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadOnlyFile").field(&self.path).finish()
    }
}
