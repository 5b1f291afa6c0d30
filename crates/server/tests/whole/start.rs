//! Births and starts that must not happen, and what they say.

use std::{fs, os::unix::fs::PermissionsExt};

use kontiki_server::{
    BirthError, Config, MemberFile, StartError,
    birth::{MemberSpec, birth_cluster},
};
use kontiki_wire::{Request, Response};

use crate::cluster::{Cluster, Member, specs};

async fn refusal(cluster: &Cluster, at: usize) -> StartError {
    cluster
        .try_start(at)
        .await
        .err()
        .expect("it must not start")
}

#[test]
fn birth_writes_over_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let specs = specs(2);
    fs::create_dir(dir.path().join("n2")).unwrap();
    let refused = birth_cluster(dir.path(), &specs, false).unwrap_err();
    assert!(matches!(refused, BirthError::Exists(path) if path.ends_with("n2")));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing else was written");

    fs::remove_dir(dir.path().join("n2")).unwrap();
    birth_cluster(dir.path(), &specs, false).unwrap();
    assert!(birth_cluster(dir.path(), &specs, false).is_err());
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    birth_cluster(dir.path(), &specs(1), false).unwrap();
    for key in [
        "ca/node-ca.key",
        "ca/client-ca.key",
        "n1/certs/node.key",
        "operator/operator.key",
    ] {
        let mode = fs::metadata(dir.path().join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn members_that_make_no_cluster_are_refused_with_the_reason() {
    let refused = |change: fn(&mut Vec<MemberSpec>)| {
        let dir = tempfile::tempdir().unwrap();
        let mut specs = specs(2);
        change(&mut specs);
        birth_cluster(dir.path(), &specs, false)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|specs| specs.clear()).contains("1 to 64 members"));
    assert!(refused(|specs| specs[1].name = "n1".into()).contains("two members"));
    for name in ["", "../n1", "N1", "n..1"] {
        let dir = tempfile::tempdir().unwrap();
        let mut specs = specs(2);
        specs[1].name = name.to_owned();
        let refused = birth_cluster(dir.path(), &specs, false).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("cannot name a member"), "{said}");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 0, "{name:?}: nothing was written");
    }
    assert!(refused(|specs| specs[1].name = "ca".into()).contains("another directory"));
    assert!(refused(|specs| specs[1].address = "10.0.0.1".into()).contains("a host and a port"));
    assert!(refused(|specs| specs[1].address = specs[0].address.clone()).contains("used twice"));
}

#[tokio::test]
async fn port_that_is_taken_names_the_setting_that_moves_it() {
    let mut cluster = Cluster::start(1).await;
    cluster.stop(0).await;
    let taken = std::net::UdpSocket::bind(cluster.address(0)).unwrap();
    let said = refusal(&cluster, 0).await.to_string();
    assert!(said.contains("`listen` in kontiki.toml"), "{said}");
    assert_eq!(said.matches("cannot listen").count(), 1, "{said}");

    let mut config = Config::load(&cluster.member_dir(0)).unwrap();
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let moved = Member::start(config).await.unwrap();
    moved.stop().await;
    drop(taken);
}

#[tokio::test]
async fn second_process_in_a_directory_is_refused() {
    let cluster = Cluster::start(1).await;
    let mut config = Config::load(&cluster.member_dir(0)).unwrap();
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.listen_peers = Some("127.0.0.1:0".parse().unwrap());
    let refused = Member::start(config)
        .await
        .err()
        .expect("the first one holds it");
    assert!(matches!(refused, StartError::Storage(_)), "{refused}");
}

#[tokio::test]
async fn data_of_another_member_is_refused_with_whose_it_is() {
    let mut cluster = Cluster::start(2).await;
    cluster.stop(0).await;
    cluster.stop(1).await;
    let (mine, theirs) = (
        cluster.member_dir(0).join("data"),
        cluster.member_dir(1).join("data"),
    );
    fs::remove_dir_all(&mine).unwrap();
    fs::rename(theirs, &mine).unwrap();
    let said = refusal(&cluster, 0).await.to_string();
    assert!(
        said.contains("belongs to n2") && said.contains("not to n1"),
        "{said}"
    );
}

#[tokio::test]
async fn certificate_of_another_member_is_refused_with_whose_it_is() {
    let mut cluster = Cluster::start(2).await;
    cluster.stop(0).await;
    for file in ["certs/node.pem", "certs/node.key"] {
        fs::copy(
            cluster.member_dir(1).join(file),
            cluster.member_dir(0).join(file),
        )
        .unwrap();
    }
    let said = refusal(&cluster, 0).await.to_string();
    assert!(
        said.contains("/node/n2's") && said.contains("/node/n1"),
        "{said}"
    );
}

#[tokio::test]
async fn directory_that_is_no_members_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Member::start(Config::new(dir.path()))
        .await
        .err()
        .expect("nothing is there");
    assert!(refused.to_string().contains("kontiki init"), "{refused}");
}

#[tokio::test]
async fn another_advertised_address_than_the_cluster_knows_is_refused() {
    let mut cluster = Cluster::start(1).await;
    cluster.stop(0).await;
    let file = cluster.member_dir(0).join("kontiki.toml");
    fs::write(file, "advertise = 'elsewhere:1'\n").unwrap();
    let said = refusal(&cluster, 0).await.to_string();
    assert!(said.contains("`advertise` is elsewhere:1"), "{said}");
}

#[tokio::test]
async fn only_member_that_lost_its_data_says_what_to_do_and_never_leads() {
    let mut cluster = Cluster::start(1).await;
    let member = MemberFile::load(&cluster.member_dir(0)).unwrap();
    assert!(member.started);
    cluster.stop(0).await;
    fs::remove_dir_all(cluster.member_dir(0).join("data")).unwrap();
    cluster.start_member(0).await;

    let operator = cluster.operator(0).await;
    let Response::Status(status) = operator.request(Request::Status).await else {
        panic!("a status");
    };
    let [why] = &status.recovering[..] else {
        panic!("{status:?}");
    };
    assert!(why.contains("was lost since the last start"), "{why}");
    assert!(why.contains("there is no majority without it"), "{why}");
    assert!(status.groups.iter().all(|group| group.leader.is_none()));
}
