//! Certificates that no honest authority makes, and raw QUIC ends that show them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use kontiki_transport::Authority;
use quinn::{
    VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, NamedGroup, ServerConfig, SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
};

use crate::cluster::{CLUSTER, DAY, loopback};

/// A chain and the key that signs with it.
#[derive(Clone)]
pub(crate) struct Papers {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

/// Signs anything with an authority's key.
pub(crate) struct Forger {
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) key_pem: String,
}

impl Forger {
    pub(crate) fn with_key_of(authority: &Authority) -> Self {
        Self {
            authority: CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())
                .expect("PEM"),
            key_pem: authority.key_pem().to_owned(),
        }
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.key_pem).expect("a key");
        Issuer::from_ca_cert_der(&self.authority, key).expect("an authority")
    }

    /// A leaf that is as `params` says.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Papers {
        self.sign_for(KeyPair::generate().expect("a key"), params)
    }

    /// The same, for a key of any kind.
    pub(crate) fn sign_for(&self, key: KeyPair, params: &CertificateParams) -> Papers {
        let leaf = params.signed_by(&key, &self.issuer()).expect("a leaf");
        Papers {
            chain: vec![leaf.into()],
            key: key.serialize_der(),
        }
    }

    /// A leaf under an authority of one's own, which this one has signed in spite of its path length.
    pub(crate) fn sign_through_another(&self, params: &CertificateParams) -> Papers {
        let key = KeyPair::generate().expect("a key");
        let middle_params = authority("between");
        let middle = middle_params
            .signed_by(&key, &self.issuer())
            .expect("an authority");
        let another = Self {
            authority: middle.into(),
            key_pem: key.serialize_pem(),
        };
        let mut papers = another.sign(params);
        papers.chain.push(another.authority);
        papers
    }
}

/// Parameters of an authority without a bound on its path.
pub(crate) fn authority(name: &str) -> CertificateParams {
    let mut params = honest(&format!("kontiki://{CLUSTER}/node/{name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// Parameters of a leaf with which nothing is wrong, whichever side shows it.
pub(crate) fn honest(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "forged");
    params.subject_alt_names = vec![uri_name(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

pub(crate) fn uri_name(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

/// A leaf that has signed itself.
pub(crate) fn self_signed(params: &CertificateParams) -> Papers {
    let key = KeyPair::generate().expect("a key");
    let leaf = params.self_signed(&key).expect("a leaf");
    Papers {
        chain: vec![leaf.into()],
        key: key.serialize_der(),
    }
}

fn certified(papers: &Papers) -> SingleCertAndKey {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(papers.key.clone()));
    let key = ring::default_provider()
        .key_provider
        .load_private_key(der)
        .expect("a key");
    // Not `from_der`, which would notice a key that is not the certificate's.
    CertifiedKey::new(papers.chain.clone(), key).into()
}

/// A dialer that shows these papers, or none, takes any listener's, and counts tickets.
pub(crate) struct RawDialer {
    endpoint: quinn::Endpoint,
    tickets: Arc<Tickets>,
}

/// Tickets that listeners have given.
#[derive(Debug, Default)]
pub(crate) struct Tickets(AtomicUsize);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

impl RawDialer {
    pub(crate) fn new(papers: Option<&Papers>, alpn: &[&[u8]]) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAnybody));
        let mut tls = match papers {
            None => builder.with_no_client_auth(),
            Some(papers) => builder.with_client_cert_resolver(Arc::new(certified(papers))),
        };
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let tickets = Arc::new(Tickets::default());
        tls.resumption = Resumption::store(Arc::clone(&tickets) as _);
        let crypto = QuicClientConfig::try_from(tls).expect("QUIC's cipher suite");
        let mut endpoint = quinn::Endpoint::client(loopback()).expect("a free port");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        Self { endpoint, tickets }
    }

    pub(crate) fn tickets(&self) -> usize {
        self.tickets.0.load(Ordering::SeqCst)
    }

    /// Dials, tries to say something, and returns why it could not.
    pub(crate) async fn refusal(&self, to: SocketAddr) -> quinn::ConnectionError {
        let connection = match self.dial(to).expect("an address").await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        if let Ok((mut send, _recv)) = connection.open_bi().await {
            let _ = send.write_all(b"let me in").await;
        }
        connection.closed().await
    }

    pub(crate) fn dial(&self, to: SocketAddr) -> Result<quinn::Connecting, quinn::ConnectError> {
        self.endpoint.connect(to, "kontiki")
    }
}

/// A listener that shows these papers and takes any dialer's.
pub(crate) fn raw_listener(papers: &Papers, alpn: &[u8]) -> quinn::Endpoint {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(TakesAnybody))
        .with_cert_resolver(Arc::new(certified(papers)));
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("QUIC's cipher suite");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    quinn::Endpoint::server(config, loopback()).expect("a free port")
}

/// What a refused side was told, as text.
pub(crate) fn told(error: &quinn::ConnectionError) -> (u64, String) {
    match error {
        quinn::ConnectionError::ConnectionClosed(close) => (
            u64::from(close.error_code),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        quinn::ConnectionError::ApplicationClosed(close) => (
            VarInt::into_inner(close.error_code),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        error => (0, error.to_string()),
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

impl ClientCertVerifier for TakesAnybody {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
