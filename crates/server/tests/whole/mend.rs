//! Segments that were damaged behind their member's back become what they were, from what peers have.

use std::{fs, io, path::PathBuf};

use kontiki_wire::{From, MemberStatus, Request, Response, StreamEnd, TopicName, Until};

use crate::{
    cluster::{Cluster, until},
    damage::files,
};

const RECORDS: usize = 60;

fn value(number: usize) -> String {
    format!("the value of record {number:04}")
}

/// A cluster of three that is stopped; what its topic holds is in segments alone.
async fn settled() -> (Cluster, TopicName) {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let mut producer = cluster.operator(leader).await.produce(&topic).await;
    for number in 0..RECORDS {
        producer.append(&[&value(number)]).await.unwrap();
    }
    drop(producer);
    until("everybody has all", async || {
        for at in 0..3 {
            let groups = status(&cluster, at).await.groups;
            if !groups.iter().any(|group| group.next.0 == RECORDS as u64) {
                return false;
            }
        }
        true
    })
    .await;
    // What is committed goes to segments when a member stops, and from the journal when it has started.
    for at in 0..3 {
        cluster.stop(at).await;
    }
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    cluster.leader(&topic).await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
    (cluster, topic)
}

async fn status(cluster: &Cluster, at: usize) -> MemberStatus {
    match cluster.operator(at).await.request(Request::Status).await {
        Response::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

fn segments(cluster: &Cluster, at: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let all = files(&cluster.member_dir(at).join("data"));
    let kinds = ["segment", "mending", "fetched"];
    let of_segments = all.into_iter().filter(|path| {
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        kinds.contains(&&*kind)
    });
    let held = of_segments.filter_map(|path| match fs::read(&path) {
        Ok(bytes) => Some((path, bytes)),
        // A member that runs has taken it away since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    });
    held.collect()
}

/// Turns over a byte of a record in a member's segment.
fn damage(cluster: &Cluster, at: usize, number: usize) {
    let value = value(number);
    for (path, mut bytes) in segments(cluster, at) {
        let mut windows = bytes.windows(value.len());
        if let Some(found) = windows.position(|window| window == value.as_bytes()) {
            bytes[found] ^= 1;
            fs::write(path, bytes).unwrap();
            return;
        }
    }
    panic!("record {number} is in no segment");
}

/// Whether a member's segments hold again what they held; more may follow.
fn is_as_before(cluster: &Cluster, at: usize, before: &[(PathBuf, Vec<u8>)]) -> bool {
    let now = segments(cluster, at);
    now.len() == before.len()
        && now
            .iter()
            .zip(before)
            .all(|((path, bytes), (known, held))| path == known && bytes.starts_with(held))
}

fn lengths(segments: &[(PathBuf, Vec<u8>)]) -> Vec<(&PathBuf, usize)> {
    let lengths = segments.iter().map(|(path, bytes)| (path, bytes.len()));
    lengths.collect()
}

async fn is_whole(cluster: &Cluster, at: usize) -> bool {
    status(cluster, at).await.recovering.is_empty()
}

/// Every member gives every record.
async fn assert_all_read(cluster: &Cluster, topic: &TopicName) {
    for at in 0..3 {
        let mut subscription = cluster
            .operator(at)
            .await
            .subscribe(topic, From::Earliest, Until::End)
            .await;
        let (read, end) = subscription.rest().await;
        assert_eq!(end, StreamEnd::Reached);
        let values: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (0..RECORDS).map(value).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn damage_to_each_member_at_another_place_is_mended_when_all_start_again() {
    let (mut cluster, topic) = settled().await;
    let before = [0, 1, 2].map(|at| segments(&cluster, at));
    for (at, numbers) in [vec![3, 4, 40], vec![10, 41], vec![20, 21]]
        .into_iter()
        .enumerate()
    {
        for number in numbers {
            damage(&cluster, at, number);
        }
        assert!(!is_as_before(&cluster, at, &before[at]));
    }
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    until("all members are whole", async || {
        is_whole(&cluster, 0).await && is_whole(&cluster, 1).await && is_whole(&cluster, 2).await
    })
    .await;
    cluster.leader(&topic).await;
    assert_all_read(&cluster, &topic).await;
    for (at, before) in before.iter().enumerate() {
        assert!(is_as_before(&cluster, at, before), "member {at}");
    }
}

#[tokio::test]
async fn segments_that_are_gone_come_back_and_the_others_never_stop() {
    let (mut cluster, topic) = settled().await;
    let before = segments(&cluster, 2);
    for (path, _) in &before {
        fs::remove_file(path).unwrap();
    }
    cluster.start_member(0).await;
    cluster.start_member(1).await;
    cluster.leader(&topic).await;
    cluster.start_member(2).await;
    until("the member is whole", async || is_whole(&cluster, 2).await).await;
    let leader = cluster.leader(&topic).await;
    assert_all_read(&cluster, &topic).await;
    // What the journal still had goes to segments again, as far as it is known to be committed: all of
    // it, once one more record has come.
    let mut producer = cluster.operator(leader).await.produce(&topic).await;
    producer.append(&[&value(RECORDS)]).await.unwrap();
    until("the member has one more", async || {
        let groups = status(&cluster, 2).await.groups;
        let mut ends = groups.iter().map(|group| group.next.0);
        ends.any(|end| end == RECORDS as u64 + 1)
    })
    .await;
    cluster.stop(2).await;
    assert!(
        is_as_before(&cluster, 2, &before),
        "{:?} are not {:?}",
        lengths(&segments(&cluster, 2)),
        lengths(&before)
    );
}

#[tokio::test]
async fn damage_under_a_running_member_is_mended_when_somebody_reads_it() {
    let (mut cluster, topic) = settled().await;
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    let leader = cluster.leader(&topic).await;
    for victim in [leader, (leader + 1) % 3] {
        let before = segments(&cluster, victim);
        damage(&cluster, victim, 30);
        let mut subscription = cluster
            .operator(victim)
            .await
            .subscribe(&topic, From::Earliest, Until::End)
            .await;
        let (read, end) = subscription.rest().await;
        assert!(read.len() <= 30, "what is damaged is never delivered");
        assert!(
            matches!(end, StreamEnd::Refused(_) | StreamEnd::Moving),
            "{end:?}"
        );
        until("the segment is what it was", async || {
            is_as_before(&cluster, victim, &before) && is_whole(&cluster, victim).await
        })
        .await;
        cluster.leader(&topic).await;
    }
    assert_all_read(&cluster, &topic).await;
}

#[tokio::test]
async fn what_a_damaged_peer_has_is_not_said_to_be_nowhere() {
    let (mut cluster, topic) = settled().await;
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    cluster.leader(&topic).await;
    // The others find out about their own damage when they are asked.
    for (at, number) in [(0, 29), (0, 30), (1, 29), (2, 30)] {
        damage(&cluster, at, number);
    }
    let mut subscription = cluster
        .operator(0)
        .await
        .subscribe(&topic, From::Earliest, Until::End)
        .await;
    let (read, _) = subscription.rest().await;
    assert!(read.len() <= 29, "what is damaged is never delivered");
    until("the member is whole", async || {
        let told = status(&cluster, 0).await.recovering;
        let stopped = told.iter().find(|told| told.contains("has stopped"));
        assert_eq!(stopped, None, "each entry is on one of the others");
        told.is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_nobody_has_is_named_and_nothing_else_stops() {
    let (mut cluster, _) = settled().await;
    for at in 0..3 {
        damage(&cluster, at, 30);
    }
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    let other = cluster.create_topic("other").await;
    cluster.leader(&other).await;
    for at in 0..3 {
        let me = format!("n{}", at + 1);
        until("it is said what is missing", async || {
            let told = status(&cluster, at).await.recovering;
            let sentence = |told: &String| {
                told.starts_with("topic t has stopped: entries ")
                    && told.contains(&format!("are damaged on {me} and neither "))
            };
            told.iter().any(sentence)
        })
        .await;
    }
}
