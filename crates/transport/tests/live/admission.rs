//! Who is let in: every way in which a certificate can be wrong, shown to live endpoints of both
//! planes.
//!
//! A dialer's own handshake ends before the listener has judged it, so what counts is the listener's
//! side: nobody came out of `accept`. TLS 1.2 has no row: QUIC has no way to say it, and the library
//! is built without it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use kontiki_transport::{Authority, Endpoint, Error, Expect, Identity, Plane, Role};
use kontiki_wire::ClusterId;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType};

use crate::{
    cluster::{CLUSTER, Cluster, DAY, soon},
    forge::{Forger, RawDialer, authority, honest, raw_listener, self_signed, told, uri_name},
    raw::Papers,
};

const PEERS: &[u8] = b"kontiki-peer/1";
const CLIENTS: &[u8] = b"kontiki-client/1";

fn alpn(plane: Plane) -> &'static [u8] {
    match plane {
        Plane::Peers => PEERS,
        Plane::Clients => CLIENTS,
    }
}

/// The one thing that is wrong with a stranger, and a part of the sentence it is refused with.
struct Stranger {
    wrong: &'static str,
    told: &'static str,
    papers: Option<Papers>,
    alpn: Vec<&'static [u8]>,
}

/// Makes strangers that are honest but for one thing.
struct Strangers<'a> {
    alpn: &'static [u8],
    own: Forger,
    cluster: &'a Cluster,
    plane: Plane,
    rows: Vec<Stranger>,
}

impl<'a> Strangers<'a> {
    fn of(cluster: &'a Cluster, plane: Plane) -> Self {
        let own = match plane {
            Plane::Peers => &cluster.nodes,
            Plane::Clients => &cluster.clients,
        };
        Self {
            alpn: alpn(plane),
            own: Forger::with_key_of(own),
            cluster,
            plane,
            rows: Vec::new(),
        }
    }

    fn role(&self) -> &'static str {
        match self.plane {
            Plane::Peers => "node",
            Plane::Clients => "operator",
        }
    }

    fn uri(&self) -> String {
        format!("kontiki://{CLUSTER}/{}/x", self.role())
    }

    fn push(&mut self, wrong: &'static str, told: &'static str, papers: Option<Papers>) {
        let alpn = vec![self.alpn];
        self.rows.push(Stranger {
            wrong,
            told,
            papers,
            alpn,
        });
    }

    /// One whose certificate is signed by the right authority and differs from an honest one by this.
    fn differs(
        &mut self,
        wrong: &'static str,
        told: &'static str,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = honest(&self.uri());
        change(&mut params);
        let papers = self.own.sign(&params);
        self.push(wrong, told, Some(papers));
    }

    fn with_names(&mut self, wrong: &'static str, told: &'static str, names: Vec<SanType>) {
        self.differs(wrong, told, |params| params.subject_alt_names = names);
    }

    fn with_uri(&mut self, wrong: &'static str, told: &'static str, uri: &str) {
        self.with_names(wrong, told, vec![uri_name(uri)]);
    }

    fn signatures(&mut self) {
        let good = honest(&self.uri());
        self.push("no certificate", "", None);
        self.push(
            "a self-signed certificate",
            "no root",
            Some(self_signed(&good)),
        );
        let another = Authority::new("another", DAY).expect("an authority");
        let papers = Forger::with_key_of(&another).sign(&good);
        self.push("another authority", "no root", Some(papers));
        let same_name = Authority::new(
            match self.plane {
                Plane::Peers => "nodes of a test",
                Plane::Clients => "clients of a test",
            },
            DAY,
        );
        let papers = Forger::with_key_of(&same_name.expect("an authority")).sign(&good);
        self.push("another authority of the same name", "issuer", Some(papers));
        let other_plane = match self.plane {
            Plane::Peers => &self.cluster.clients,
            Plane::Clients => &self.cluster.nodes,
        };
        let papers = Forger::with_key_of(other_plane).sign(&good);
        self.push("the other plane's authority", "no root", Some(papers));
        let mut papers = self.own.sign(&good);
        papers.key = self.own.sign(&good).key;
        self.push(
            "somebody else's certificate, without its key",
            "",
            Some(papers),
        );
        let papers = self.own.sign_through_another(&good);
        self.push(
            "an authority in between",
            "signed by a root directly",
            Some(papers),
        );
        let mut papers = self.own.sign_through_another(&good);
        papers.chain.truncate(1);
        self.push("an authority in between, unsaid", "no root", Some(papers));
        let mut papers = self.own.sign(&good);
        papers.chain.push(self.own.authority.clone());
        self.push(
            "the root besides",
            "signed by a root directly",
            Some(papers),
        );
        let mut ca = authority("x");
        ca.subject_alt_names = good.subject_alt_names.clone();
        ca.extended_key_usages = good.extended_key_usages;
        let papers = self.own.sign(&ca);
        self.push("an authority as a leaf", "not a leaf", Some(papers));
        let papers = Papers {
            chain: vec![self.own.authority.clone()],
            key: rcgen::KeyPair::from_pem(&self.own.key_pem)
                .expect("a key")
                .serialize_der(),
        };
        self.push("the root itself as a leaf", "not a leaf", Some(papers));
    }

    fn validity_and_usage(&mut self) {
        self.differs("expired", "has expired", |params| {
            params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        });
        self.differs("not yet valid", "not valid yet", |params| {
            params.not_before = (SystemTime::now() + Duration::from_secs(60)).into();
        });
        const USAGE: &str = "extended key usage";
        self.differs("the listener's usage only", USAGE, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        self.differs("no extended key usage", USAGE, |params| {
            params.extended_key_usages.clear();
        });
        self.differs("any extended key usage", USAGE, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        });
        self.differs("another extended key usage", USAGE, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        });
    }

    fn names(&mut self) {
        let uri = self.uri();
        let dns = || SanType::DnsName("x.example".try_into().expect("ASCII"));
        let role = self.role();
        let with = |rest: &str| format!("kontiki://{CLUSTER}/{rest}");
        self.with_names("no name", "exactly one SAN URI", vec![]);
        self.with_names("a DNS name only", "exactly one SAN URI", vec![dns()]);
        self.with_names(
            "two URIs",
            "has 2 names",
            vec![uri_name(&uri), uri_name(&with(&format!("{role}/y")))],
        );
        self.with_names(
            "the URI twice",
            "has 2 names",
            vec![uri_name(&uri), uri_name(&uri)],
        );
        self.with_names(
            "a URI and a DNS name",
            "has 2 names",
            vec![uri_name(&uri), dns()],
        );
        self.with_names(
            "a URI and an address",
            "has 2 names",
            vec![uri_name(&uri), SanType::IpAddress([127, 0, 0, 1].into())],
        );
        self.differs(
            "its role in the common name only",
            "exactly one SAN URI",
            |params| {
                params.subject_alt_names.clear();
                params
                    .distinguished_name
                    .push(DnType::CommonName, uri.as_str());
            },
        );
        let other = ClusterId(CLUSTER.0 + 1);
        self.with_uri(
            "another cluster",
            "another cluster",
            &format!("kontiki://{other}/{role}/x"),
        );
        let wrong_role = match self.plane {
            Plane::Peers => "operator/x",
            Plane::Clients => "node/n1",
        };
        self.with_uri("a role of the other plane", "wrong role", &with(wrong_role));
        for (wrong, path) in [
            ("an unknown role", "admin/x".to_owned()),
            ("an upper-case role", format!("{}/x", role.to_uppercase())),
            ("an upper-case name", format!("{role}/X")),
            ("a parent", format!("{role}/..")),
            ("a parent inside", format!("{role}/a..b")),
            ("an escaped slash", format!("{role}/a%2fb")),
            ("no name in the URI", format!("{role}/")),
            ("an empty part", format!("/{role}/x")),
            ("a part too many", format!("{role}/x/y")),
            ("a space", format!("{role}/x y")),
            ("a NUL", format!("{role}/x\0")),
            ("2,049 bytes", format!("{role}/{}", "x".repeat(2_049))),
        ] {
            self.with_uri(wrong, "names nobody", &with(&path));
        }
        self.with_uri(
            "another scheme",
            "names nobody",
            &uri.replace("kontiki:", "spiffe:"),
        );
        self.with_uri(
            "an upper-case cluster",
            "names nobody",
            &uri.replace("6b6f", "6B6F"),
        );
    }

    fn protocols(&mut self) {
        let papers = self.own.sign(&honest(&self.uri()));
        let other: &'static [u8] = match self.plane {
            Plane::Peers => CLIENTS,
            Plane::Clients => PEERS,
        };
        for (wrong, alpn) in [
            ("the other plane's protocol", vec![other]),
            ("another protocol", vec![b"h3".as_slice()]),
            ("no protocol", vec![]),
        ] {
            self.rows.push(Stranger {
                wrong,
                told: "",
                papers: Some(papers.clone()),
                alpn,
            });
        }
    }

    fn all(mut self) -> Vec<Stranger> {
        self.signatures();
        self.validity_and_usage();
        self.names();
        self.protocols();
        self.rows
    }
}

/// Takes whoever comes out of `accept`, and counts them and their streams.
fn count_the_admitted(listener: &Endpoint) -> Arc<[AtomicUsize; 2]> {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (seen, listener) = (Arc::clone(&counts), listener.clone());
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            seen[0].fetch_add(1, Ordering::SeqCst);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                while connection.accept().await.is_ok() {
                    seen[1].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    counts
}

async fn refuses_every_stranger(plane: Plane) {
    let cluster = Cluster::new();
    let listener = cluster.listener(plane);
    let admitted = count_the_admitted(&listener);
    let strangers = Strangers::of(&cluster, plane).all();
    for (at, stranger) in strangers.iter().enumerate() {
        let wrong = stranger.wrong;
        let dialer = RawDialer::new(stranger.papers.as_ref(), &stranger.alpn);
        let error = soon(wrong, dialer.refusal(listener.local_address())).await;
        let (code, sentence) = told(&error);
        // TLS alerts are 256 and up; anything else would be another reason than the one meant.
        assert!(
            (0x100..0x200).contains(&code),
            "{plane:?}, {wrong}: {error}"
        );
        assert!(
            sentence.contains(stranger.told),
            "{plane:?}, {wrong}: {sentence}"
        );
        soon(wrong, async {
            while listener.arrivals().refused <= at as u64 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(
            listener.arrivals().accepted,
            0,
            "{plane:?}: {wrong} was let in"
        );
        let seen = [0, 1].map(|at| admitted[at].load(Ordering::SeqCst));
        assert_eq!(seen, [0, 0], "{plane:?}: {wrong} came out of accept");
    }
    assert_eq!(listener.arrivals().refused, strangers.len() as u64);

    // The pattern of all strangers, with nothing wrong.
    let base = Strangers::of(&cluster, plane);
    let papers = base.own.sign(&honest(&base.uri()));
    let dialer = RawDialer::new(Some(&papers), &[alpn(plane)]);
    let connection = dialer.dial(listener.local_address()).expect("an address");
    let connection = soon("the honest pattern", connection)
        .await
        .expect("let in");
    soon("its stream", connection.open_bi())
        .await
        .expect("a stream");
    assert_eq!(listener.arrivals().accepted, 1);

    let honest = cluster.dialer(plane);
    let dialed = honest.connect(listener.local_address(), Expect::AnyNode);
    soon("the honest dialer", dialed)
        .await
        .expect("let in after all strangers");
    assert_eq!(listener.arrivals().accepted, 2);
}

#[tokio::test]
async fn the_peers_plane_refuses_every_stranger_and_then_takes_the_honest() {
    refuses_every_stranger(Plane::Peers).await;
}

#[tokio::test]
async fn the_clients_plane_refuses_every_stranger_and_then_takes_the_honest() {
    refuses_every_stranger(Plane::Clients).await;
}

#[tokio::test]
async fn keys_of_each_kind_that_one_may_bring_are_taken() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let base = Strangers::of(&cluster, Plane::Clients);
    for (kind, algorithm) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("Ed25519", &rcgen::PKCS_ED25519),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let papers = base.own.sign_for(key, &honest(&base.uri()));
        let dialer = RawDialer::new(Some(&papers), &[CLIENTS]);
        let dialing = dialer.dial(listener.local_address()).expect("an address");
        let connection = soon(kind, dialing).await.expect(kind);
        soon(kind, connection.open_bi()).await.expect(kind);
    }
}

/// What is wrong with an impostor that listens, and a part of the dialer's sentence.
fn impostors(cluster: &Cluster) -> Vec<(&'static str, &'static str, Papers)> {
    let nodes = Forger::with_key_of(&cluster.nodes);
    let clients = Forger::with_key_of(&cluster.clients);
    let uri = format!("kontiki://{CLUSTER}/node/n1");
    let good = honest(&uri);
    let differing = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = good.clone();
        change(&mut params);
        nodes.sign(&params)
    };
    let named =
        |uri: String| differing(&move |params| params.subject_alt_names = vec![uri_name(&uri)]);
    let other = ClusterId(CLUSTER.0 + 1);
    let usage = "extended key usage";
    vec![
        ("a self-signed certificate", "no root", self_signed(&good)),
        ("the clients' authority", "no root", clients.sign(&good)),
        (
            "an authority in between",
            "root directly",
            nodes.sign_through_another(&good),
        ),
        (
            "the dialer's usage only",
            usage,
            differing(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
        (
            "no usage",
            usage,
            differing(&|params| params.extended_key_usages.clear()),
        ),
        (
            "expired",
            "has expired",
            differing(&|params| {
                params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
            }),
        ),
        (
            "not yet valid",
            "not valid yet",
            differing(&|params| {
                params.not_before = (SystemTime::now() + Duration::from_secs(60)).into();
            }),
        ),
        (
            "no name",
            "exactly one SAN URI",
            differing(&|params| params.subject_alt_names.clear()),
        ),
        (
            "a DNS name besides",
            "has 2 names",
            differing(&|params| {
                params
                    .subject_alt_names
                    .push(SanType::DnsName("kontiki".try_into().expect("ASCII")));
            }),
        ),
        (
            "a producer",
            "wrong role",
            named(format!("kontiki://{CLUSTER}/producer/n1")),
        ),
        (
            "another cluster",
            "another cluster",
            named(format!("kontiki://{other}/node/n1")),
        ),
        (
            "another node",
            "n1 that was meant",
            named(format!("kontiki://{CLUSTER}/node/n2")),
        ),
        (
            "malformed",
            "names nobody",
            named(format!("kontiki://{CLUSTER}/node/n1/")),
        ),
    ]
}

#[tokio::test]
async fn a_dialer_refuses_every_impostor_and_then_takes_the_honest() {
    let cluster = Cluster::new();
    let meant = || Expect::Node("n1".to_owned());
    for plane in [Plane::Peers, Plane::Clients] {
        let dialer = cluster.dialer(plane);
        for (wrong, sentence, papers) in impostors(&cluster) {
            let listener = raw_listener(&papers, alpn(plane));
            let to: SocketAddr = listener.local_addr().expect("bound");
            let accepting = tokio::spawn({
                let listener = listener.clone();
                async move { listener.accept().await.expect("open").await.err() }
            });
            let refused = soon(wrong, dialer.connect(to, meant())).await;
            match refused {
                Err(Error::Identity(told)) => assert!(told.contains(sentence), "{wrong}: {told}"),
                other => panic!("{plane:?}, {wrong}: {other:?}"),
            }
            let seen = soon(wrong, accepting).await.expect("no panic");
            assert!(
                seen.is_some(),
                "{plane:?}, {wrong}: the impostor saw a dialer"
            );
        }
        let listener = cluster.listener(plane);
        let dialed = dialer.connect(listener.local_address(), meant());
        soon("the honest listener", dialed).await.expect("let in");
    }
}

#[tokio::test]
async fn a_refused_dialer_learns_why_from_connect_itself() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let stranger = Authority::new("a stranger's", DAY).expect("an authority");
    let issued = stranger
        .issue(
            &Identity::new(CLUSTER, Role::Operator, "x").expect("a name"),
            DAY,
        )
        .expect("a leaf");
    let credentials = kontiki_transport::Credentials::from_pem(
        &issued.certificate_pem,
        &issued.key_pem,
        cluster.nodes.certificate_pem(),
        "",
    )
    .expect("good as far as one side can tell");
    let dialer = Endpoint::dialer(Plane::Clients, &credentials).expect("a free port");
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    match soon("the refusal", dialed).await {
        Err(error @ Error::Refused(_)) => assert_eq!(
            error.to_string(),
            "the other side refuses us: our certificate: no root that is trusted here has signed it"
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dialer_of_the_other_plane_learns_that_it_speaks_another_protocol() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Peers);
    let dialer = cluster.dialer(Plane::Clients);
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    match soon("the refusal", dialed).await {
        Err(error @ Error::Refused(_)) => assert_eq!(
            error.to_string(),
            "the other side refuses us: it speaks another protocol at this port"
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_gets_a_ticket_to_come_back_with() {
    let cluster = Cluster::new();
    for plane in [Plane::Peers, Plane::Clients] {
        let listener = cluster.listener(plane);
        let base = Strangers::of(&cluster, plane);
        let papers = base.own.sign(&honest(&base.uri()));
        let dialer = RawDialer::new(Some(&papers), &[alpn(plane)]);
        let connecting = dialer.dial(listener.local_address()).expect("an address");
        let connection = soon("the handshake", connecting).await.expect("let in");
        // A ticket would come before the credit for this stream.
        soon("a stream", connection.open_bi())
            .await
            .expect("a stream");
        assert_eq!(dialer.tickets(), 0, "{plane:?}");
    }
}
