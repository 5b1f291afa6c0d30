//! Carries it: QUIC with mutual TLS, and the identities that certificates speak for.
//!
//! An [`Endpoint`] is of one [`Plane`]. What it gives out is a [`Connection`] whose other side has
//! been judged: its certificate chains to the plane's roots and has one name, an [`Identity`] of the
//! own cluster in a role that the plane is for. Over a connection go streams of whole frames.

#![forbid(unsafe_code)]

mod admission;
mod applicant;
mod authority;
mod certificate;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod guest;
mod identity;
mod key;
mod link;
mod pace;
mod plane;
mod precedence;
mod refusal;
mod reset;
mod revoked;
mod seats;
mod stranger;
mod stream;
mod succession;
mod tls;
mod token;
mod turnstile;
mod voucher;

pub use admission::Arrivals;
pub use applicant::Applicant;
pub use authority::{Authority, Issued, Terms};
pub use certificate::{Certificate, authority_fingerprint, authority_fingerprints};
pub use connection::{CLOSE_CERTIFICATE, CLOSE_CROWDED, Connection};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use error::Error;
pub use identity::Identity;
pub use key::{JoinKey, PublicKey};
pub use kontiki_wire::Role;
pub use pace::Pace;
pub use plane::{Expect, Limits, Plane};
pub use precedence::Precedence;
pub use revoked::Revoked;
pub use stranger::{CLOSE_STRANGER, Stranger};
pub use stream::{FRAME_TIME_MAX, FrameReader, FrameWriter};
pub use succession::{believe, disbelieve, voucher_pem};
pub use token::{Proof, Token};
pub use voucher::Signs;
