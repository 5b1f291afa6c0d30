//! Carries it: QUIC with mutual TLS, and the identities that certificates speak for.

mod authority;
mod endpoint;
mod error;
mod identity;
mod stream;
mod tls;

pub use authority::{Authority, Certificate, Issued};
pub use endpoint::{Connection, Endpoint, Expect, Plane};
pub use error::Error;
pub use identity::{Identity, Role};
pub use stream::{FrameReader, FrameWriter};
pub use tls::Credentials;
