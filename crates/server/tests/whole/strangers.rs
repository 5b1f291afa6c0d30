//! Whoever is not the peer it says it is gets no link.

use bytes::BytesMut;
use kontiki_raft::{Body, Incarnation, LogId, Message, NodeId, NodeRef, Term};
use kontiki_server::birth::birth_cluster;
use kontiki_transport::{Connection, Credentials, Endpoint, Error, Expect, Plane};
use kontiki_wire::{
    ClusterId, GroupId, GroupMessage, MemberInfo, PeerFrame, PeerHello, PeerLane, encode_peer,
};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, specs};

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
async fn refusal(cluster: &Cluster, say: impl FnOnce(&mut PeerHello)) -> String {
    let birth = &cluster.birth;
    let mut hello = PeerHello {
        peer_address: String::new(),
        cluster: birth.cluster,
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
    let (mut writer, _reader) = connection.open().await.unwrap();
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    writer.write(out.freeze()).await.unwrap();
    closed(&connection).await
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
