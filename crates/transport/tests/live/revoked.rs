//! What was taken back ends where it is live, and is let in nowhere; everybody else notices nothing. What is
//! renewed is shown to whoever comes next.

use std::{env, sync::Arc, time::Duration};

use bytes::BytesMut;
use kontiki_transport::{
    CLOSE_CERTIFICATE, Connection, Credentials, Endpoint, Error, Expect, Plane, Revoked, Role,
};
use kontiki_wire::{FrameKind, Revocation, Whom, encode_frame};
use tokio::time::timeout;

use crate::cluster::{Cluster, loopback, soon};

fn revoked(whom: Whom) -> Arc<Revoked> {
    Arc::new(Revoked::new(&[Revocation {
        whom,
        at: u64::MAX / 2,
        until: u64::MAX,
    }]))
}

async fn connected(
    listener: &Endpoint,
    credentials: &Credentials,
    plane: Plane,
) -> [Connection; 2] {
    let dialer = Endpoint::dialer(plane, credentials).expect("a free port");
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    let here = soon("a connection", dialed).await.expect("let in");
    let there = soon("an arrival", listener.accept()).await.expect("open");
    [here, there]
}

async fn refused(listener: &Endpoint, credentials: &Credentials, plane: Plane) -> String {
    let dialer = Endpoint::dialer(plane, credentials).expect("a free port");
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    match soon("an answer", dialed).await {
        Err(Error::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_revoked_is_ended_and_comes_back_no_more() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let shop = cluster.credentials(Role::Producer, "shop");
    let other = cluster.credentials(Role::Producer, "other");
    let again = cluster.credentials(Role::Producer, "shop");
    for whom in [
        Whom::Serial(shop.certificate().serial.clone()),
        Whom::Name {
            role: Some(Role::Producer),
            name: "shop".to_owned(),
        },
    ] {
        listener.set_revoked(&Arc::default());
        let [here, _there] = connected(&listener, &shop, Plane::Clients).await;
        let [honest, _there] = connected(&listener, &other, Plane::Clients).await;
        listener.set_revoked(&revoked(whom.clone()));
        match soon("the end", here.closed()).await {
            Error::Closed { code, reason } => {
                assert_eq!(code, u64::from(CLOSE_CERTIFICATE));
                assert!(reason.contains("it was revoked"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(
            refused(&listener, &shop, Plane::Clients)
                .await
                .contains("it was revoked")
        );
        let ended = timeout(Duration::from_millis(100), honest.closed()).await;
        assert!(ended.is_err(), "an honest one was ended: {ended:?}");
        connected(&listener, &other, Plane::Clients).await;
        match whom {
            Whom::Serial(_) => drop(connected(&listener, &again, Plane::Clients).await),
            _ => drop(refused(&listener, &again, Plane::Clients).await),
        }
    }
}

#[tokio::test]
async fn who_is_revoked_stays_so_when_the_listener_renews_its_own() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let shop = cluster.credentials(Role::Producer, "shop");
    listener.set_revoked(&revoked(Whom::Serial(shop.certificate().serial.clone())));
    let renewed = cluster.credentials(Role::Node, "n1");
    listener.set_credentials(&renewed).expect("good ones");
    assert!(
        refused(&listener, &shop, Plane::Clients)
            .await
            .contains("it was revoked")
    );
}

#[tokio::test]
async fn nobody_is_told_of_a_list_that_is_the_one_of_before() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let mut told = listener.credentials();
    let list = revoked(Whom::Serial("ab".to_owned()));
    for is_another in [true, false] {
        listener.set_revoked(&list);
        assert_eq!(told.has_changed().expect("it lives"), is_another);
        told.mark_unchanged();
    }
}

#[tokio::test]
async fn a_dialer_takes_no_listener_with_the_key_of_a_member_that_was_removed() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Peers);
    let dialer = cluster.dialer(Plane::Peers);
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    let here = soon("a connection", dialed).await.expect("let in");
    let there = soon("an arrival", listener.accept()).await.expect("open");
    dialer.set_revoked(&revoked(Whom::Key(here.certificate().mark())));
    assert!(matches!(
        soon("the end", here.closed()).await,
        Error::ClosedHere(_)
    ));
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    assert!(matches!(
        soon("an answer", dialed).await,
        Err(Error::Identity(_))
    ));
    // Where it dials itself it is let in this far: whoever takes its link tells it that it was removed.
    listener.set_revoked(&revoked(Whom::Key(there.certificate().mark())));
    let again = cluster.credentials(Role::Node, "n2");
    connected(&listener, &again, Plane::Peers).await;
}

/// One request and its answer.
async fn ask(here: &Connection) -> Result<(), Error> {
    let (mut writer, mut reader) = here.open().await?;
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, b"?", &mut out);
    writer.write(out.freeze()).await?;
    writer.finish();
    let answer = reader.next(100).await?;
    assert_eq!(&answer.expect("an answer").payload[..], b"!");
    Ok(())
}

async fn answer_all(listener: Endpoint) {
    while let Some(there) = listener.accept().await {
        tokio::spawn(async move {
            while let Ok((mut writer, mut reader)) = there.accept().await {
                let _ = reader.next(100).await;
                let mut out = BytesMut::new();
                encode_frame(FrameKind::Response, b"!", &mut out);
                let _ = writer.write(out.freeze()).await;
                writer.finish();
                let _ = writer.stopped().await;
            }
        });
    }
}

/// `ROTATIONS` makes it longer.
#[tokio::test]
async fn a_listener_and_its_dialers_change_certificates_and_roots_and_no_request_fails() {
    let rotations = env::var("ROTATIONS")
        .ok()
        .and_then(|count| count.parse().ok());
    let rotations = rotations.unwrap_or(1_000);
    let (old, new) = (Cluster::new(), Cluster::new());
    let roots = |first: &str, second: &str| format!("{first}{second}");
    let nodes = roots(old.nodes.certificate_pem(), new.nodes.certificate_pem());
    let clients = roots(old.clients.certificate_pem(), new.clients.certificate_pem());
    let credentials = |cluster: &Cluster, role, name: &str| {
        let identity = kontiki_transport::Identity::new(crate::cluster::CLUSTER, role, name);
        let (authority, clients) = match role {
            Role::Node => (&cluster.nodes, clients.as_str()),
            _ => (&cluster.clients, ""),
        };
        let issued = authority.issue(&identity.expect("a name"), crate::cluster::DAY);
        let issued = issued.expect("a leaf");
        Credentials::from_pem(&issued.certificate_pem, &issued.key_pem, &nodes, clients)
            .expect("good ones")
    };
    let first = credentials(&old, Role::Node, "n1");
    let listener = Endpoint::listen(loopback(), Plane::Clients, &first).expect("a free port");
    tokio::spawn(answer_all(listener.clone()));
    let dialer = Endpoint::dialer(Plane::Clients, &credentials(&old, Role::Operator, "ops"));
    let dialer = dialer.expect("a free port");
    let address = listener.local_address();
    let dialed = dialer.connect(address, Expect::AnyNode).await;
    // One that lives through all of it, and one that is dialled now and then.
    let lasting = dialed.expect("let in");
    let dial_every = (rotations / 50).max(1);
    for rotation in 0..rotations {
        let cluster = if rotation % 2 == 0 { &new } else { &old };
        let shown = credentials(cluster, Role::Node, "n1");
        listener.set_credentials(&shown).expect("good ones");
        let shown = credentials(cluster, Role::Operator, "ops");
        dialer.set_credentials(&shown).expect("good ones");
        ask(&lasting).await.expect("an answer");
        if rotation % dial_every == 0 {
            let dialed = dialer.connect(address, Expect::AnyNode).await;
            ask(&dialed.expect("let in")).await.expect("an answer");
        }
    }
}
