//! What can go wrong with a disk.

use std::{io, path::PathBuf};

use thiserror::Error;

/// What a read that fails was doing.
pub(crate) const CANNOT_READ: &str = "cannot read";

/// A failure of storage. Any failed write or sync poisons: nothing is acknowledged after it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as "cannot …".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not hold what it held.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// The small state's database refused.
    #[error("{doing}: {what}")]
    State {
        /// What was being done, as "cannot …".
        doing: &'static str,
        /// What the database says.
        what: String,
    },
    /// An earlier write failed; this process writes nothing more.
    #[error("an earlier write failed; the node must be restarted")]
    Poisoned,
    /// The range asked for is not, or no longer, there.
    #[error("{what} {first} to {last} are not in the log")]
    Gone {
        /// "entries" or "offsets".
        what: &'static str,
        /// The first one asked for.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// What was to be written is not what it claims to be.
    #[error("{0}")]
    Unfit(String),
    /// Another process has the directory.
    #[error(
        "{} is in use by another process; stop that one first, or give this node a directory of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory belongs to something else.
    #[error("{0}")]
    Foreign(String),
}

impl Error {
    /// Whether a read found that the disk does not give what it held.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { doing, .. } => *doing == CANNOT_READ || self.is_missing(),
            _ => false,
        }
    }

    /// Whether a file or directory was not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the operating system would not let this user do it.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}
