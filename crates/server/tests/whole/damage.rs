//! One damaged disk costs its member, not the cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kontiki_wire::{MemberStatus, Request, Response};

use crate::cluster::Cluster;

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

#[tokio::test]
async fn damaged_member_says_so_and_the_others_go_on_without_it() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;
    let value = "sixteen bytes...".repeat(16);
    for _ in 0..50 {
        producer.append(&[&value]).await.unwrap();
    }
    let damaged = (leader + 1) % 3;
    cluster.kill(damaged);
    assert!(damage(&cluster.member_dir(damaged).join("data"), value.as_bytes()) > 0);
    cluster.start_member(damaged).await;

    let said = status(&cluster, damaged).await;
    assert!(!said.recovering.is_empty(), "what was durable is damaged");
    let others: Vec<_> = (0..3).filter(|at| *at != damaged).collect();
    let leader = cluster.leader_among(&others, &topic).await;
    assert_ne!(leader, damaged);
    let operator = cluster.operator(leader).await;
    operator
        .produce(&topic)
        .await
        .append(&["on"])
        .await
        .unwrap();
    assert!(status(&cluster, leader).await.recovering.is_empty());
}
