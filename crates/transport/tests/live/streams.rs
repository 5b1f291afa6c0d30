//! Frames over streams, and how connections end.

use kontiki_transport::{Error, Expect, Plane, Role};

use crate::cluster::{Cluster, soon};

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
