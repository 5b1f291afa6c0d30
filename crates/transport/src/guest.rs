//! Who comes to a listener: bearers of a certificate, and, where clients come, strangers who want one.
//!
//! The protocol that a dialer asks for says which it is, and by that its certificate is judged, within
//! the handshake: a stranger's is good for the one protocol, a bearer's for the other, and neither for
//! both. What is asked for is heard before anything is judged, so each handshake has a configuration of
//! its own. [`Guest::of`] then holds what was agreed on against what was judged.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kontiki_wire::ClusterId;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    Credentials, Error, Plane, PublicKey,
    credentials::Root,
    succession::vouched,
    tls::{self, Verifier},
    voucher::Signs,
};

/// What a dialer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guest {
    /// One with a certificate that the plane's authority has signed.
    Bearer,
    /// One without, who may ask for one and for nothing else.
    Stranger,
}

impl Guest {
    /// Whom a plane's listener lets in, and the protocol that each asks for; the first that is asked for
    /// counts.
    const fn of_plane(plane: Plane) -> &'static [Self] {
        match plane {
            Plane::Peers => &[Self::Bearer],
            Plane::Clients => &[Self::Bearer, Self::Stranger],
        }
    }

    fn alpn(self, plane: Plane) -> &'static [u8] {
        match self {
            Self::Bearer => plane.alpn(),
            Self::Stranger => JOIN_ALPN,
        }
    }

    /// What the dialer at the other end of a finished handshake is: the one place where a connection
    /// becomes a bearer's or a stranger's. `asked` is by what it was judged.
    pub(crate) fn of(
        connection: &quinn::Connection,
        plane: Plane,
        asked: &Asked,
    ) -> Result<Self, Error> {
        let agreed = connection
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol);
        let guest = Self::of_plane(plane)
            .iter()
            .copied()
            .find(|guest| agreed.as_deref() == Some(guest.alpn(plane)));
        match (guest, asked.0.get()) {
            (Some(guest), Some(judged)) if guest == *judged => Ok(guest),
            _ => Err(Error::Identity(
                "it was judged for another protocol than the one agreed on".to_owned(),
            )),
        }
    }
}

/// The protocol of those who join.
pub(crate) const JOIN_ALPN: &[u8] = b"kontiki-join/1";

/// As what one dialer has asked to be let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<OnceLock<Guest>>);

/// How a listener shakes hands, as long as its credentials are the same.
pub(crate) struct Door {
    plane: Plane,
    verifier: Arc<Verifier>,
    /// The own certificate.
    shown: Arc<CertifiedKey>,
    /// The same with the root that has signed it, for those who know no more of it than its hash; and with the word
    /// of the one that this has taken the place of, for those who know the hash of that.
    shown_to_strangers: Arc<CertifiedKey>,
}

impl Door {
    pub(crate) fn new(plane: Plane, credentials: &Credentials) -> Result<Self, Error> {
        let shown = Arc::clone(credentials.key());
        let root = credentials.own_root()?.certificate.clone();
        let mut chain = vec![shown.cert[0].clone(), root];
        let own = credentials.identity().cluster;
        if let Some(voucher) = credentials.own_voucher()
            && let Some(old) = voucher_of(voucher, credentials.node_roots(), own)
        {
            chain.extend([voucher.clone(), old]);
        }
        Ok(Self {
            plane,
            verifier: Arc::new(Verifier::of_dialers(plane, credentials)),
            shown_to_strangers: Arc::new(CertifiedKey::new(chain, Arc::clone(&shown.key))),
            shown,
        })
    }

    /// For one handshake, and where it is heard what is asked for in it.
    pub(crate) fn open(&self) -> Result<(QuicServerConfig, Asked), Error> {
        let asked = Asked::default();
        let judge = Judge {
            asked: asked.clone(),
            bearers: Arc::clone(&self.verifier),
        };
        let shown = Shown {
            asked: asked.clone(),
            plane: self.plane,
            to_bearers: Arc::clone(&self.shown),
            to_strangers: Arc::clone(&self.shown_to_strangers),
        };
        let mut tls = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls::unusable)?
            .with_client_cert_verifier(Arc::new(judge))
            .with_cert_resolver(Arc::new(shown));
        let guests = Guest::of_plane(self.plane).iter();
        tls.alpn_protocols = guests
            .map(|guest| guest.alpn(self.plane).to_vec())
            .collect();
        // A resumed session is not judged again: a revoked or expired client would pass by its ticket.
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        // Early data would be read under the identity of a ticket, and could be replayed.
        tls.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(tls)
            .map_err(|error| Error::Credentials(format!("QUIC cannot be set up: {error}")))?;
        Ok((crypto, asked))
    }
}

/// The certificate of the authority whose word this is, if it is among these.
fn voucher_of(
    voucher: &CertificateDer<'_>,
    believed: &[Root],
    cluster: ClusterId,
) -> Option<CertificateDer<'static>> {
    let mut each = believed.chunks(1);
    let by = each.find(|by| vouched(voucher, by, cluster, Signs::Nodes).is_some())?;
    Some(by[0].certificate.clone())
}

/// Hears what is asked for, and shows the own certificate.
#[derive(Debug)]
struct Shown {
    asked: Asked,
    plane: Plane,
    to_bearers: Arc<CertifiedKey>,
    to_strangers: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let guest = Guest::of_plane(self.plane)
            .iter()
            .copied()
            .find(|guest| offered.contains(&guest.alpn(self.plane)));
        // Whoever asks for nothing that is spoken here is told so next.
        let Some(guest) = guest else {
            return Some(Arc::clone(&self.to_bearers));
        };
        // A second hello does not change what the first one asked for.
        Some(match self.asked.0.get_or_init(|| guest) {
            Guest::Bearer => Arc::clone(&self.to_bearers),
            Guest::Stranger => Arc::clone(&self.to_strangers),
        })
    }
}

/// Judges a dialer's certificate by what was asked for.
struct Judge {
    asked: Asked,
    bearers: Arc<Verifier>,
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Everybody here has one certificate only: a hint would help nobody but a spy.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .cloned()
            .collect();
        let judged = match self.asked.0.get() {
            Some(Guest::Bearer) => self.bearers.judge(&chain, now).map(|_| ()),
            Some(Guest::Stranger) => PublicKey::of_stranger(&chain).map(|_| ()),
            None => Err("nothing was asked for".to_owned()),
        };
        judged
            .map(|()| ClientCertVerified::assertion())
            .map_err(tls::refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::schemes()
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("asked", &self.asked)
            .field("bearers", &self.bearers)
            .finish()
    }
}
