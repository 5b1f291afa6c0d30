//! Frames over streams, and how connections end.

use bytes::{Bytes, BytesMut};
use kontiki_transport::{Error, Expect, Plane, Role};
use kontiki_wire::{FrameKind, encode_frame};

use crate::cluster::{Cluster, soon};

const MAX: usize = 1 << 20;

fn frame(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, payload, &mut out);
    out.freeze()
}

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    for plane in [Plane::Peers, Plane::Clients] {
        let pair = Cluster::new().pair(plane).await;
        assert_eq!(pair.here.identity().name, "n1");
        assert_eq!(pair.here.identity().role, Role::Node);
        assert_eq!(pair.here.remote_address(), pair.listener.local_address());
        let (role, name) = match plane {
            Plane::Peers => (Role::Node, "n2"),
            Plane::Clients => (Role::Operator, "ops"),
        };
        assert_eq!(pair.there.identity().role, role);
        assert_eq!(pair.there.identity().name, name);
        assert_eq!(
            pair.there.remote_address().port(),
            pair.dialer.local_address().port()
        );
    }
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut asks, mut answers) = pair.here.open().await.expect("a stream");
    let echo = async {
        let (mut writes, mut reads) = pair.there.accept().await.expect("a stream");
        while let Some(got) = reads.next(MAX).await.expect("a frame") {
            writes.write(frame(&got.payload)).await.expect("room");
        }
        writes.finish();
    };
    let ask = async {
        for size in [0, 1, 100, 1_200, 70_000, 1 << 20] {
            let payload = vec![size as u8; size];
            asks.write(frame(&payload)).await.expect("room");
            let got = answers
                .next(MAX)
                .await
                .expect("a frame")
                .expect("not the end");
            assert!(got.payload == payload, "{size} bytes came back otherwise");
        }
        asks.finish();
        assert_eq!(answers.next(MAX).await.expect("a clean end"), None);
        assert_eq!(answers.next(MAX).await.expect("it stays the end"), None);
    };
    soon("the exchange", async { tokio::join!(echo, ask) }).await;
}

#[tokio::test]
async fn the_reason_of_a_close_arrives() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    pair.there.close(7, "gone\nfishing");
    match soon("the close", pair.here.closed()).await {
        Error::Closed { code, reason } => assert_eq!((code, reason.as_str()), (7, "gone fishing")),
        other => panic!("{other:?}"),
    }
    match pair.there.closed().await {
        Error::ClosedHere(reason) => assert_eq!(reason, "gone\nfishing"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_closed_endpoint_accepts_no_more() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    soon("the farewell", pair.listener.close("maintenance")).await;
    assert!(soon("the end", pair.listener.accept()).await.is_none());
    match soon("the close", pair.here.closed()).await {
        Error::Closed { reason, .. } => assert_eq!(reason, "maintenance"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_another_name_than_meant_is_refused_by_the_dialer() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Peers);
    let dialer = cluster.dialer(Plane::Peers);
    let meant = Expect::Node("n3".to_owned());
    let refused = soon("the dial", dialer.connect(listener.local_address(), meant)).await;
    match refused {
        Err(Error::Identity(sentence)) => assert!(sentence.contains("n3"), "{sentence}"),
        other => panic!("{other:?}"),
    }
}
