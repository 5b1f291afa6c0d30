//! Whoever attacks: bare QUIC with papers that are good, so that nothing but the members' own care stands
//! in the way.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kontiki_server::MemberFile;
use kontiki_transport::{Authority, Identity, Role};
use quinn::{Connection, ConnectionError, VarInt};
use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub(crate) use crate::raw::Papers;
use crate::{cluster::Cluster, raw::dialing};

pub(crate) const PEERS: &[u8] = b"kontiki-peer/1";
pub(crate) const CLIENTS: &[u8] = b"kontiki-client/1";

/// Papers that the cluster's own authority issues.
pub(crate) fn client_papers(cluster: &Cluster, role: Role) -> Papers {
    let folder = cluster.dir.path().join("cluster/ca");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = Authority::from_pem(&read("client-ca.pem"), &read("client-ca.key"));
    let identity = Identity::new(member(cluster, 0).cluster, role, "mallory").unwrap();
    let day = Duration::from_secs(86_400);
    let issued = authority.unwrap().issue(&identity, day).unwrap();
    papers(&issued.certificate_pem, &issued.key_pem)
}

/// Papers stolen from a member.
pub(crate) fn member_papers(cluster: &Cluster, at: usize) -> Papers {
    let certs = cluster.members[at].data.join("certs");
    let read = |name: &str| fs::read_to_string(certs.join(name)).unwrap();
    papers(&read("node.pem"), &read("node.key"))
}

fn papers(certificate: &str, key: &str) -> Papers {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Papers {
        chain: vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
        key: key.secret_der().to_vec(),
    }
}

/// What a member's file says of it.
pub(crate) fn member(cluster: &Cluster, at: usize) -> MemberFile {
    MemberFile::load(&cluster.members[at].data).unwrap()
}

/// Where a member listens for clients.
pub(crate) fn clients_address(cluster: &Cluster, at: usize) -> SocketAddr {
    cluster.members[at].address
}

/// Where a member listens for peers.
pub(crate) fn peers_address(cluster: &Cluster, at: usize) -> SocketAddr {
    member(cluster, at).me().peer_address.parse().unwrap()
}

/// A socket that dials as it likes.
#[derive(Clone)]
pub(crate) struct Stranger {
    endpoint: quinn::Endpoint,
}

impl Stranger {
    /// One whose connections take as little as they are told to.
    pub(crate) fn tuned(
        papers: &Papers,
        alpn: &[u8],
        tune: impl FnOnce(&mut quinn::TransportConfig),
    ) -> Self {
        let mut config = dialing(Some(papers), &[alpn], Resumption::disabled());
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(2)));
        tune(&mut transport);
        config.transport_config(Arc::new(transport));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut endpoint = quinn::Endpoint::client(any).unwrap();
        endpoint.set_default_client_config(config);
        Self { endpoint }
    }

    /// Dials, and waits until it has been let in.
    pub(crate) async fn dial(&self, to: SocketAddr) -> Result<Connection, ConnectionError> {
        let connection = self.endpoint.connect(to, "kontiki").unwrap().await?;
        let (mut send, _recv) = connection.open_bi().await?;
        // The stream that showed it is not needed.
        let _ = send.reset(VarInt::from_u32(0));
        Ok(connection)
    }

    /// Ends all its connections, and waits until the other sides can know.
    pub(crate) async fn leave(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}
