//! A start that changes nothing: it is run on a disk whose changes stay in memory, and what it finds is what
//! the next start would find.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Error, Recovered, Settings,
    disk::{Disk, File, Open},
    layout::STATE_DIR,
    os_disk::OsDisk,
    recover,
    verify::Copy,
};

/// Says what a start with these settings would find in a data directory, and writes nothing there. Refuses one
/// that a process has open. A small part is copied to the directory for temporary files meanwhile.
pub fn rehearse(dir: &Path, settings: &Settings) -> Result<Recovered, Error> {
    let (disk, _lock) = OsDisk::lock_for_reading(dir)?;
    rehearse_on(Arc::new(disk), settings)
}

/// The same for what is on a disk of any kind.
pub fn rehearse_on(disk: Arc<dyn Disk>, settings: &Settings) -> Result<Recovered, Error> {
    let state = match disk.native_path(Path::new(STATE_DIR)) {
        Some(native) if native.exists() => Some(Copy::of(&native)?),
        Some(_) | None => None,
    };
    let over: Arc<dyn Disk> = Arc::new(Over {
        disk,
        state,
        names: Mutex::default(),
    });
    Ok(recover::open(&over, settings)?.recovered)
}

/// Another disk, and what was changed of it.
#[derive(Debug)]
struct Over {
    disk: Arc<dyn Disk>,
    /// The database has files of its own, which it changes when it is opened.
    state: Option<Copy>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Files that were opened, made or renamed; `None` where there is none any more.
    files: BTreeMap<PathBuf, Option<Arc<Sheet>>>,
    /// Directories of which everything below is hidden.
    gone: BTreeSet<PathBuf>,
    /// Directories that were renamed, by their new name: what is below is still under the old one.
    moved: BTreeMap<PathBuf, PathBuf>,
}

/// A file, and what was written over it.
#[derive(Debug)]
struct Sheet {
    below: Option<Box<dyn File>>,
    over: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    size: u64,
    /// What is below shows up to here.
    shows: u64,
    /// By their number; those that are as they are below are not kept.
    pages: BTreeMap<u64, Vec<u8>>,
}

const PAGE_BYTES: u64 = 4096;

impl Names {
    /// Where a directory is below, if anything of it shows.
    fn dir_below<'a>(&'a self, dir: &'a Path) -> Option<&'a Path> {
        match self.moved.get(dir) {
            Some(from) => Some(from),
            None => (!self.gone.contains(dir)).then_some(dir),
        }
    }

    /// Where a file is below, if it shows.
    fn file_below(&self, path: &Path) -> Option<PathBuf> {
        let (dir, name) = (path.parent()?, path.file_name()?);
        Some(self.dir_below(dir)?.join(name))
    }

    fn move_dir(&mut self, from: &Path, to: &Path) {
        let below = self.dir_below(from).map(Path::to_owned);
        self.moved.remove(from);
        self.gone.insert(from.to_owned());
        match below {
            Some(below) => self.moved.insert(to.to_owned(), below),
            None => self.moved.remove(to),
        };
        let files = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .filter(|(path, _)| path.parent() != Some(to))
            .map(|(path, file)| match path.file_name() {
                Some(name) if path.parent() == Some(from) => (to.join(name), file),
                _ => (path, file),
            })
            .collect();
    }
}

impl Over {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, path: &Path) -> Error {
        Error::Io {
            doing: "cannot open",
            path: self.disk.full_path(path),
            source: io::ErrorKind::NotFound.into(),
        }
    }

    /// The file of this name, if there is one.
    fn find(&self, names: &mut Names, path: &Path) -> Result<Option<Arc<Sheet>>, Error> {
        if let Some(known) = names.files.get(path) {
            return Ok(known.clone());
        }
        let Some(below) = names.file_below(path) else {
            return Ok(None);
        };
        let below = match self.disk.open(&below, Open::Read) {
            Ok(below) => below,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = below.size()?;
        let sheet = Arc::new(Sheet {
            below: Some(below),
            over: Mutex::new(Written {
                size,
                shows: size,
                pages: BTreeMap::new(),
            }),
        });
        names.files.insert(path.to_owned(), Some(sheet.clone()));
        Ok(Some(sheet))
    }
}

impl Disk for Over {
    fn full_path(&self, path: &Path) -> PathBuf {
        self.disk.full_path(path)
    }

    fn native_path(&self, path: &Path) -> Option<PathBuf> {
        let state = self.state.as_ref().filter(|_| path == Path::new(STATE_DIR));
        state.map(|copy| copy.dir.clone())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let names = self.names();
        let below = match names.dir_below(dir) {
            Some(below) => self.disk.list(below)?,
            None => Vec::new(),
        };
        let mut listed: BTreeSet<String> = below.into_iter().collect();
        listed.retain(|name| names.dir_below(&dir.join(name)).is_some());
        let moved = names.moved.keys().filter(|to| to.parent() == Some(dir));
        let moved = moved.filter_map(|to| to.file_name());
        listed.extend(moved.map(|name| name.to_string_lossy().into_owned()));
        for (path, file) in &names.files {
            let name = path.file_name().map(|name| name.to_string_lossy());
            let (Some(name), true) = (name, path.parent() == Some(dir)) else {
                continue;
            };
            match file {
                Some(_) => listed.insert(name.into_owned()),
                None => listed.remove(&*name),
            };
        }
        Ok(listed.into_iter().collect())
    }

    fn make_dir(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        let mut names = self.names();
        let sheet = match self.find(&mut names, path)? {
            Some(sheet) => sheet,
            None if how.makes() => Arc::new(Sheet {
                below: None,
                over: Mutex::default(),
            }),
            None => return Err(self.missing(path)),
        };
        names.files.insert(path.to_owned(), Some(sheet.clone()));
        Ok(Box::new(Handle(sheet)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        if let Some(copy) = self.state.as_ref().filter(|_| from == Path::new(STATE_DIR)) {
            // What lies aside is looked at by nobody.
            return copy.clear();
        }
        if self.list(from).is_ok_and(|inside| !inside.is_empty()) {
            self.names().move_dir(from, to);
            return Ok(());
        }
        let mut names = self.names();
        let Some(sheet) = self.find(&mut names, from)? else {
            return Err(self.missing(from));
        };
        names.files.insert(to.to_owned(), Some(sheet));
        names.files.insert(from.to_owned(), None);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        let mut names = self.names();
        let Some(sheet) = self.find(&mut names, from)? else {
            return Err(self.missing(from));
        };
        names.files.insert(to.to_owned(), Some(sheet));
        Ok(true)
    }

    /// Those below: nothing else is changed because of them.
    fn links(&self, path: &Path) -> Result<u64, Error> {
        match self.names().file_below(path) {
            Some(below) => self.disk.links(&below),
            None => Ok(1),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        let mut names = self.names();
        if self.find(&mut names, path)?.is_none() {
            return Err(self.missing(path));
        }
        names.files.insert(path.to_owned(), None);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut names = self.names();
        names.files.retain(|path, _| path.parent() != Some(dir));
        names.moved.remove(dir);
        names.gone.insert(dir.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn draw(&self) -> u64 {
        self.disk.draw()
    }
}

impl Sheet {
    fn over(&self) -> MutexGuard<'_, Written> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is below.
    fn below(&self, over: &Written, page: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; PAGE_BYTES as usize];
        let at = page * PAGE_BYTES;
        let shows = over.shows.saturating_sub(at).min(PAGE_BYTES) as usize;
        if let Some(below) = &self.below
            && shows > 0
        {
            below.read_at(at, &mut bytes[..shows])?;
        }
        Ok(bytes)
    }

    fn write(&self, over: &mut Written, mut at: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (page, from) = (at / PAGE_BYTES, (at % PAGE_BYTES) as usize);
            let count = bytes.len().min(PAGE_BYTES as usize - from);
            let below = self.below(over, page)?;
            let mut now = over.pages.remove(&page).unwrap_or_else(|| below.clone());
            now[from..from + count].copy_from_slice(&bytes[..count]);
            if now != below {
                over.pages.insert(page, now);
            }
            at += count as u64;
            bytes = &bytes[count..];
            over.size = over.size.max(at);
        }
        Ok(())
    }
}

/// One who has it open.
#[derive(Debug)]
struct Handle(Arc<Sheet>);

impl File for Handle {
    fn size(&self) -> Result<u64, Error> {
        Ok(self.0.over().size)
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let over = self.0.over();
        let count = over.size.saturating_sub(at).min(buf.len() as u64) as usize;
        let buf = &mut buf[..count];
        buf.fill(0);
        let shows = over.shows.saturating_sub(at).min(count as u64) as usize;
        if let Some(below) = &self.0.below
            && shows > 0
        {
            below.read_at(at, &mut buf[..shows])?;
        }
        let end = at + count as u64;
        for (page, bytes) in over.pages.range(at / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let start = page * PAGE_BYTES;
            let (from, to) = (start.max(at), (start + PAGE_BYTES).min(end));
            let source = &bytes[(from - start) as usize..(to - start) as usize];
            buf[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
        }
        Ok(count)
    }

    fn write_at(&self, at: u64, pieces: &[IoSlice<'_>]) -> Result<(), Error> {
        let mut over = self.0.over();
        let mut at = at;
        for piece in pieces {
            self.0.write(&mut over, at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        let mut over = self.0.over();
        over.shows = over.shows.min(size);
        over.size = size;
        over.pages.split_off(&size.div_ceil(PAGE_BYTES));
        // What is cut off must not show when the file grows again.
        let kept = (size % PAGE_BYTES) as usize;
        if let Some(last) = over.pages.get_mut(&(size / PAGE_BYTES)) {
            last[kept..].fill(0);
        }
        Ok(())
    }

    fn allocate(&self, size: u64) -> Result<(), Error> {
        let mut over = self.0.over();
        over.size = over.size.max(size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    fn over(disk: &SimDisk) -> Over {
        Over {
            disk: Arc::new(disk.clone()),
            state: None,
            names: Mutex::default(),
        }
    }

    fn write(disk: &dyn Disk, path: &str, at: u64, bytes: &[u8]) {
        let file = disk.open(Path::new(path), Open::Create).unwrap();
        file.write_at(at, &[IoSlice::new(bytes)]).unwrap();
    }

    fn read(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
        crate::disk::read_whole(disk, Path::new(path)).unwrap()
    }

    #[test]
    fn what_is_changed_is_seen_here_and_nowhere_else() {
        let disk = SimDisk::seeded(1);
        disk.make_dir(Path::new("d")).unwrap();
        write(&disk, "d/a", 0, &[1; 10_000]);
        write(&disk, "d/b", 0, b"b");
        let before = disk.files();
        let over = over(&disk);
        write(&over, "d/a", 4_090, &[2; 10]);
        write(&over, "d/c", 5_000, b"c");
        over.rename(Path::new("d/b"), Path::new("d/e")).unwrap();
        assert_eq!(over.list(Path::new("d")).unwrap(), ["a", "c", "e"]);
        let mut changed = vec![1; 10_000];
        changed[4_090..4_100].fill(2);
        assert_eq!(read(&over, "d/a"), Some(changed.clone()));
        assert_eq!(read(&over, "d/e"), Some(b"b".to_vec()));
        assert_eq!(read(&over, "d/b"), None);
        let hole = read(&over, "d/c").unwrap();
        assert_eq!((hole.len(), hole[0], hole[5_000]), (5_001, 0, b'c'));

        let file = over.open(Path::new("d/a"), Open::Write).unwrap();
        file.set_size(4_095).unwrap();
        file.allocate(8_192).unwrap();
        changed.truncate(4_095);
        changed.resize(8_192, 0);
        assert_eq!(read(&over, "d/a"), Some(changed));

        over.remove(Path::new("d/e")).unwrap();
        over.remove_dir(Path::new("d")).unwrap();
        assert_eq!(over.list(Path::new("d")).unwrap(), Vec::<String>::new());
        assert_eq!(read(&over, "d/a"), None);
        assert_eq!(disk.files(), before);
    }

    #[test]
    fn a_directory_is_renamed_with_what_is_in_it_and_what_was_changed_of_that() {
        let disk = SimDisk::seeded(1);
        disk.make_dir(Path::new("d/old")).unwrap();
        write(&disk, "d/old/a", 0, b"as below");
        write(&disk, "d/old/b", 0, b"as below");
        let before = disk.files();
        let over = over(&disk);
        write(&over, "d/old/b", 0, b"changed!");
        over.rename(Path::new("d/old"), Path::new("d/new")).unwrap();
        assert_eq!(over.list(Path::new("d")).unwrap(), ["new"]);
        assert_eq!(over.list(Path::new("d/new")).unwrap(), ["a", "b"]);
        assert_eq!(read(&over, "d/new/a"), Some(b"as below".to_vec()));
        assert_eq!(read(&over, "d/new/b"), Some(b"changed!".to_vec()));
        assert_eq!(read(&over, "d/old/a"), None);
        over.remove_dir(Path::new("d/new")).unwrap();
        assert_eq!(over.list(Path::new("d")).unwrap(), Vec::<String>::new());
        assert_eq!(read(&over, "d/new/a"), None);
        assert_eq!(disk.files(), before);
    }

    #[test]
    fn small_state_that_does_not_open_is_made_again_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let quiet = Arc::new(|_: crate::Event| {});
        let (storage, _) = crate::Storage::open(dir.path(), settings.clone(), quiet).unwrap();
        storage.close().unwrap();
        let state = dir.path().join(STATE_DIR);
        let spoiled = || -> Vec<PathBuf> {
            let files = std::fs::read_dir(&state).unwrap();
            let files = files.map(|file| file.unwrap().path());
            files.filter(|path| path.is_file()).collect()
        };
        for file in spoiled() {
            std::fs::write(file, b"nothing that anybody understands").unwrap();
        }
        rehearse(dir.path(), &settings).unwrap();
        for file in spoiled() {
            assert_eq!(
                std::fs::read(file).unwrap(),
                b"nothing that anybody understands"
            );
        }
        assert!(spoiled().len() > 1, "there is something to spoil");
    }

    #[test]
    fn what_is_written_as_it_was_takes_no_memory() {
        let disk = SimDisk::seeded(1);
        disk.make_dir(Path::new("d")).unwrap();
        write(&disk, "d/a", 0, &[7; 20_000]);
        let over = over(&disk);
        write(&over, "d/a", 0, &[7; 20_000]);
        let mut names = over.names();
        let sheet = over.find(&mut names, Path::new("d/a")).unwrap().unwrap();
        assert_eq!(sheet.over().pages.len(), 0);
    }
}
