//! What can go wrong with a member: before it serves, and while it does. Each sentence says what to do.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// Why a member did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be read or says something that means nothing.
    #[error("{}: {what}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// The directory is not a member's.
    #[error(
        "{} is not a member's directory: {what}; make one with `kontiki init` or name another with --data",
        dir.display()
    )]
    NotAMember {
        /// Which directory.
        dir: PathBuf,
        /// What is missing or wrong in it.
        what: String,
    },
    /// A certificate or key cannot be used.
    #[error("{}: {what}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// Something else listens there.
    #[error(
        "cannot listen on {address}: {reason}; stop what listens there or set `{setting}` in kontiki.toml"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The setting that moves it.
        setting: &'static str,
        /// Why not.
        reason: String,
    },
    /// The data directory was written by another member or in another cluster.
    #[error(
        "{} belongs to {owner}, not to {me}; give each member a directory of its own",
        dir.display()
    )]
    Foreign {
        /// Which directory.
        dir: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who was to be started.
        me: String,
    },
    /// The data directory cannot be opened.
    #[error("{0}")]
    Storage(#[from] kontiki_storage::Error),
    /// A file of the member's directory cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as "cannot …".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What the disk holds does not make a member.
    #[error(
        "the log does not make a state: {0}; restore the data directory or replace this member"
    )]
    Log(String),
    /// The machine gives no randomness.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(getrandom::Error),
}

/// Why a running member stopped by itself.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The disk failed: what was acknowledged is safe, nothing more is promised.
    #[error("the disk failed and the member stopped: {0}; mend the disk, then start it again")]
    Disk(String),
    /// Something was found that must not spread.
    #[error("the member stopped itself: {0}")]
    Halted(String),
    /// The cluster goes on without it, for good.
    #[error("the member stopped: {0}")]
    Expelled(String),
}

/// Why a cluster was not born. Nothing that existed was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BirthError {
    /// Something is in the way.
    #[error("{} exists already; name a directory that does not, or remove it", .0.display())]
    Exists(PathBuf),
    /// The members asked for do not make a cluster.
    #[error("{0}")]
    Members(String),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("{0}")]
    Certificate(#[from] kontiki_transport::Error),
    /// The machine gives no randomness.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(getrandom::Error),
}
