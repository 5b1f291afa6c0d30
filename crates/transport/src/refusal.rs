//! Whether the other host says that nothing listens at a port. QUIC does not look at that: a dial to a
//! process that is gone would take as long as one to a host that is.

use std::{
    future::pending,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, sleep_until},
};

/// How long a dial takes before this is asked; most are over by then.
const FIRST_ASKED_AFTER: Duration = Duration::from_millis(20);
/// The longest pause between two times of asking; they double up to it.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// No packet of QUIC: who listens passes it over.
const NOTHING: [u8; 1] = [0];

/// Resolves when the host says that nothing listens at `to`. Never, if it does not. Cancel-safe.
pub(crate) async fn refused(to: SocketAddr) {
    sleep(FIRST_ASKED_AFTER).await;
    // Without a socket of its own nobody can be asked, and the dial takes the time it takes.
    let Ok(socket) = socket(to).await else {
        return pending().await;
    };
    let mut pause = FIRST_ASKED_AFTER;
    let mut received = [0];
    loop {
        let next = Instant::now() + pause;
        // What is said to one datagram may be told when the next is sent.
        let told = match socket.send(&NOTHING).await {
            Err(error) => Err(error),
            Ok(_) => tokio::select! {
                said = socket.recv(&mut received) => said,
                () = sleep_until(next) => Ok(0),
            },
        };
        if told.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return;
        }
        sleep_until(next).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One that hears only `to`: others are not told what becomes of their datagrams.
async fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}
