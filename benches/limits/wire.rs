//! Bytes through bare quinn with the settings that Kontiki uses: large payloads where the path has them,
//! TLS 1.3 both ways, one long-lived stream, a thread and a runtime for each end.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How long one measurement takes.
const TIME: Duration = Duration::from_secs(2);
/// Bytes of one write.
const CHUNK: usize = 64 << 10;
/// The largest payload that is tried; see `transport/plane.rs`.
const PAYLOAD_BYTES_MAX: u16 = 6_500;
/// What a subscriber of Kontiki may leave unread.
const WINDOW: u32 = 1 << 20;

/// Megabytes a second from a client to a member, which hands everything on to so many others.
pub(crate) fn relay(followers: usize) -> f64 {
    let papers = Papers::new();
    let (done, all_done) = mpsc::channel();
    let mut threads = Vec::new();
    let mut onwards = Vec::new();
    for _ in 0..followers {
        let done = done.clone();
        let (at, thread) = listen(
            &papers,
            move |mut streams| async move {
                let (_, stream) = streams.pop().expect("one connection");
                done.send(sink(stream).await).expect("it is waited for");
            },
            1,
        );
        onwards.push(at);
        threads.push(thread);
    }
    let relaying = papers.clone();
    let (leader, thread) = listen(
        &papers,
        move |mut streams| async move {
            let (_, stream) = streams.pop().expect("one connection");
            let mut writers = Vec::new();
            for at in onwards {
                writers.push(dial(&relaying, at).await);
            }
            let bytes = hand_on(stream, &mut writers).await;
            if writers.is_empty() {
                done.send(bytes).expect("it is waited for");
            }
            for (_, _, writer) in &mut writers {
                writer.stopped().await.ok();
            }
        },
        1,
    );
    threads.push(thread);
    let begun = Instant::now();
    threads.push(on_a_thread(move || async move {
        let (_endpoint, _connection, mut writer) = dial(&papers, leader).await;
        fill(&mut writer, Bytes::from(vec![7; CHUNK]), begun).await;
    }));
    let ends = followers.max(1);
    let bytes: u64 = all_done.iter().take(ends).sum();
    let rate = bytes as f64 / ends as f64 / 1e6 / begun.elapsed().as_secs_f64();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("nothing fails"));
    rate
}

/// Writes until the time is over, and waits until all of it is read.
async fn fill(writer: &mut SendStream, chunk: Bytes, begun: Instant) {
    while begun.elapsed() < TIME {
        let written = writer.write_chunk(chunk.clone()).await;
        written.expect("a sound link");
    }
    writer.finish().expect("it was not finished before");
    writer.stopped().await.ok();
}

/// Megabytes a second in all from one member to so many subscribers, the same bytes to each.
pub(crate) fn fan_out(readers: usize) -> f64 {
    let papers = Papers::new();
    let (address, serving) = listen(
        &papers,
        move |streams| async move {
            let chunk = Bytes::from(vec![7; CHUNK]);
            let begun = Instant::now();
            let writes = streams.into_iter().map(|(mut writer, _)| {
                let chunk = chunk.clone();
                async move { fill(&mut writer, chunk, begun).await }
            });
            futures_util::future::join_all(writes).await;
        },
        readers,
    );
    let (done, all_done) = mpsc::channel();
    let reading = on_a_thread(move || async move {
        let endpoint = papers.endpoint();
        let mut streams = Vec::new();
        for _ in 0..readers {
            let connecting = endpoint.connect_with(papers.client(), address, "localhost");
            let connection = connecting
                .expect("a sound configuration")
                .await
                .expect("a listener");
            let (mut writer, stream) = connection.open_bi().await.expect("a stream");
            writer.write_all(b"!").await.expect("a sound link");
            streams.push((connection, writer, stream));
        }
        let begun = Instant::now();
        let reads = streams
            .into_iter()
            .map(|(_connection, _writer, stream)| sink(stream));
        let bytes: u64 = futures_util::future::join_all(reads).await.iter().sum();
        let rate = bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
        done.send(rate).expect("it is waited for");
    });
    let rate = all_done.recv().expect("nothing fails");
    for thread in [serving, reading] {
        thread.join().expect("nothing fails");
    }
    rate
}

/// Reads a stream to its end.
async fn sink(mut stream: RecvStream) -> u64 {
    let mut chunks = [const { Bytes::new() }; 32];
    let mut bytes = 0;
    while let Some(count) = stream.read_chunks(&mut chunks).await.expect("a sound link") {
        bytes += chunks[..count]
            .iter()
            .map(|chunk| chunk.len() as u64)
            .sum::<u64>();
    }
    bytes
}

type Dialed = (Endpoint, Connection, SendStream);
type DialedBoth = (Endpoint, Connection, SendStream, RecvStream);

/// Reads a stream to its end and writes it to others as it comes.
async fn hand_on(mut stream: RecvStream, writers: &mut [Dialed]) -> u64 {
    let mut chunks = [const { Bytes::new() }; 32];
    let mut bytes = 0;
    while let Some(count) = stream.read_chunks(&mut chunks).await.expect("a sound link") {
        let chunks = &chunks[..count];
        bytes += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let writes = writers.iter_mut().map(|(_, _, writer)| async {
            let mut chunks = chunks.to_vec();
            writer
                .write_all_chunks(&mut chunks)
                .await
                .expect("a sound link");
        });
        futures_util::future::join_all(writes).await;
    }
    for (_, _, writer) in writers {
        writer.finish().expect("it was not finished before");
    }
    bytes
}

async fn dial(papers: &Papers, to: SocketAddr) -> Dialed {
    let (endpoint, connection, writer, _) = dial_both(papers, to).await;
    (endpoint, connection, writer)
}

pub(crate) async fn dial_both(papers: &Papers, to: SocketAddr) -> DialedBoth {
    let endpoint = papers.endpoint();
    let connecting = endpoint.connect_with(papers.client(), to, "localhost");
    let connection = connecting
        .expect("a sound configuration")
        .await
        .expect("a listener");
    let (writer, reader) = connection.open_bi().await.expect("a stream");
    (endpoint, connection, writer, reader)
}

/// Serves so many connections, with the first stream of each, on a thread of its own.
pub(crate) fn listen<F: Future<Output = ()>>(
    papers: &Papers,
    serve: impl FnOnce(Vec<(SendStream, RecvStream)>) -> F + Send + 'static,
    connections: usize,
) -> (SocketAddr, JoinHandle<()>) {
    let papers = papers.clone();
    let (told, address) = mpsc::channel();
    let thread = on_a_thread(move || async move {
        let endpoint = papers.endpoint();
        endpoint.set_server_config(Some(papers.server()));
        told.send(endpoint.local_addr().expect("it is bound"))
            .expect("it is waited for");
        let mut streams = Vec::new();
        let mut open = Vec::new();
        for _ in 0..connections {
            let arriving = endpoint.accept().await.expect("it is open");
            let connection = arriving.await.expect("a good handshake");
            streams.push(connection.accept_bi().await.expect("a stream"));
            open.push(connection);
        }
        serve(streams).await;
        endpoint.close(VarInt::from_u32(0), b"done");
        endpoint.wait_idle().await;
    });
    (address.recv().expect("it listens"), thread)
}

pub(crate) fn on_a_thread<F: Future<Output = ()>>(
    run: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(run());
    })
}

/// One authority and one certificate that it gave, for both ends.
#[derive(Clone)]
pub(crate) struct Papers {
    root: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let root_key = KeyPair::generate().expect("randomness");
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_der = root
            .self_signed(&root_key)
            .expect("a sound key")
            .der()
            .clone();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().expect("randomness");
        let leaf = CertificateParams::new(["localhost".to_owned()]).expect("a sound name");
        let leaf = leaf
            .signed_by(&key, &issuer)
            .expect("a sound key")
            .der()
            .clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it was made here");
        Self {
            root: root_der,
            leaf,
            key: Arc::new(key),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("it was made here");
        Arc::new(roots)
    }

    fn endpoint(&self) -> Endpoint {
        let mut config = EndpointConfig::default();
        let payload = config.max_udp_payload_size(PAYLOAD_BYTES_MAX);
        payload.expect("it is within what QUIC allows");
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let runtime = Arc::new(quinn::TokioRuntime);
        Endpoint::new(config, None, socket, runtime).expect("a sound socket")
    }

    fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has it")
            .with_client_cert_verifier(verifier.build().expect("a sound root"))
            .with_single_cert(vec![self.leaf.clone()], self.key.clone_key())
            .expect("a sound certificate");
        let quic = QuicServerConfig::try_from(tls).expect("it has TLS 1.3");
        let mut config = ServerConfig::with_crypto(Arc::new(quic));
        config.transport_config(transport());
        config
    }

    fn client(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has it")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![self.leaf.clone()], self.key.clone_key())
            .expect("a sound certificate");
        let quic = QuicClientConfig::try_from(tls).expect("it has TLS 1.3");
        let mut config = ClientConfig::new(Arc::new(quic));
        config.transport_config(transport());
        config
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PAYLOAD_BYTES_MAX);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .max_idle_timeout(None);
    Arc::new(config)
}
