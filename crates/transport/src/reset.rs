//! What a listener that restarted says to those who still talk to its former self: a stateless reset
//! (RFC 9000, §10.3), by which they know at once what they would otherwise know after a long silence.
//!
//! Its token must be the same before and after, and no secret to the listener alone: it is drawn from
//! the private key.

use std::{sync::Arc, time::Duration};

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// Bytes of a connection's number.
const ID_BYTES: usize = 8;

/// The shortest time between two resets, so that garbage costs little and hundreds of former dialers
/// are still told within a second or two.
const RESET_EVERY: Duration = Duration::from_millis(5);

/// What tokens are made from, the same at every start with the same private key.
#[derive(Clone)]
pub(crate) struct ResetSecret(hmac::Key);

impl ResetSecret {
    pub(crate) fn new(private_key_der: &[u8]) -> Self {
        Self(derived(
            &hmac::Key::new(hmac::HMAC_SHA256, private_key_der),
            b"kontiki stateless reset",
        ))
    }

    /// Sets what an endpoint needs to be recognised by those who talked to it before. Those of another
    /// purpose are not mistaken for it.
    pub(crate) fn configure(&self, purpose: &[u8], config: &mut EndpointConfig) {
        config
            .reset_key(Arc::new(derived(&self.0, purpose)))
            .cid_generator(|| Box::new(RandomIds))
            .min_reset_interval(RESET_EVERY);
    }
}

/// Connections' numbers. The library's own bear a mark that is another at each start, and packets
/// without it are passed over in silence.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        SystemRandom::new()
            .fill(&mut id)
            .expect("a machine that made a TLS key has randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn derived(key: &hmac::Key, purpose: &[u8]) -> hmac::Key {
    let secret = hmac::sign(key, purpose);
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref())
}
