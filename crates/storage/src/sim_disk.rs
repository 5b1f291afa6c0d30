//! A disk in memory that forgets, tears, fails and fills up on command.
//!
//! What was written is on the disk for certain only after a sync of its file, and a name only after a
//! sync of its directory. A crash keeps of the rest whatever the test chooses: of data any mixture of
//! sectors, of the changes of one directory any number of the first ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, IoSlice},
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Error,
    disk::{Disk, File, Open},
};

/// Bytes that a disk writes all or none of.
pub const SECTOR_BYTES: usize = 512;
/// What is written of a file that is opened onwards is a multiple of it.
const BLOCK_BYTES: u64 = 4 << 10;

/// A disk in memory. Cloning shares it.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The device does not do what it is told.
    Broken,
    /// There is no room.
    Full,
}

/// Something that a crash may keep or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsynced<'a> {
    /// One sector of a file that was written.
    Sector {
        /// The file.
        path: &'a Path,
        /// Counted from 0.
        sector: u64,
    },
    /// The length of a file that has changed.
    Size {
        /// The file.
        path: &'a Path,
    },
    /// The next change of the names in a directory; the first that is lost ends them.
    Name {
        /// The directory.
        dir: &'a Path,
    },
}

type NodeId = u64;

#[derive(Clone, Default)]
struct Inner {
    nodes: BTreeMap<NodeId, Node>,
    next_id: NodeId,
    calls: u64,
    /// The call that fails, and how; all later ones work.
    fault: Option<(u64, Fault)>,
    /// From this call on nothing is done any more.
    end: Option<u64>,
    bytes_max: Option<u64>,
    /// Bytes of all reads, and of all writes.
    read: u64,
    written: u64,
    /// Files have but one name.
    has_no_links: bool,
    /// Whether a call has failed for one of these since it was last asked.
    took_fault: bool,
    seed: u64,
    drawn: u64,
}

#[derive(Clone)]
enum Node {
    Dir(Dir),
    Data(Data),
}

/// A directory as it is seen, and as it is on the disk for certain.
#[derive(Clone, Default)]
struct Dir {
    seen: BTreeMap<String, NodeId>,
    synced: BTreeMap<String, NodeId>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Link(String, NodeId),
    Unlink(String),
    Rename(String, String),
}

/// A file as it is seen, and as it is on the disk for certain.
#[derive(Clone, Default)]
struct Data {
    seen: Vec<u8>,
    synced: Vec<u8>,
    dirty: BTreeSet<u64>,
    /// Written before a sync that failed, and not since: no later sync covers them.
    forsaken: BTreeSet<u64>,
    /// Where what was written with the last sync, or is to be with the next, begins.
    last_write: usize,
    /// How often it is open.
    open: usize,
    /// Bytes of it that need not be kept in memory, counted as often as that was said.
    uncached: u64,
}

const ROOT: NodeId = 0;

impl Default for SimDisk {
    fn default() -> Self {
        let mut inner = Inner {
            next_id: 1,
            ..Inner::default()
        };
        inner.nodes.insert(ROOT, Node::Dir(Dir::default()));
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }
}

/// What a test does to it.
impl SimDisk {
    /// An empty disk whose random numbers are its own.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock().seed = seed;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk that holds the same, synced and not.
    #[must_use]
    pub fn copied(&self) -> Self {
        let mut inner = self.lock().clone();
        inner.close_all();
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// The disk after a power cut right now; this one goes on. `keep` decides about everything that was
    /// not synced, in a fixed order. Faults are gone.
    #[must_use]
    pub fn after_crash(&self, mut keep: impl FnMut(Unsynced<'_>) -> bool) -> Self {
        let mut inner = self.lock().clone();
        inner.fault = None;
        inner.end = None;
        inner.bytes_max = None;
        inner.close_all();
        let by_id = inner.paths().into_iter().map(|(path, id)| (id, path));
        let paths: BTreeMap<NodeId, PathBuf> = by_id.collect();
        let nameless = PathBuf::new();
        for (id, node) in &mut inner.nodes {
            let path = paths.get(id).unwrap_or(&nameless);
            match node {
                Node::Data(data) => data.crash(path, &mut keep),
                Node::Dir(dir) => dir.crash(path, &mut keep),
            }
        }
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Calls so far that change something or make it durable.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets the call fail that comes after so many others.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        let mut inner = self.lock();
        inner.fault = Some((inner.calls + calls, fault));
    }

    /// Whether a call has failed as it was told to, or for want of room, since this was last asked.
    #[must_use]
    pub fn took_fault(&self) -> bool {
        std::mem::take(&mut self.lock().took_fault)
    }

    /// Lets the power go after so many more calls: what comes then is not done and fails. Only a write
    /// that is under way just then may leave a part.
    /// What there is then is the business of [`SimDisk::after_crash`].
    pub fn end_after(&self, calls: u64) {
        let mut inner = self.lock();
        inner.end = Some(inner.calls + calls);
    }

    /// Whether the power has gone: a call has failed for [`SimDisk::end_after`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let inner = self.lock();
        inner.end.is_some_and(|end| inner.calls > end)
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Bytes that all reads so far were given, and that all writes so far brought.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.read, inner.written)
    }

    /// Lets nothing fail any more that was told to.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.fault = None;
        inner.bytes_max = None;
        inner.end = None;
    }

    /// From now on a file can have but one name.
    pub fn refuse_links(&self) {
        self.lock().has_no_links = true;
    }

    /// Lets every write fail that would make all files together longer than this.
    pub fn limit(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// All files, in order of their paths, as they are seen.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let inner = self.lock();
        let data = |(path, id): (PathBuf, NodeId)| match inner.nodes.get(&id) {
            Some(Node::Data(data)) => Some((path, data.seen.clone())),
            _ => None,
        };
        inner.paths().into_iter().filter_map(data).collect()
    }

    /// Where the last write to a file began, in however many pieces and calls it came between two syncs;
    /// at the beginning if there was none.
    #[must_use]
    pub fn last_write(&self, path: &Path) -> usize {
        let inner = self.lock();
        match inner.find(path).and_then(|id| inner.nodes.get(&id)) {
            Some(Node::Data(data)) => data.last_write,
            _ => 0,
        }
    }

    /// How many files are open that have no name any more.
    #[must_use]
    pub fn nameless_open(&self) -> usize {
        let inner = self.lock();
        let named: BTreeSet<NodeId> = inner.paths().into_iter().map(|(_, id)| id).collect();
        let open = |(id, node): (&NodeId, &Node)| {
            matches!(node, Node::Data(data) if data.open > 0) && !named.contains(id)
        };
        inner.nodes.iter().filter(|entry| open(*entry)).count()
    }

    /// Bytes of a file of which it was said that they need not be kept in memory, counted as often as that was said.
    #[must_use]
    pub fn uncached(&self, path: &Path) -> u64 {
        let inner = self.lock();
        match inner.find(path).and_then(|id| inner.nodes.get(&id)) {
            Some(Node::Data(data)) => data.uncached,
            _ => 0,
        }
    }

    /// Changes the bytes of a file behind everyone's back, durably.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let mut inner = self.lock();
        let id = inner
            .find(path)
            .ok_or_else(|| missing("cannot edit", path))?;
        if let Some(Node::Data(data)) = inner.nodes.get_mut(&id) {
            change(&mut data.seen);
            data.synced.clone_from(&data.seen);
            data.dirty.clear();
        }
        Ok(())
    }
}

fn missing(doing: &'static str, path: &Path) -> Error {
    failed(doing, path, io::ErrorKind::NotFound)
}

fn failed(doing: &'static str, path: &Path, kind: io::ErrorKind) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source: kind.into(),
    }
}

impl Inner {
    /// Counts a call; the one that is to fail does.
    fn call(&mut self, doing: &'static str, path: &Path) -> Result<(), Error> {
        let this = self.calls;
        self.calls += 1;
        if self.end.is_some_and(|end| this >= end) {
            return Err(failed(doing, path, io::ErrorKind::Other));
        }
        let Some((_, fault)) = self.fault.filter(|(call, _)| *call == this) else {
            return Ok(());
        };
        self.took_fault = true;
        Err(match fault {
            Fault::Broken => failed(doing, path, io::ErrorKind::Other),
            Fault::Full => failed(doing, path, io::ErrorKind::StorageFull),
        })
    }

    fn find(&self, path: &Path) -> Option<NodeId> {
        let mut id = ROOT;
        for part in path.components() {
            let (Component::Normal(name), Node::Dir(dir)) = (part, self.nodes.get(&id)?) else {
                return None;
            };
            id = *dir.seen.get(&*name.to_string_lossy())?;
        }
        Some(id)
    }

    fn dir(&mut self, doing: &'static str, path: &Path) -> Result<&mut Dir, Error> {
        let id = self.find(path).ok_or_else(|| missing(doing, path))?;
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(failed(doing, path, io::ErrorKind::NotADirectory)),
        }
    }

    fn data(&mut self, id: NodeId) -> &mut Data {
        match self.nodes.get_mut(&id) {
            Some(Node::Data(data)) => data,
            _ => unreachable!("an open file stays where it is"),
        }
    }

    /// Whoever had a file open has it on another disk.
    fn close_all(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::Data(data) = node {
                data.open = 0;
            }
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        id
    }

    /// Every path but the root's, in order.
    fn paths(&self) -> Vec<(PathBuf, NodeId)> {
        let mut paths = Vec::new();
        let mut dirs = vec![(PathBuf::new(), ROOT)];
        while let Some((above, id)) = dirs.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                for (name, &id) in &dir.seen {
                    paths.push((above.join(name), id));
                    dirs.push((above.join(name), id));
                }
            }
        }
        paths.sort();
        paths
    }

    fn bytes(&self) -> u64 {
        let size = |node: &Node| match node {
            Node::Data(data) => data.seen.len() as u64,
            Node::Dir(_) => 0,
        };
        self.nodes.values().map(size).sum()
    }

    /// Whether files may grow by so many bytes.
    fn has_room_for(&mut self, bytes: u64) -> bool {
        let Some(bytes_max) = self.bytes_max else {
            return true;
        };
        let has_room = bytes == 0 || self.bytes() + bytes <= bytes_max;
        self.took_fault |= !has_room;
        has_room
    }
}

impl Dir {
    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.seen);
        self.changes.clear();
    }

    fn crash(&mut self, path: &Path, keep: &mut impl FnMut(Unsynced<'_>) -> bool) {
        for change in std::mem::take(&mut self.changes) {
            if !keep(Unsynced::Name { dir: path }) {
                break;
            }
            apply(&mut self.synced, &change);
        }
        self.seen.clone_from(&self.synced);
    }
}

fn apply(names: &mut BTreeMap<String, NodeId>, change: &Change) {
    match change {
        Change::Link(name, id) => {
            names.insert(name.clone(), *id);
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
        Change::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl Data {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        self.last_write = match self.dirty.is_empty() {
            true => at,
            false => self.last_write.min(at),
        };
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[at..end].copy_from_slice(bytes);
        let first = at / SECTOR_BYTES;
        let after = end.div_ceil(SECTOR_BYTES);
        for sector in first as u64..after as u64 {
            self.dirty.insert(sector);
            self.forsaken.remove(&sector);
        }
    }

    /// Writes zeros. Where there are some already, it makes no difference what a crash keeps.
    fn clear(&mut self, at: usize, count: usize) {
        let there = self.seen.get(at..at + count);
        if there.is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            self.write(at, &vec![0; count]);
        }
    }

    fn sync(&mut self) {
        self.synced.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            if !self.forsaken.contains(&sector) {
                copy_sector(&mut self.synced, &self.seen, sector);
            }
        }
    }

    /// A sync failed: the system takes what was dirty for clean.
    fn forsake(&mut self) {
        self.forsaken.append(&mut self.dirty);
    }

    fn crash(&mut self, path: &Path, keep: &mut impl FnMut(Unsynced<'_>) -> bool) {
        if self.synced.len() != self.seen.len() && keep(Unsynced::Size { path }) {
            self.synced.resize(self.seen.len(), 0);
        }
        self.dirty.append(&mut self.forsaken);
        for sector in std::mem::take(&mut self.dirty) {
            if keep(Unsynced::Sector { path, sector }) {
                copy_sector(&mut self.synced, &self.seen, sector);
            }
        }
        self.seen.clone_from(&self.synced);
    }
}

fn copy_sector(to: &mut [u8], from: &[u8], sector: u64) {
    let begin = sector as usize * SECTOR_BYTES;
    let end = (begin + SECTOR_BYTES).min(to.len()).min(from.len());
    if begin < end {
        to[begin..end].copy_from_slice(&from[begin..end]);
    }
}

/// The last part of a path, and what is before it.
fn split(path: &Path) -> (&Path, String) {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    (path.parent().unwrap_or_else(|| Path::new("")), name)
}

impl Disk for SimDisk {
    fn full_path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn native_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let mut inner = self.lock();
        match inner.dir("cannot list", dir) {
            Ok(dir) => Ok(dir.seen.keys().cloned().collect()),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn make_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.call("cannot make", dir)?;
        let mut path = PathBuf::new();
        for part in dir.components() {
            let next = path.join(part);
            if inner.find(&next).is_none() {
                let id = inner.add(Node::Dir(Dir::default()));
                let (_, name) = split(&next);
                inner
                    .dir("cannot make", &path)?
                    .change(Change::Link(name, id));
            }
            inner.dir("cannot make", &path)?.sync();
            path = next;
        }
        Ok(())
    }

    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        let mut inner = self.lock();
        let id = match inner.find(path) {
            Some(id) => id,
            None if how.makes() => {
                inner.call("cannot open", path)?;
                let id = inner.add(Node::Data(Data::default()));
                let (above, name) = split(path);
                inner
                    .dir("cannot open", above)?
                    .change(Change::Link(name, id));
                id
            }
            None => return Err(missing("cannot open", path)),
        };
        if matches!(inner.nodes.get(&id), Some(Node::Dir(_))) {
            return Err(failed("cannot open", path, io::ErrorKind::IsADirectory));
        }
        inner.data(id).open += 1;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
            path: path.to_owned(),
            onwards: (how == Open::Onwards).then(|| AtomicU64::new(0)),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.call("cannot rename", from)?;
        let (above, from_name) = split(from);
        let (_, to_name) = split(to);
        let dir = inner.dir("cannot rename", above)?;
        if !dir.seen.contains_key(&from_name) {
            return Err(missing("cannot rename", from));
        }
        dir.change(Change::Rename(from_name, to_name));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        let mut inner = self.lock();
        inner.call("cannot link", to)?;
        if inner.has_no_links {
            return Ok(false);
        }
        let id = inner
            .find(from)
            .ok_or_else(|| missing("cannot link", from))?;
        let (above, name) = split(to);
        let dir = inner.dir("cannot link", above)?;
        if dir.seen.contains_key(&name) {
            return Err(failed("cannot link", to, io::ErrorKind::AlreadyExists));
        }
        dir.change(Change::Link(name, id));
        Ok(true)
    }

    fn links(&self, path: &Path) -> Result<u64, Error> {
        let inner = self.lock();
        let id = inner
            .find(path)
            .ok_or_else(|| missing("cannot look at", path))?;
        let names = inner.paths().into_iter();
        Ok(names.filter(|(_, named)| *named == id).count() as u64)
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.call("cannot remove", path)?;
        let (above, name) = split(path);
        let dir = inner.dir("cannot remove", above)?;
        if !dir.seen.contains_key(&name) {
            return Err(missing("cannot remove", path));
        }
        dir.change(Change::Unlink(name));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.call("cannot remove", dir)?;
        let (above, name) = split(dir);
        match inner.dir("cannot remove", above) {
            Ok(above) if above.seen.contains_key(&name) => above.change(Change::Unlink(name)),
            _ => {}
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.call("cannot sync", dir)?;
        inner.dir("cannot sync", dir)?.sync();
        Ok(())
    }

    fn draw(&self) -> u64 {
        let mut inner = self.lock();
        inner.drawn += 1;
        (inner.seed ^ inner.drawn).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: NodeId,
    path: PathBuf,
    /// If it is written onwards, where the last such write ended.
    onwards: Option<AtomicU64>,
}

impl SimFile {
    /// The zeros behind what is written from `at` to `end`. What neither begins a block nor follows the
    /// last write goes another way, and has none.
    fn zeros_after(&self, at: u64, end: u64) -> usize {
        let Some(last_end) = &self.onwards else {
            return 0;
        };
        if !at.is_multiple_of(BLOCK_BYTES) && at != last_end.load(Ordering::Relaxed) {
            return 0;
        }
        last_end.store(end, Ordering::Relaxed);
        (end.next_multiple_of(BLOCK_BYTES) - end) as usize
    }

    /// Grows or cuts.
    fn resize(&self, size: u64, grow_only: bool) -> Result<(), Error> {
        let mut inner = self.disk.lock();
        inner.call("cannot resize", &self.path)?;
        let old = inner.data(self.id).seen.len() as u64;
        if grow_only && size <= old {
            return Ok(());
        }
        if !inner.has_room_for(size.saturating_sub(old)) {
            return Err(failed(
                "cannot resize",
                &self.path,
                io::ErrorKind::StorageFull,
            ));
        }
        let data = inner.data(self.id);
        data.seen.resize(size as usize, 0);
        // What is cut off reads as zeros if it is extended again.
        let cut = (size.min(old) / SECTOR_BYTES as u64)..old.div_ceil(SECTOR_BYTES as u64);
        data.dirty
            .extend(cut.take(if size < old { usize::MAX } else { 0 }));
        Ok(())
    }
}

impl File for SimFile {
    fn size(&self) -> Result<u64, Error> {
        Ok(self.disk.lock().data(self.id).seen.len() as u64)
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let mut inner = self.disk.lock();
        let seen = &inner.data(self.id).seen;
        let from = seen.get(at as usize..).unwrap_or_default();
        let count = from.len().min(buf.len());
        buf[..count].copy_from_slice(&from[..count]);
        inner.read += count as u64;
        Ok(count)
    }

    fn write_at(&self, at: u64, pieces: &[IoSlice<'_>]) -> Result<(), Error> {
        let mut inner = self.disk.lock();
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        inner.written += len as u64;
        let failure = inner.call("cannot write to", &self.path).err();
        let after_the_end = inner.end.is_some_and(|end| inner.calls > end + 1);
        let zeros = self.zeros_after(at, at + len as u64);
        let end = at + (len + zeros) as u64;
        let grows = end.saturating_sub(inner.data(self.id).seen.len() as u64);
        if failure.is_none() && !inner.has_room_for(grows) {
            return Err(failed(
                "cannot write to",
                &self.path,
                io::ErrorKind::StorageFull,
            ));
        }
        let at_the_end = inner.end.is_some_and(|end| inner.calls == end + 1);
        // A write that fails may have written a part; of the one that the power cuts short the crash
        // chooses.
        let mut left = match &failure {
            _ if after_the_end => 0,
            Some(_) if !at_the_end => len / 2,
            _ => len,
        };
        let data = inner.data(self.id);
        let mut at = at as usize;
        for piece in pieces {
            let part = &piece[..left.min(piece.len())];
            data.write(at, part);
            at += part.len();
            left -= part.len();
        }
        if failure.is_none() || at_the_end {
            data.clear(at, zeros);
        }
        failure.map_or(Ok(()), Err)
    }

    fn sync(&self) -> Result<(), Error> {
        let mut inner = self.disk.lock();
        let failure = inner.call("cannot sync", &self.path);
        let data = inner.data(self.id);
        if failure.is_ok() {
            data.sync();
        } else {
            data.forsake();
        }
        failure
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.resize(size, false)
    }

    fn allocate(&self, size: u64) -> Result<(), Error> {
        self.resize(size, true)
    }

    fn uncache(&self, bytes: Range<u64>) {
        let mut inner = self.disk.lock();
        let data = inner.data(self.id);
        let end = bytes.end.min(data.seen.len() as u64);
        data.uncached += end.saturating_sub(bytes.start);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().data(self.id).open -= 1;
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}
