//! A cluster's two authorities, and endpoints with certificates of theirs.

use std::{net::SocketAddr, time::Duration};

use kontiki_transport::{
    Authority, Connection, Credentials, Endpoint, Expect, Identity, Limits, Plane, Precedence, Role,
};
use kontiki_wire::ClusterId;
use tokio::{net::UdpSocket, task::JoinHandle};

/// How long an honest certificate of a test is good.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The cluster of the tests.
pub(crate) const CLUSTER: ClusterId = ClusterId(0x6b6f_6e74_696b_6900_0000_0000_0000_0001);

/// The authorities of one cluster.
pub(crate) struct Cluster {
    pub(crate) nodes: Authority,
    pub(crate) clients: Authority,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Authority::new("nodes of a test", DAY).expect("an authority"),
            clients: Authority::new("clients of a test", DAY).expect("an authority"),
        }
    }

    pub(crate) fn credentials(&self, role: Role, name: &str) -> Credentials {
        self.credentials_for(role, name, DAY)
    }

    pub(crate) fn credentials_for(&self, role: Role, name: &str, good: Duration) -> Credentials {
        let identity = Identity::new(CLUSTER, role, name).expect("a good name");
        let (authority, client_roots) = match role {
            Role::Node => (&self.nodes, self.clients.certificate_pem()),
            _ => (&self.clients, ""),
        };
        let issued = authority.issue(&identity, good).expect("a leaf");
        Credentials::from_pem(
            &issued.certificate_pem,
            &issued.key_pem,
            self.nodes.certificate_pem(),
            client_roots,
        )
        .expect("good credentials")
    }

    pub(crate) fn listener(&self, plane: Plane) -> Endpoint {
        Endpoint::listen(loopback(), plane, &self.credentials(Role::Node, "n1"))
            .expect("a free port")
    }

    /// One for clients, with other limits than are usual.
    pub(crate) fn listener_within(&self, limits: Limits) -> Endpoint {
        let credentials = self.credentials(Role::Node, "n1");
        Endpoint::listen_within(
            loopback(),
            Plane::Clients,
            &credentials,
            limits,
            &Precedence::default(),
        )
        .expect("a free port")
    }

    pub(crate) fn dialer(&self, plane: Plane) -> Endpoint {
        let credentials = match plane {
            Plane::Peers => self.credentials(Role::Node, "n2"),
            Plane::Clients => self.credentials(Role::Operator, "ops"),
        };
        Endpoint::dialer(plane, &credentials).expect("a free port")
    }

    /// Has somebody dial a listener and hear no answer of it, as from a forged address. Its handshake hangs; what is
    /// returned is the dialer, to be aborted.
    pub(crate) async fn hangs_at(&self, to: SocketAddr) -> JoinHandle<()> {
        let deaf = UdpSocket::bind(loopback()).await.expect("a free port");
        let (dialer, at) = (self.dialer(Plane::Clients), deaf.local_addr());
        let at = at.expect("bound");
        let hanging = tokio::spawn(async move { drop(dialer.connect(at, Expect::AnyNode).await) });
        let mut first = [0; 2_048];
        let bytes = deaf.recv(&mut first).await.expect("a packet");
        deaf.send_to(&first[..bytes], to).await.expect("sent");
        hanging
    }

    /// Both ends of an honest connection, the dialer's first.
    pub(crate) async fn pair(&self, plane: Plane) -> Pair {
        let listener = self.listener(plane);
        let dialer = self.dialer(plane);
        let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
        let here = dialed.await.expect("an honest dialer is let in");
        let there = listener.accept().await.expect("the listener is open");
        Pair {
            here,
            there,
            dialer,
            listener,
        }
    }
}

/// An honest connection.
pub(crate) struct Pair {
    pub(crate) here: Connection,
    pub(crate) there: Connection,
    pub(crate) dialer: Endpoint,
    pub(crate) listener: Endpoint,
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Fails a test that waits for what does not come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within ten seconds"))
}
