//! What can go wrong on the way.

use thiserror::Error;

/// A failure of the transport. Which side is at fault is said in the sentence.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection could not be made, or is lost.
    #[error("{0}")]
    Lost(String),
    /// The other side's certificate does not say what it must.
    #[error("the other side's certificate is refused: {0}")]
    Identity(String),
    /// Certificates or keys of our own that cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// The other side sent bytes that mean nothing.
    #[error("the other side sent {0}")]
    Malformed(#[from] kontiki_wire::Malformed),
    /// It took longer than its limit.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// The other side closed, with its reason.
    #[error("the other side closed: {reason}")]
    Closed {
        /// Its code.
        code: u64,
        /// Its words.
        reason: String,
    },
}
