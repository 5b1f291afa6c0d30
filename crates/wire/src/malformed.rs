//! What was wrong with the bytes.

use thiserror::Error;

/// Bytes that do not say anything. The one error of this crate.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// They end too soon.
    #[error("{what} ends after {have} bytes, {need} are needed")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Bytes there were.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A length or count crosses its bound in [`crate::limits`].
    #[error("{what} is {have}, the limit is {limit}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// What it said.
        have: u64,
        /// The bound.
        limit: u64,
    },
    /// A checksum does not match.
    #[error("the checksum of {what} does not match its bytes")]
    Checksum {
        /// What was being read.
        what: &'static str,
    },
    /// A value that has no meaning here.
    #[error("{what} has the value {value}, which means nothing here")]
    Unknown {
        /// What was being read.
        what: &'static str,
        /// What it said.
        value: u64,
    },
    /// Bytes are left over.
    #[error("{left} bytes are left over after {what}")]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// Bytes left.
        left: usize,
    },
    /// Parts that do not fit together.
    #[error("{what}")]
    Inconsistent {
        /// What does not fit.
        what: &'static str,
    },
    /// A control message or small state that cannot be read.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// What was being read.
        what: &'static str,
        /// What does not fit; a short sentence.
        why: String,
    },
}
