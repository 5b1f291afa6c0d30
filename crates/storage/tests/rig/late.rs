//! A disk whose writes seem to work and fail in the background: who had the file open then is told at the
//! next sync, and nobody else.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use kontiki_storage::{Disk, Error, File, Open, SimDisk};

/// Every write to a file whose name ends so fails late.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) disk: SimDisk,
    pub(crate) ending: &'static str,
}

#[derive(Debug)]
struct LateFile {
    file: Box<dyn File>,
    path: PathBuf,
    fails: bool,
    has_failed: AtomicBool,
}

impl Disk for Late {
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
        self.disk.make_dir(dir)
    }

    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        Ok(Box::new(LateFile {
            file: self.disk.open(path, how)?,
            path: path.to_owned(),
            fails: path.to_string_lossy().ends_with(self.ending),
            has_failed: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        self.disk.link(from, to)
    }

    fn links(&self, path: &Path) -> Result<u64, Error> {
        self.disk.links(path)
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        self.disk.sync_dir(dir)
    }

    fn draw(&self) -> u64 {
        self.disk.draw()
    }
}

impl File for LateFile {
    fn size(&self) -> Result<u64, Error> {
        self.file.size()
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        self.file.read_at(at, buf)
    }

    fn write_at(&self, at: u64, pieces: &[IoSlice<'_>]) -> Result<(), Error> {
        self.has_failed.fetch_or(self.fails, Ordering::Relaxed);
        self.file.write_at(at, pieces)
    }

    fn sync(&self) -> Result<(), Error> {
        if self.has_failed.swap(false, Ordering::Relaxed) {
            return Err(Error::Io {
                doing: "cannot sync",
                path: self.path.clone(),
                source: io::ErrorKind::Other.into(),
            });
        }
        self.file.sync()
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.file.set_size(size)
    }

    fn allocate(&self, size: u64) -> Result<(), Error> {
        self.file.allocate(size)
    }
}
