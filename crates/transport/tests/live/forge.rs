//! Certificates that no honest authority makes, and who shows them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use kontiki_transport::Authority;
use quinn::VarInt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::{
    cluster::{CLUSTER, DAY, loopback},
    raw::{Papers, dialing, listening},
};

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
        let tickets = Arc::new(Tickets::default());
        let resumption = Resumption::store(Arc::clone(&tickets) as _);
        let mut endpoint = quinn::Endpoint::client(loopback()).expect("a free port");
        endpoint.set_default_client_config(dialing(papers, alpn, resumption));
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
    let config = listening(papers, alpn);
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
