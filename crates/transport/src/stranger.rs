//! A listener's side of a connection with somebody who has no certificate yet.
//!
//! It is no [`Connection`](crate::Connection) and cannot become one: it has no identity, one stream,
//! and a few seconds.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::VarInt;
use tokio::time::timeout;

use crate::{Error, FrameReader, FrameWriter, PublicKey, link::Link};

/// The code with which a connection is closed whose stranger has stayed too long.
pub const CLOSE_STRANGER: u32 = 0x4b03;

/// Streams that it may open.
pub(crate) const STREAMS: u32 = 1;

/// Bytes of a frame that is not whole.
pub(crate) const UNFINISHED_MAX: usize = 16 << 10;

/// By what keying material for joining is called.
const LABEL: &[u8] = b"EXPORTER-kontiki-join";

/// Somebody whose certificate nobody has signed, and who may ask for one. Ends by itself after
/// [`Limits::stranger_time`](crate::Limits::stranger_time), and when it and the streams that it gave are dropped.
pub struct Stranger {
    link: Arc<Link>,
    key: PublicKey,
}

impl Stranger {
    /// Takes charge of a connection, for so long; `held` is let go when it has ended.
    pub(crate) fn guarded(
        link: Link,
        key: PublicKey,
        stay: Duration,
        held: impl Send + 'static,
    ) -> Self {
        let link = Arc::new(link);
        let (quinn, weak) = (link.quinn.clone(), Arc::downgrade(&link));
        quinn.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS));
        tokio::spawn(async move {
            if timeout(stay, quinn.closed()).await.is_err() {
                if let Some(link) = weak.upgrade() {
                    link.close(CLOSE_STRANGER, "a stranger may not stay longer");
                }
                quinn.closed().await;
            }
            drop(held);
        });
        Self { link, key }
    }

    /// The key that it has shown to hold.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Where it is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.link.remote_address
    }

    /// What only the two ends of this connection can have, and what only who knows of `claim` can.
    pub fn binding(&self, claim: &[u8]) -> Result<[u8; 32], Error> {
        binding(&self.link, claim)
    }

    /// Resolves when its connection has ended: nobody waits for an answer any more. Cancel-safe.
    pub async fn closed(&self) {
        self.link.quinn.closed().await;
    }

    /// The stream that it opens. Cancel-safe.
    pub async fn accept(&self) -> Result<(FrameWriter, FrameReader), Error> {
        let accepted = self.link.quinn.accept_bi().await;
        let (send, recv) = accepted.map_err(|error| self.link.lost(error))?;
        Ok((
            FrameWriter::new(send, Arc::clone(&self.link)),
            FrameReader::new(recv, Arc::clone(&self.link)),
        ))
    }
}

/// The same at both ends, for the same claim.
pub(crate) fn binding(link: &Link, claim: &[u8]) -> Result<[u8; 32], Error> {
    let mut binding = [0; 32];
    link.quinn
        .export_keying_material(&mut binding, LABEL, claim)
        .map_err(|_| Error::Lost("the connection has no keys to bind to".to_owned()))?;
    Ok(binding)
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stranger(at {})", self.remote_address())
    }
}
