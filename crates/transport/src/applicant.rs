//! A dialer's side of a connection with a member, before it has a certificate.

use std::{fmt, net::SocketAddr, sync::Arc};

use kontiki_wire::ClusterId;
use quinn::{TokioRuntime, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;

use crate::{
    Certificate, Error, FrameReader, FrameWriter, Identity, JoinKey, Plane, Token,
    admission::{self, HANDSHAKE_TIME_MAX},
    certificate, credentials,
    endpoint::{self, SERVER_NAME},
    guest::JOIN_ALPN,
    link::{Link, Unfinished},
    plane,
    refusal::refused,
    stranger,
    succession::vouched,
    tls::{self, Verifier},
    voucher::Signs,
};

/// A connection to a member of the cluster that a token is for, by somebody who has the token and no
/// certificate.
pub struct Applicant {
    link: Arc<Link>,
    member: Certificate,
    authority_pem: String,
    /// What the connection lives on.
    _quinn: quinn::Endpoint,
}

impl Applicant {
    /// Dials. The other side is taken for a member only if its certificate is signed by the authority that
    /// the token names and is a node's of the token's cluster; whoever else listens there learns no more
    /// than that somebody dialed. To be called within a tokio runtime.
    pub async fn dial(to: SocketAddr, token: &Token, key: &JoinKey) -> Result<Self, Error> {
        let dialed = async {
            tokio::select! {
                biased;
                dialed = Self::shake_hands(to, token, key) => dialed,
                () = refused(to) => Err(Error::Lost(format!("nothing listens at {to}"))),
            }
        };
        let dialed = timeout(HANDSHAKE_TIME_MAX, dialed).await;
        dialed.unwrap_or_else(|_| Err(Error::Lost(format!("{to} does not answer"))))
    }

    async fn shake_hands(to: SocketAddr, token: &Token, key: &JoinKey) -> Result<Self, Error> {
        let expected = Expected {
            authority: token.authority,
            cluster: token.cluster,
        };
        let introduction = Arc::new(key.introduction()?);
        let tls = tls::dialing(Arc::new(expected), introduction, JOIN_ALPN)?;
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| Error::Credentials(format!("QUIC cannot be set up: {error}")))?;
        let bounds = Plane::Clients.bounds();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(bounds.of_dialer());
        let quinn = dialer(key)?;
        let connection = quinn
            .connect_with(config, to, SERVER_NAME)
            .map_err(|error| endpoint::undialed(to, &error))?
            .await?;
        let member = admission::leaf(&connection)?;
        let chain = admission::peer_chain(&connection)?;
        let (_, rest) = chain.split_first().expect("it has been judged");
        // The one that the token names vouches for the other, if there are two.
        let authority_pem = match expected_in(rest, &token.authority) {
            Some((root, None)) => certificate::to_pem(root),
            Some((root, Some((_, named)))) => {
                certificate::to_pem(root) + &certificate::to_pem(named)
            }
            None => unreachable!("it has been judged"),
        };
        // The listener allows a stream when it has let this side in.
        let first = connection.open_bi().await?;
        let link = Link::new(
            connection,
            Some(first),
            bounds.unfinished_at_dialer,
            Unfinished::new(usize::MAX),
        );
        Ok(Self {
            link: Arc::new(link),
            member,
            authority_pem,
            _quinn: quinn,
        })
    }

    /// Which member it is.
    #[must_use]
    pub fn member(&self) -> &Identity {
        &self.member.identity
    }

    /// The certificate of the authority that the token names, as PEM; before it that of the one that takes its place,
    /// if this has signed what the member shows, and the one that the token names vouches for it.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// What only the two ends of this connection can have, and what only who knows of `claim` can.
    pub fn binding(&self, claim: &[u8]) -> Result<[u8; 32], Error> {
        stranger::binding(&self.link, claim)
    }

    /// The one stream that there is.
    pub async fn open(&self) -> Result<(FrameWriter, FrameReader), Error> {
        let opened = match self.link.take_first() {
            Some(first) => Ok(first),
            None => self.link.quinn.open_bi().await,
        };
        let (send, recv) = opened.map_err(|error| self.link.lost(error))?;
        Ok((
            FrameWriter::new(send, Arc::clone(&self.link)),
            FrameReader::new(recv, Arc::clone(&self.link)),
        ))
    }
}

fn dialer(key: &JoinKey) -> Result<quinn::Endpoint, Error> {
    let (socket, address) = endpoint::bind_dialer()?;
    quinn::Endpoint::new(
        plane::endpoint_config(Plane::Clients, &key.reset()),
        None,
        socket,
        Arc::new(TokioRuntime),
    )
    .map_err(|source| Error::Bind { address, source })
}

/// Takes a member of one cluster by the hash of who has signed its certificate.
#[derive(Debug)]
struct Expected {
    authority: [u8; 32],
    cluster: ClusterId,
}

impl Expected {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), String> {
        if !matches!(rest.len(), 1 | 3) {
            return Err(format!(
                "it comes with {} more, and its authority's is needed and nothing else",
                rest.len()
            ));
        }
        let (authority, word) = expected_in(rest, &self.authority).ok_or(STRANGE)?;
        let as_root = |der| credentials::root(der).map_err(|why| format!("its authority's {why}"));
        let root = as_root(authority)?;
        if let Some((voucher, named)) = word {
            let named = [as_root(named)?];
            let vouched = vouched(voucher, &named, self.cluster, Signs::Nodes);
            let vouched = vouched.ok_or(STRANGE)?;
            if vouched.anchor.subject_public_key_info != root.anchor.subject_public_key_info
                || vouched.anchor.subject != root.anchor.subject
            {
                return Err(STRANGE.to_owned());
            }
        }
        Verifier::of_members(self.cluster, Arc::new([root]))
            .judge(std::slice::from_ref(leaf), now)
            .map(|_| ())
    }
}

/// What is said of who has signed a member's certificate if nothing leads to whom the token names.
const STRANGE: &str = "its authority is not the one that the token names: this is another cluster, or somebody \
                       in between, or the cluster's authority was replaced since the token was made, and a new \
                       token is needed";

/// Who has signed the leaf, of what came with it; and the word for it of whom the token names with the certificate of
/// that, if it is another one.
fn expected_in<'a>(
    rest: &'a [CertificateDer<'a>],
    named: &[u8; 32],
) -> Option<(&'a CertificateDer<'a>, Option<Word<'a>>)> {
    match rest {
        [root] | [root, _, _] if certificate::sha256(root) == *named => Some((root, None)),
        [root, voucher, old] if certificate::sha256(old) == *named => {
            Some((root, Some((voucher, old))))
        }
        _ => None,
    }
}

/// A voucher, and whose it is.
type Word<'a> = (&'a CertificateDer<'a>, &'a CertificateDer<'a>);

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
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

impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Applicant(to {} at {})",
            self.member(),
            self.link.remote_address
        )
    }
}
