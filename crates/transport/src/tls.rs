//! Both sides authenticated, always: TLS 1.3, no resumption, no early data, no second name.
//!
//! The verifier is one for both directions: the chain through `webpki`, then the identity. A
//! certificate that is not what the plane demands fails the handshake itself, so that no stream of
//! its bearer ever exists.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use kontiki_wire::ClusterId;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::{
    Certificate, Credentials, Error, Expect, Plane, Revoked, Role,
    credentials::Root,
    error::REFUSAL,
    succession::vouched,
    voucher::{Signs, is_voucher},
};

/// OIDs of the extended key usages, as DER.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Longest leaf that is read at all; ours have about 500 bytes.
const LEAF_BYTES_MAX: usize = 16 << 10;

/// Decides whether a certificate is good for one side of one plane.
pub(crate) struct Verifier {
    roots: Arc<[Root]>,
    usage: KeyUsage,
    cluster: ClusterId,
    signs: Signs,
    roles: &'static [Role],
    name: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
    /// What was taken back, and whether that goes for keys of members that are none any more: where they
    /// dial, they are told so by whoever takes links, and not only that their certificate is no good.
    revoked: Arc<Revoked>,
    keys: bool,
}

impl Verifier {
    /// For the certificates of those who dial.
    pub(crate) fn of_dialers(plane: Plane, credentials: &Credentials) -> Self {
        let (roots, signs, roles): (_, _, &'static [Role]) = match plane {
            Plane::Peers => (credentials.node_roots(), Signs::Nodes, &[Role::Node]),
            Plane::Clients => (
                credentials.client_roots(),
                Signs::Clients,
                &[Role::Producer, Role::Consumer, Role::Operator],
            ),
        };
        Self {
            roots: Arc::clone(roots),
            // Not the library's `client_auth()`: that one takes a certificate without any usage too.
            usage: KeyUsage::required(CLIENT_AUTH),
            cluster: credentials.identity().cluster,
            signs,
            roles,
            name: None,
            algorithms: algorithms(),
            revoked: Arc::clone(credentials.revoked()),
            keys: false,
        }
    }

    /// For the certificates of those who listen.
    pub(crate) fn of_listeners(credentials: &Credentials, expect: &Expect) -> Self {
        let cluster = credentials.identity().cluster;
        let mut verifier = Self::of_members(cluster, Arc::clone(credentials.node_roots()));
        verifier.revoked = Arc::clone(credentials.revoked());
        verifier.name = match expect {
            Expect::AnyNode => None,
            Expect::Node(name) => Some(name.clone()),
        };
        verifier
    }

    /// For the certificates of any members of a cluster that listen.
    pub(crate) fn of_members(cluster: ClusterId, roots: Arc<[Root]>) -> Self {
        Self {
            roots,
            usage: KeyUsage::required(SERVER_AUTH),
            cluster,
            signs: Signs::Nodes,
            roles: &[Role::Node],
            name: None,
            algorithms: algorithms(),
            revoked: Arc::default(),
            keys: true,
        }
    }

    /// The same, for one's own certificate: that it was taken back is for others to hold against it.
    fn forgiving(self) -> Self {
        Self {
            revoked: Arc::default(),
            ..self
        }
    }

    /// Refuses what was taken back.
    pub(crate) fn check_revoked(&self, certificate: &Certificate) -> Result<(), String> {
        let of_key = self.keys && self.revoked.has_key(certificate);
        match of_key || self.revoked.has(certificate) {
            true => Err("it was revoked".to_owned()),
            false => Ok(()),
        }
    }

    /// The bearer's certificate, if it is good at `now`; or what is wrong with it.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Certificate, String> {
        let (leaf, rest) = chain.split_first().ok_or("there is none")?;
        let voucher = match rest {
            [] => None,
            [one] if is_voucher(one, self.cluster, self.signs) => Some(one),
            rest => {
                return Err(format!(
                    "it comes with {} more, a leaf is signed by a root directly",
                    rest.len()
                ));
            }
        };
        if leaf.len() > LEAF_BYTES_MAX {
            return Err(format!(
                "it has {} bytes, the limit is {LEAF_BYTES_MAX}",
                leaf.len()
            ));
        }
        self.check_chain(leaf, voucher, now)?;
        let certificate = Certificate::from_der(leaf).map_err(|why| format!("it {why}"))?;
        self.check_identity(&certificate)?;
        self.check_revoked(&certificate)?;
        Ok(certificate)
    }

    /// Whether a root has signed it, or an authority that a root vouches for.
    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        voucher: Option<&CertificateDer<'_>>,
        now: UnixTime,
    ) -> Result<(), String> {
        let direct = self.check_signed_by(leaf, &self.roots, now);
        let (Err(_), Some(voucher)) = (&direct, voucher) else {
            return direct;
        };
        match vouched(voucher, &self.roots, self.cluster, self.signs) {
            Some(root) => self.check_signed_by(leaf, &[root], now),
            None => direct,
        }
    }

    fn check_signed_by(
        &self,
        leaf: &CertificateDer<'_>,
        roots: &[Root],
        now: UnixTime,
    ) -> Result<(), String> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let anchors: Vec<TrustAnchor<'_>> = roots
            .iter()
            .filter(|root| root.not_before <= at && at <= root.not_after)
            .map(|root| root.anchor.clone())
            .collect();
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    self.algorithms.all,
                    &anchors,
                    &[],
                    now,
                    self.usage,
                    None,
                    None,
                )
                .map(|_| ())
            })
            .map_err(|error| in_words(&error))
    }

    fn check_identity(&self, certificate: &Certificate) -> Result<(), String> {
        let identity = &certificate.identity;
        if identity.cluster != self.cluster {
            return Err(format!(
                "{identity} belongs to another cluster, this one is {}",
                self.cluster
            ));
        }
        if !self.roles.contains(&identity.role) {
            let wanted: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
            return Err(format!(
                "{identity} has the wrong role here, which is for {}",
                wanted.join(", ")
            ));
        }
        if let Some(name) = &self.name
            && *name != identity.name
        {
            return Err(format!("{identity} is not the node {name} that was meant"));
        }
        Ok(())
    }

    fn judge_in_handshake(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(rest).cloned().collect();
        match self.judge(&chain, now) {
            Ok(_) => Ok(()),
            Err(why) => Err(refused(why)),
        }
    }
}

/// Whether the bearer of a certificate has its key.
pub(crate) fn verify_signature(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature(message, leaf, signed, &algorithms())
}

/// How that may be signed.
pub(crate) fn schemes() -> Vec<SignatureScheme> {
    algorithms().supported_schemes()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

/// A refusal within the handshake. The library hands on this kind of error word for word, also to the
/// other side.
pub(crate) fn refused(why: String) -> rustls::Error {
    rustls::Error::General(format!("{REFUSAL}{why}"))
}

/// What is wrong with a chain, for people; continues "certificate refused: ".
fn in_words(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => "it has expired".into(),
        E::CertNotValidYet { .. } => "it is not valid yet".into(),
        E::UnknownIssuer => "no root that is trusted here has signed it".into(),
        E::InvalidSignatureForPublicKey => "its signature is not its issuer's".into(),
        E::CaUsedAsEndEntity => "it is an authority's, not a leaf".into(),
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            "its extended key usage does not allow this side of a connection".into()
        }
        E::PathLenConstraintViolated => "its chain is longer than its root allows".into(),
        error => format!("it is not sound: {error}"),
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("cluster", &self.cluster)
            .field("roles", &self.roles)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge_in_handshake(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// AES-128 first: with the instructions of today's processors it is twice as fast as ChaCha20.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

/// Whether these credentials can be a listener's: what nobody would let pass is better told here.
pub(crate) fn check_listener(plane: Plane, credentials: &Credentials) -> Result<(), Error> {
    let own = credentials.identity();
    if own.role != Role::Node {
        return Err(Error::Credentials(format!(
            "only a node listens, and the own certificate names {own}"
        )));
    }
    if plane == Plane::Clients && credentials.client_roots().is_empty() {
        return Err(Error::Credentials(
            "the clients' roots are missing: no client could be let in".to_owned(),
        ));
    }
    check_own(
        Verifier::of_listeners(credentials, &Expect::AnyNode),
        credentials,
    )
}

/// Whether these credentials can be a dialer's.
pub(crate) fn check_dialer(plane: Plane, credentials: &Credentials) -> Result<(), Error> {
    let own = credentials.identity();
    match (plane, own.role) {
        (Plane::Peers, Role::Node) => {
            check_own(Verifier::of_dialers(plane, credentials), credentials)
        }
        (Plane::Peers, _) => Err(Error::Credentials(format!(
            "only a node dials a peer, and the own certificate names {own}"
        ))),
        (Plane::Clients, Role::Node) => Err(Error::Credentials(format!(
            "a node does not dial as a client, and the own certificate names {own}"
        ))),
        // The clients' roots are the nodes' to know.
        (Plane::Clients, _) => Ok(()),
    }
}

fn check_own(verifier: Verifier, credentials: &Credentials) -> Result<(), Error> {
    let verifier = verifier.forgiving();
    let judged = verifier.judge(&credentials.key().cert, UnixTime::now());
    judged.map(|_| ()).map_err(|why| {
        Error::Credentials(format!(
            "other nodes would refuse the own certificate: {why}"
        ))
    })
}

/// The TLS half of a dialer.
pub(crate) fn client_config(
    plane: Plane,
    credentials: &Credentials,
    expect: &Expect,
) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(Verifier::of_listeners(credentials, expect));
    dialing(verifier, Arc::clone(credentials.key()), plane.alpn())
}

/// How to dial whom this verifier takes.
pub(crate) fn dialing(
    verifier: Arc<dyn ServerCertVerifier>,
    key: Arc<CertifiedKey>,
    alpn: &[u8],
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

pub(crate) fn unusable(error: rustls::Error) -> Error {
    Error::Credentials(format!("TLS cannot be set up: {error}"))
}

#[cfg(test)]
mod tests {
    use kontiki_wire::ClusterId;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::{Authority, Identity};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn credentials(nodes: &Authority, clients: &str, role: Role) -> Credentials {
        let name = Identity::new(ClusterId(7), role, "n1").expect("a name");
        let leaf = nodes.issue(&name, DAY).expect("a leaf");
        Credentials::from_pem(
            &leaf.certificate_pem,
            &leaf.key_pem,
            nodes.certificate_pem(),
            clients,
        )
        .expect("good credentials")
    }

    fn at(time: SystemTime) -> UnixTime {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        UnixTime::since_unix_epoch(since.expect("after 1970"))
    }

    #[test]
    fn a_root_that_has_expired_vouches_for_nobody() {
        let nodes = Authority::new("nodes", DAY).expect("an authority");
        let credentials = credentials(&nodes, "", Role::Node);
        let verifier = Verifier::of_listeners(&credentials, &Expect::AnyNode);
        // A leaf by the same key that outlives its root, as ours never do.
        let key = rcgen::KeyPair::from_pem(nodes.key_pem()).expect("a key");
        let root = CertificateDer::from_pem_slice(nodes.certificate_pem().as_bytes());
        let issuer = rcgen::Issuer::from_ca_cert_der(&root.expect("PEM"), key).expect("a root");
        let mut params = rcgen::CertificateParams::default();
        let uri = credentials.identity().to_string();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf: CertificateDer<'_> = params.signed_by(&key, &issuer).expect("a leaf").into();

        let now = SystemTime::now();
        verifier
            .judge(std::slice::from_ref(&leaf), at(now))
            .expect("good today");
        for (when, then) in [("late", now + 2 * DAY), ("early", now - DAY)] {
            let refused = verifier.judge(std::slice::from_ref(&leaf), at(then));
            let sentence = refused.expect_err(when);
            assert!(sentence.contains("no root"), "{when}: {sentence}");
        }
    }

    #[test]
    fn what_cannot_be_a_certificate_is_refused() {
        let nodes = Authority::new("nodes", DAY).expect("an authority");
        let credentials = credentials(&nodes, "", Role::Node);
        let verifier = Verifier::of_listeners(&credentials, &Expect::AnyNode);
        let now = UnixTime::now();
        let good = credentials.key().cert[0].to_vec();
        verifier
            .judge(&[good.clone().into()], now)
            .expect("the pattern is good");
        verifier.judge(&[], now).expect_err("no certificate");
        verifier
            .judge(&[vec![].into()], now)
            .expect_err("an empty one");
        verifier
            .judge(&[vec![0x30; 17 << 10].into()], now)
            .expect_err("a huge one");
        for cut in 0..good.len() {
            verifier
                .judge(&[good[..cut].to_vec().into()], now)
                .expect_err("a part of one");
        }
        for at in 0..good.len() {
            let mut spoiled = good.clone();
            spoiled[at] ^= 1;
            // Each byte is signed, or is the signature, or says how long either is.
            let judged = verifier.judge(&[spoiled.into()], now);
            assert!(judged.is_err(), "byte {at} may be any");
        }
        let longer = [good.as_slice(), &[0]].concat();
        verifier
            .judge(&[longer.into()], now)
            .expect_err("one with a byte too many");
    }

    #[test]
    fn credentials_that_others_would_refuse_are_refused_here() {
        let nodes = Authority::new("nodes", DAY).expect("an authority");
        let others = Authority::new("others", DAY).expect("an authority");
        let clients = others.certificate_pem();
        let name = Identity::new(ClusterId(7), Role::Node, "n1").expect("a name");
        let leaf = nodes.issue(&name, DAY).expect("a leaf");
        let astray = Credentials::from_pem(
            &leaf.certificate_pem,
            &leaf.key_pem,
            others.certificate_pem(),
            clients,
        );
        let astray = astray.expect("each text is good");
        let node = credentials(&nodes, clients, Role::Node);
        let producer = credentials(&nodes, clients, Role::Producer);
        let told = |outcome: Result<(), Error>| outcome.expect_err("refused").to_string();

        check_listener(Plane::Peers, &node).expect("a node listens");
        check_listener(Plane::Clients, &node).expect("a node listens");
        check_dialer(Plane::Peers, &node).expect("a node dials peers");
        check_dialer(Plane::Clients, &producer).expect("a client dials");
        for plane in [Plane::Peers, Plane::Clients] {
            assert!(told(check_listener(plane, &astray)).contains("would refuse"));
            assert!(told(check_listener(plane, &producer)).contains("only a node listens"));
        }
        assert!(told(check_dialer(Plane::Peers, &astray)).contains("would refuse"));
        assert!(told(check_dialer(Plane::Peers, &producer)).contains("only a node dials"));
        assert!(told(check_dialer(Plane::Clients, &node)).contains("does not dial as a client"));
        let alone = credentials(&nodes, "", Role::Node);
        check_listener(Plane::Peers, &alone).expect("peers need no clients' roots");
        assert!(told(check_listener(Plane::Clients, &alone)).contains("clients' roots"));
    }
}
