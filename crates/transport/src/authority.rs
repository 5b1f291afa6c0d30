//! Makes certificates: an authority for peers, another for clients, and leaves under them.

use std::time::{Duration, SystemTime};

use crate::{Error, Identity};

/// A certificate authority with its key.
pub struct Authority {}

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The leaf certificate.
    pub certificate_pem: String,
    /// Its key; keep it in a file of mode 0600.
    pub key_pem: String,
}

/// What a certificate says, for people.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its identity.
    pub identity: Identity,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// From when it is good.
    pub not_before: SystemTime,
    /// Until when it is good.
    pub not_after: SystemTime,
    /// SHA-256 of its DER in hexadecimal.
    pub fingerprint: String,
}

impl Authority {
    /// A new authority; `common_name` is for people only.
    pub fn new(_common_name: &str, _valid_for: Duration) -> Result<Self, Error> {
        unreachable!("skeleton")
    }

    /// An authority from its two PEM texts.
    pub fn from_pem(_certificate_pem: &str, _key_pem: &str) -> Result<Self, Error> {
        unreachable!("skeleton")
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        unreachable!("skeleton")
    }

    /// Its key.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        unreachable!("skeleton")
    }

    /// A leaf for `identity`, with a new key, the one SAN URI, and extended key usage for both sides
    /// of TLS if a node, the client's side otherwise.
    pub fn issue(&self, _identity: &Identity, _valid_for: Duration) -> Result<Issued, Error> {
        unreachable!("skeleton")
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(_pem: &str) -> Result<Self, Error> {
        unreachable!("skeleton")
    }
}
