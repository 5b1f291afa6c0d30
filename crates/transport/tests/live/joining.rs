//! Those without a certificate: let in as strangers or not at all, and whom they take for a member.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use kontiki_transport::{
    Applicant, Authority, CLOSE_CROWDED, CLOSE_STRANGER, Endpoint, Error, Expect, JoinKey, Limits,
    Plane, PublicKey, Role, Signs, Stranger, Token, authority_fingerprint,
};
use kontiki_wire::{ClusterId, Frame, FrameKind, encode_frame};
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;

use crate::{
    cluster::{CLUSTER, Cluster, DAY, soon},
    forge::{Forger, RawDialer, honest, raw_listener, self_signed, told, uri_name},
    raw::Papers,
};

const PEERS: &[u8] = b"kontiki-peer/1";
const CLIENTS: &[u8] = b"kontiki-client/1";
const JOIN: &[u8] = b"kontiki-join/1";

fn token_for(cluster: ClusterId, authority: &Authority) -> Token {
    let addresses = vec!["127.0.0.1:1".to_owned()];
    Token::new(cluster, authority.fingerprint(), Role::Node, addresses).expect("a token")
}

fn key() -> JoinKey {
    JoinKey::generate().expect("a key")
}

/// Both ends of a stranger's connection, the stranger's first.
async fn pair(listener: &Endpoint, token: &Token, key: &JoinKey) -> (Applicant, Stranger) {
    let dialed = Applicant::dial(listener.local_address(), token, key);
    let here = soon("the dial", dialed).await.expect("let in");
    let there = soon("the stranger", listener.accept_stranger()).await;
    (here, there.expect("the listener is open"))
}

/// What a stranger shows: a certificate that names nobody.
fn introduction() -> Papers {
    let mut params = honest("kontiki://x");
    params.subject_alt_names.clear();
    self_signed(&params)
}

#[tokio::test]
async fn a_stranger_is_let_in_as_one_and_both_ends_bind_to_the_same() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let (token, key) = (token_for(CLUSTER, &cluster.nodes), key());
    let (here, there) = pair(&listener, &token, &key).await;
    assert_eq!(
        here.member().to_string(),
        format!("kontiki://{CLUSTER}/node/n1")
    );
    assert_eq!(*there.key(), PublicKey::from(&key));
    let pinned = authority_fingerprint(here.authority_pem()).expect("PEM");
    assert_eq!(pinned, cluster.nodes.fingerprint());

    let binding = here.binding(b"claim").expect("keys");
    assert_eq!(there.binding(b"claim").expect("keys"), binding);
    assert_ne!(there.binding(b"another").expect("keys"), binding);
    let (elsewhere, _there) = pair(&listener, &token, &key).await;
    assert_ne!(
        elsewhere.binding(b"claim").expect("keys"),
        binding,
        "replayed"
    );

    let (mut writer, mut reader) = here.open().await.expect("a stream");
    writer.write(frame(b"ask")).await.expect("written");
    let (mut answers, mut asked) = there.accept().await.expect("a stream");
    assert_eq!(read(&mut asked).await, &b"ask"[..]);
    answers.write(frame(b"answer")).await.expect("written");
    assert_eq!(read(&mut reader).await, &b"answer"[..]);
}

fn frame(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, payload, &mut out);
    out.freeze()
}

async fn read(reader: &mut kontiki_transport::FrameReader) -> Bytes {
    let next: Option<Frame> = soon("a frame", reader.next(64)).await.expect("read");
    next.expect("a frame").payload
}

/// What is wrong with a dialer, a part of the sentence it is refused with, and what it shows and says.
type Wrong = (
    &'static str,
    &'static str,
    Option<Papers>,
    Vec<&'static [u8]>,
);

async fn refuses(listener: &Endpoint, table: Vec<Wrong>) {
    for (wrong, sentence, papers, alpn) in table {
        let dialer = RawDialer::new(papers.as_ref(), &alpn);
        let refused = soon(wrong, dialer.refusal(listener.local_address())).await;
        let (code, reason) = told(&refused);
        assert!((0x100..0x200).contains(&code), "{wrong}: {refused}");
        assert!(reason.contains(sentence), "{wrong}: {reason}");
        assert_eq!(listener.arrivals().accepted, 0, "{wrong} was let in");
    }
}

#[tokio::test]
async fn nobody_is_taken_for_what_another_protocol_is_for() {
    let cluster = Cluster::new();
    let client = Forger::with_key_of(&cluster.clients);
    let client = client.sign(&honest(&format!("kontiki://{CLUSTER}/operator/x")));
    let node = Forger::with_key_of(&cluster.nodes);
    let node = node.sign(&honest(&format!("kontiki://{CLUSTER}/node/x")));
    let itself = self_signed(&honest(&format!("kontiki://{CLUSTER}/operator/x")));
    let mut another = introduction();
    another.key = introduction().key;
    let mut long = introduction();
    long.chain.push(long.chain[0].clone());
    let named = "it names somebody";
    let listener = cluster.listener(Plane::Clients);
    let table: Vec<Wrong> = vec![
        (
            "a stranger as a client",
            "no root",
            Some(introduction()),
            vec![CLIENTS],
        ),
        (
            "a stranger as both",
            "no root",
            Some(introduction()),
            vec![JOIN, CLIENTS],
        ),
        (
            "a stranger as a peer",
            "",
            Some(introduction()),
            vec![PEERS],
        ),
        ("a stranger as nothing", "", Some(introduction()), vec![]),
        (
            "a client as a stranger",
            named,
            Some(client.clone()),
            vec![JOIN],
        ),
        (
            "a node as a stranger",
            named,
            Some(node.clone()),
            vec![JOIN],
        ),
        ("one that names itself", named, Some(itself), vec![JOIN]),
        ("nobody's certificate", "", None, vec![JOIN]),
        (
            "another's certificate, without its key",
            "",
            Some(another),
            vec![JOIN],
        ),
        ("a chain", "one certificate", Some(long), vec![JOIN]),
    ];
    refuses(&listener, table).await;
    // One that offers both is what its certificate makes it.
    let both = RawDialer::new(Some(&client), &[JOIN, CLIENTS]);
    let dialed = both.dial(listener.local_address()).expect("an address");
    let _client = soon("a client", dialed).await.expect("let in");
    let let_in = soon("a client", listener.accept()).await.expect("open");
    assert_eq!(let_in.identity().role, Role::Operator);

    let listener = cluster.listener(Plane::Peers);
    let table: Vec<Wrong> = vec![
        (
            "a stranger among peers",
            "",
            Some(introduction()),
            vec![JOIN],
        ),
        (
            "a stranger as a peer",
            "no root",
            Some(introduction()),
            vec![PEERS],
        ),
        (
            "a stranger as both",
            "no root",
            Some(introduction()),
            vec![JOIN, PEERS],
        ),
        ("a node that asks to join", "", Some(node), vec![JOIN]),
    ];
    refuses(&listener, table).await;
    let token = token_for(CLUSTER, &cluster.nodes);
    let key = key();
    let dialed = Applicant::dial(listener.local_address(), &token, &key);
    match soon("an applicant", dialed).await {
        Err(Error::Refused(why)) => assert!(why.contains("another protocol"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// An authority's word for some other one.
fn voucher(by: &Authority) -> CertificateDer<'static> {
    let next = Authority::new("the next", DAY).expect("an authority");
    let handover = by.hand_over(&next, CLUSTER, Signs::Nodes);
    handover.expect("its word").voucher.into()
}

#[tokio::test]
async fn an_applicant_tells_an_impostor_nothing() {
    let cluster = Cluster::new();
    let other = Authority::new("nodes of a test", DAY).expect("an authority");
    let (nodes, others) = (
        Forger::with_key_of(&cluster.nodes),
        Forger::with_key_of(&other),
    );
    let good = honest(&format!("kontiki://{CLUSTER}/node/n1"));
    let with_root = |mut papers: Papers, root: &Forger| {
        papers.chain.push(root.authority.clone());
        papers
    };
    let differing = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = good.clone();
        change(&mut params);
        with_root(nodes.sign(&params), &nodes)
    };
    let named = |uri: String| differing(&|params| params.subject_alt_names = vec![uri_name(&uri)]);
    let next = ClusterId(CLUSTER.0 + 1);
    let ago = SystemTime::now() - Duration::from_secs(60);
    let table = [
        (
            "another authority",
            "another cluster, or somebody",
            with_root(others.sign(&good), &others),
        ),
        (
            "the right root beside it",
            "issuer",
            with_root(others.sign(&good), &nodes),
        ),
        ("no root", "its authority's is needed", nodes.sign(&good)),
        (
            "two roots",
            "its authority's is needed",
            with_root(with_root(nodes.sign(&good), &nodes), &others),
        ),
        (
            "another authority, and the right one's word for a third",
            "another cluster, or somebody",
            {
                let mut papers = with_root(others.sign(&good), &others);
                papers.chain.push(voucher(&cluster.nodes));
                with_root(papers, &nodes)
            },
        ),
        (
            "another authority, and its own word for itself",
            "another cluster, or somebody",
            {
                let mut papers = with_root(others.sign(&good), &others);
                papers.chain.push(voucher(&other));
                with_root(papers, &nodes)
            },
        ),
        ("itself as its root", "another cluster", {
            let papers = self_signed(&good);
            let root = papers.chain[0].clone();
            Papers {
                chain: vec![root.clone(), root],
                key: papers.key,
            }
        }),
        (
            "another cluster of the same authority",
            "another cluster",
            named(format!("kontiki://{next}/node/n1")),
        ),
        (
            "a client",
            "wrong role",
            named(format!("kontiki://{CLUSTER}/operator/n1")),
        ),
        (
            "expired",
            "has expired",
            differing(&|params| params.not_after = ago.into()),
        ),
        (
            "a client's usage",
            "extended key usage",
            differing(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
    ];
    let token = token_for(CLUSTER, &cluster.nodes);
    for (wrong, sentence, papers) in table {
        let listener = raw_listener(&papers, JOIN);
        let to = listener.local_addr().expect("bound");
        let heard = tokio::spawn(async move {
            let incoming = listener.accept().await.expect("a dialer");
            match incoming.await {
                Ok(connection) => connection.accept_bi().await.is_ok(),
                Err(_) => false,
            }
        });
        match soon(wrong, Applicant::dial(to, &token, &key())).await {
            Err(Error::Identity(why)) => assert!(why.contains(sentence), "{wrong}: {why}"),
            other => panic!("{wrong}: {other:?}"),
        }
        assert!(
            !soon(wrong, heard).await.expect("no panic"),
            "{wrong}: something was said"
        );
    }
    // The pattern of all of them, with nothing wrong.
    let listener = raw_listener(&with_root(nodes.sign(&good), &nodes), JOIN);
    let to = listener.local_addr().expect("bound");
    let taken = tokio::spawn(async move {
        let connection = listener
            .accept()
            .await
            .expect("a dialer")
            .await
            .expect("taken");
        connection.closed().await
    });
    let key = key();
    let dialed = Applicant::dial(to, &token, &key);
    soon("the honest pattern", dialed).await.expect("a member");
    soon("its end", taken).await.expect("no panic");
}

#[tokio::test]
async fn strangers_have_few_places_and_take_none_of_the_clients() {
    let cluster = Cluster::new();
    let limits = Limits {
        strangers: 2,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let (token, key) = (token_for(CLUSTER, &cluster.nodes), key());
    let first = pair(&listener, &token, &key).await;
    let _second = pair(&listener, &token, &key).await;
    let third = Applicant::dial(listener.local_address(), &token, &key);
    match soon("three", third).await {
        Err(Error::Closed { code, reason }) => {
            assert_eq!(code, u64::from(CLOSE_CROWDED));
            assert!(reason.contains("try again in a moment"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let client = cluster.dialer(Plane::Clients);
    let dialed = client.connect(listener.local_address(), Expect::AnyNode);
    soon("a client", dialed).await.expect("let in");
    drop(first);
    soon("a place", async {
        while Applicant::dial(listener.local_address(), &token, &key)
            .await
            .is_err()
        {}
    })
    .await;
}

#[tokio::test]
async fn a_stranger_has_one_stream_with_one_window_and_little_time() {
    let cluster = Cluster::new();
    let limits = Limits {
        stranger_time: Duration::from_millis(500),
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let dialer = RawDialer::new(Some(&introduction()), &[JOIN]);
    let dialed = dialer.dial(listener.local_address()).expect("an address");
    let connection = soon("the dial", dialed).await.expect("let in");
    let (mut send, _recv) = soon("a stream", connection.open_bi()).await.expect("one");
    let stranger = soon("the stranger", listener.accept_stranger()).await;
    let stranger = stranger.expect("open");
    let flood = async {
        let mut sent = 0;
        while let Ok(written) = send.write(&[0; 1024]).await {
            sent += written;
        }
        sent
    };
    let (sent, second, closed) = tokio::join!(flood, connection.open_bi(), connection.closed());
    assert!(sent <= 1 << 20, "{sent} bytes were taken from a stranger");
    assert!(second.is_err(), "a second stream");
    assert_eq!(told(&closed).0, u64::from(CLOSE_STRANGER), "{closed}");
    drop(stranger);
}
