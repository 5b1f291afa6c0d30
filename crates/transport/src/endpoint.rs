//! Endpoints of the two planes: they listen and dial.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{ConnectError, VarInt, crypto::rustls::QuicClientConfig};
use rustls_pki_types::UnixTime;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::timeout,
};

use crate::{
    Arrivals, Connection, Credentials, Error, Expect, Limits, Plane, Precedence, Revoked, Stranger,
    admission::{self, Admission, Arrived, HANDSHAKE_TIME_MAX, Tally},
    connection::Anew,
    guest::Door,
    link::{Link, Unfinished},
    plane,
    refusal::refused,
    tls::{self, Verifier},
};

/// How long a closing endpoint waits for the other sides to learn of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// QUIC wants a server's name; ours are in the certificates, and this one is not sent.
pub(crate) const SERVER_NAME: &str = "kontiki";

/// Bytes that the kernel is asked to hold for a socket in either direction. With its default of
/// 208 KiB, two processes that share a core lose three packets of a hundred on loopback; with 1 MiB
/// none.
const SOCKET_BYTES: usize = 4 << 20;

/// Connections that have been let in and wait to be taken. With this many waiting, handshakes wait
/// too, and with those at their limit, dialers are turned away.
const ACCEPTED_MAX: usize = 16;

/// A bound UDP socket that accepts or dials. When the last handle is gone it accepts no more;
/// connections go on. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    quinn: quinn::Endpoint,
    plane: Plane,
    local_address: SocketAddr,
    credentials: watch::Sender<Credentials>,
    listens: bool,
    precedence: Precedence,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    strangers: Mutex<mpsc::Receiver<Stranger>>,
    tally: Arc<Tally>,
}

impl Endpoint {
    /// Listens on `address` for connections of `plane`, within the plane's usual [`Limits`]; can also
    /// dial on that plane if the own role allows it. To be called within a tokio runtime.
    pub fn listen(
        address: SocketAddr,
        plane: Plane,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let limits = Limits::of(plane);
        Self::listen_within(address, plane, credentials, limits, &Precedence::default())
    }

    /// Listens within other limits, among the tasks of one member.
    pub fn listen_within(
        address: SocketAddr,
        plane: Plane,
        credentials: &Credentials,
        limits: Limits,
        precedence: &Precedence,
    ) -> Result<Self, Error> {
        tls::check_listener(plane, credentials)?;
        let config = admission::server_config(plane, credentials)?;
        let unbound = |source| Error::Bind { address, source };
        let socket = bind(address).map_err(unbound)?;
        let (endpoint, arrived) =
            Self::new(socket, Some(config.clone()), plane, credentials, precedence)
                .map_err(unbound)?;
        let admission = Admission::new(
            endpoint.inner.quinn.clone(),
            (plane, config, precedence.clone()),
            limits,
            endpoint.inner.credentials.subscribe(),
            arrived,
            Arc::clone(&endpoint.inner.tally),
        );
        let door = Door::new(plane, credentials)?;
        tokio::spawn(precedence.of(plane, admission.run(door, credentials.clone())));
        Ok(endpoint)
    }

    /// An endpoint that only dials. To be called within a tokio runtime.
    pub fn dialer(plane: Plane, credentials: &Credentials) -> Result<Self, Error> {
        tls::check_dialer(plane, credentials)?;
        let (socket, address) = bind_dialer()?;
        Self::new(socket, None, plane, credentials, &Precedence::default())
            .map(|(endpoint, _)| endpoint)
            .map_err(|source| Error::Bind { address, source })
    }

    fn new(
        socket: UdpSocket,
        config: Option<quinn::ServerConfig>,
        plane: Plane,
        credentials: &Credentials,
        precedence: &Precedence,
    ) -> io::Result<(Self, Arrived)> {
        let local_address = socket.local_addr()?;
        let listens = config.is_some();
        let quinn = quinn::Endpoint::new(
            plane::endpoint_config(plane, credentials.reset()),
            config,
            socket,
            precedence.runtime(plane),
        )?;
        let (to_accepted, accepted) = mpsc::channel(ACCEPTED_MAX);
        let (to_strangers, strangers) = mpsc::channel(ACCEPTED_MAX);
        let inner = Inner {
            quinn,
            plane,
            local_address,
            credentials: watch::Sender::new(credentials.clone()),
            listens,
            precedence: precedence.clone(),
            accepted: Mutex::new(accepted),
            strangers: Mutex::new(strangers),
            tally: Arc::default(),
        };
        let endpoint = Self {
            inner: Arc::new(inner),
        };
        let arrived = Arrived {
            bearers: to_accepted,
            strangers: to_strangers,
        };
        Ok((endpoint, arrived))
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.inner.local_address
    }

    /// Who goes first among the tasks that serve it.
    #[must_use]
    pub fn precedence(&self) -> &Precedence {
        &self.inner.precedence
    }

    /// What has become of those who dialed.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        self.inner.tally.read()
    }

    /// The next connection whose handshake is done and whose identity is verified. Failed handshakes
    /// are dealt with inside, several at a time. `None` when the endpoint was closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Connection> {
        self.inner.accepted.lock().await.recv().await
    }

    /// The next one who came without a certificate to ask for one; the clients' plane alone lets such in.
    /// `None` when the endpoint was closed. Cancel-safe.
    pub async fn accept_stranger(&self) -> Option<Stranger> {
        self.inner.strangers.lock().await.recv().await
    }

    /// Dials. The other side's certificate must chain to the node roots and name what is expected.
    ///
    /// In TLS 1.3 the dialer's handshake ends before the listener has judged the dialer. This returns
    /// when the listener has: it allows no stream before, and the first one is opened here.
    ///
    /// Fails at once where the other host says that nothing listens, and after five seconds where
    /// nobody says anything.
    pub async fn connect(&self, to: SocketAddr, expect: Expect) -> Result<Connection, Error> {
        let dialed = async {
            tokio::select! {
                biased;
                dialed = self.dial(to, expect) => dialed,
                () = refused(to) => Err(Error::Lost(format!("nothing listens at {to}"))),
            }
        };
        let dialed = timeout(HANDSHAKE_TIME_MAX, dialed).await;
        dialed.unwrap_or_else(|_| Err(Error::Lost(format!("{to} does not answer"))))
    }

    async fn dial(&self, to: SocketAddr, expect: Expect) -> Result<Connection, Error> {
        let Inner { quinn, plane, .. } = &*self.inner;
        // From here on, so that no change is missed while the handshake goes on.
        let watched = self.inner.credentials.subscribe();
        let credentials = watched.borrow().clone();
        let tls = tls::client_config(*plane, &credentials, &expect)?;
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| Error::Credentials(format!("QUIC cannot be set up: {error}")))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(plane.bounds().of_dialer());

        let connection = quinn
            .connect_with(config, to, SERVER_NAME)
            .map_err(|error| undialed(to, &error))?
            .await?;
        let chain = admission::peer_chain(&connection)?;
        let certificate = admission::leaf(&connection)?;
        let shown = certificate.clone();
        let judge = move |credentials: &Credentials, anew: Anew| {
            let verifier = Verifier::of_listeners(credentials, &expect);
            match anew {
                Anew::All => verifier.judge(&chain, UnixTime::now()).map(|_| ()),
                Anew::Revocation => verifier.check_revoked(&shown),
            }
        };
        let first = connection.open_bi().await?;
        let unfinished_max = plane.bounds().unfinished_at_dialer;
        let link = Link::new(
            connection,
            Some(first),
            unfinished_max,
            Unfinished::new(usize::MAX),
        );
        Ok(Connection::guarded(
            link,
            certificate,
            watched,
            credentials,
            judge,
            (),
        ))
    }

    /// Uses other credentials from now on: for new connections in both directions, and open ones end
    /// whose other side they no longer accept. What was revoked stays so. Takes all of it or, with an error,
    /// nothing.
    pub fn set_credentials(&self, credentials: &Credentials) -> Result<(), Error> {
        let now = self.inner.credentials.borrow().identity().cluster;
        let then = credentials.identity().cluster;
        if now != then {
            return Err(Error::Credentials(format!(
                "the new certificate belongs to cluster {then}, this endpoint to {now}"
            )));
        }
        if self.inner.listens {
            tls::check_listener(self.inner.plane, credentials)?;
        } else {
            tls::check_dialer(self.inner.plane, credentials)?;
        }
        // What was revoked stays so.
        self.inner.credentials.send_modify(|current| {
            let revoked = Arc::clone(current.revoked());
            *current = credentials.clone().revoking(revoked);
        });
        Ok(())
    }

    /// Lets nobody in any more whose certificate is among these, and ends the open connections with them.
    /// All else stays as it is, and nobody is judged anew where it is the list of before.
    pub fn set_revoked(&self, revoked: &Arc<Revoked>) {
        self.inner.credentials.send_if_modified(|credentials| {
            let is_another = !Arc::ptr_eq(credentials.revoked(), revoked);
            if is_another {
                *credentials = credentials.clone().revoking(Arc::clone(revoked));
            }
            is_another
        });
    }

    /// What is shown and trusted, now and whenever it changes.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Credentials> {
        self.inner.credentials.subscribe()
    }

    /// Closes all connections, telling the other sides why, and waits a moment for it to arrive.
    pub async fn close(&self, reason: &str) {
        self.inner
            .quinn
            .close(VarInt::from_u32(0), reason.as_bytes());
        // Whoever has not heard it by then will miss our packets.
        let _ = timeout(FAREWELL, self.inner.quinn.wait_idle()).await;
    }
}

/// A socket of both address families where there are both, and where it is bound.
pub(crate) fn bind_dialer() -> Result<(UdpSocket, SocketAddr), Error> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    bind(both)
        .or_else(|_| bind(address))
        .map(|socket| (socket, address))
        .map_err(|source| Error::Bind { address, source })
}

/// A socket with room for a burst: what the kernel drops is sent again, and halves the sender's pace.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Where the system refuses, the socket is for IPv6 alone.
        let _ = socket.set_only_v6(false);
    }
    // The system may give less; that costs speed only.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

pub(crate) fn undialed(to: SocketAddr, error: &ConnectError) -> Error {
    match error {
        ConnectError::EndpointStopping => Error::ClosedHere("the endpoint is closed".to_owned()),
        error => Error::Lost(format!("{to} cannot be dialed: {error}")),
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Endpoint({:?} at {})",
            self.inner.plane, self.inner.local_address
        )
    }
}
