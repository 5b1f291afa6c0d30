//! A live connection with a verified other side.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use quinn::VarInt;
use tokio::{sync::watch, time::sleep};

use crate::{Certificate, Credentials, Error, FrameReader, FrameWriter, Identity, link::Link};

/// The code with which a connection is closed when the other side's certificate is no longer good.
pub const CLOSE_CERTIFICATE: u32 = 0x4b01;

/// The code with which a connection is closed whose dialer has as many as one identity may have.
pub const CLOSE_CROWDED: u32 = 0x4b02;

/// The longest that the wall clock goes unread: a clock that was set is noticed after this.
const CLOCK_READ_EVERY: Duration = Duration::from_secs(30);

/// What of a certificate is judged anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Anew {
    /// Everything.
    All,
    /// Whether it was taken back: the roots by which it was judged before are still among them.
    Revocation,
}

/// A live connection with a verified other side. Ends by itself when the other side's certificate
/// expires, and when its last handle and the last of its streams is dropped. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    link: Arc<Link>,
    certificate: Arc<Certificate>,
}

impl Connection {
    /// Takes charge of a connection that has been judged, and sets its guard. `held` is let go when
    /// the connection has ended.
    pub(crate) fn guarded(
        link: Link,
        certificate: Certificate,
        credentials: watch::Receiver<Credentials>,
        judged_by: Credentials,
        judge: impl Fn(&Credentials, Anew) -> Result<(), String> + Send + 'static,
        held: impl Send + 'static,
    ) -> Self {
        let link = Arc::new(link);
        let guard = Guard {
            quinn: link.quinn.clone(),
            link: Arc::downgrade(&link),
            not_after: certificate.not_after,
            judged_by,
        };
        tokio::spawn(async move {
            guard.run(credentials, judge).await;
            drop(held);
        });
        Self {
            link,
            certificate: Arc::new(certificate),
        }
    }

    /// Who the other side is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.certificate.identity
    }

    /// What the other side has shown.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Where the other side is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.link.remote_address
    }

    /// Opens a stream both ways. Waits while the other side has as many as it allows. Nothing is seen
    /// at the other side until something is written.
    pub async fn open(&self) -> Result<(FrameWriter, FrameReader), Error> {
        let opened = match self.link.take_first() {
            Some(first) => Ok(first),
            None => self.link.quinn.open_bi().await,
        };
        self.framed(opened)
    }

    /// The next stream the other side opens. On the clients' plane only dialers open streams.
    /// Cancel-safe.
    pub async fn accept(&self) -> Result<(FrameWriter, FrameReader), Error> {
        let accepted = self.link.quinn.accept_bi().await;
        self.framed(accepted)
    }

    fn framed(
        &self,
        stream: Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>,
    ) -> Result<(FrameWriter, FrameReader), Error> {
        let (send, recv) = stream.map_err(|error| self.link.lost(error))?;
        Ok((
            FrameWriter::new(send, Arc::clone(&self.link)),
            FrameReader::new(recv, Arc::clone(&self.link)),
        ))
    }

    /// Lets the other side have at most this many bytes on the way that are not yet read here. A
    /// small window keeps bulk from standing in the way of what else shares the path.
    pub fn set_receive_window(&self, bytes: u32) {
        self.link.quinn.set_receive_window(VarInt::from_u32(bytes));
    }

    /// The round trip as it is estimated now.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.link.quinn.rtt()
    }

    /// How many datagrams have come from the other side. A side that lives answers whatever is sent to it with one,
    /// after a round trip and a few milliseconds, even if it has nothing to say.
    #[must_use]
    pub fn datagrams_received(&self) -> u64 {
        self.link.quinn.stats().udp_rx.datagrams
    }

    /// The UDP payload that the path is known to carry.
    #[must_use]
    pub fn payload_bytes(&self) -> u16 {
        self.link.quinn.stats().path.current_mtu
    }

    /// Closes it with a reason for the other side. What was written and has not arrived is lost.
    pub fn close(&self, code: u32, reason: &str) {
        self.link.close(code, reason);
    }

    /// Resolves when the connection is lost or closed, with the reason: [`Error::Closed`] if the
    /// other side closed, [`Error::ClosedHere`] if this one did, [`Error::Lost`] otherwise. Cancel-safe.
    pub async fn closed(&self) -> Error {
        let error = self.link.quinn.closed().await;
        self.link.lost(error)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Connection({} at {})",
            self.identity(),
            self.remote_address()
        )
    }
}

/// Ends a connection whose other side's certificate is no longer good. It does not keep the
/// connection alive.
struct Guard {
    quinn: quinn::Connection,
    link: Weak<Link>,
    not_after: SystemTime,
    judged_by: Credentials,
}

impl Guard {
    async fn run(
        mut self,
        mut credentials: watch::Receiver<Credentials>,
        judge: impl Fn(&Credentials, Anew) -> Result<(), String>,
    ) {
        let mut watching = true;
        loop {
            let left = self.not_after.duration_since(SystemTime::now());
            let Ok(left) = left else {
                self.end("the certificate has expired");
                break;
            };
            tokio::select! {
                _ = self.quinn.closed() => break,
                () = sleep(left.min(CLOCK_READ_EVERY)) => {}
                changed = credentials.changed(), if watching => {
                    watching = changed.is_ok();
                    let current = credentials.borrow_and_update().clone();
                    // A renewed certificate of one's own is no reason to judge thousands anew.
                    if current.trust_like(&self.judged_by) {
                        continue;
                    }
                    // One that is added makes nobody's certificate a bad one.
                    let anew = match current.roots_include(&self.judged_by) {
                        true => Anew::Revocation,
                        false => Anew::All,
                    };
                    if let Err(why) = judge(&current, anew) {
                        self.end(&format!("the certificate is no longer accepted: {why}"));
                        break;
                    }
                    self.judged_by = current;
                }
            }
        }
        self.quinn.closed().await;
    }

    fn end(&self, reason: &str) {
        if let Some(link) = self.link.upgrade() {
            link.close(CLOSE_CERTIFICATE, reason);
        }
    }
}
