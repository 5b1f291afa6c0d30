//! Certificates, and the identities that they name.

use std::{sync::OnceLock, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use kontiki_transport::{Authority, Certificate, Credentials, Identity, Issued, Role};
use kontiki_wire::ClusterId;
use rustls_pki_types::{CertificateDer, pem::PemObject};

struct Own {
    authority: Authority,
    issued: Issued,
}

fn own() -> &'static Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    OWN.get_or_init(|| {
        let day = Duration::from_secs(86_400);
        let authority = Authority::new("nodes", day).expect("an authority");
        let identity = Identity::new(ClusterId(7), Role::Node, "n1").expect("a name");
        let issued = authority.issue(&identity, day).expect("a leaf");
        Own { authority, issued }
    })
}

/// The bytes as a leaf, as a root, and, as text, as the name in a leaf. A name that is understood is
/// said in one way only.
pub(crate) fn papers(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(identity) = text.parse::<Identity>()
    {
        assert_eq!(identity.to_string(), text, "two spellings of one name");
    }
    let pem = pem(bytes);
    if let Ok(certificate) = Certificate::from_pem(&pem) {
        let name = certificate.identity.to_string();
        assert_eq!(name.parse(), Ok(certificate.identity));
        assert_eq!(certificate.fingerprint.len(), 64);
    }
    let Own { issued, .. } = own();
    let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
    if let Err(refused) = Credentials::from_pem(chain, key, &pem, "") {
        assert!(!refused.to_string().is_empty());
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let Own { authority, issued } = own();
    let der = |pem: &str| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        der.expect("a certificate of ours").to_vec()
    };
    let name = Identity::new(ClusterId(7), Role::Producer, "p").expect("a name");
    vec![
        der(authority.certificate_pem()),
        der(&issued.certificate_pem),
        name.to_string().into_bytes(),
    ]
}
