//! A listener dies without a word, and another life of it takes its place.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use kontiki_transport::{Credentials, Endpoint, Error, Expect, Plane, Role};
use tokio::{net::UdpSocket, sync::oneshot};

use crate::cluster::{Cluster, loopback, soon};

/// A listener with a runtime of its own, so that it can die as a process does.
struct Listener {
    address: SocketAddr,
    die: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Listener {
    async fn start(address: SocketAddr, credentials: Credentials) -> Self {
        let (told, start) = oneshot::channel();
        let (die, dies) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let left = runtime.block_on(async {
                let endpoint =
                    Endpoint::listen(address, Plane::Clients, &credentials).expect("a free port");
                told.send(endpoint.local_address()).expect("somebody waits");
                let mut taken = Vec::new();
                let accept = async {
                    while let Some(connection) = endpoint.accept().await {
                        taken.push(connection);
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = dies => {}
                }
                (endpoint, taken)
            });
            // The runtime goes first: what is left can say no farewell.
            drop(runtime);
            drop(left);
        });
        Self {
            address: start.await.expect("it listens"),
            die,
            thread,
        }
    }

    fn kill(self) {
        self.die.send(()).expect("it lives");
        self.thread.join().expect("it did not panic");
    }
}

#[tokio::test]
async fn dialer_learns_at_once_that_nothing_listens_or_no_more() {
    let cluster = Cluster::new();
    let silent = UdpSocket::bind(loopback()).await.expect("a free port");
    let to = silent.local_addr().expect("bound");
    let dialer = cluster.dialer(Plane::Clients);
    let begun = Instant::now();
    let (dialed, ()) = tokio::join!(dialer.connect(to, Expect::AnyNode), async {
        let mut first = [0; 2_048];
        silent
            .recv(&mut first)
            .await
            .expect("the dial is under way");
        drop(silent);
    });
    let refused = dialed.expect_err("nobody is there").to_string();
    assert_eq!(refused, format!("nothing listens at {to}"));
    // One that nobody answers takes five.
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn dialer_learns_at_once_that_the_listener_has_restarted() {
    let cluster = Cluster::new();
    let credentials = cluster.credentials(Role::Node, "n1");
    let listener = Listener::start(loopback(), credentials.clone()).await;
    let address = listener.address;
    let dialer = cluster.dialer(Plane::Clients);
    let connection = dialer
        .connect(address, Expect::AnyNode)
        .await
        .expect("an honest dialer is let in");
    listener.kill();

    let again = Listener::start(address, credentials).await;
    let (mut writer, _reader) = connection.open().await.expect("nothing is known yet");
    writer
        .write(vec![0; 100].into())
        .await
        .expect("there is room");
    let lost = soon("the end of the connection", connection.closed()).await;
    assert!(
        matches!(&lost, Error::Lost(why) if why.contains("restarted")),
        "{lost}"
    );
    again.kill();
}
