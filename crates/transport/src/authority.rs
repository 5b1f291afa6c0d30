//! Makes certificates: an authority for nodes, another for clients, and leaves under them.

use std::time::{Duration, SystemTime};

use kontiki_wire::TopicPattern;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    Error, Identity, PublicKey, Role, certificate,
    certificate::{TOPICS_OID, VOUCHER_OID},
};

/// How far in the past a certificate begins at most, for members whose clocks are behind; a tenth of the
/// time that it is good for if that is less.
const BACKDATED: Duration = Duration::from_secs(300);

/// Bytes of a serial number, drawn at random: RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;

/// The longest validity that is given: the encoding ends with the year 9999.
const VALID_FOR_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A certificate authority with its key. It signs leaves only: its path length is 0.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
    not_after: SystemTime,
}

/// What a leaf is to be, beside whose it is.
#[derive(Clone, Debug)]
pub struct Terms {
    /// For how long it is good.
    pub valid_for: Duration,
    /// To which topics its bearer is confined; to none in particular if empty.
    pub topics: Vec<TopicPattern>,
    /// It does not begin to be good before, or then: what was given to this name before was taken back.
    pub after: Option<SystemTime>,
}

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The leaf certificate.
    pub certificate_pem: String,
    /// Its key; keep it in a file of mode 0600.
    pub key_pem: String,
}

impl Terms {
    /// Good for so long, and nothing else.
    #[must_use]
    pub const fn of(valid_for: Duration) -> Self {
        Self {
            valid_for,
            topics: Vec::new(),
            after: None,
        }
    }
}

impl Authority {
    /// A new authority; `common_name` is for people only.
    pub fn new(common_name: &str, valid_for: Duration) -> Result<Self, Error> {
        let mut params = params(common_name, SystemTime::now(), valid_for)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = params.self_signed(&key).map_err(unmade)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// An authority from its two PEM texts.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let unusable = |why: String| Error::Credentials(format!("the authority's {why}"));
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unusable(format!("certificate is not PEM: {error}")))?;
        let says = |why| unusable(format!("certificate {why}"));
        if !certificate::is_authority(&der).map_err(says)? {
            return Err(says("may not sign others: it is not a CA's".to_owned()));
        }
        let (_, not_after) = certificate::validity(&der).map_err(says)?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|error| unusable(format!("key cannot be used: {error}")))?;
        if !certificate::has_key(&der, &key).map_err(says)? {
            return Err(unusable(
                "key does not belong to its certificate".to_owned(),
            ));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| unusable(format!("certificate cannot be used: {error}")))?;
        Ok(Self {
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            not_after,
        })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        certificate::sha256(&self.der())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes());
        der.expect("it was read when this was made")
    }

    /// A certificate for the name and the key of another authority, which says what it is for.
    pub(crate) fn vouch_for(&self, to: &Self, scope: String) -> Result<Vec<u8>, Error> {
        let other_name = || {
            Error::Credentials(
                "an authority is vouched for whose name is one common name and nothing else"
                    .to_owned(),
            )
        };
        let der = to.der();
        let name = certificate::common_name(&der).ok_or_else(other_name)?;
        let now = SystemTime::now();
        let ends = self.not_after.min(to.not_after);
        let valid_for = ends.duration_since(now).unwrap_or_default();
        let mut params = params(&name, now, valid_for)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let said = CustomExtension::from_oid_content(VOUCHER_OID, scope.into_bytes());
        params.custom_extensions = vec![said];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(to.issuer.key(), &self.issuer);
        Ok(signed.map_err(unmade)?.der().to_vec())
    }

    /// A leaf for `identity`, with a new key, the one SAN URI, and extended key usage for both sides
    /// of TLS if a node, the client's side otherwise. It does not outlive the authority.
    pub fn issue(&self, identity: &Identity, valid_for: Duration) -> Result<Issued, Error> {
        let key = KeyPair::generate().map_err(unmade)?;
        Ok(Issued {
            certificate_pem: self.leaf(&key, identity, &Terms::of(valid_for))?,
            key_pem: key.serialize_pem(),
        })
    }

    /// The same leaf for a key that somebody else has made and has shown to hold. The key is all that is
    /// taken from them: who they are and what they may is said here.
    pub fn sign(
        &self,
        key: &PublicKey,
        identity: &Identity,
        valid_for: Duration,
    ) -> Result<String, Error> {
        self.sign_on(key, identity, &Terms::of(valid_for))
    }

    /// The same, on these terms.
    pub fn sign_on(
        &self,
        key: &PublicKey,
        identity: &Identity,
        terms: &Terms,
    ) -> Result<String, Error> {
        self.leaf(&key.for_signing(), identity, terms)
    }

    fn leaf(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        terms: &Terms,
    ) -> Result<String, Error> {
        let uri = identity.to_string();
        uri.parse::<Identity>().map_err(|why| {
            Error::Credentials(format!("no certificate is made for such a name: {why}"))
        })?;
        let now = SystemTime::now();
        let left = self.not_after.duration_since(now).map_err(|_| {
            Error::Credentials("the authority's certificate has expired: make a new one".to_owned())
        })?;
        let mut params = params(&identity.name, now, terms.valid_for.min(left))?;
        if let Some(after) = terms.after {
            let next = after + Duration::from_secs(1);
            params.not_before = params.not_before.max(next.into());
        }
        if !terms.topics.is_empty() {
            let lines: Vec<&str> = terms.topics.iter().map(TopicPattern::as_str).collect();
            let lines = lines.join("\n").into_bytes();
            params.custom_extensions = vec![CustomExtension::from_oid_content(TOPICS_OID, lines)];
        }
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(unmade)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity.role {
            Role::Node => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Role::Producer | Role::Consumer | Role::Operator => {
                vec![ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(unmade)?;
        Ok(certificate.pem())
    }
}

/// What authorities and leaves have in common. The library's own defaults are a serial derived from
/// the key and a validity of two thousand years, so both are always set.
fn params(
    common_name: &str,
    now: SystemTime,
    valid_for: Duration,
) -> Result<CertificateParams, Error> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| Error::Credentials("this machine gives no randomness".to_owned()))?;
    // Positive and of full length, whatever was drawn.
    serial[0] = serial[0] & 0x7f | 0x40;
    if valid_for > VALID_FOR_MAX {
        return Err(Error::Credentials(
            "a certificate is valid for a hundred years at most".to_owned(),
        ));
    }

    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATED.min(valid_for / 10)).into();
    params.not_after = (now + valid_for).into();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

fn unmade(error: rcgen::Error) -> Error {
    Error::Credentials(format!("the certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use kontiki_wire::ClusterId;
    use x509_parser::{
        certificate::X509Certificate,
        extensions::{GeneralName, ParsedExtension},
        prelude::FromDer,
    };

    use kontiki_wire::limits::TOKEN_TOPICS_MAX;

    use super::*;
    use crate::Certificate;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn authority() -> Authority {
        Authority::new("a test's", DAY).expect("an authority")
    }

    fn identity(role: Role) -> Identity {
        Identity::new(ClusterId(7), role, "n1").expect("a name")
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")
    }

    fn parsed<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
        X509Certificate::from_der(der).expect("X.509").1
    }

    #[test]
    fn serials_and_keys_are_drawn_anew_each_time() {
        let authority = authority();
        let issue = || authority.issue(&identity(Role::Node), DAY).expect("a leaf");
        let (one, two) = (issue(), issue());
        let serial = |issued: &Issued| {
            let certificate = Certificate::from_pem(&issued.certificate_pem);
            certificate.expect("readable").serial
        };
        assert_ne!(serial(&one), serial(&two));
        assert_eq!(serial(&one).len(), 2 * SERIAL_BYTES);
        assert_ne!(one.key_pem, two.key_pem);
    }

    #[test]
    fn a_leaf_is_good_from_a_little_ago_for_as_long_as_asked() {
        let issued = authority().issue(&identity(Role::Consumer), DAY / 2);
        let leaf = Certificate::from_pem(&issued.expect("a leaf").certificate_pem);
        let leaf = leaf.expect("readable");
        let good = leaf.not_after.duration_since(leaf.not_before);
        assert_eq!(good.expect("in order"), DAY / 2 + BACKDATED);
        assert!(leaf.not_after <= SystemTime::now() + DAY / 2);
        assert_eq!(leaf.identity, identity(Role::Consumer));
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let authority = authority();
        let issued = authority.issue(&identity(Role::Node), 10 * DAY);
        let leaf = Certificate::from_pem(&issued.expect("a leaf").certificate_pem);
        assert_eq!(leaf.expect("readable").not_after, authority.not_after);
    }

    #[test]
    fn an_authority_that_has_expired_issues_nothing() {
        let expired = Authority::new("brief", Duration::ZERO).expect("an authority");
        assert!(expired.issue(&identity(Role::Node), DAY).is_err());
    }

    #[test]
    fn an_authority_signs_leaves_only() {
        let pem = authority();
        let der = der(pem.certificate_pem());
        let certificate = parsed(&der);
        let constraints = certificate.basic_constraints().expect("readable");
        let constraints = constraints.expect("there");
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = certificate.key_usage().expect("readable").expect("there");
        assert!(usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
    }

    #[test]
    fn a_leaf_has_one_name_and_the_usage_of_its_role() {
        let authority = authority();
        for role in Role::ALL {
            let issued = authority.issue(&identity(role), DAY).expect("a leaf");
            let der = der(&issued.certificate_pem);
            let certificate = parsed(&der);
            assert!(!certificate.is_ca());
            let names = certificate.subject_alternative_name().expect("readable");
            let names = &names.expect("there").value.general_names;
            let uri = identity(role).to_string();
            assert_eq!(names.as_slice(), [GeneralName::URI(&uri)]);
            let usage = certificate.extended_key_usage().expect("readable");
            let usage = usage.expect("there").value;
            assert!(usage.client_auth && !usage.any);
            assert_eq!(usage.server_auth, role == Role::Node);
            assert!(
                certificate.extensions().iter().any(|extension| matches!(
                    extension.parsed_extension(),
                    ParsedExtension::AuthorityKeyIdentifier(_)
                )),
                "whose key has signed it is not said"
            );
        }
    }

    #[test]
    fn a_leaf_confines_its_bearer_to_the_topics_that_were_said() {
        let authority = authority();
        let key = PublicKey::from(&crate::JoinKey::generate().expect("a key"));
        let terms = |topics: &[&str]| Terms {
            topics: topics
                .iter()
                .map(|topic| topic.parse().expect("a pattern"))
                .collect(),
            ..Terms::of(DAY)
        };
        let read = |terms: &Terms| {
            let leaf = authority.sign_on(&key, &identity(Role::Producer), terms);
            Certificate::from_pem(&leaf.expect("a leaf")).expect("readable")
        };
        for topics in [&[] as &[&str], &["orders"], &["logs-*", "a/b?"]] {
            let leaf = read(&terms(topics));
            assert_eq!(leaf.topics, terms(topics).topics);
            assert_eq!(PublicKey::of(&leaf).expect("a key"), key);
        }
    }

    #[test]
    fn what_confines_and_cannot_be_read_makes_a_certificate_of_no_use() {
        let many = "a\n".repeat(TOKEN_TOPICS_MAX + 1);
        for text in ["", "a b", "\u{e4}", &many] {
            let mut params = params("x", SystemTime::now(), DAY).expect("params");
            let uri = identity(Role::Producer).to_string();
            params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
            let bytes = text.as_bytes().to_vec();
            params.custom_extensions = vec![CustomExtension::from_oid_content(TOPICS_OID, bytes)];
            let key = KeyPair::generate().expect("a key");
            let leaf = params.self_signed(&key).expect("a leaf").pem();
            let refused = Certificate::from_pem(&leaf)
                .expect_err("unreadable")
                .to_string();
            assert!(refused.contains("cannot be read"), "{refused}");
        }
    }

    #[test]
    fn a_leaf_begins_after_what_was_taken_back() {
        let key = PublicKey::from(&crate::JoinKey::generate().expect("a key"));
        let taken_back = SystemTime::now() - Duration::from_secs(10);
        let terms = Terms {
            after: Some(taken_back),
            ..Terms::of(DAY)
        };
        let leaf = authority().sign_on(&key, &identity(Role::Producer), &terms);
        let leaf = Certificate::from_pem(&leaf.expect("a leaf")).expect("readable");
        assert!(leaf.not_before > taken_back && leaf.not_before <= SystemTime::now());
    }

    #[test]
    fn an_authority_is_read_back_from_its_texts() {
        let made = authority();
        let read = Authority::from_pem(made.certificate_pem(), made.key_pem()).expect("good");
        assert_eq!(read.certificate_pem(), made.certificate_pem());
        read.issue(&identity(Role::Node), DAY).expect("a leaf");
    }

    #[test]
    fn texts_that_make_no_authority_are_refused_by_name() {
        let (one, other) = (authority(), authority());
        let leaf = one.issue(&identity(Role::Node), DAY).expect("a leaf");
        let table = [
            ("", one.key_pem(), "the authority's certificate is not PEM"),
            (one.certificate_pem(), "", "the authority's key"),
            (
                one.key_pem(),
                one.key_pem(),
                "the authority's certificate is not PEM",
            ),
            (one.certificate_pem(), other.key_pem(), "does not belong"),
            (&leaf.certificate_pem, &leaf.key_pem, "may not sign others"),
        ];
        for (certificate, key, sentence) in table {
            match Authority::from_pem(certificate, key) {
                Err(Error::Credentials(told)) => assert!(told.contains(sentence), "{told}"),
                Err(other) => panic!("{other:?}"),
                Ok(_) => panic!("taken in spite of {sentence:?}"),
            }
        }
    }

    #[test]
    fn a_name_that_is_none_gets_no_certificate() {
        let mut identity = identity(Role::Node);
        identity.name = "N1/../x".to_owned();
        assert!(authority().issue(&identity, DAY).is_err());
    }

    #[test]
    fn a_validity_beyond_the_encoding_is_refused() {
        assert!(Authority::new("eternal", Duration::MAX).is_err());
        assert!(
            authority()
                .issue(&identity(Role::Node), Duration::MAX)
                .is_ok()
        );
    }
}
