//! Segments damaged behind the members' backs, each member's at another place: `kontiki verify` says
//! so, the members mend each other, and every file is what it was, byte for byte, or has in one piece what lay apart.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

use kontiki_client::{Client, From, ProducerConfig, Record, TopicName, Until};

use crate::cluster::{Cluster, PATIENCE, kontiki};

const SIZE: usize = 3;
/// Four files full and half of a fifth, far from the ends of both whatever else a member writes into them.
const RECORDS: u64 = 4_500;
/// Records that are acknowledged before the next ones are appended: a quarter of a file, so that each but the last ends
/// so nearly full that it becomes a segment as it is.
const AT_ONCE: u64 = 250;
/// Files so small that there are several.
const SETTINGS: &str = "[storage]\njournal_file_bytes = 1048576\nsegment_bytes = 1048576\n";

fn value(number: u64) -> String {
    format!("{number:01000}")
}

/// In batches of which a file of the journal takes many, and never far ahead of a member: so nearly all files end
/// full of them, with nothing behind them that would not wait for that.
async fn append_all(client: &Client, topic: &TopicName) {
    let config = ProducerConfig::default().batch_bytes(32 << 10);
    let producer = client.topic(topic).expect("a name").producer_with(config);
    let producer = producer.expect("a valid configuration");
    for number in 0..RECORDS {
        let record = Record::new(value(number));
        // The flush tells of all of them.
        drop(producer.submit(record).await.expect("room"));
        if (number + 1) % AT_ONCE == 0 {
            producer.flush().await.expect("everything acknowledged");
            everybody_has(client, number + 1).await;
        }
    }
    producer.close().await.expect("everything acknowledged");
}

async fn everybody_has(client: &Client, records: u64) {
    let start = Instant::now();
    loop {
        let status = client.admin().status().await.expect("a status");
        let replicas = status.topics.iter().flat_map(|topic| &topic.replicas);
        if replicas
            .filter(|replica| replica.match_offset.0 >= records)
            .count()
            == SIZE
        {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "somebody stays behind: {status:?}"
        );
    }
}

async fn read_all(client: &Client, topic: &TopicName) {
    let topic = client.topic(topic).expect("a name");
    let subscription = topic.subscribe(From::Earliest).until(Until::End);
    let mut subscription = subscription.await.expect("a subscription");
    let mut next = 0;
    while let Some(batch) = subscription.next_batch().await.expect("a batch") {
        for delivered in batch {
            let delivered = delivered.expect("a record");
            assert_eq!(delivered.offset.0, next);
            assert_eq!(delivered.record.value, value(next));
            next += 1;
        }
    }
    assert_eq!(next, RECORDS);
}

/// The segments of a member's first topic, and what is in them.
fn segments(cluster: &Cluster, at: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = cluster.members[at].data.join("data/groups/1");
    let names = std::fs::read_dir(&dir).expect("a group's folder");
    let paths = names.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension() == Some("segment".as_ref()))
        .collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).expect("a file"));
    paths.into_iter().map(read).collect()
}

/// Where a segment's records are: in its own file, or in one that was the journal's.
fn records_of(segment: &Path) -> PathBuf {
    let bodies = segment.with_extension("bodies");
    match bodies.exists() {
        true => bodies,
        false => segment.to_owned(),
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("a file");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("a file");
}

fn is_apart(segment: &[u8]) -> bool {
    segment.starts_with(b"KTKA")
}

fn verify(arguments: &[&Path]) -> Output {
    let mut verify = Command::new(kontiki());
    verify.arg("verify").args(arguments);
    verify.output().expect("kontiki runs")
}

fn assert_verified(cluster: &Cluster, at: usize, sound: bool) {
    let data = &cluster.members[at].data;
    let output = verify(&[Path::new("--data"), data]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), sound, "{}: {said}", data.display());
}

fn restart_in_order(cluster: &mut Cluster) {
    for at in 0..SIZE {
        cluster.stop(at);
    }
    for at in 0..SIZE {
        cluster.serve(at);
    }
}

#[tokio::test]
async fn members_damaged_at_different_places_mend_each_other_byte_for_byte() {
    let mut cluster = Cluster::born(SIZE);
    for at in 0..SIZE {
        let file = cluster.members[at].data.join("kontiki.toml");
        std::fs::write(file, SETTINGS).expect("a member's folder");
        cluster.serve(at);
    }
    let client = cluster.client().await;
    let topic: TopicName = "orders".parse().expect("a name");
    let admin = client.admin();
    let made = admin.ensure_topic(&topic, Default::default()).await;
    assert_eq!(made.expect("a topic").group.0, 1);
    append_all(&client, &topic).await;
    read_all(&client, &topic).await;
    // What is committed is in segments after a stop, and in nothing else after a start.
    restart_in_order(&mut cluster);
    for at in 0..SIZE {
        cluster.stop(at);
    }

    let before = [0, 1, 2].map(|at| segments(&cluster, at));
    assert!(before.iter().all(|segments| segments.len() > 4));
    std::fs::remove_file(&before[0][1].0).expect("a file");
    let (in_one_piece, bytes) = before[0].last().expect("more than four");
    assert!(!is_apart(bytes), "the last file had not ended");
    assert!(bytes.len() > 400_000, "half of a file, not {}", bytes.len());
    edit(in_one_piece, |bytes| bytes[50_000] ^= 4);
    let apart = before[1].iter().filter(|(_, bytes)| is_apart(bytes));
    assert!(apart.count() > 1, "journal files became segments");
    edit(&records_of(&before[1][2].0), |bytes| {
        bytes[8192..12288].fill(0);
    });
    edit(&records_of(&before[2][3].0), |bytes| bytes[50_000] ^= 4);
    edit(&records_of(&before[2][0].0), |bytes| {
        bytes.truncate(300_000)
    });
    for at in 0..SIZE {
        assert_verified(&cluster, at, false);
    }

    for at in 0..SIZE {
        cluster.launch(at, Command::new(kontiki()));
    }
    for at in 0..SIZE {
        cluster.ready(at).expect("a damaged member serves");
    }
    let client = cluster.client().await;
    read_all(&client, &topic).await;
    // What nobody has read yet is found by whoever looks at everything.
    let start = Instant::now();
    let context = cluster.context();
    loop {
        let output = verify(&[Path::new("--context"), &context]);
        let healthy = client.admin().status().await;
        if output.status.success() && healthy.is_ok_and(|status| status.healthy) {
            break;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(start.elapsed() < PATIENCE, "still damaged:\n{said}");
    }
    read_all(&client, &topic).await;
    let said = cluster.said(0);
    assert!(said.contains("is mending topic orders"), "{said}");
    assert!(said.contains("n1 has mended topic orders"), "{said}");

    for at in 0..SIZE {
        cluster.stop(at);
        assert_verified(&cluster, at, true);
    }
    for (at, before) in before.iter().enumerate() {
        let after = segments(&cluster, at);
        assert!(after.len() >= before.len());
        for ((path, bytes), (known, held)) in after.iter().zip(before) {
            assert_eq!(path, known);
            if is_apart(held) && !is_apart(bytes) {
                // Written anew in one piece. Its footer has the digest of all that is in it.
                let footer = &held[held.len() - 64..];
                assert!(bytes.ends_with(footer), "{}", path.display());
                assert!(!path.with_extension("bodies").exists());
            } else {
                assert!(bytes.starts_with(held), "{}", path.display());
            }
        }
    }
}
