//! Reads certificates: the one SAN URI, the validity, and what is shown to people.
//!
//! Nothing here judges whether a certificate is to be trusted; `tls.rs` does.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kontiki_wire::{TopicPattern, limits::TOKEN_TOPICS_MAX};
use rcgen::PublicKeyData;
use ring::digest;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate, der_parser::Oid, extensions::GeneralName, prelude::FromDer,
};

use crate::{Error, Identity};

/// What a certificate says, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Its identity.
    pub identity: Identity,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// From when it is good.
    pub not_before: SystemTime,
    /// Until when it is good.
    pub not_after: SystemTime,
    /// SHA-256 of its DER in hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the key that it is for, as [`PublicKey::fingerprint`](crate::PublicKey::fingerprint)
    /// says it: the same in every certificate for that key.
    pub key_fingerprint: [u8; 32],
    /// To which topics its bearer is confined; to none in particular if empty.
    pub topics: Vec<TopicPattern>,
    /// The key as it stands there.
    key: Raw,
    /// The name of who has signed it, as it stands there.
    issuer: Raw,
}

/// A part of a certificate as it stands there: nothing to show to people.
#[derive(Clone, PartialEq, Eq)]
struct Raw(Vec<u8>);

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text. It is not judged: it may have expired, and anybody
    /// may have signed it.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Credentials(format!("the certificate {why}"));
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unreadable(format!("is not PEM: {error}")))?;
        Self::from_der(&der).map_err(unreadable)
    }

    /// Reads a leaf. The error continues a sentence that begins with "the certificate".
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let certificate = parse(der)?;
        Ok(Self {
            identity: only_uri(&certificate)?,
            serial: hexadecimal(certificate.raw_serial()),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            fingerprint: hexadecimal(&sha256(der)),
            key_fingerprint: sha256(certificate.public_key().raw),
            topics: topics(&certificate)?,
            key: Raw(certificate.public_key().raw.to_vec()),
            issuer: Raw(certificate.issuer().as_raw().to_vec()),
        })
    }

    /// Whether it bears the name of this authority as that of who has signed it. Whether it is trusted is another
    /// question.
    #[must_use]
    pub fn names_as_issuer(&self, authority_der: &[u8]) -> bool {
        parse(authority_der).is_ok_and(|by| by.subject().as_raw() == self.issuer.0)
    }

    /// What tells its key from others, in short. Whoever is let in as a member is known by it.
    #[must_use]
    pub fn mark(&self) -> u64 {
        let first = self.key_fingerprint.first_chunk();
        u64::from_le_bytes(*first.expect("it has 32 bytes")).max(1)
    }

    /// The key that it is for, as it stands there.
    pub(crate) fn key_info(&self) -> &[u8] {
        &self.key.0
    }
}

/// By what the extension is called that has the patterns of topics, one a line: of the arc that anybody may
/// take a number of.
pub(crate) const TOPICS_OID: &[u64] = &[2, 25, 5_142_868_906_013_442_541];

/// By what the extension is called that says for what an authority's word for another holds. A certificate without it
/// vouches for nobody, whoever has signed it.
pub(crate) const VOUCHER_OID: &[u64] = &[2, 25, 8_301_597_231_409_586_172];

/// To which topics a certificate confines its bearer. What cannot be read makes the certificate of no use:
/// whoever is meant to be confined is not let loose.
fn topics(certificate: &X509Certificate<'_>) -> Result<Vec<TopicPattern>, String> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|one| has_oid(&one.oid, TOPICS_OID));
    let Some(extension) = found.next() else {
        return Ok(Vec::new());
    };
    let unreadable = || "confines its bearer to topics in a way that cannot be read".to_owned();
    let text = str::from_utf8(extension.value).map_err(|_| unreadable())?;
    let topics: Vec<TopicPattern> = text
        .lines()
        .take(TOKEN_TOPICS_MAX + 1)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| unreadable())?;
    match topics.is_empty() || topics.len() > TOKEN_TOPICS_MAX || found.next().is_some() {
        true => Err(unreadable()),
        false => Ok(topics),
    }
}

/// Whether this is that one.
pub(crate) fn has_oid(oid: &Oid<'_>, is: &[u64]) -> bool {
    oid.iter().is_some_and(|arcs| arcs.eq(is.iter().copied()))
}

/// From when and until when a certificate of any kind is good.
pub(crate) fn validity(der: &[u8]) -> Result<(SystemTime, SystemTime), String> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

/// Whether a certificate says that it may sign others.
pub(crate) fn is_authority(der: &[u8]) -> Result<bool, String> {
    Ok(parse(der)?.is_ca())
}

/// Whether a certificate that is its own issuer's bears its own signature: nothing else tells of damage to
/// it. A key that cannot be used for that could not be used for what it has signed, either. Of one that
/// another has signed nothing can be said.
pub(crate) fn is_as_signed(der: &[u8]) -> Result<bool, String> {
    let certificate = parse(der)?;
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return Ok(true);
    }
    let same_kind = certificate.signature_algorithm == certificate.tbs_certificate.signature;
    Ok(same_kind && certificate.verify_signature(None).is_ok())
}

/// Whether a certificate is for this key.
pub(crate) fn has_key(der: &[u8], key: &impl PublicKeyData) -> Result<bool, String> {
    Ok(parse(der)?.public_key().raw == key.subject_public_key_info())
}

/// Whether a certificate has subject alternative names of any kind.
pub(crate) fn has_names(der: &[u8]) -> Result<bool, String> {
    match parse(der)?.subject_alternative_name() {
        Ok(names) => Ok(names.is_some()),
        Err(_) => Err("has subject alternative names that cannot be read".to_owned()),
    }
}

/// The name of an authority, if it is a common name and nothing else.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let certificate = parse(der).ok()?;
    let subject = certificate.subject();
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?;
    (subject.iter_attributes().count() == 1).then(|| name.to_owned())
}

/// The key that a certificate is for, as it stands there.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, String> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

/// SHA-256 of the first certificate of a PEM text, an authority's: what a token pins.
pub fn authority_fingerprint(pem: &str) -> Result<[u8; 32], Error> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| no_authority(&format!("is not PEM: {error}")))?;
    fingerprint_of_authority(&der)
}

/// The same of every certificate of a PEM text, in its order.
pub fn authority_fingerprints(pem: &str) -> Result<Vec<[u8; 32]>, Error> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.map(|der| {
        let der = der.map_err(|error| no_authority(&format!("is not PEM: {error}")))?;
        fingerprint_of_authority(&der)
    })
    .collect()
}

fn fingerprint_of_authority(der: &[u8]) -> Result<[u8; 32], Error> {
    match is_authority(der) {
        Ok(true) => Ok(sha256(der)),
        Ok(false) => Err(no_authority("may not sign others: it is not a CA's")),
        Err(why) => Err(no_authority(&why)),
    }
}

fn no_authority(why: &str) -> Error {
    Error::Credentials(format!("the authority's certificate {why}"))
}

/// A certificate as text.
pub(crate) fn to_pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let coded = STANDARD.encode(der);
    let lines = coded.as_bytes().chunks(LINE);
    let lines = lines.map(|line| str::from_utf8(line).expect("base64 is ASCII"));
    let body: Vec<&str> = lines.collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        body.join("\n")
    )
}

/// SHA-256.
pub(crate) fn sha256(der: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("has {} bytes too many", rest.len())),
        Err(_) => Err("is not X.509".to_owned()),
    }
}

/// The identity, if the certificate has this one name and no other: a second name would be a second
/// way to be judged.
fn only_uri(certificate: &X509Certificate<'_>) -> Result<Identity, String> {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.as_slice(),
        Ok(None) => &[],
        Err(_) => return Err("has subject alternative names that cannot be read".to_owned()),
    };
    match names {
        [GeneralName::URI(uri)] => uri.parse().map_err(|why| format!("names nobody: {why}")),
        [] => Err("has no name, exactly one SAN URI is needed".to_owned()),
        [_] => Err("has a name that is not a URI, exactly one SAN URI is needed".to_owned()),
        names => Err(format!(
            "has {} names, exactly one SAN URI is needed",
            names.len()
        )),
    }
}

fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
