//! Takes in a group's log from a peer, as it lies in the segments there: a stream of frames, each of which
//! is verified before it is written. Until it is whole it lies beside the groups and counts for nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use kontiki_broker::Rebuild;
use kontiki_raft::{Index, Kind, LogId, Term};
use kontiki_wire::{GroupId, Offset, PlacedEntry, limits::BATCH_BYTES_MAX};

use crate::{
    Error,
    adoption::Whole,
    disk::{Disk, File, Open},
    group::Group,
    layout::{self, GROUPS_DIR, segment::ENTRY_BYTES},
    node::Node,
    recover,
    segment::{self, EntryHeader, Expected, Extent, Marks},
};

/// Bytes after which what was taken in is synced: the journal's own syncs never wait behind much of it.
const SYNC_BYTES: u64 = 8 << 20;

/// No term is greater.
const TERM_MAX: Term = Term(u64::MAX / 2);

/// A log on its way into this disk.
#[derive(Debug)]
pub struct Incoming {
    node: Arc<Node>,
    disk: Beside,
    group: GroupId,
    /// The group as it was when this began: one that is removed is born again as another.
    here: Arc<Group>,
    /// The segment that is written.
    open: Option<Growing>,
    last: LogId,
    end_offset: Offset,
    rebuild: Rebuild,
    /// The beginning of a frame that is not whole.
    pending: BytesMut,
    /// Bytes of frames.
    bytes: u64,
    /// Something was refused: what all of it comes to is not known any more.
    ended: bool,
}

#[derive(Debug)]
struct Growing {
    extent: Extent,
    marks: Marks,
    file: Box<dyn File>,
    /// Bytes up to here are durable.
    synced: u64,
}

/// Why something was not taken in.
#[derive(Debug)]
pub enum NotTaken {
    /// It is not what it is to be: somebody else may have better.
    Refused(String),
    /// The own disk fails. If it was a write or a sync, storage is poisoned.
    Failed(Error),
}

impl Incoming {
    /// Goes on after what is there. What is not sound of that is cut.
    pub(crate) fn open(node: Arc<Node>, group: GroupId) -> Result<Self, Error> {
        if node.is_poisoned() {
            return Err(Error::Poisoned);
        }
        let here = node.group(group).ok_or_else(|| {
            Error::Unfit(format!("group {group} was removed, and is not gone yet"))
        })?;
        let disk = Beside {
            disk: Arc::clone(&node.disk),
        };
        disk.make_dir(&layout::group_dir(group))?;
        let expected = Expected {
            group,
            base: LogId::ORIGIN,
            base_offset: Offset(0),
            kept: Index(0),
            in_journal_from: Index(1),
            journal_last: Index(0),
            read_from: Index(1),
            unapplied_bytes_max: 0,
        };
        let found = recover::open_segments(&disk, expected, None);
        let sound = found.ok().filter(|(found, _)| found.broken.is_empty());
        let Some((found, held)) = sound else {
            disk.remove_dir(&layout::group_dir(group))?;
            disk.make_dir(&layout::group_dir(group))?;
            return Self::begin(node, disk, here, Rebuild::new(None));
        };
        let mut incoming = Self::begin(node, disk, here, Rebuild::new(held.checkpoint.as_ref()))?;
        let tail = found.tail.as_ref().map(|(extent, _)| *extent);
        let extents = found.sealed.iter().copied().chain(tail);
        incoming.bytes = extents.map(|extent| frames_bytes(&extent)).sum();
        (incoming.last, incoming.end_offset) = (found.last, found.end_offset);
        if let Some((extent, marks)) = found.tail {
            let file = segment::open(&incoming.disk, group, extent.first)?;
            incoming.open = Some(Growing {
                extent,
                marks,
                file,
                synced: extent.end,
            });
        }
        Ok(incoming)
    }

    fn begin(
        node: Arc<Node>,
        disk: Beside,
        here: Arc<Group>,
        rebuild: Result<Rebuild, String>,
    ) -> Result<Self, Error> {
        Ok(Self {
            node,
            disk,
            group: here.id,
            here,
            open: None,
            last: LogId::ORIGIN,
            end_offset: Offset(0),
            rebuild: rebuild.map_err(Error::Unfit)?,
            pending: BytesMut::new(),
            bytes: 0,
            ended: false,
        })
    }

    /// The entry that is next.
    #[must_use]
    pub fn next(&self) -> Index {
        self.last.index.next()
    }

    /// Bytes taken in so far, those of earlier lives included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes in what follows in the stream. What is before the first frame that is not what it is to be is
    /// kept, and found by [`crate::Storage::take_in`]; after a refusal, nothing is taken here any more. May
    /// block on the disk.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), NotTaken> {
        if self.node.is_poisoned() {
            return Err(NotTaken::Failed(Error::Poisoned));
        }
        if self.ended || self.is_of_no_use() {
            let why = "the group was removed, or something was refused before";
            return Err(NotTaken::Refused(why.to_owned()));
        }
        self.pending.extend_from_slice(bytes);
        let (run, why) = self.sound();
        let (first, count) = (self.last.index.next(), run.len());
        let run = self.apply(run);
        let applied = run.len() == count;
        if let Err(error) = self.write(&run) {
            self.ended = true;
            if self.is_of_no_use() {
                let why = "the group was removed meanwhile, and its files are going";
                return Err(NotTaken::Refused(why.to_owned()));
            }
            return Err(NotTaken::Failed(self.node.poison_by(error)));
        }
        let why = why.or_else(|| {
            let at = first.0 + run.len() as u64;
            (!applied).then(|| format!("entry {at} does not follow from those before it"))
        });
        match why {
            None => Ok(()),
            Some(why) => {
                self.ended = true;
                Err(NotTaken::Refused(why))
            }
        }
    }

    /// The group that it is for was removed: its files may go at any moment.
    fn is_of_no_use(&self) -> bool {
        self.here.lock().is_removed()
    }

    /// Takes the whole frames off what has come, as far as they are what they are to be, and says what the
    /// next one is not.
    fn sound(&mut self) -> (Vec<PlacedEntry>, Option<String>) {
        let mut run: Vec<PlacedEntry> = Vec::new();
        let mut at = 0;
        let mut frames = Vec::new();
        let mut why = None;
        while let Some(head) = self.pending.get(at..at + ENTRY_BYTES) {
            let header = match EntryHeader::decode(head) {
                Ok((header, _)) if header.body_bytes as usize <= BATCH_BYTES_MAX => header,
                Ok(_) => {
                    why = Some("an entry is larger than entries can be".to_owned());
                    break;
                }
                Err(what) => {
                    why = Some(what.to_owned());
                    break;
                }
            };
            let end = at + ENTRY_BYTES + header.body_bytes as usize;
            let Some(body) = self.pending.get(at + ENTRY_BYTES..end) else {
                break;
            };
            let sound = crc32c::crc32c(body) == header.body_checksum;
            if !sound {
                why = Some(format!(
                    "the checksum of entry {} does not match its body",
                    header.id
                ));
                break;
            }
            frames.push((header, at + ENTRY_BYTES..end));
            at = end;
        }
        let whole: Bytes = self.pending.split_to(at).freeze();
        for (header, body) in frames {
            run.push(PlacedEntry {
                entry: header.entry(whole.slice(body)),
                offset: header.offset,
                count: header.count,
            });
            if header.group != self.group {
                run.pop();
                why = Some(format!("an entry is of group {}", header.group));
                break;
            }
        }
        (run, why)
    }

    /// What of these entries follows those before, one by one, and comes to what they say.
    fn apply(&mut self, mut run: Vec<PlacedEntry>) -> Vec<PlacedEntry> {
        let mut last = self.last;
        let mut offset = self.end_offset;
        let follows = |placed: &PlacedEntry| {
            let id = placed.entry.id;
            let fits = id.index == last.index.next()
                && id.term >= last.term
                && id.term <= TERM_MAX
                && placed.offset == offset
                && (placed.count == 0 || placed.entry.kind == Kind::Batch)
                && self.rebuild.apply(&placed.entry).is_ok();
            last = id;
            offset = Offset(offset.0.saturating_add(u64::from(placed.count)));
            fits && self.rebuild.next() == offset
        };
        let count = run.iter().map(follows).take_while(|fits| *fits).count();
        run.truncate(count);
        run
    }

    fn write(&mut self, run: &[PlacedEntry]) -> Result<(), Error> {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let growing = match self.open.take() {
                Some(growing) => growing,
                None => {
                    let (at, before) = (first.entry.id.index, self.last.term);
                    let begun =
                        segment::begin(&self.disk, self.group, at, before, self.end_offset)?;
                    Growing {
                        extent: begun.0,
                        marks: Marks::new(),
                        file: begun.1,
                        synced: 0,
                    }
                }
            };
            let room = self
                .node
                .settings
                .segment_bytes
                .saturating_sub(growing.extent.end);
            let mut bytes = 0;
            let fits = rest.iter().take_while(|placed| {
                let fits = bytes < room;
                bytes += (ENTRY_BYTES + placed.entry.body.len()) as u64;
                fits
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.grow(growing, now)?;
            rest = later;
        }
        Ok(())
    }

    fn grow(&mut self, mut growing: Growing, run: &[PlacedEntry]) -> Result<(), Error> {
        let (disk, group) = (&self.disk, self.group);
        let (extent, mark) = (growing.extent, growing.marks.last().copied());
        let grown = segment::append(disk, &*growing.file, group, extent, mark, run)?;
        growing.extent = grown.0;
        growing.marks.extend(grown.1);
        self.bytes += growing.extent.end - extent.end;
        (self.last, self.end_offset) = (growing.extent.last, growing.extent.end_offset);
        if growing.extent.end >= self.node.settings.segment_bytes {
            return self.seal(&growing);
        }
        if growing.extent.end - growing.synced >= SYNC_BYTES {
            growing.file.sync()?;
            growing.file.uncache(growing.synced..growing.extent.end);
            growing.synced = growing.extent.end;
        }
        self.open = Some(growing);
        Ok(())
    }

    fn seal(&self, growing: &Growing) -> Result<(), Error> {
        let outline = segment::outline(&growing.marks);
        segment::seal(
            &self.disk,
            &*growing.file,
            self.group,
            &growing.extent,
            outline,
        )?;
        growing.file.uncache(growing.synced..growing.extent.end);
        Ok(())
    }

    /// All of it is durable.
    pub(crate) fn finish(mut self) -> Result<(GroupId, Whole), Error> {
        if let Some(growing) = self.open.take() {
            self.seal(&growing)?;
        }
        if self.last == LogId::ORIGIN || self.ended {
            return Err(Error::Unfit(format!(
                "what was fetched of group {} is nothing that it can begin with",
                self.group
            )));
        }
        segment::sync_names(&self.disk, self.group)?;
        let whole = Whole {
            last: self.last,
            end_offset: self.end_offset,
            checkpoint: self.rebuild.checkpoint(),
        };
        Ok((self.group, whole))
    }
}

fn frames_bytes(extent: &Extent) -> u64 {
    extent.end - layout::segment::HEADER_BYTES as u64
}

/// The disk on which a group's directory is the one beside it.
#[derive(Debug)]
struct Beside {
    disk: Arc<dyn Disk>,
}

impl Beside {
    fn place(path: &Path) -> PathBuf {
        let mut inside = path.components();
        let above = inside.next().map(|part| Path::new(part.as_os_str()));
        let name = inside.next().and_then(|part| part.as_os_str().to_str());
        match name.and_then(layout::group_of_dir) {
            Some(group) if above == Some(Path::new(GROUPS_DIR)) => {
                layout::incoming_dir(group).join(inside.as_path())
            }
            _ => path.to_path_buf(),
        }
    }
}

impl Disk for Beside {
    fn full_path(&self, path: &Path) -> PathBuf {
        self.disk.full_path(&Self::place(path))
    }
    fn native_path(&self, path: &Path) -> Option<PathBuf> {
        self.disk.native_path(&Self::place(path))
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        self.disk.list(&Self::place(dir))
    }
    fn make_dir(&self, dir: &Path) -> Result<(), Error> {
        self.disk.make_dir(&Self::place(dir))
    }
    fn open(&self, path: &Path, how: Open) -> Result<Box<dyn File>, Error> {
        self.disk.open(&Self::place(path), how)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk.rename(&Self::place(from), &Self::place(to))
    }
    fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        self.disk.link(&Self::place(from), &Self::place(to))
    }
    fn links(&self, path: &Path) -> Result<u64, Error> {
        self.disk.links(&Self::place(path))
    }
    fn remove(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove(&Self::place(path))
    }
    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        self.disk.remove_dir(&Self::place(dir))
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        self.disk.sync_dir(&Self::place(dir))
    }
    fn draw(&self) -> u64 {
        self.disk.draw()
    }
}
