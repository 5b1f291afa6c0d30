//! Who one is and whom one trusts, read from PEM and checked as far as one side can.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{crypto::ring, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime,
    pem::{self, PemObject},
};

use crate::{
    Authority, Certificate, Error, Identity, Revoked, certificate,
    reset::ResetSecret,
    voucher::{Signs, is_voucher},
};

/// Certificates in one PEM text: more than this is not a list of roots.
const CERTIFICATES_MAX: usize = 64;

/// Who one is and whom one trusts. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
    revoked: Arc<Revoked>,
}

struct Inner {
    own: Certificate,
    key: Arc<CertifiedKey>,
    reset: ResetSecret,
    node_roots: Arc<[Root]>,
    client_roots: Arc<[Root]>,
}

/// A root and when it is good: the chain verification of the library asks a root for neither.
#[derive(PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Credentials {
    /// From PEM texts: the own chain and key, the roots that peers' (nodes') certificates chain to,
    /// and the roots that clients' certificates chain to (empty for a client, which accepts none).
    ///
    /// A leaf is signed by a root directly. An intermediate authority of one's own organisation is
    /// used by giving its certificate as the root. While one authority takes the place of another, the word
    /// of the old one for the new one may stand behind the leaf, for those who know the old one alone.
    pub fn from_pem(
        chain_pem: &str,
        key_pem: &str,
        node_roots_pem: &str,
        client_roots_pem: &str,
    ) -> Result<Self, Error> {
        let chain = certificates("the own chain", chain_pem)?;
        let not_one = || {
            Error::Credentials(format!(
                "the own chain must be one certificate, signed by a root directly; it has {}",
                chain.len()
            ))
        };
        let (leaf, behind) = chain.split_first().ok_or_else(not_one)?;
        let own = Certificate::from_der(leaf)
            .map_err(|why| Error::Credentials(format!("the own certificate {why}")))?;
        let signs = Signs::of(own.identity.role);
        match behind {
            [] => {}
            [one] if is_voucher(one, own.identity.cluster, signs) => {}
            _ => return Err(not_one()),
        }
        check_validity(&own)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| unreadable("the own key", "private key", error))?;
        let reset = ResetSecret::new(key.secret_der());
        let key =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
                Error::Credentials(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        "the own key does not belong to the own certificate".to_owned()
                    }
                    error => format!("the own key cannot be used: {error}"),
                })
            })?;
        let node_roots = roots("the nodes' roots", node_roots_pem)?;
        if node_roots.is_empty() {
            return Err(Error::Credentials(
                "the nodes' roots are missing: without them no node can be told from a stranger"
                    .to_owned(),
            ));
        }
        let client_roots = roots("the clients' roots", client_roots_pem)?;
        Ok(Self {
            inner: Arc::new(Inner {
                own,
                key: Arc::new(key),
                reset,
                node_roots: node_roots.into(),
                client_roots: client_roots.into(),
            }),
            revoked: Arc::default(),
        })
    }

    /// The same, with these certificates good no more.
    #[must_use]
    pub fn revoking(self, revoked: Arc<Revoked>) -> Self {
        Self { revoked, ..self }
    }

    /// SHA-256 of every authority that is trusted, nodes' and clients'.
    #[must_use]
    pub fn trusted(&self) -> Vec<[u8; 32]> {
        let roots = self.inner.node_roots.iter();
        let roots = roots.chain(self.inner.client_roots.iter());
        roots
            .map(|root| certificate::sha256(&root.certificate))
            .collect()
    }

    /// SHA-256 of the one of the nodes' authorities that has signed the own certificate.
    pub fn signed_by(&self) -> Result<[u8; 32], Error> {
        Ok(certificate::sha256(&self.own_root()?.certificate))
    }

    /// The own identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.own.identity
    }

    /// The own certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.inner.own
    }

    /// Checks that who trusts the same nodes' roots trusts this one's own certificate: a root that is not
    /// the one that signed it is better told of by a node itself than by all others.
    pub fn check_chain(&self) -> Result<(), Error> {
        self.own_root().map(|_| ())
    }

    /// Whether who is signed by these two, nodes and clients, is trusted here.
    #[must_use]
    pub fn trusts(&self, nodes: &Authority, clients: &Authority) -> bool {
        let among = |roots: &[Root], authority: &Authority| {
            let mut roots = roots.iter();
            roots.any(|root| certificate::sha256(&root.certificate) == authority.fingerprint())
        };
        among(&self.inner.node_roots, nodes) && among(&self.inner.client_roots, clients)
    }

    /// The one of the nodes' roots that has signed the own certificate.
    pub(crate) fn own_root(&self) -> Result<&Root, Error> {
        let inner = &self.inner;
        let mut refused = webpki::Error::UnknownIssuer;
        for root in inner.node_roots.iter() {
            match signed_by(root, &inner.key.cert) {
                Ok(()) => return Ok(root),
                Err(error) => refused = error,
            }
        }
        let who = &inner.own.identity;
        Err(Error::Credentials(format!(
            "the own certificate of {who} is not one that the nodes' roots have signed ({refused}): the \
             authority that signed it belongs among them"
        )))
    }

    /// What stands behind the own certificate: an authority's word for the one that has signed it.
    pub(crate) fn own_voucher(&self) -> Option<&CertificateDer<'static>> {
        self.inner.key.cert.get(1)
    }

    /// Whether whoever is trusted by these is by the others, and nobody else.
    pub(crate) fn trust_like(&self, others: &Self) -> bool {
        let revoked_like =
            Arc::ptr_eq(&self.revoked, &others.revoked) || self.revoked == others.revoked;
        revoked_like && self.roots_like(others)
    }

    /// The same, but for what was revoked.
    pub(crate) fn roots_like(&self, others: &Self) -> bool {
        let (these, others) = (&self.inner, &others.inner);
        these.own.identity.cluster == others.own.identity.cluster
            && these.node_roots == others.node_roots
            && these.client_roots == others.client_roots
    }

    /// Whether whoever has signed what the others let in has signed what this lets in.
    pub(crate) fn roots_include(&self, others: &Self) -> bool {
        let (these, others) = (&self.inner, &others.inner);
        let all = |these: &[Root], others: &[Root]| others.iter().all(|one| these.contains(one));
        these.own.identity.cluster == others.own.identity.cluster
            && all(&these.node_roots, &others.node_roots)
            && all(&these.client_roots, &others.client_roots)
    }

    /// The authorities of the nodes that are trusted, as PEM.
    #[must_use]
    pub fn node_roots_pem(&self) -> String {
        let roots = self.inner.node_roots.iter();
        roots
            .map(|root| certificate::to_pem(&root.certificate))
            .collect()
    }

    /// The authorities of the clients that are trusted, as PEM.
    #[must_use]
    pub fn client_roots_pem(&self) -> String {
        let roots = self.inner.client_roots.iter();
        roots
            .map(|root| certificate::to_pem(&root.certificate))
            .collect()
    }

    /// What was revoked.
    #[must_use]
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.revoked
    }

    pub(crate) fn reset(&self) -> &ResetSecret {
        &self.inner.reset
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.inner.key
    }

    pub(crate) fn node_roots(&self) -> &Arc<[Root]> {
        &self.inner.node_roots
    }

    pub(crate) fn client_roots(&self) -> &Arc<[Root]> {
        &self.inner.client_roots
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("own", &self.inner.own)
            .finish_non_exhaustive()
    }
}

/// The other side would refuse it; one's own clock or file is the likelier fault, and better told
/// here.
fn check_validity(own: &Certificate) -> Result<(), Error> {
    let now = SystemTime::now();
    if let Ok(since) = now.duration_since(own.not_after) {
        return Err(Error::Credentials(format!(
            "the own certificate of {} has expired {} ago",
            own.identity,
            Rough(since)
        )));
    }
    if let Ok(until) = own.not_before.duration_since(now) {
        return Err(Error::Credentials(format!(
            "the own certificate of {} is good only in {}: is this machine's clock right?",
            own.identity,
            Rough(until)
        )));
    }
    Ok(())
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(what, "certificate", error))?;
    if found.len() > CERTIFICATES_MAX {
        return Err(Error::Credentials(format!(
            "{what} have more than {CERTIFICATES_MAX} certificates"
        )));
    }
    Ok(found)
}

/// Those of a PEM text.
pub(crate) fn roots(what: &str, pem: &str) -> Result<Vec<Root>, Error> {
    let found = certificates(what, pem)?;
    if found.is_empty() && !pem.trim().is_empty() {
        return Err(Error::Credentials(format!(
            "{what} have no certificate in their PEM"
        )));
    }
    found
        .iter()
        .enumerate()
        .map(|(at, der)| {
            root(der)
                .map_err(|why| Error::Credentials(format!("{what}: certificate {} {why}", at + 1)))
        })
        .collect()
}

fn signed_by(root: &Root, chain: &[CertificateDer<'_>]) -> Result<(), webpki::Error> {
    let leaf = chain.first().expect("it was read when this was made");
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let anchors = std::slice::from_ref(&root.anchor);
    let (now, usage) = (UnixTime::now(), webpki::KeyUsage::client_auth());
    webpki::EndEntityCert::try_from(leaf)?
        .verify_for_usage(algorithms.all, anchors, &[], now, usage, None, None)
        .map(|_| ())
}

/// A root, or why a certificate can be none; continues "certificate".
pub(crate) fn root(der: &CertificateDer<'_>) -> Result<Root, String> {
    if !certificate::is_authority(der)? {
        return Err("may not sign others: it is not a CA's".to_owned());
    }
    if !certificate::is_as_signed(der)? {
        return Err(
            "does not bear its own signature: it is damaged, or of a kind that is not known here"
                .to_owned(),
        );
    }
    let (not_before, not_after) = certificate::validity(der)?;
    let anchor = webpki::anchor_from_trusted_cert(der)
        .map_err(|error| format!("cannot be a root: {error}"))?
        .to_owned();
    Ok(Root {
        certificate: der.clone().into_owned(),
        anchor,
        not_before,
        not_after,
    })
}

fn unreadable(what: &str, kind: &str, error: pem::Error) -> Error {
    Error::Credentials(match error {
        pem::Error::NoItemsFound => format!("{what} has no {kind} in its PEM"),
        // What the library quotes is not shown: where line ends are missing it is the key.
        pem::Error::MissingSectionEnd { .. } => {
            format!("{what} cannot be read: its PEM breaks off, a section has no END")
        }
        pem::Error::IllegalSectionStart { .. } => {
            format!("{what} cannot be read: a line of its PEM has BEGIN and does not end in -----")
        }
        error => format!("{what} cannot be read: {error}"),
    })
}

/// A span of time as a person says it.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} seconds"),
            seconds @ 120..7_200 => write!(f, "{} minutes", seconds / 60),
            seconds @ 7_200..172_800 => write!(f, "{} hours", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::ClusterId;

    use super::*;
    use crate::Role;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    struct Texts {
        chain: String,
        key: String,
        nodes: String,
        clients: String,
    }

    fn good() -> Texts {
        let nodes = Authority::new("nodes", DAY).expect("an authority");
        let clients = Authority::new("clients", DAY).expect("an authority");
        let name = Identity::new(ClusterId(7), Role::Node, "n1").expect("a name");
        let leaf = nodes.issue(&name, DAY).expect("a leaf");
        Texts {
            chain: leaf.certificate_pem,
            key: leaf.key_pem,
            nodes: nodes.certificate_pem().to_owned(),
            clients: clients.certificate_pem().to_owned(),
        }
    }

    fn read(texts: &Texts) -> Result<Credentials, Error> {
        Credentials::from_pem(&texts.chain, &texts.key, &texts.nodes, &texts.clients)
    }

    #[test]
    fn a_key_that_is_cut_or_run_together_is_refused_and_not_shown() {
        let whole = good().key;
        let cut = whole[..100].to_owned();
        let in_a_line = whole.replace('\n', "");
        let open = in_a_line.trim_end_matches('-').to_owned();
        for (key, why) in [
            (cut, "its PEM breaks off, a section has no END"),
            (in_a_line, "its PEM breaks off, a section has no END"),
            (
                open,
                "a line of its PEM has BEGIN and does not end in -----",
            ),
        ] {
            let texts = Texts { key, ..good() };
            let refused = read(&texts).expect_err("no key").to_string();
            assert_eq!(refused, format!("the own key cannot be read: {why}"));
        }
    }

    #[test]
    fn good_texts_make_credentials_with_and_without_clients_roots() {
        let mut texts = good();
        let identity = read(&texts).expect("good").identity().to_string();
        assert_eq!(identity, format!("kontiki://{:032x}/node/n1", 7));
        texts.clients = String::new();
        read(&texts).expect("a client has none");
        texts.nodes = format!("{}{}", texts.nodes, good().nodes);
        read(&texts).expect("two roots, as in a rotation");
    }

    #[test]
    fn a_root_with_any_bit_flipped_is_refused_unless_it_names_another_issuer_then() {
        let authority = Authority::new("clients", DAY).expect("an authority");
        let der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes());
        let der = der.expect("a certificate").to_vec();
        assert!(root(&der.clone().into()).is_ok());
        let name = b"clients";
        let in_a_name = |at: usize| {
            let around = &der[at.saturating_sub(24)..(at + 24).min(der.len())];
            around.windows(name.len()).any(|bytes| bytes == name)
        };
        for at in (0..der.len()).filter(|at| !in_a_name(*at)) {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(root(&flipped.into()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_leaf_that_the_own_roots_have_not_signed_is_told_of() {
        let texts = good();
        read(&texts).expect("good").check_chain().expect("signed");
        let nodes = format!("{}{}", good().nodes, texts.nodes);
        let rotated = Texts { nodes, ..texts };
        read(&rotated).expect("good").check_chain().expect("signed");
        let astray = Texts {
            nodes: good().nodes,
            ..good()
        };
        let refused = read(&astray).expect("two good texts").check_chain();
        let why = refused.expect_err("another's root").to_string();
        assert!(
            why.starts_with("the own certificate of kontiki://"),
            "{why}"
        );
    }

    #[test]
    fn each_text_that_is_wrong_is_named() {
        type Spoil = fn(&mut Texts);
        let table: [(&str, Spoil); 15] = [
            ("the own chain must be one certificate", |t| t.chain.clear()),
            ("the own chain must be one certificate", |t| {
                t.chain = format!("{}{}", t.chain, t.nodes);
            }),
            ("the own chain cannot be read", |t| {
                t.chain = t.chain.replace("-----END", "-----ENDE");
            }),
            ("the own certificate has no name", |t| {
                t.chain.clone_from(&t.nodes)
            }),
            ("the own key has no private key", |t| t.key.clear()),
            ("the own key has no private key", |t| {
                t.key.clone_from(&t.chain)
            }),
            ("the own key does not belong", |t| t.key = good().key),
            ("the own key cannot be", |t| {
                t.key = t.key.replace("MIGH", "MIGI")
            }),
            ("the nodes' roots are missing", |t| t.nodes.clear()),
            ("the nodes' roots have no certificate", |t| {
                t.nodes.clone_from(&t.key)
            }),
            ("the nodes' roots: certificate 1 may not sign", |t| {
                t.nodes.clone_from(&t.chain);
            }),
            ("the nodes' roots: certificate 2 may not sign", |t| {
                t.nodes = format!("{}{}", t.nodes, t.chain);
            }),
            ("the nodes' roots have more than 64", |t| {
                t.nodes = t.nodes.repeat(65)
            }),
            ("the clients' roots have no certificate", |t| {
                t.clients = "nothing".to_owned()
            }),
            ("the clients' roots: certificate 1 may not sign", |t| {
                t.clients.clone_from(&t.chain);
            }),
        ];
        for (sentence, spoil) in table {
            let mut texts = good();
            spoil(&mut texts);
            match read(&texts) {
                Err(Error::Credentials(told)) => {
                    assert!(told.starts_with(sentence), "{told}, and not {sentence}");
                }
                other => panic!("{sentence}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_expired_certificate_of_ones_own_is_told_here_already() {
        let nodes = Authority::new("nodes", DAY).expect("an authority");
        let name = Identity::new(ClusterId(7), Role::Node, "n1").expect("a name");
        let leaf = nodes.issue(&name, Duration::ZERO).expect("a leaf");
        let expired = Credentials::from_pem(
            &leaf.certificate_pem,
            &leaf.key_pem,
            nodes.certificate_pem(),
            "",
        );
        match expired {
            Err(Error::Credentials(told)) => {
                assert!(
                    told.contains("/node/n1 has expired 0 seconds ago"),
                    "{told}"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn trust_is_alike_with_another_certificate_and_other_with_another_root() {
        let texts = good();
        let one = read(&texts).expect("good");
        assert!(one.trust_like(&read(&texts).expect("good")));
        for change in [
            Texts {
                nodes: format!("{}{}", texts.nodes, good().nodes),
                ..good_copy(&texts)
            },
            Texts {
                clients: good().clients,
                ..good_copy(&texts)
            },
        ] {
            assert!(!one.trust_like(&read(&change).expect("good")));
        }
    }

    #[test]
    fn authorities_are_trusted_that_are_among_the_roots_of_their_kind() {
        let authority = || Authority::new("another", DAY).expect("an authority");
        let (nodes, clients, other) = (authority(), authority(), authority());
        let name = Identity::new(ClusterId(7), Role::Node, "n1").expect("a name");
        let leaf = nodes.issue(&name, DAY).expect("a leaf");
        let two = format!("{}{}", other.certificate_pem(), nodes.certificate_pem());
        let credentials = Credentials::from_pem(
            &leaf.certificate_pem,
            &leaf.key_pem,
            &two,
            clients.certificate_pem(),
        )
        .expect("good");
        assert!(credentials.trusts(&nodes, &clients));
        assert!(credentials.trusts(&other, &clients));
        assert!(!credentials.trusts(&nodes, &other));
        assert!(!credentials.trusts(&clients, &nodes));
    }

    fn good_copy(texts: &Texts) -> Texts {
        Texts {
            chain: texts.chain.clone(),
            key: texts.key.clone(),
            nodes: texts.nodes.clone(),
            clients: texts.clients.clone(),
        }
    }

    #[test]
    fn a_private_key_is_not_shown_by_debug() {
        let texts = good();
        let shown = format!("{:?}", read(&texts).expect("good"));
        assert!(!shown.contains("PRIVATE") && shown.len() < 600, "{shown}");
    }
}
