//! The members of a running cluster read their own logs, and their replicas are held against each other.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use kontiki_client::ReplicaVerified;
use kontiki_server::{
    birth::{birth_alone, birth_cluster, key_to_join},
    verify::verify_dir,
};
use kontiki_transport::Role;
use kontiki_wire::{GroupId, Refusal, Request, Response, Walked, entry_checksum};

use crate::{
    client::client,
    cluster::{Cluster, specs, until},
    damage::files,
};

const RECORDS: usize = 40;

/// A cluster of three whose topic has as many records.
async fn grown() -> Cluster {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let mut producer = cluster.operator(leader).await.produce(&topic).await;
    for number in 0..RECORDS {
        producer.append(&[&value(number)]).await.unwrap();
    }
    drop(producer);
    cluster
}

fn value(number: usize) -> String {
    format!("the value of record {number:04}")
}

fn walk(group: u64, first: u64, last: u64) -> Request {
    Request::Walk {
        group: GroupId(group),
        first,
        last,
        digest: 0,
    }
}

async fn walked(cluster: &Cluster, at: usize, request: Request) -> Walked {
    match cluster.operator(at).await.request(request).await {
        Response::Walked(walked) => walked,
        other => panic!("{other:?}"),
    }
}

/// The segment of a member that has this record, and where its value begins.
fn holding(cluster: &Cluster, at: usize, number: usize) -> (PathBuf, usize) {
    let value = value(number);
    let all = files(&cluster.member_dir(at).join("data"));
    let segments = all
        .into_iter()
        .filter(|path| path.extension() == Some("segment".as_ref()));
    let mut found = segments.filter_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let at = bytes
            .windows(value.len())
            .position(|window| window == value.as_bytes())?;
        Some((path, at))
    });
    found.next().unwrap()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

#[tokio::test]
async fn sound_cluster_is_sound_and_its_replicas_are_the_same() {
    let cluster = grown().await;
    let client = client(&cluster).await;
    let mut steps = Vec::new();
    let verified = client
        .admin()
        .verify(|done, total| steps.push((done, total)))
        .await
        .unwrap();
    assert!(verified.sound, "{verified:#?}");
    assert_eq!(verified.replicas.len(), 6, "two groups on three members");
    for replica in &verified.replicas {
        assert_eq!(replica.entries, replica.upto);
        let least = if replica.topic.is_some() { RECORDS } else { 1 };
        assert!(replica.entries >= least as u64, "{replica:?}");
    }
    let (done, total) = steps.last().copied().unwrap();
    assert_eq!(done, total);
}

#[tokio::test]
async fn replica_that_differs_is_named_with_the_first_entry_that_does() {
    let mut cluster = grown().await;
    // What is committed goes to segments when a member stops.
    for at in 0..3 {
        cluster.stop(at).await;
    }
    // Whoever does this to a file leaves every checksum right.
    let (path, at) = holding(&cluster, 1, 17);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    let magic = bytes[..at]
        .windows(4)
        .rposition(|four| four == b"KTKE")
        .unwrap();
    let index = u64::from_le_bytes(bytes[magic + 16..magic + 24].try_into().unwrap());
    let body = magic + 64;
    let len = number(&bytes[magic + 52..magic + 56]) as usize;
    let checksum = entry_checksum(&bytes[body..body + len]);
    bytes[magic + 56..magic + 60].copy_from_slice(&checksum.to_le_bytes());
    let checksum = entry_checksum(&bytes[magic..magic + 60]);
    bytes[magic + 60..body].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    for at in 0..3 {
        cluster.start_member(at).await;
    }

    let client = client(&cluster).await;
    let mut wrong: Vec<ReplicaVerified> = Vec::new();
    until("all members are verified", async || {
        let verified = client.admin().verify(|_, _| {}).await.unwrap();
        let unread = |replica: &ReplicaVerified| replica.unread.is_some();
        wrong = verified.replicas.clone();
        wrong.retain(|replica| !replica.is_sound());
        !verified.replicas.iter().any(unread)
    })
    .await;
    let [replica] = &wrong[..] else {
        panic!("{wrong:#?}")
    };
    assert_eq!(replica.member, "n2");
    assert_eq!(replica.topic.as_deref(), Some("t"));
    assert_eq!(replica.differs_from, Some(index));
    assert_eq!(replica.damage, []);
}

#[tokio::test]
async fn damage_under_a_running_member_is_found_and_mended_by_it() {
    let mut cluster = grown().await;
    // What is committed goes to segments when a member stops, and nothing of it is in the journal once
    // it has started again.
    for at in 0..3 {
        cluster.stop(at).await;
    }
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    let client = client(&cluster).await;
    until("the cluster is sound", async || {
        client.admin().verify(|_, _| {}).await.unwrap().sound
    })
    .await;
    let (path, at) = holding(&cluster, 1, 17);
    let before = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[!before[at]], at as u64).unwrap();

    let verified = client.admin().verify(|_, _| {}).await.unwrap();
    assert!(!verified.sound);
    let mut wrong = verified.replicas.iter().filter(|one| !one.is_sound());
    let replica = wrong.next().unwrap();
    assert_eq!(wrong.next(), None);
    assert_eq!(replica.member, "n2");
    let [damage] = &replica.damage[..] else {
        panic!("one damage is told once: {replica:#?}")
    };
    assert_eq!(damage.first, damage.last);
    assert!(
        damage.what.contains("segment is damaged at byte"),
        "{damage:?}"
    );
    assert_eq!((replica.differs_from, &replica.unread), (None, &None));

    until("it is mended", async || {
        client.admin().verify(|_, _| {}).await.unwrap().sound
    })
    .await;
    assert!(fs::read(&path).unwrap() == before, "it is what it was");
}

#[tokio::test]
async fn member_that_is_away_is_told_and_the_others_are_read() {
    let mut cluster = grown().await;
    cluster.stop(2).await;
    let client = client(&cluster).await;
    let verified = client.admin().verify(|_, _| {}).await.unwrap();
    assert!(!verified.sound);
    for replica in &verified.replicas {
        assert_eq!(
            replica.unread.is_some(),
            replica.member == "n3",
            "{replica:?}"
        );
        assert_eq!(replica.is_sound(), replica.member != "n3");
    }
}

#[tokio::test]
async fn whatever_is_asked_of_a_walk_has_an_answer() {
    let cluster = grown().await;
    let mut whole = Walked::default();
    until("two members have it all", async || {
        whole = walked(&cluster, 0, walk(1, 1, u64::MAX)).await;
        let other = walked(&cluster, 1, walk(1, 1, u64::MAX)).await;
        whole.placed > RECORDS as u64 && other.placed == whole.placed
    })
    .await;
    assert_eq!((whole.upto, whole.entries), (whole.placed, whole.placed));
    assert_eq!(
        walked(&cluster, 1, walk(1, 1, whole.placed)).await.digest,
        whole.digest
    );

    let two = walked(&cluster, 0, walk(1, 1, 2)).await;
    let Request::Walk { group, .. } = walk(1, 0, 0) else {
        panic!("it is a walk")
    };
    let rest = Request::Walk {
        group,
        first: 3,
        last: u64::MAX,
        digest: two.digest,
    };
    assert_eq!(walked(&cluster, 0, rest).await.digest, whole.digest);

    for (first, last) in [(1, 0), (0, 0), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
        let walked = walked(&cluster, 0, walk(1, first, last)).await;
        assert_eq!((walked.placed, walked.entries), (whole.placed, 0));
    }
    // A group that nobody has heard of is not made by asking.
    assert_eq!(
        walked(&cluster, 0, walk(u64::MAX, 1, 9)).await,
        Walked::default()
    );
    let consumer = cluster.client(0, Role::Consumer, "c").await;
    let what = "a consumer may not verify a member's log".to_owned();
    let refused = Response::Refused(Refusal::NotPermitted { what });
    assert_eq!(consumer.request(walk(1, 1, 1)).await, refused);
}

#[test]
fn who_has_asked_to_join_has_lost_nothing_and_who_was_a_member_has() {
    let dir = tempfile::tempdir().unwrap();
    let joining = dir.path().join("joining");
    key_to_join(&joining).unwrap();
    let report = verify_dir(&joining, |_, _| {}).unwrap();
    assert!(report.sound && report.joining, "{report:?}");
    assert!(report.findings[0].what.contains("a join was interrupted"));

    let alone = dir.path().join("alone");
    birth_alone(&alone, &specs(1)[0], false).unwrap();
    let birth = birth_cluster(&dir.path().join("cluster"), &specs(1), false).unwrap();
    for member in [&alone, &birth.member_dirs[0]] {
        fs::remove_file(member.join("member.toml")).unwrap();
        let report = verify_dir(member, |_, _| {}).unwrap();
        assert!(!report.sound && !report.joining, "{report:?}");
        assert!(report.findings[0].what.contains("they were lost"));
    }
    let nobody = verify_dir(dir.path(), |_, _| {}).unwrap_err().to_string();
    assert!(nobody.contains("neither a member's directory"), "{nobody}");
}
