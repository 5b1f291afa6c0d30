//! A key that is to get a certificate: the asker's pair, and what a listener believes of the other side's.
//!
//! TLS is mutual here too. Who joins shows a certificate that it has signed itself and that names
//! nobody; all that it proves, with the handshake's own signature, is that its bearer holds the key.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PublicKeyData, SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use rustls::{crypto::ring as provider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Certificate, Error, certificate, reset::ResetSecret};

/// Longest certificate of a stranger's that is read at all; ours have about 300 bytes.
const CERTIFICATE_BYTES_MAX: usize = 4 << 10;

/// A key pair for which a certificate is asked. It never leaves the machine that made it.
pub struct JoinKey(KeyPair);

/// A public key whose private half the other side has shown to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    info: Vec<u8>,
}

impl JoinKey {
    /// A new one, P-256.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate()
            .map(Self)
            .map_err(|error| Error::Credentials(format!("no key can be made: {error}")))
    }

    /// One that was made before, so that what was interrupted goes on under the same key.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        // What the library quotes may be the key: it is not shown.
        KeyPair::from_pem(pem)
            .map(Self)
            .map_err(|_| Error::Credentials("it is no private key in PEM".to_owned()))
    }

    /// Its text; keep it in a file of mode 0600.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The key and a certificate that says nothing of its bearer.
    pub(crate) fn introduction(&self) -> Result<CertifiedKey, Error> {
        let unmade = |error: &dyn std::fmt::Display| {
            Error::Credentials(format!("the key cannot introduce itself: {error}"))
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let certificate = params
            .self_signed(&self.0)
            .map_err(|error| unmade(&error))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()));
        CertifiedKey::from_der(vec![certificate.into()], der, &provider::default_provider())
            .map_err(|error| unmade(&error))
    }

    pub(crate) fn reset(&self) -> ResetSecret {
        ResetSecret::new(self.0.serialized_der())
    }
}

impl PublicKey {
    /// Reads what a stranger has shown; the error continues a sentence that begins with "certificate
    /// refused: ". When it is good is not asked: it vouches for nothing but its key.
    pub(crate) fn of_stranger(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let [shown] = chain else {
            return Err(format!(
                "a stranger shows one certificate, its own, and not {}",
                chain.len()
            ));
        };
        if shown.len() > CERTIFICATE_BYTES_MAX {
            return Err(format!(
                "it has {} bytes, the limit is {CERTIFICATE_BYTES_MAX}",
                shown.len()
            ));
        }
        if certificate::has_names(shown).map_err(|why| format!("it {why}"))? {
            return Err("it names somebody, and who joins has no name yet".to_owned());
        }
        let info = certificate::public_key(shown).map_err(|why| format!("it {why}"))?;
        Self::from_info(info)
    }

    /// The one that a certificate is for, so that another can be made for it.
    pub fn of(certificate: &Certificate) -> Result<Self, Error> {
        Self::from_info(certificate.key_info().to_vec()).map_err(Error::Credentials)
    }

    fn from_info(info: Vec<u8>) -> Result<Self, String> {
        let kinds = [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ];
        let key = SubjectPublicKeyInfo::from_der(&info)
            .ok()
            .filter(|key| kinds.contains(&key.algorithm()));
        match key {
            Some(_) => Ok(Self { info }),
            None => Err("its key is neither of P-256 nor P-384 nor Ed25519".to_owned()),
        }
    }

    /// SHA-256 of it: the same whoever has signed what for it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let digest = digest(&SHA256, &self.info);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    pub(crate) fn for_signing(&self) -> SubjectPublicKeyInfo {
        SubjectPublicKeyInfo::from_der(&self.info).expect("it was read when this was made")
    }
}

impl From<&JoinKey> for PublicKey {
    fn from(key: &JoinKey) -> Self {
        Self {
            info: key.0.subject_public_key_info(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_wire::ClusterId;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::{Authority, Credentials, Identity, Role};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn shown(key: &JoinKey) -> Vec<CertificateDer<'static>> {
        key.introduction().expect("a certificate").cert
    }

    #[test]
    fn what_a_stranger_shows_has_the_public_half_of_its_key_and_not_the_private_one() {
        let key = JoinKey::generate().expect("a key");
        let pair = key.0.serialize_der();
        // In PKCS #8 the scalar follows this.
        let at = pair.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]);
        let at = at.expect("a P-256 key") + 5;
        let scalar = &pair[at..at + 32];
        let public = key.0.public_key_raw();
        let shown = shown(&key);
        let holds = |what: &[u8]| shown[0].windows(what.len()).any(|bytes| bytes == what);
        assert!(holds(public) && !holds(scalar));
    }

    #[test]
    fn a_signed_leaf_is_the_strangers_own_and_is_as_good_as_an_issued_one() {
        let authority = Authority::new("nodes", DAY).expect("an authority");
        let key = JoinKey::generate().expect("a key");
        let known = PublicKey::of_stranger(&shown(&key)).expect("good");
        assert_eq!(known, PublicKey::from(&key));
        let identity = Identity::new(ClusterId(7), Role::Node, "n4").expect("a name");
        let leaf = authority.sign(&known, &identity, DAY).expect("a leaf");
        let roots = authority.certificate_pem();
        let credentials = Credentials::from_pem(&leaf, &key.pem(), roots, "").expect("they fit");
        credentials.check_chain().expect("signed by the root");
        assert_eq!(*credentials.identity(), identity);
        let certificate = Certificate::from_pem(&leaf).expect("a leaf");
        assert_eq!(certificate.key_fingerprint, known.fingerprint());
        let other = JoinKey::generate().expect("a key");
        Credentials::from_pem(&leaf, &other.pem(), roots, "").expect_err("another's key");
    }

    #[test]
    fn a_leaf_for_a_stranger_does_not_outlive_its_authority() {
        let expired = Authority::new("brief", Duration::ZERO).expect("an authority");
        let key = PublicKey::from(&JoinKey::generate().expect("a key"));
        let identity = Identity::new(ClusterId(7), Role::Node, "n4").expect("a name");
        expired.sign(&key, &identity, DAY).expect_err("expired");
    }

    #[test]
    fn a_key_is_read_back_and_what_is_none_is_not_shown() {
        let key = JoinKey::generate().expect("a key");
        let again = JoinKey::from_pem(&key.pem()).expect("the same");
        assert_eq!(PublicKey::from(&again), PublicKey::from(&key));
        let broken = key.pem().replace("-----END", "-----");
        let refused = JoinKey::from_pem(&broken)
            .err()
            .expect("no PEM")
            .to_string();
        assert_eq!(refused, "it is no private key in PEM");
    }

    #[test]
    fn what_is_no_strangers_certificate_is_refused() {
        let refuse = |chain: &[CertificateDer<'_>], told: &str| {
            let refused = PublicKey::of_stranger(chain).expect_err(told);
            assert!(refused.contains(told), "{refused}");
        };
        let good = shown(&JoinKey::generate().expect("a key"));
        refuse(&[], "and not 0");
        refuse(&[good[0].clone(), good[0].clone()], "and not 2");
        refuse(&[vec![0x30; 5_000].into()], "the limit is 4096");
        refuse(&[vec![].into()], "is not X.509");
        for cut in 0..good[0].len() {
            refuse(&[good[0][..cut].to_vec().into()], "is not X.509");
        }
        let authority = Authority::new("nodes", DAY).expect("an authority");
        for role in Role::ALL {
            let identity = Identity::new(ClusterId(7), role, "x").expect("a name");
            let leaf = authority.issue(&identity, DAY).expect("a leaf");
            let leaf = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes());
            refuse(&[leaf.expect("PEM")], "it names somebody");
        }
        // The same certificate, if its key were of another curve.
        const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let mut odd = good[0].to_vec();
        let at = odd.windows(P256.len()).position(|bytes| bytes == P256);
        odd[at.expect("a P-256 key") + P256.len() - 1] = 1;
        refuse(&[odd.into()], "neither of P-256");
    }
}
