//! Whoever is not the peer it says it is gets no link.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use kontiki_raft::{Body, Incarnation, LogId, Message, NodeId, NodeRef, Term};
use kontiki_server::{
    Config,
    birth::{MemberSpec, birth_cluster, key_to_join, settle},
};
use kontiki_transport::{
    Applicant, Authority, Connection, Credentials, Endpoint, Error, Expect, FrameReader,
    FrameWriter, Identity, JoinKey, Plane, PublicKey, Role, Token, authority_fingerprint,
};
use kontiki_wire::{
    Birth, Claim, ClusterId, Epoch, GroupId, GroupMessage, Join, Joined, MemberInfo, PeerFrame,
    PeerHello, PeerLane, Refusal, Request, Response, Seat, TokenId, TokenSpec, Versions, Welcome,
    encode_peer, limits::WELCOME_BYTES_MAX,
};
use tokio::time::timeout;

use crate::cluster::{Cluster, Member, PATIENCE, specs, until};

/// A peer's endpoint with the certificates in a member's directory.
fn peer(dir: &std::path::Path) -> Endpoint {
    let read = |name: &str| std::fs::read_to_string(dir.join("certs").join(name)).unwrap();
    let credentials = Credentials::from_pem(
        &read("node.pem"),
        &read("node.key"),
        &read("node-ca.pem"),
        &read("client-ca.pem"),
    );
    Endpoint::dialer(Plane::Peers, &credentials.unwrap()).unwrap()
}

fn node(member: &MemberInfo) -> NodeRef {
    NodeRef {
        id: NodeId(member.id),
        incarnation: Incarnation(member.incarnation),
    }
}

/// Dials as the second member and says this; gives back why the first member closed.
pub(crate) async fn refusal(cluster: &Cluster, say: impl FnOnce(&mut PeerHello)) -> String {
    let (connection, _stream) = link(cluster, say).await;
    closed(&connection).await
}

/// Dials the first member as the second and says this.
pub(crate) async fn link(
    cluster: &Cluster,
    say: impl FnOnce(&mut PeerHello),
) -> (Connection, (FrameWriter, FrameReader)) {
    let birth = &cluster.birth;
    let mut hello = PeerHello {
        versions: Versions::MINE,
        renews: false,
        peer_address: String::new(),
        cluster: birth.cluster,
        epoch: Epoch::FIRST,
        from: node(&birth.members[1]),
        to: node(&birth.members[0]),
        lane: PeerLane::Log,
    };
    say(&mut hello);
    let endpoint = peer(&cluster.member_dir(1));
    let dialled = endpoint
        .connect(cluster.peer_address(0), Expect::AnyNode)
        .await;
    let connection = dialled.unwrap();
    let (mut writer, reader) = connection.open().await.unwrap();
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    writer.write(out.freeze()).await.unwrap();
    (connection, (writer, reader))
}

async fn closed(connection: &Connection) -> String {
    match timeout(PATIENCE, connection.closed())
        .await
        .expect("it is refused")
    {
        Error::Closed { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn hello_that_does_not_fit_certificate_and_member_list_is_refused() {
    let cluster = Cluster::start(3).await;
    let said = refusal(&cluster, |hello| hello.cluster = ClusterId(1)).await;
    assert!(said.contains("the link is meant for 0000"), "{said}");

    let said = refusal(&cluster, |hello| hello.to.incarnation.0 += 1).await;
    assert!(said.contains("this is member 1"), "{said}");

    let third = node(&cluster.birth.members[2]);
    let said = refusal(&cluster, |hello| hello.from = third).await;
    assert!(
        said.contains("member 3 is n3, the certificate is n2's"),
        "{said}"
    );

    let said = refusal(&cluster, |hello| hello.from.incarnation.0 += 1).await;
    assert!(said.contains("another data directory"), "{said}");

    // A number that was given and that nobody has: its bearer was removed.
    let said = refusal(&cluster, |hello| hello.from.id = NodeId(0)).await;
    assert!(said.contains("member 0 is a member no more"), "{said}");

    // A number that may have been given since: only the key says whose.
    let said = refusal(&cluster, |hello| hello.from.id = NodeId(1_000_000)).await;
    assert!(said.contains("is for another key"), "{said}");
}

#[tokio::test]
async fn link_that_opens_with_something_else_is_refused() {
    let cluster = Cluster::start(1).await;
    let endpoint = peer(&cluster.member_dir(0));
    let dialled = endpoint
        .connect(cluster.peer_address(0), Expect::AnyNode)
        .await;
    let connection = dialled.unwrap();
    let (mut writer, _reader) = connection.open().await.unwrap();
    let body = Body::Vote {
        last: LogId::ORIGIN,
        transfer: true,
    };
    let term = Term(u64::MAX / 2);
    let frame = PeerFrame {
        messages: vec![GroupMessage {
            group: GroupId::CLUSTER,
            message: Message { term, body },
        }],
    };
    let mut pieces = Vec::new();
    encode_peer(&frame, &mut pieces);
    writer.write_all(&mut pieces).await.unwrap();
    let said = closed(&connection).await;
    assert!(said.contains("opens with a hello"), "{said}");
}

#[tokio::test]
async fn member_of_another_cluster_is_not_let_in() {
    let cluster = Cluster::start(1).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = birth_cluster(elsewhere.path(), &specs(1), false).unwrap();
    let endpoint = peer(&other.member_dirs[0]);
    let dialled = endpoint
        .connect(cluster.peer_address(0), Expect::AnyNode)
        .await;
    assert!(dialled.is_err(), "its authority is another");
}

/// Asks to join with this token, and is gone when the answer is there or nobody waits for it any more.
async fn ask_to_join(cluster: &Cluster, token: &Token, patience: Duration) -> Option<Joined> {
    let key = JoinKey::generate().unwrap();
    let applicant = Applicant::dial(cluster.address(0), token, &key)
        .await
        .unwrap();
    let claim = Claim {
        token: token.id,
        name: "n9".to_owned(),
        seat: Seat::Client,
    };
    let proof = token.prove(&applicant.binding(&claim.to_bytes()).unwrap());
    let (mut writer, mut reader) = applicant.open().await.unwrap();
    let mut out = BytesMut::new();
    let join = Join {
        claim,
        key: proof.key,
        signature: proof.signature,
    };
    join.encode(&mut out);
    writer.write(out.freeze()).await.unwrap();
    let answer = timeout(patience, reader.next(WELCOME_BYTES_MAX)).await.ok();
    answer.map(|frame| Joined::decode(&frame.unwrap().expect("an answer")).unwrap())
}

#[tokio::test]
async fn strangers_without_a_token_do_not_keep_one_with_a_token_waiting() {
    const STRANGERS: usize = 100;
    let cluster = Cluster::start(1).await;
    let authority = std::fs::read_to_string(cluster.member_dir(0).join("certs/node-ca.pem"));
    let authority = authority_fingerprint(&authority.unwrap()).unwrap();
    let addresses = vec![cluster.address(0).to_string()];
    let token = || {
        let cluster = cluster.birth.cluster;
        Token::new(cluster, authority, Role::Producer, addresses.clone()).unwrap()
    };
    let good = token();
    let spec = TokenSpec {
        id: TokenId(good.id),
        hash: good.hash(),
        role: good.role,
        topics: Vec::new(),
        life_seconds: 600,
    };
    until("the token is made", async || {
        let request = Request::CreateToken(spec.clone());
        let made = cluster.operator(0).await.request(request).await;
        matches!(made, Response::Token(_))
    })
    .await;
    let bad = token();
    for _ in 0..STRANGERS {
        let told = ask_to_join(&cluster, &bad, Duration::from_millis(20)).await;
        assert!(
            matches!(told, None | Some(Joined::Refused(_))),
            "{told:?} without a token"
        );
    }
    let since = Instant::now();
    let told = ask_to_join(&cluster, &good, PATIENCE).await;
    let took = since.elapsed();
    // Its turn would be seconds away behind the others'. This member keeps no authority.
    match told {
        Some(Joined::Refused(Refusal::Unavailable { why })) => {
            assert!(why.contains("is known to sign"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(took < Duration::from_secs(4), "{took:?}");
}

fn newcomer(id: u64, spec: &MemberSpec, key: &JoinKey) -> MemberInfo {
    let fingerprint = PublicKey::from(key).fingerprint();
    MemberInfo {
        id,
        incarnation: u64::from_le_bytes(*fingerprint.first_chunk().unwrap()),
        name: spec.name.clone(),
        address: spec.address.clone(),
        peer_address: spec.peer_address.clone(),
        ..MemberInfo::default()
    }
}

#[tokio::test]
async fn newcomer_opens_links_to_who_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let specs = specs(3);
    let birth = birth_cluster(dir.path(), &specs[..1], false).unwrap();
    let ca = |name: &str| std::fs::read_to_string(dir.path().join("ca").join(name)).unwrap();
    let authority = Authority::from_pem(&ca("node-ca.pem"), &ca("node-ca.key")).unwrap();
    let sign = |name: &str, key: &JoinKey| {
        let identity = Identity::new(birth.cluster, Role::Node, name).unwrap();
        let key = PublicKey::from(key);
        let day = Duration::from_secs(24 * 3600);
        authority.sign(&key, &identity, day).unwrap()
    };
    // The second was let in and has heard nothing since: the first is gone, and the third leads.
    let home = dir.path().join("n2");
    let key = key_to_join(&home).unwrap();
    let second = newcomer(2, &specs[1], &key);
    let welcome = Welcome {
        cluster: birth.cluster,
        certificate: sign("n2", &key),
        client_roots: ca("client-ca.pem"),
        members: vec![birth.members[0].clone(), second.clone()],
        birth: Some(Birth {
            founders: birth.members.clone(),
            auto_create: false,
            epoch: Epoch::FIRST,
            version: 1,
            me: second.clone(),
            again: false,
        }),
    };
    settle(&home, &welcome, &ca("node-ca.pem")).unwrap();
    let member = Member::start(Config::load(&home).unwrap()).await.unwrap();

    let key = JoinKey::generate().unwrap();
    let third = newcomer(3, &specs[2], &key);
    let credentials = Credentials::from_pem(
        &sign("n3", &key),
        &key.pem(),
        &ca("node-ca.pem"),
        &ca("client-ca.pem"),
    );
    let address = third.peer_address.parse().unwrap();
    let peer = Endpoint::listen(address, Plane::Peers, &credentials.unwrap()).unwrap();
    let to = second.peer_address.parse().unwrap();
    let connection = peer.connect(to, Expect::AnyNode).await.unwrap();
    let (mut writer, _reader) = connection.open().await.unwrap();
    let hello = PeerHello {
        versions: Versions::MINE,
        renews: false,
        peer_address: third.peer_address.clone(),
        cluster: birth.cluster,
        epoch: Epoch::FIRST,
        from: node(&third),
        to: node(&second),
        lane: PeerLane::Beats,
    };
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    writer.write(out.freeze()).await.unwrap();
    let back = timeout(PATIENCE, peer.accept()).await;
    let back = back.expect("it is dialled back").unwrap();
    assert_eq!(back.identity().name, "n2");
    member.stop().await;
}
