//! Lets dialers in: several handshakes at a time, each bounded, and the rest turned away cheaply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Incoming, VarInt};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tracing::debug;

use crate::{
    Certificate, Connection, Credentials, Error, Limits, Plane, Precedence, PublicKey, Stranger,
    connection::{Anew, CLOSE_CROWDED},
    guest::{Asked, Door, Guest},
    link::{Link, Unfinished},
    seats::Seats,
    stranger,
    tls::Verifier,
    turnstile::Turnstile,
};

/// How long a handshake may take once it has its turn.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a dialer waits for its turn before it is told to come again. Half of what members wait for each other, a
/// third of what clients do: a handshake with one that has given up meanwhile is held for nobody, and in a line of
/// such nobody would get in.
const TURN_AWAITED_MAX: Duration = Duration::from_secs(1);

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
    /// Told to come again, because there were too many.
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

/// Where those go who are let in: there is no way from one to the other.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) bearers: mpsc::Sender<Connection>,
    pub(crate) strangers: mpsc::Sender<Stranger>,
}

/// The listener's doorkeeper.
pub(crate) struct Admission {
    quinn: quinn::Endpoint,
    plane: Plane,
    precedence: Precedence,
    config: quinn::ServerConfig,
    credentials: watch::Receiver<Credentials>,
    arrived: Arrived,
    tally: Arc<Tally>,
    connections: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    stranger_time: Duration,
    seats: Arc<Seats>,
    unfinished: Arc<Unfinished>,
    turnstile: Arc<Turnstile>,
}

impl Admission {
    pub(crate) fn new(
        quinn: quinn::Endpoint,
        (plane, config, precedence): (Plane, quinn::ServerConfig, Precedence),
        limits: Limits,
        credentials: watch::Receiver<Credentials>,
        arrived: Arrived,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            quinn,
            plane,
            precedence,
            config,
            credentials,
            arrived,
            tally,
            connections: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            stranger_time: limits.stranger_time,
            seats: Seats::new(limits.connections_per_identity),
            unfinished: Unfinished::new(limits.unfinished_bytes),
            turnstile: Turnstile::new(limits),
        }
    }

    /// Until the endpoint is closed, or nobody is left to hand connections to. `door` and
    /// `credentials` are what holds now.
    pub(crate) async fn run(mut self, mut door: Door, mut credentials: Credentials) {
        loop {
            let incoming = tokio::select! {
                incoming = self.quinn.accept() => incoming,
                () = self.arrived.bearers.closed() => break,
            };
            let Some(incoming) = incoming else { break };
            if self.credentials.has_changed().unwrap_or(false) {
                let current = self.credentials.borrow_and_update().clone();
                match Door::new(self.plane, &current) {
                    Ok(changed) => (door, credentials) = (changed, current),
                    Err(error) => debug!(%error, "credentials are not taken over"),
                }
            }
            self.admit(incoming, &door, &credentials);
        }
    }

    /// Never waits: whoever cannot be served is sent away, so that the next one is looked at.
    fn admit(&self, incoming: Incoming, door: &Door, credentials: &Credentials) {
        if !incoming.remote_address_validated() && self.turnstile.is_crowded() {
            count(&self.tally.challenged);
            // A token that is there already makes the address a proven one, so it cannot fail.
            let _ = incoming.retry();
            return;
        }
        let from = incoming.remote_address();
        let place = Arc::clone(&self.connections).try_acquire_owned();
        let (Ok(held), Some(pass)) = (place, self.turnstile.enter(from.ip())) else {
            count(&self.tally.turned_away);
            incoming.refuse();
            return;
        };
        let (crypto, asked) = match door.open() {
            Ok(opened) => opened,
            Err(error) => {
                count(&self.tally.refused);
                debug!(%from, %error, "no handshake can be held");
                incoming.refuse();
                return;
            }
        };
        let mut config = self.config.clone();
        config.crypto = Arc::new(crypto);
        let arrival = Arrival {
            plane: self.plane,
            watched: self.credentials.clone(),
            judged_by: credentials.clone(),
            seats: Arc::clone(&self.seats),
            unfinished: Arc::clone(&self.unfinished),
            strangers: Arc::clone(&self.strangers),
            stranger_time: self.stranger_time,
            asked,
        };
        let (to, tally) = (self.arrived.clone(), Arc::clone(&self.tally));
        let admitted = async move {
            let Some(place) = pass.place_within(TURN_AWAITED_MAX).await else {
                count(&tally.turned_away);
                incoming.refuse();
                return;
            };
            let let_in = arrival.shake_hands(incoming, Arc::new(config), held);
            let let_in = timeout(HANDSHAKE_TIME_MAX, let_in).await;
            drop(place);
            match let_in.unwrap_or(Err(Error::TimedOut("the handshake"))) {
                Ok(let_in) => {
                    count(&tally.accepted);
                    // Waits inside, so that whoever does not take connections gets no more of them.
                    // Fails if the endpoint is gone, and the connection goes with it.
                    match let_in {
                        LetIn::Bearer(connection) => drop(to.bearers.send(connection).await),
                        LetIn::Stranger(stranger) => drop(to.strangers.send(stranger).await),
                    }
                }
                Err(error) => {
                    count(&tally.refused);
                    debug!(%from, %error, "not let in");
                }
            }
            drop(pass);
        };
        tokio::spawn(self.precedence.of(self.plane, admitted));
    }
}

/// Somebody who was let in.
enum LetIn {
    Bearer(Connection),
    Stranger(Stranger),
}

/// One dialer in its handshake.
struct Arrival {
    plane: Plane,
    watched: watch::Receiver<Credentials>,
    judged_by: Credentials,
    seats: Arc<Seats>,
    strangers: Arc<Semaphore>,
    stranger_time: Duration,
    unfinished: Arc<Unfinished>,
    asked: Asked,
}

impl Arrival {
    async fn shake_hands(
        self,
        incoming: Incoming,
        config: Arc<quinn::ServerConfig>,
        held: OwnedSemaphorePermit,
    ) -> Result<LetIn, Error> {
        let quinn = incoming.accept_with(config)?.await?;
        match Guest::of(&quinn, self.plane, &self.asked)? {
            Guest::Bearer => self.let_in(quinn, held).map(LetIn::Bearer),
            Guest::Stranger => self.let_stranger_in(quinn, held).map(LetIn::Stranger),
        }
    }

    fn let_in(
        self,
        quinn: quinn::Connection,
        held: OwnedSemaphorePermit,
    ) -> Result<Connection, Error> {
        let plane = self.plane;
        let chain = peer_chain(&quinn)?;
        let certificate = leaf(&quinn)?;
        let shown = certificate.clone();
        let judge = move |credentials: &Credentials, anew: Anew| {
            let verifier = Verifier::of_dialers(plane, credentials);
            match anew {
                Anew::All => verifier.judge(&chain, UnixTime::now()).map(|_| ()),
                Anew::Revocation => verifier.check_revoked(&shown),
            }
        };
        // The handshake has judged by what held when it began.
        let current = self.watched.borrow().clone();
        if !current.trust_like(&self.judged_by) {
            judge(&current, Anew::All).map_err(Error::Identity)?;
        }
        let seat = self.seats.take(&certificate.identity);
        let seat = seat.map_err(|why| crowded(&quinn, why))?;
        let bounds = plane.bounds();
        quinn.set_max_concurrent_bi_streams(VarInt::from_u32(bounds.streams));
        let link = Link::new(quinn, None, bounds.unfinished_at_listener, self.unfinished);
        Ok(Connection::guarded(
            link,
            certificate,
            self.watched,
            current,
            judge,
            (held, seat),
        ))
    }

    fn let_stranger_in(
        self,
        quinn: quinn::Connection,
        held: OwnedSemaphorePermit,
    ) -> Result<Stranger, Error> {
        let key = PublicKey::of_stranger(&peer_chain(&quinn)?).map_err(Error::Identity)?;
        let seat = self.strangers.try_acquire_owned();
        let seat = seat.map_err(|_| {
            let why = "as many strangers as may are here already, try again in a moment";
            crowded(&quinn, why.to_owned())
        })?;
        let link = Link::new(quinn, None, stranger::UNFINISHED_MAX, self.unfinished);
        Ok(Stranger::guarded(
            link,
            key,
            self.stranger_time,
            (held, seat),
        ))
    }
}

fn crowded(quinn: &quinn::Connection, why: String) -> Error {
    quinn.close(VarInt::from_u32(CLOSE_CROWDED), why.as_bytes());
    Error::ClosedHere(why)
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

/// The whole configuration of a listener; that of TLS is another for each handshake.
pub(crate) fn server_config(
    plane: Plane,
    credentials: &Credentials,
) -> Result<quinn::ServerConfig, Error> {
    let (crypto, _) = Door::new(plane, credentials)?.open()?;
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
