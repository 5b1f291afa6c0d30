//! Where a cluster of `dev` lives, and who uses it: a lock tells a folder in use from one that was left.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::exit::Failure;

/// Fresh folders have this in front of their process's id.
const FRESH: &str = "dev-";
/// Inside a folder: locked while it is in use; present from the first moment.
const LOCK: &str = "dev.lock";
/// Inside a fresh folder that is to be removed at the end.
const PASSING: &str = "dev.passing";

/// A folder of a cluster, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    passing: bool,
    _lock: File,
}

impl Folder {
    /// A fresh one under `state`, of which those that nobody uses and nobody wanted to keep are removed
    /// before: they were left by a `dev` that was killed.
    pub(crate) fn fresh(state: &Path, keep: bool) -> Result<Self, Failure> {
        make(state)?;
        remove_left(state);
        for attempt in 0_u32.. {
            let suffix = if attempt == 0 {
                String::new()
            } else {
                format!("-{attempt}")
            };
            let path = state.join(format!("{FRESH}{}{suffix}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let lock = lock(&path)?;
                    if !keep {
                        let mark = path.join(PASSING);
                        fs::write(&mark, "").map_err(|error| unwritable(&mark, &error))?;
                    }
                    return Ok(Self {
                        path,
                        passing: !keep,
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unwritable(&path, &error)),
            }
        }
        unreachable!("names do not end")
    }

    /// The one that was named, made if it is missing, and never removed.
    pub(crate) fn named(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|error| unwritable(path, &error))?;
        make(&path)?;
        let lock = lock(&path)?;
        Ok(Self {
            path,
            passing: false,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when it is left.
    pub(crate) const fn is_passing(&self) -> bool {
        self.passing
    }

    /// Leaves it: a passing one is removed.
    pub(crate) fn leave(mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.passing) {
            return Ok(());
        }
        fs::remove_dir_all(&self.path).map_err(|error| {
            Failure::new(format!("cannot remove {}: {error}", self.path.display()))
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.passing {
            // Whatever went wrong before is told; what is left here, the next one removes.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|error| unwritable(path, &error))
}

fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).open(&path);
    let mut file = opened.map_err(|error| unwritable(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::new(format!(
                "another `kontiki dev` runs in {}",
                folder.display()
            ))
            .advise("use that one, end it, or name another folder with --dir"));
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
    }
    // For people who look; the lock is what counts.
    let _ = write!(file, "{}", std::process::id());
    Ok(file)
}

fn remove_left(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(FRESH));
        if ours && path.join(PASSING).exists() && lock(&path).is_ok() {
            // What cannot be removed now is tried again the next time.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Folder {
        fn killed(mut self) -> Self {
            self.passing = false;
            self
        }
    }

    #[test]
    fn a_fresh_folder_goes_when_it_is_left_unless_it_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let passing = Folder::fresh(state.path(), false).unwrap();
        let kept = Folder::fresh(state.path(), true).unwrap();
        let (passing_path, kept_path) = (passing.path().to_owned(), kept.path().to_owned());
        assert_ne!(passing_path, kept_path);
        passing.leave().unwrap();
        kept.leave().unwrap();
        assert!(!passing_path.exists());
        assert!(kept_path.exists());
    }

    #[test]
    fn what_a_killed_dev_left_is_removed_and_what_is_in_use_or_kept_is_not() {
        let state = tempfile::tempdir().unwrap();
        let used = Folder::fresh(state.path(), false).unwrap();
        let kept = Folder::fresh(state.path(), true).unwrap();
        let left = Folder::fresh(state.path(), false).unwrap();
        let (kept_path, left_path) = (kept.path().to_owned(), left.path().to_owned());
        // The lock of a process that was killed goes, and nothing else.
        drop(kept);
        drop(left.killed());
        let next = Folder::fresh(state.path(), false).unwrap();
        assert!(used.path().exists() && next.path().exists() && kept_path.exists());
        assert!(!left_path.exists() || left_path == next.path());
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::named(&dir.path().join("x")).unwrap();
        let refused = Folder::named(first.path()).unwrap_err().to_string();
        assert!(refused.contains("another `kontiki dev`"), "{refused}");
        let path = first.path().to_owned();
        first.leave().unwrap();
        assert!(path.exists());
        Folder::named(&path).unwrap();
    }
}
