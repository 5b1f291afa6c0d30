//! Lets dialers in: several handshakes at a time, each bounded, and the rest turned away cheaply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Incoming, VarInt, crypto::rustls::QuicServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tracing::debug;

use crate::{
    Certificate, Connection, Credentials, Error, Limits, Plane,
    link::Link,
    tls::{self, Verifier},
};

/// How long a handshake may take.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// First packets that wait to be looked at.
const INCOMING_MAX: usize = 1_024;

/// Bytes that one dialer may send before it is looked at, and that all may.
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;

/// What has become of those who came. Counts from the start of the listener.
#[derive(Default)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    challenged: AtomicU64,
}

/// What has become of those who dialed a listener, since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    /// Let in.
    pub accepted: u64,
    /// Judged and refused, or silent half-way.
    pub refused: u64,
    /// Not looked at, because there were too many.
    pub turned_away: u64,
    /// Asked to prove their address first.
    pub challenged: u64,
}

impl Tally {
    pub(crate) fn read(&self) -> Arrivals {
        Arrivals {
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            challenged: self.challenged.load(Ordering::Relaxed),
        }
    }
}

/// The listener's doorkeeper.
pub(crate) struct Admission {
    quinn: quinn::Endpoint,
    plane: Plane,
    limits: Limits,
    credentials: watch::Receiver<Credentials>,
    accepted: mpsc::Sender<Connection>,
    tally: Arc<Tally>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(
        quinn: quinn::Endpoint,
        plane: Plane,
        limits: Limits,
        credentials: watch::Receiver<Credentials>,
        accepted: mpsc::Sender<Connection>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            quinn,
            plane,
            limits,
            credentials,
            accepted,
            tally,
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        }
    }

    /// Until the endpoint is closed, or nobody is left to hand connections to.
    pub(crate) async fn run(self, mut config: Arc<quinn::ServerConfig>) {
        let mut credentials = self.credentials.clone();
        loop {
            let incoming = tokio::select! {
                incoming = self.quinn.accept() => incoming,
                () = self.accepted.closed() => break,
            };
            let Some(incoming) = incoming else { break };
            if credentials.has_changed().unwrap_or(false) {
                let current = credentials.borrow_and_update().clone();
                match server_config(self.plane, &current) {
                    Ok(changed) => config = Arc::new(changed),
                    Err(error) => debug!(%error, "credentials are not taken over"),
                }
            }
            self.admit(incoming, &config);
        }
    }

    /// Never waits: whoever cannot be served now is sent away, so that the next one is looked at.
    fn admit(&self, incoming: Incoming, config: &Arc<quinn::ServerConfig>) {
        let under_way = self.limits.handshakes - self.handshakes.available_permits();
        if !incoming.remote_address_validated() && under_way >= self.limits.handshakes_unproven {
            count(&self.tally.challenged);
            // A token that is there already makes the address a proven one, so it cannot fail.
            let _ = incoming.retry();
            return;
        }
        let permits = (
            Arc::clone(&self.handshakes).try_acquire_owned(),
            Arc::clone(&self.connections).try_acquire_owned(),
        );
        let (Ok(handshake), Ok(connection)) = permits else {
            count(&self.tally.turned_away);
            incoming.refuse();
            return;
        };
        let from = incoming.remote_address();
        match incoming.accept_with(Arc::clone(config)) {
            Err(error) => {
                count(&self.tally.refused);
                debug!(%from, %error, "a first packet is no good");
            }
            Ok(connecting) => {
                let arrival = Arrival {
                    plane: self.plane,
                    credentials: self.credentials.clone(),
                    judged_by: self.credentials.borrow().clone(),
                    tally: Arc::clone(&self.tally),
                };
                let accepted = self.accepted.clone();
                tokio::spawn(async move {
                    if let Some(connection) = arrival.shake_hands(connecting, connection).await {
                        // Fails if the endpoint is gone, and the connection goes with it.
                        let _ = accepted.send(connection).await;
                    }
                    drop(handshake);
                });
            }
        }
    }
}

/// One dialer in its handshake.
struct Arrival {
    plane: Plane,
    credentials: watch::Receiver<Credentials>,
    judged_by: Credentials,
    tally: Arc<Tally>,
}

impl Arrival {
    async fn shake_hands(
        self,
        connecting: quinn::Connecting,
        held: OwnedSemaphorePermit,
    ) -> Option<Connection> {
        let from = connecting.remote_address();
        let tally = Arc::clone(&self.tally);
        let outcome = match timeout(HANDSHAKE_TIME_MAX, connecting).await {
            Ok(Ok(quinn)) => self.welcome(quinn, held),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::TimedOut("the handshake")),
        };
        match outcome {
            Ok(connection) => {
                count(&tally.accepted);
                Some(connection)
            }
            Err(error) => {
                count(&tally.refused);
                debug!(%from, %error, "not let in");
                None
            }
        }
    }

    fn welcome(
        self,
        quinn: quinn::Connection,
        held: OwnedSemaphorePermit,
    ) -> Result<Connection, Error> {
        let plane = self.plane;
        let chain = peer_chain(&quinn)?;
        let judge = move |credentials: &Credentials| {
            Verifier::of_dialers(plane, credentials)
                .judge(&chain, UnixTime::now())
                .map(|_| ())
        };
        // The handshake has judged by what held when it began.
        let current = self.credentials.borrow().clone();
        if !current.is(&self.judged_by) {
            judge(&current).map_err(Error::Identity)?;
        }
        let certificate = leaf(&quinn)?;
        quinn.set_max_concurrent_bi_streams(VarInt::from_u32(plane.bounds().streams));
        let link = Link::new(quinn, certificate, None, plane.bounds().unfinished_frames);
        Ok(Connection::guarded(
            link,
            self.credentials,
            judge,
            Some(held),
        ))
    }
}

/// What the other side has shown in its handshake.
pub(crate) fn peer_chain(quinn: &quinn::Connection) -> Result<Vec<CertificateDer<'static>>, Error> {
    quinn
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|chain| *chain)
        .ok_or_else(|| Error::Identity("there is none".to_owned()))
}

/// The first certificate of the other side's, read.
pub(crate) fn leaf(quinn: &quinn::Connection) -> Result<Certificate, Error> {
    let chain = peer_chain(quinn)?;
    let leaf = chain
        .first()
        .ok_or_else(|| Error::Identity("there is none".to_owned()))?;
    Certificate::from_der(leaf).map_err(|why| Error::Identity(format!("it {why}")))
}

/// The whole configuration of a listener.
pub(crate) fn server_config(
    plane: Plane,
    credentials: &Credentials,
) -> Result<quinn::ServerConfig, Error> {
    let tls = tls::server_config(plane, credentials)?;
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|error| Error::Credentials(format!("QUIC cannot be set up: {error}")))?;
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(plane.bounds().of_listener())
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX)
        .validation_token_config(tokens);
    Ok(config)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
