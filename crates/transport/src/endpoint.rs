//! Endpoints and connections of the two planes.

use std::net::SocketAddr;

use crate::{Credentials, Error, FrameReader, FrameWriter, Identity};

/// Which plane an endpoint is of. Peers have an endpoint of their own, so that no flood of clients can
/// cause an election; each plane has its own ALPN, roots, windows and bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Between members.
    Peers,
    /// Between clients and members.
    Clients,
}

/// Whom one means to reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Any member of the own cluster.
    AnyNode,
    /// The member of this name.
    Node(String),
}

/// A bound UDP socket that accepts or dials.
#[derive(Clone)]
pub struct Endpoint {}

impl Endpoint {
    /// Listens on `address` for connections of `plane`; can also dial on that plane.
    pub fn listen(
        _address: SocketAddr,
        _plane: Plane,
        _credentials: &Credentials,
    ) -> Result<Self, Error> {
        unreachable!("skeleton")
    }

    /// An endpoint that only dials.
    pub fn dialer(_plane: Plane, _credentials: &Credentials) -> Result<Self, Error> {
        unreachable!("skeleton")
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        unreachable!("skeleton")
    }

    /// The next connection whose handshake is done and whose identity is verified. Failed handshakes
    /// are dealt with inside, several at a time. `None` when the endpoint was closed.
    pub async fn accept(&self) -> Option<Connection> {
        None
    }

    /// Dials. The other side's certificate must chain to the node roots and name what is expected.
    pub async fn connect(&self, _to: SocketAddr, _expect: Expect) -> Result<Connection, Error> {
        unreachable!("skeleton")
    }

    /// Closes all connections, telling the other sides why, and waits a moment for it to arrive.
    pub async fn close(&self, _reason: &str) {}
}

/// A live connection with a verified other side. Ends by itself when the other side's certificate
/// expires. Cheap to clone.
#[derive(Clone)]
pub struct Connection {}

impl Connection {
    /// Who the other side is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        unreachable!("skeleton")
    }

    /// Where the other side is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        unreachable!("skeleton")
    }

    /// Opens a stream both ways. Nothing is seen at the other side until something is written.
    pub async fn open(&self) -> Result<(FrameWriter, FrameReader), Error> {
        unreachable!("skeleton")
    }

    /// The next stream the other side opens.
    pub async fn accept(&self) -> Result<(FrameWriter, FrameReader), Error> {
        unreachable!("skeleton")
    }

    /// Closes it with a reason for the other side.
    pub fn close(&self, _code: u32, _reason: &str) {}

    /// Resolves when the connection is lost or closed, with the reason.
    pub async fn closed(&self) -> Error {
        unreachable!("skeleton")
    }
}
