//! Both sides authenticated, always: TLS 1.3, no resumption, no early data.

use crate::{Error, Identity};

/// Who one is and whom one trusts. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {}

impl Credentials {
    /// From PEM texts: the own chain and key, the roots that peers' (nodes') certificates chain to,
    /// and the roots that clients' certificates chain to (empty for a client, which accepts none).
    pub fn from_pem(
        _chain_pem: &str,
        _key_pem: &str,
        _node_roots_pem: &str,
        _client_roots_pem: &str,
    ) -> Result<Self, Error> {
        unreachable!("skeleton")
    }

    /// The own identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        unreachable!("skeleton")
    }
}
