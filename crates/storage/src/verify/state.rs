//! The small state, read in a copy: its database cannot be opened without being written.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use bytes::Bytes;
use kontiki_raft::LogId;
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::{Disk, read_whole},
    fields::Fields,
    layout::{self, STATE_DIR, state::NEWEST},
    state::{CHECKPOINT_SUFFIX, FjallState, checked, decode_checkpoint, is_the_disks},
    verify::finding::{Finding, Outlook, Verified},
};

/// What the small state says that the rest is held against.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The journal file that was begun last.
    pub(crate) newest_journal: Option<u32>,
    /// Where each group's checkpoint is.
    pub(crate) checkpoints: Vec<(GroupId, LogId)>,
}

/// Reads it, and tells what is wrong with it.
pub(crate) fn state(disk: &Arc<dyn Disk>, out: &mut Verified) -> Result<Said, Error> {
    let dir = Path::new(STATE_DIR);
    let mut said = Said::default();
    match disk.native_path(dir) {
        Some(native) if native.exists() => database(&native, &mut said, out)?,
        Some(_) => {}
        None => files(&**disk, &mut said, out)?,
    }
    Ok(said)
}

fn checkpoint(group: GroupId, value: &[u8], path: &Path, said: &mut Said, out: &mut Verified) {
    let Some((at, state)) = decode_checkpoint(value) else {
        let what = "a checkpoint cannot be read";
        out.add(Finding::damage(path, what, Outlook::Rebuilt).of(group));
        return;
    };
    said.checkpoints.push((group, at));
    if group == GroupId::CLUSTER {
        out.cluster = Some((at, Bytes::copy_from_slice(&state)));
    }
}

fn database(path: &Path, said: &mut Said, out: &mut Verified) -> Result<(), Error> {
    let copy = Copy::of(path)?;
    let state = match FjallState::open(&copy.dir) {
        Ok(state) => state,
        Err(error) if is_the_disks(&error) => {
            return Err(Error::State {
                doing: "cannot open a copy of the small state",
                what: error.to_string(),
            });
        }
        Err(error) => {
            let what = format!("the small state does not open: {error}");
            out.add(Finding::damage(path, what, Outlook::Rebuilt));
            return Ok(());
        }
    };
    let read = state.each_checkpoint(|group, value| checkpoint(group, value, path, said, out));
    let newest = state.newest_journal();
    let newest = read.and(newest).unwrap_or_else(|error| {
        out.add(Finding::damage(path, error.to_string(), Outlook::Rebuilt));
        None
    });
    said.newest_journal = newest.and_then(|value| Fields::new(&value).u32());
    Ok(())
}

/// The state of a disk without a database: a file for each value.
fn files(disk: &dyn Disk, said: &mut Said, out: &mut Verified) -> Result<(), Error> {
    let dir = Path::new(STATE_DIR);
    for name in disk.list(dir)? {
        let group = name
            .strip_suffix(CHECKPOINT_SUFFIX)
            .and_then(layout::group_of_dir);
        if group.is_none() && name != NEWEST {
            continue;
        }
        let path = dir.join(&name);
        let bytes = read_whole(disk, &path)?.unwrap_or_default();
        let path = disk.full_path(&path);
        match (checked(&bytes), group) {
            (None, _) => {
                let what = "its checksum does not match";
                out.add(Finding::damage(&path, what, Outlook::Rebuilt));
            }
            (Some(value), Some(group)) => checkpoint(group, value, &path, said, out),
            (Some(value), None) => said.newest_journal = Fields::new(value).u32(),
        }
    }
    Ok(())
}

/// A copy of a directory of files, elsewhere; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) dir: PathBuf,
}

impl Copy {
    pub(crate) fn of(from: &Path) -> Result<Self, Error> {
        let name = format!(
            "kontiki-verify-{}-{:016x}",
            process::id(),
            RandomState::new().hash_one(0_u8)
        );
        let dir = env::temp_dir().join(name);
        let failed = |source| Error::Io {
            doing: "cannot copy the small state to",
            path: dir.clone(),
            source,
        };
        make(&dir).map_err(failed)?;
        let copy = Self { dir: dir.clone() };
        copy_into(from, &dir).map_err(failed)?;
        Ok(copy)
    }

    /// Empties it.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        let cleared = fs::remove_dir_all(&self.dir).and_then(|()| make(&self.dir));
        cleared.map_err(|source| Error::Io {
            doing: "cannot empty a copy of the small state in",
            path: self.dir.clone(),
            source,
        })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is a few files in the directory for temporary ones.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Only this user may see it, and nobody can have put anything there before.
fn make(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(dir)
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
