//! One damaged disk costs its member, not the cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kontiki_wire::{MemberStatus, Offset, Request, Response, TopicName};

use crate::cluster::{Cluster, until};

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = entries.map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    below.flatten().collect()
}

/// Turns over every bit of one record in the middle of each file that has this value. Gives back how
/// many files that were.
fn damage(dir: &Path, value: &[u8]) -> usize {
    let mut damaged = 0;
    for path in files(dir) {
        let mut bytes = fs::read(&path).unwrap();
        let mut found = Vec::new();
        for (page, content) in bytes.chunks(PAGE).enumerate() {
            if content != &[0; PAGE][..content.len()] {
                let mut windows = content.windows(value.len());
                found.extend(
                    windows
                        .position(|window| window == value)
                        .map(|at| page * PAGE + at),
                );
            }
        }
        if let Some(at) = found.get(found.len() / 2) {
            bytes[*at..at + value.len()]
                .iter_mut()
                .for_each(|byte| *byte = !*byte);
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

const PAGE: usize = 4096;

async fn status(cluster: &Cluster, at: usize) -> MemberStatus {
    match cluster.operator(at).await.request(Request::Status).await {
        Response::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// A cluster of three with a topic that has fifty records, and a follower of it.
async fn grown(value: &str) -> (Cluster, TopicName, usize) {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;
    for _ in 0..50 {
        producer.append(&[value]).await.unwrap();
    }
    (cluster, topic, (leader + 1) % 3)
}

/// Waits until a member counts in all its groups again.
async fn rejoins(cluster: &Cluster, at: usize) {
    until("it counts again", async || {
        status(cluster, at).await.recovering.is_empty()
    })
    .await;
}

/// Kills another member, so that nothing goes on without this one, and has it go on.
async fn carries_on(cluster: &mut Cluster, topic: &TopicName, rejoined: usize) {
    let other = (rejoined + 1) % 3;
    cluster.kill(other);
    let alive: Vec<_> = (0..3).filter(|at| *at != other).collect();
    let leader = cluster.leader_among(&alive, topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(topic).await;
    let placed = producer.append(&["on"]).await.unwrap();
    assert_eq!(placed.offset, Offset(50), "nothing is lost");
}

#[tokio::test]
async fn member_with_a_damaged_journal_says_so_and_comes_home_by_itself() {
    let value = "sixteen bytes...".repeat(16);
    let (mut cluster, topic, damaged) = grown(&value).await;
    cluster.kill(damaged);
    assert!(damage(&cluster.member_dir(damaged).join("data"), value.as_bytes()) > 0);
    // Nobody is there to come home to.
    let others: Vec<_> = (0..3).filter(|at| *at != damaged).collect();
    others.iter().for_each(|at| cluster.kill(*at));
    cluster.start_member(damaged).await;
    let said = status(&cluster, damaged).await.recovering;
    assert!(said[0].contains("is damaged at byte"), "{said:?}");
    assert!(said[0].contains("it waits for a leader"), "{said:?}");
    for at in others {
        cluster.start_member(at).await;
    }
    rejoins(&cluster, damaged).await;
    carries_on(&mut cluster, &topic, damaged).await;
}

#[tokio::test]
async fn member_whose_data_is_gone_comes_home_by_itself() {
    let (mut cluster, topic, lost) = grown("value").await;
    cluster.kill(lost);
    fs::remove_dir_all(cluster.member_dir(lost).join("data")).unwrap();
    cluster.start_member(lost).await;
    rejoins(&cluster, lost).await;
    // It is no member that has forgotten any more, however often it starts.
    cluster.kill(lost);
    cluster.start_member(lost).await;
    assert!(status(&cluster, lost).await.recovering.is_empty());
    carries_on(&mut cluster, &topic, lost).await;
}
