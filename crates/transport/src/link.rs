//! The state that a connection and its streams share.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::Error;

/// The code of a close by which nobody is at fault.
const DONE: VarInt = VarInt::from_u32(0);

/// Bytes of unfinished frames that a connection may hold even when all of them hold too much: what honest
/// sides have under way.
const UNFINISHED_FAIR: usize = 512 << 10;

/// Bytes of unfinished frames over all connections of a listener.
pub(crate) struct Unfinished {
    held: AtomicUsize,
    max: usize,
}

impl Unfinished {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            max,
        })
    }
}

/// One live connection. When the last handle of it and of its streams is gone, it is closed.
pub(crate) struct Link {
    pub(crate) quinn: quinn::Connection,
    pub(crate) remote_address: SocketAddr,
    /// The stream by which the dialer learned that it has been let in; the first to be handed out.
    first: Mutex<Option<(SendStream, RecvStream)>>,
    /// Why this side closed, if it did.
    closed_here: OnceLock<String>,
    unfinished: AtomicUsize,
    unfinished_max: usize,
    unfinished_of_all: Arc<Unfinished>,
}

impl Link {
    pub(crate) fn new(
        quinn: quinn::Connection,
        first: Option<(SendStream, RecvStream)>,
        unfinished_max: usize,
        unfinished_of_all: Arc<Unfinished>,
    ) -> Self {
        Self {
            remote_address: canonical(quinn.remote_address()),
            quinn,
            first: Mutex::new(first),
            closed_here: OnceLock::new(),
            unfinished: AtomicUsize::new(0),
            unfinished_max,
            unfinished_of_all,
        }
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        // Only the first reason is told to anybody.
        let _ = self.closed_here.set(reason.to_owned());
        self.quinn.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// The stream opened in advance, if it has not been handed out yet.
    pub(crate) fn take_first(&self) -> Option<(SendStream, RecvStream)> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take()
    }

    /// Counts bytes of unfinished frames in, over all streams, and refuses what is too much.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Error> {
        let all = &self.unfinished_of_all;
        let own = bytes + self.unfinished.fetch_add(bytes, Ordering::Relaxed);
        let of_all = bytes + all.held.fetch_add(bytes, Ordering::Relaxed);
        let max = if of_all > all.max {
            self.unfinished_max.min(UNFINISHED_FAIR)
        } else {
            self.unfinished_max
        };
        if own <= max {
            return Ok(());
        }
        Err(Error::Lost(format!(
            "the other side leaves more than {max} bytes of unfinished frames on one connection"
        )))
    }

    /// Counts them out again.
    pub(crate) fn release(&self, bytes: usize) {
        self.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        let all = &self.unfinished_of_all;
        all.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, error: ConnectionError) -> Error {
        match (error, self.closed_here.get()) {
            (ConnectionError::LocallyClosed, Some(reason)) => Error::ClosedHere(reason.clone()),
            (error, _) => error.into(),
        }
    }

    pub(crate) fn unread(&self, error: ReadError) -> Error {
        match error {
            ReadError::ConnectionLost(error) => self.lost(error),
            error => error.into(),
        }
    }

    pub(crate) fn unwritten(&self, error: WriteError) -> Error {
        match error {
            WriteError::ConnectionLost(error) => self.lost(error),
            error => error.into(),
        }
    }
}

/// An IPv4 address as such, also where the socket is of both kinds.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Drop for Link {
    fn drop(&mut self) {
        self.quinn.close(DONE, b"");
    }
}
