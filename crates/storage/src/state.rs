//! The small state: every group's latest checkpoint, and the number of the newest journal file. All of
//! it can be made again from the log, so state that will not open is moved aside.

use std::{collections::BTreeMap, io::IoSlice, path::Path, sync::Arc};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use kontiki_raft::{Index, LogId, Term};
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::{Disk, Open, read_whole},
    fields::{Fields, PutFields},
    layout::{
        self, STATE_DIR,
        state::{CHECKPOINT_VERSION, CHECKPOINTS, JOURNAL, NEWEST},
    },
};

/// Bytes of fjall's block cache: what is in it is read at a start and hardly ever again.
const CACHE_BYTES: u64 = 1 << 20;

/// A group's small state, and the last entry that it includes.
pub(crate) type Checkpoint = (LogId, Bytes);

/// Where the small state is.
pub(crate) enum State {
    /// In fjall, on the operating system's disk.
    Fjall(FjallState),
    /// In files of their own, on any other disk.
    Files(Arc<dyn Disk>),
}

pub(crate) struct FjallState {
    database: Database,
    checkpoints: Keyspace,
    journal: Keyspace,
}

impl State {
    /// Opens the state; if that fails, moves it aside and begins anew.
    pub(crate) fn open(disk: &Arc<dyn Disk>) -> Result<Self, Error> {
        let dir = Path::new(STATE_DIR);
        let Some(path) = disk.native_path(dir) else {
            disk.make_dir(dir)?;
            return Ok(Self::Files(Arc::clone(disk)));
        };
        match FjallState::open(&path) {
            Ok(state) => Ok(Self::Fjall(state)),
            Err(error) if is_the_disks(&error) => Err(failed(OPENING)(error)),
            Err(error) => {
                let aside = move_aside(&**disk)?;
                tracing::warn!(
                    %error,
                    aside = %disk.full_path(&aside).display(),
                    "the small state does not open; it was moved aside and is made again from the log"
                );
                let anew = FjallState::open(&path).map_err(failed(OPENING))?;
                Ok(Self::Fjall(anew))
            }
        }
    }

    /// Every group's checkpoint.
    pub(crate) fn checkpoints(&self) -> Result<BTreeMap<GroupId, Checkpoint>, Error> {
        let values = match self {
            Self::Fjall(state) => {
                let mut values = Vec::new();
                state.each_checkpoint(|group, value| values.push((group, value.to_vec())))?;
                values
            }
            Self::Files(disk) => checkpoint_files(&**disk)?,
        };
        let decode = |(group, value): (GroupId, Vec<u8>)| {
            let checkpoint = decode_checkpoint(&value);
            if checkpoint.is_none() {
                tracing::warn!(%group, "a checkpoint cannot be read and is made again from the log");
            }
            Some((group, checkpoint?))
        };
        Ok(values.into_iter().filter_map(decode).collect())
    }

    /// Keeps these checkpoints, all or none, durably.
    pub(crate) fn keep(&self, checkpoints: &[(GroupId, Checkpoint)]) -> Result<(), Error> {
        match self {
            Self::Fjall(state) => state.keep(checkpoints),
            Self::Files(disk) => {
                for (group, checkpoint) in checkpoints {
                    write_file(
                        &**disk,
                        &checkpoint_name(*group),
                        &encode_checkpoint(checkpoint),
                    )?;
                }
                Ok(())
            }
        }
    }

    /// Forgets a group's checkpoint durably.
    pub(crate) fn remove(&self, group: GroupId) -> Result<(), Error> {
        match self {
            Self::Fjall(state) => state.remove(group),
            Self::Files(disk) => {
                let path = Path::new(STATE_DIR).join(checkpoint_name(group));
                match disk.remove(&path) {
                    Err(error) if !error.is_missing() => Err(error),
                    _ => disk.sync_dir(Path::new(STATE_DIR)),
                }
            }
        }
    }

    /// The newest journal file that was begun, as far as is known here.
    pub(crate) fn newest_journal(&self) -> Result<Option<u32>, Error> {
        let value = match self {
            Self::Fjall(state) => state.newest_journal()?,
            Self::Files(disk) => {
                let path = Path::new(STATE_DIR).join(NEWEST);
                read_whole(&**disk, &path)?.and_then(|bytes| checked(&bytes).map(<[u8]>::to_vec))
            }
        };
        Ok(value.and_then(|value| Fields::new(&value).u32()))
    }

    /// Keeps the number of the newest journal file durably.
    pub(crate) fn keep_newest_journal(&self, number: u32) -> Result<(), Error> {
        match self {
            Self::Fjall(state) => state.keep_newest_journal(number),
            Self::Files(disk) => write_file(&**disk, NEWEST, &number.to_le_bytes()),
        }
    }
}

fn move_aside(disk: &dyn Disk) -> Result<std::path::PathBuf, Error> {
    let taken = disk.list(Path::new(""))?;
    let free = (1..).map(layout::state_aside).find(|aside| {
        let name = aside.to_string_lossy();
        !taken.iter().any(|taken| *taken == name)
    });
    let aside = free.expect("fewer than 2^32 directories lie aside");
    disk.rename(Path::new(STATE_DIR), &aside)?;
    disk.sync_dir(Path::new(""))?;
    Ok(aside)
}

fn encode_checkpoint((at, state): &Checkpoint) -> Vec<u8> {
    let mut value = Vec::with_capacity(17 + state.len());
    value.put_u8(CHECKPOINT_VERSION);
    value.put_u64(at.term.0);
    value.put_u64(at.index.0);
    value.extend_from_slice(state);
    value
}

/// Reads a checkpoint's value.
pub(crate) fn decode_checkpoint(value: &[u8]) -> Option<Checkpoint> {
    let mut fields = Fields::new(value);
    (fields.u8()? == CHECKPOINT_VERSION).then_some(())?;
    let at = LogId {
        term: Term(fields.u64()?),
        index: Index(fields.u64()?),
    };
    Some((at, Bytes::copy_from_slice(fields.rest())))
}

const OPENING: &str = "cannot open the small state";

/// Whether what went wrong is no fault of what is in the state: it may be sound, and stays.
pub(crate) fn is_the_disks(error: &fjall::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        fjall::Error::Locked => true,
        fjall::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::OutOfMemory
        ),
        _ => false,
    }
}

fn failed(doing: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |error| Error::State {
        doing,
        what: error.to_string(),
    }
}

impl FjallState {
    pub(crate) fn open(path: &Path) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .open()?;
        let checkpoints = database.keyspace(CHECKPOINTS, KeyspaceCreateOptions::default)?;
        let journal = database.keyspace(JOURNAL, KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            checkpoints,
            journal,
        })
    }

    pub(crate) fn each_checkpoint(
        &self,
        mut visit: impl FnMut(GroupId, &[u8]),
    ) -> Result<(), Error> {
        for item in self.checkpoints.iter() {
            let (key, value) = item
                .into_inner()
                .map_err(failed("cannot read a checkpoint"))?;
            if let Ok(key) = <[u8; 8]>::try_from(&key[..]) {
                visit(GroupId(u64::from_be_bytes(key)), &value);
            }
        }
        Ok(())
    }

    fn keep(&self, checkpoints: &[(GroupId, Checkpoint)]) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (group, checkpoint) in checkpoints {
            let key = group.0.to_be_bytes();
            batch.insert(&self.checkpoints, key, encode_checkpoint(checkpoint));
        }
        batch.commit().map_err(failed("cannot keep checkpoints"))
    }

    fn remove(&self, group: GroupId) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.remove(&self.checkpoints, group.0.to_be_bytes());
        batch.commit().map_err(failed("cannot remove a checkpoint"))
    }

    pub(crate) fn newest_journal(&self) -> Result<Option<Vec<u8>>, Error> {
        let value = self.journal.get(NEWEST);
        let value = value.map_err(failed("cannot read the newest journal file's number"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn keep_newest_journal(&self, number: u32) -> Result<(), Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.journal, NEWEST, number.to_le_bytes());
        batch
            .commit()
            .map_err(failed("cannot keep the newest journal file's number"))
    }
}

/// The end of a checkpoint's file name, where it has a file of its own.
pub(crate) const CHECKPOINT_SUFFIX: &str = ".checkpoint";

fn checkpoint_name(group: GroupId) -> String {
    format!("{group}{CHECKPOINT_SUFFIX}")
}

fn checkpoint_files(disk: &dyn Disk) -> Result<Vec<(GroupId, Vec<u8>)>, Error> {
    let mut values = Vec::new();
    for name in disk.list(Path::new(STATE_DIR))? {
        let group = name
            .strip_suffix(CHECKPOINT_SUFFIX)
            .and_then(layout::group_of_dir);
        let Some(group) = group else {
            continue;
        };
        let bytes = read_whole(disk, &Path::new(STATE_DIR).join(&name))?.unwrap_or_default();
        values.extend(checked(&bytes).map(|value| (group, value.to_vec())));
    }
    Ok(values)
}

/// Writes a file of the state with its checksum, aside first, so that it is the old or the new one.
fn write_file(disk: &dyn Disk, name: &str, value: &[u8]) -> Result<(), Error> {
    let path = Path::new(STATE_DIR).join(name);
    let aside = path.with_extension("aside");
    let file = disk.open(&aside, Open::Create)?;
    file.set_size(0)?;
    let checksum = crc32c::crc32c(value).to_le_bytes();
    file.write_at(0, &[IoSlice::new(value), IoSlice::new(&checksum)])?;
    file.sync()?;
    disk.rename(&aside, &path)?;
    disk.sync_dir(Path::new(STATE_DIR))
}

/// What [`write_file`] wrote, if it is whole.
pub(crate) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (value, checksum) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(value) == u32::from_le_bytes(*checksum)).then_some(value)
}
