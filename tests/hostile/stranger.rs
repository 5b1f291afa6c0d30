//! Whoever attacks: bare QUIC with papers that are good, so that nothing but the members' own care stands
//! in the way.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kontiki_server::MemberFile;
use kontiki_transport::{Authority, Identity, Role};
use quinn::{Connection, ConnectionError, VarInt, crypto::rustls::QuicClientConfig};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::cluster::Cluster;

pub(crate) const PEERS: &[u8] = b"kontiki-peer/1";
pub(crate) const CLIENTS: &[u8] = b"kontiki-client/1";

/// A certificate and its key.
pub(crate) struct Papers {
    certificate: String,
    key: String,
}

impl Papers {
    /// Issued by the cluster's own authority.
    pub(crate) fn of_client(cluster: &Cluster, role: Role, name: &str) -> Self {
        let folder = cluster.dir.path().join("cluster/ca");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let authority = Authority::from_pem(&read("client-ca.pem"), &read("client-ca.key"));
        let identity = Identity::new(member(cluster, 0).cluster, role, name).unwrap();
        let day = Duration::from_secs(86_400);
        let issued = authority.unwrap().issue(&identity, day).unwrap();
        Self {
            certificate: issued.certificate_pem,
            key: issued.key_pem,
        }
    }

    /// Stolen from a member.
    pub(crate) fn of_member(cluster: &Cluster, at: usize) -> Self {
        let certs = cluster.members[at].data.join("certs");
        let read = |name: &str| fs::read_to_string(certs.join(name)).unwrap();
        Self {
            certificate: read("node.pem"),
            key: read("node.key"),
        }
    }
}

/// What a member's file says of it.
pub(crate) fn member(cluster: &Cluster, at: usize) -> MemberFile {
    MemberFile::load(&cluster.members[at].data).unwrap()
}

/// Where a member listens for clients.
pub(crate) fn clients_address(cluster: &Cluster, at: usize) -> SocketAddr {
    member(cluster, at).me().address.parse().unwrap()
}

/// Where a member listens for peers.
pub(crate) fn peers_address(cluster: &Cluster, at: usize) -> SocketAddr {
    member(cluster, at).me().peer_address.parse().unwrap()
}

/// A socket that dials as it likes.
#[derive(Clone)]
pub(crate) struct Stranger {
    endpoint: quinn::Endpoint,
}

impl Stranger {
    pub(crate) fn new(papers: &Papers, alpn: &[u8]) -> Self {
        Self::tuned(papers, alpn, |_| {})
    }

    /// One whose connection takes as little as it is told to.
    pub(crate) fn tuned(
        papers: &Papers,
        alpn: &[u8],
        tune: impl FnOnce(&mut quinn::TransportConfig),
    ) -> Self {
        let certificate = CertificateDer::from_pem_slice(papers.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAnybody))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(2)));
        tune(&mut transport);
        config.transport_config(Arc::new(transport));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut endpoint = quinn::Endpoint::client(any).unwrap();
        endpoint.set_default_client_config(config);
        Self { endpoint }
    }

    /// Dials, and waits until it has been let in.
    pub(crate) async fn dial(&self, to: SocketAddr) -> Result<Connection, ConnectionError> {
        let connection = self.endpoint.connect(to, "kontiki").unwrap().await?;
        let (mut send, _recv) = connection.open_bi().await?;
        // The stream that showed it is not needed.
        let _ = send.reset(VarInt::from_u32(0));
        Ok(connection)
    }
}

#[derive(Debug)]
struct TakesAnybody;

impl ServerCertVerifier for TakesAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
