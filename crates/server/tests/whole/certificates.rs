//! Certificates of members and clients while they are live: taken back, put anew, damaged.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use kontiki_client::{Client, Papers, Whom};
use kontiki_raft::{Incarnation, NodeId};
use kontiki_server::own;
use kontiki_transport::{CLOSE_CERTIFICATE, Certificate, Error, Role};
use kontiki_wire::{Refusal, Renew, Request, Response};
use tokio::time::timeout;

use crate::{
    client::client,
    cluster::{Cluster, until},
    strangers::{link, refusal},
};

/// In which every member is to have ended what was revoked.
const ENDED_IN: Duration = Duration::from_secs(5);

fn shown(cluster: &Cluster, at: usize) -> Certificate {
    let pem = fs::read_to_string(cluster.member_dir(at).join("certs/node.pem"));
    Certificate::from_pem(&pem.unwrap()).unwrap()
}

async fn papers(client: &Client, member: u64) -> Option<Papers> {
    let trust = client.admin().trust().await.ok()?;
    trust.papers_of(member).cloned()
}

/// Waits until the cluster knows what a member shows.
async fn known(client: &Client, cluster: &Cluster, at: usize) {
    until("the cluster knows what a member shows", async || {
        let papers = papers(client, at as u64 + 1).await;
        papers.is_some_and(|papers| papers.serial == shown(cluster, at).serial)
    })
    .await;
}

#[tokio::test]
async fn who_is_revoked_loses_its_connections_to_every_member_within_five_seconds() {
    let cluster = Cluster::start(3).await;
    let operator = client(&cluster).await;
    let mut live = Vec::new();
    for at in 0..3 {
        let shop = cluster.client(at, Role::Producer, "shop").await;
        let other = cluster.client(at, Role::Producer, "other").await;
        for caller in [&shop, &other] {
            let metadata = caller.request(Request::Metadata).await;
            assert!(
                matches!(metadata, Response::Metadata { .. }),
                "{metadata:?}"
            );
        }
        live.push((shop, other));
    }
    let whom = Whom::Name {
        role: None,
        name: "shop".to_owned(),
    };
    operator.admin().revoke_certificates(whom).await.unwrap();
    let ends = live.iter().map(|(shop, _)| shop.connection.closed());
    let ended = async {
        for end in ends {
            match end.await {
                Error::Closed { code, .. } => assert_eq!(code, u64::from(CLOSE_CERTIFICATE)),
                other => panic!("{other}"),
            }
        }
    };
    timeout(ENDED_IN, ended)
        .await
        .expect("every member ends it");
    for (_, other) in &live {
        let metadata = other.request(Request::Metadata).await;
        assert!(
            matches!(metadata, Response::Metadata { .. }),
            "{metadata:?}"
        );
    }
    operator.close().await;
}

#[tokio::test]
async fn key_of_a_member_that_was_removed_opens_no_link_under_any_number() {
    let cluster = Cluster::start(3).await;
    let operator = client(&cluster).await;
    known(&operator, &cluster, 1).await;
    operator.admin().remove_member("n2", false).await.unwrap();
    until("n2 is a member no more", async || {
        let metadata = cluster.operator(0).await.request(Request::Metadata).await;
        let Response::Metadata { members, .. } = metadata else {
            panic!("{metadata:?}");
        };
        members.iter().all(|member| member.name != "n2")
    })
    .await;
    let mark = shown(&cluster, 1).mark();
    for id in [4, 1_000_000] {
        let said = refusal(&cluster, |hello| {
            hello.from.id = NodeId(id);
            hello.from.incarnation = Incarnation(mark);
        })
        .await;
        assert!(said.contains("that of a member that was removed"), "{said}");
    }
    operator.close().await;
}

#[tokio::test]
async fn certificate_put_into_the_folder_is_shown_at_once_and_a_damaged_one_is_not() {
    let cluster = Cluster::start(2).await;
    let operator = client(&cluster).await;
    known(&operator, &cluster, 1).await;
    let before = shown(&cluster, 1);
    let ca = cluster.dir.path().join("ca");
    own::renew(&cluster.member_dir(1), Some(&ca)).unwrap();
    assert_ne!(shown(&cluster, 1).serial, before.serial);
    known(&operator, &cluster, 1).await;
    let dialled = cluster.operator(1).await;
    let served = dialled.connection.certificate().serial.clone();
    assert_eq!(served, shown(&cluster, 1).serial);

    let file = cluster.member_dir(1).join("certs/node.pem");
    for damaged in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        fs::write(&file, damaged).unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let dialled = cluster.operator(1).await;
        assert_eq!(dialled.connection.certificate().serial, served);
        let metadata = dialled.request(Request::Metadata).await;
        assert!(
            matches!(metadata, Response::Metadata { .. }),
            "{metadata:?}"
        );
    }
    operator.close().await;
}

/// Has these members sign, for so many seconds.
pub(crate) async fn has_sign(cluster: &mut Cluster, members: &[usize], valid_seconds: u64) {
    let ca = cluster.dir.path().join("ca");
    let text = format!("[ca]\ndir = {ca:?}\nvalid_seconds = {valid_seconds}\n");
    for at in members {
        cluster.stop(*at).await;
        fs::write(cluster.member_dir(*at).join("kontiki.toml"), &text).unwrap();
        cluster.start_member(*at).await;
    }
}

#[tokio::test]
async fn a_member_that_is_asked_without_end_renews_its_own_certificate_all_the_same() {
    let mut cluster = Cluster::start(2).await;
    has_sign(&mut cluster, &[0], 4).await;
    cluster.kill(1);
    own::renew(&cluster.member_dir(0), None).unwrap();
    let before = shown(&cluster, 0);
    let (connection, (mut writer, _reader)) = link(&cluster, |_| {}).await;
    while shown(&cluster, 0).serial == before.serial {
        assert!(before.not_after > SystemTime::now(), "it has expired");
        let mut frame = BytesMut::new();
        Renew.encode(&mut frame);
        writer.write(frame.freeze()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(connection);
}

#[tokio::test]
async fn a_member_that_is_parted_from_the_others_renews_no_clients_certificate() {
    let mut cluster = Cluster::start(3).await;
    has_sign(&mut cluster, &[0], 3600).await;
    let shop = cluster.client(0, Role::Producer, "shop").await;
    let other = cluster.client(0, Role::Producer, "other").await;
    // Whoever leads.
    let mut given = None;
    until("a client's certificate is renewed", async || {
        given = match shop.request(Request::Renew).await {
            Response::Renewed { certificate, .. } => Some(certificate),
            _ => None,
        };
        given.is_some()
    })
    .await;
    cluster.kill(1);
    cluster.kill(2);
    // What it was given already it may have again.
    let again = shop.request(Request::Renew).await;
    assert!(
        matches!(&again, Response::Renewed { certificate, .. } if Some(certificate) == given.as_ref()),
        "{again:?}"
    );
    let refused = other.request(Request::Renew).await;
    let Response::Refused(Refusal::Unavailable { why }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("no leader"), "{why}");
}
