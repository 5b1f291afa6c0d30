//! What can go wrong on the way, and whose fault it is.

use kontiki_wire::Malformed;
use quinn::{ConnectionError, ReadError, WriteError};
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
    /// The other side does not take our certificate.
    #[error("the other side refuses us: {0}")]
    Refused(String),
    /// Certificates or keys of our own that cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// The other side sent bytes that mean nothing.
    #[error("the other side sent {0}")]
    Malformed(#[from] Malformed),
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
    /// This side closed, for this reason.
    #[error("this side closed: {0}")]
    ClosedHere(String),
    /// The other side gave up a stream, not the connection.
    #[error("the other side gave up the stream with code {code}")]
    StreamEnded {
        /// Its code.
        code: u64,
    },
}

/// What the verifier's refusals begin with where the library hands them on as text.
pub(crate) const REFUSAL: &str = "certificate refused: ";

/// TLS alerts travel in QUIC as this plus the alert's number.
const ALERTS: std::ops::Range<u64> = 0x100..0x200;
const BAD_CERTIFICATE: u64 = 0x100 + 42;
const CERTIFICATE_UNKNOWN: u64 = 0x100 + 46;
const DECRYPT_ERROR: u64 = 0x100 + 51;
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
const CONNECTION_REFUSED: u64 = 2;

/// Longest reason of the other side's that is passed on.
const REASON_BYTES_MAX: usize = 512;

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => {
                Self::Lost("the other side does not speak this version of QUIC".into())
            }
            ConnectionError::TransportError(error) => {
                found_here(u64::from(error.code), &error.reason, &error)
            }
            ConnectionError::ConnectionClosed(close) => {
                found_there(u64::from(close.error_code), &close.reason)
            }
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: close.error_code.into_inner(),
                reason: readable(&close.reason),
            },
            ConnectionError::Reset => {
                Self::Lost("the other side no longer knows the connection: it has restarted".into())
            }
            ConnectionError::TimedOut => Self::Lost("the other side has fallen silent".into()),
            ConnectionError::LocallyClosed => Self::ClosedHere("the connection is closed".into()),
            ConnectionError::CidsExhausted => {
                Self::Lost("this side has too many connections".into())
            }
        }
    }
}

/// What this side found wrong with the other's bytes.
fn found_here(code: u64, reason: &str, error: &dyn std::fmt::Display) -> Error {
    if let Some((_, sentence)) = reason.split_once(REFUSAL) {
        return Error::Identity(sentence.to_owned());
    }
    match code {
        NO_APPLICATION_PROTOCOL => Error::Lost("the other side speaks another protocol".into()),
        CERTIFICATE_REQUIRED => Error::Identity("there is none".into()),
        BAD_CERTIFICATE..=CERTIFICATE_UNKNOWN | DECRYPT_ERROR => Error::Identity(reason.to_owned()),
        code if ALERTS.contains(&code) => {
            Error::Lost(format!("no handshake with the other side: {reason}"))
        }
        _ => Error::Lost(format!("the other side broke the rules of QUIC: {error}")),
    }
}

/// What the other side found wrong with ours.
fn found_there(code: u64, reason: &[u8]) -> Error {
    let reason = readable(reason);
    if let Some((_, sentence)) = reason.split_once(REFUSAL) {
        return Error::Refused(format!("our certificate: {sentence}"));
    }
    match code {
        NO_APPLICATION_PROTOCOL => Error::Refused("it speaks another protocol at this port".into()),
        CONNECTION_REFUSED => Error::Refused(
            "it has as many connections as it takes, or more come at once than it lets in".into(),
        ),
        CERTIFICATE_REQUIRED => Error::Refused("it wants a certificate".into()),
        code if ALERTS.contains(&code) => Error::Refused(format!(
            "the handshake ends with TLS alert {}: {reason}",
            code - ALERTS.start
        )),
        _ => Error::Lost(format!("the other side gave up with code {code}: {reason}")),
    }
}

/// Foreign bytes as text that can stand in a log: no control characters, bounded.
fn readable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(REASON_BYTES_MAX)];
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::StreamEnded {
                code: code.into_inner(),
            },
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                Self::ClosedHere("the stream has been finished".into())
            }
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::StreamEnded {
                code: code.into_inner(),
            },
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::ClosedHere("the stream has been stopped".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_cannot_forge_a_line_of_a_log() {
        let reason = format!("a\nb\x1b[31m\0{}", "x".repeat(2_000));
        let shown = readable(reason.as_bytes());
        assert!(shown.starts_with("a b [31m x"), "{shown}");
        assert!(!shown.chars().any(char::is_control));
        assert_eq!(shown.len(), REASON_BYTES_MAX);
        assert_eq!(readable(&[0xff, 0xfe]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn whose_certificate_is_at_fault_is_told_apart() {
        let sentence = format!("unexpected error: {REFUSAL}it has expired");
        let here = found_here(0x128, &sentence, &"");
        let there = found_there(0x128, sentence.as_bytes());
        assert_eq!(
            here.to_string(),
            "the other side's certificate is refused: it has expired"
        );
        assert_eq!(
            there.to_string(),
            "the other side refuses us: our certificate: it has expired"
        );
        let none = found_here(CERTIFICATE_REQUIRED, "peer sent no certificates", &"");
        assert_eq!(
            none.to_string(),
            "the other side's certificate is refused: there is none"
        );
        let unsigned = found_here(DECRYPT_ERROR, "invalid peer certificate: BadSignature", &"");
        assert!(matches!(unsigned, Error::Identity(_)), "{unsigned:?}");
        let garbled = found_here(0x100 + 50, "received corrupt message", &"");
        assert!(matches!(garbled, Error::Lost(_)), "{garbled:?}");
        let full = found_there(CONNECTION_REFUSED, b"");
        assert!(matches!(full, Error::Refused(_)), "{full:?}");
    }
}
