//! The operating system's disk.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use crate::{
    Error,
    direct::Direct,
    disk::{Disk, File, Open},
    error::CANNOT_READ,
    layout,
};

/// Slices the kernel takes in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// A directory of the operating system.
#[derive(Debug)]
pub(crate) struct OsDisk {
    root: PathBuf,
}

/// Keeps other processes out of a directory until it is dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    _locked: fs::File,
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    /// How it is written, if it is written onwards and the system has that way.
    direct: Option<Mutex<Direct>>,
    path: PathBuf,
}

fn failed(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source: source.into(),
    }
}

impl OsDisk {
    /// Makes the directory if need be and locks it, or says that another process has it.
    pub(crate) fn lock(root: &Path) -> Result<(Self, DirLock), Error> {
        fs::create_dir_all(root).map_err(|e| failed("cannot make", root, e))?;
        let path = root.join(layout::LOCK_FILE);
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("cannot open", &path, e))?;
        let lock = DirLock::take(lock, root, &path)?;
        let root = root.to_owned();
        Ok((Self { root }, lock))
    }

    /// A directory that must exist, locked without changing anything in it. Without a file to lock no
    /// process has ever had it.
    pub(crate) fn lock_for_reading(root: &Path) -> Result<(Self, Option<DirLock>), Error> {
        fs::read_dir(root).map_err(|e| failed("cannot list", root, e))?;
        let path = root.join(layout::LOCK_FILE);
        let lock = match fs::File::open(&path) {
            Ok(lock) => Some(DirLock::take(lock, root, &path)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed("cannot open", &path, e)),
        };
        let root = root.to_owned();
        Ok((Self { root }, lock))
    }
}

impl DirLock {
    fn take(lock: fs::File, root: &Path, path: &Path) -> Result<Self, Error> {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _locked: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(root.to_owned())),
            Err(errno) => Err(failed("cannot lock", path, errno)),
        }
    }
}

impl Disk for OsDisk {
    fn full_path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    fn native_path(&self, path: &Path) -> Option<PathBuf> {
        Some(self.root.join(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let dir = self.root.join(dir);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("cannot list", &dir, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("cannot list", &dir, e))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, dir: &Path) -> Result<(), Error> {
        let path = self.root.join(dir);
        fs::create_dir_all(&path).map_err(|e| failed("cannot make", &path, e))?;
        let mut above = dir;
        while let Some(parent) = above.parent() {
            self.sync_dir(parent)?;
            above = parent;
        }
        Ok(())
    }

    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        let path = self.root.join(path);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(how != Open::Read)
            .create(how.makes())
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("cannot open", &path, e))?;
        let direct = match how {
            Open::Onwards => Direct::open(&path).map_err(|e| failed("cannot open", &path, e))?,
            _ => None,
        };
        let direct = direct.map(Mutex::new);
        Ok(Box::new(OsFile { file, direct, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        fs::rename(&from, to).map_err(|e| failed("cannot rename", &from, e))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        match fs::hard_link(&from, &to) {
            Ok(()) => Ok(true),
            Err(e) if has_no_links(&e) => Ok(false),
            Err(e) => Err(failed("cannot link", &to, e)),
        }
    }

    fn links(&self, path: &Path) -> Result<u64, Error> {
        let path = self.root.join(path);
        let metadata = fs::metadata(&path);
        Ok(metadata
            .map_err(|e| failed("cannot look at", &path, e))?
            .nlink())
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        let path = self.root.join(path);
        fs::remove_file(&path).map_err(|e| failed("cannot remove", &path, e))
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        let dir = self.root.join(dir);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", &dir, e)),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        let dir = self.root.join(dir);
        fs::File::open(&dir)
            .and_then(|opened| opened.sync_all())
            .map_err(|e| failed("cannot sync", &dir, e))
    }

    fn draw(&self) -> u64 {
        // The standard library seeds its hash maps from the system's entropy.
        RandomState::new().hash_one(0_u8)
    }
}

/// Whether a second name was refused because of the file system, and not because of what is on it.
fn has_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(
        error.kind(),
        CrossesDevices | PermissionDenied | TooManyLinks | Unsupported
    )
}

impl OsFile {
    fn failed(&self, doing: &'static str, source: impl Into<io::Error>) -> Error {
        failed(doing, &self.path, source)
    }
}

impl File for OsFile {
    fn size(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        Ok(metadata
            .map_err(|e| self.failed("cannot look at", e))?
            .len())
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(CANNOT_READ, e)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut at: u64, pieces: &[IoSlice<'_>]) -> Result<(), Error> {
        if let Some(direct) = &self.direct {
            let mut direct = direct.lock().unwrap_or_else(PoisonError::into_inner);
            let written = direct.write_at(at, pieces);
            if written.map_err(|e| self.failed("cannot write to", e))? {
                return Ok(());
            }
        }
        if let [piece] = pieces {
            let written = self.file.write_all_at(piece, at);
            return written.map_err(|e| self.failed("cannot write to", e));
        }
        for chunk in pieces.chunks(SLICES_MAX) {
            let mut chunk = chunk.to_vec();
            let mut left = &mut chunk[..];
            while !left.is_empty() {
                match rustix::io::pwritev(&self.file, left, at) {
                    Ok(0) => {
                        return Err(self.failed("cannot write to", io::ErrorKind::WriteZero));
                    }
                    Ok(written) => {
                        at += written as u64;
                        IoSlice::advance_slices(&mut left, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(self.failed("cannot write to", errno)),
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file
            .sync_data()
            .map_err(|e| self.failed("cannot sync", e))
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.file
            .set_len(size)
            .map_err(|e| self.failed("cannot resize", e))
    }

    fn allocate(&self, size: u64) -> Result<(), Error> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve; the length alone still keeps it out of every sync.
            Err(rustix::io::Errno::OPNOTSUPP) => self.set_size(size),
            Err(errno) => Err(self.failed("cannot reserve room for", errno)),
        }
    }

    fn uncache(&self, bytes: Range<u64>) {
        if let Some(count) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) {
            // Where the system does not listen it keeps them: that costs speed only.
            let _ = rustix::fs::fadvise(&self.file, bytes.start, Some(count), Advice::DontNeed);
        }
    }
}
