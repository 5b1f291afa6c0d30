//! A disk that fills up: the member says so and stops, the others go on, and with room again it comes
//! back. Needs root, for a file system of a given size; elsewhere it says loudly that it did not run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use kontiki_client::{Client, From, Record, TopicName, Until};

use crate::cluster::Cluster;

/// A memory file system of this size, unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// `None` where mounting is not permitted; in CI it must be.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder to mount on");
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must be able to mount a tmpfs"
            );
            eprintln!("NOT RUN: mounting a small disk needs root");
        }
        mounted.then(|| Self { at: at.to_owned() })
    }

    fn grow(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.at)
            .status();
        assert!(status.expect("mount runs").success(), "the disk grows");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("--lazy")
            .arg(&self.at)
            .status()
            .ok();
    }
}

async fn append(client: &Client, topic: &TopicName, from: u64, to: u64) {
    let producer = client.topic(topic).expect("a name").producer();
    for value in from..to {
        let record = Record::new(format!("{value:01024}"));
        // Closing the producer waits for all of them.
        drop(producer.submit(record).await.expect("room"));
    }
    producer.close().await.expect("everything acknowledged");
}

#[tokio::test]
async fn a_member_whose_disk_is_full_stops_and_comes_back_with_room() {
    const FULL: usize = 2;
    let mut cluster = Cluster::born(3);
    let Some(disk) = SmallDisk::mount(&cluster.members[FULL].data.join("data"), 180) else {
        return;
    };
    for at in 0..3 {
        cluster.serve(at);
    }
    let client = cluster.client().await;
    let topic: TopicName = "filling".parse().expect("a name");
    client
        .admin()
        .ensure_topic(&topic, Default::default())
        .await
        .expect("a topic");

    // Twice what the small disk holds; the two others are a majority.
    const RECORDS: u64 = 250_000;
    append(&client, &topic, 0, RECORDS).await;
    assert!(!cluster.wait(FULL).success(), "a full disk is a failure");
    let said = cluster.said(FULL);
    assert!(
        said.contains("No space left on device"),
        "it does not say why it stopped:\n{said}"
    );

    disk.grow(2000);
    cluster.serve(FULL);
    append(&client, &topic, RECORDS, RECORDS + 1000).await;
    // With one of the others gone, nothing is committed without the one that was full.
    cluster.kill(0);
    append(&client, &topic, RECORDS + 1000, RECORDS + 2000).await;
    let mut subscription = client
        .topic(&topic)
        .expect("a name")
        .subscribe(From::Earliest)
        .until(Until::End)
        .await
        .expect("a subscription");
    let mut next = 0;
    while let Some(batch) = subscription.next_batch().await.expect("a batch") {
        for delivered in batch {
            let delivered = delivered.expect("a record");
            assert_eq!(delivered.offset.0, next);
            assert_eq!(delivered.record.value, format!("{next:01024}"));
            next += 1;
        }
    }
    assert_eq!(next, RECORDS + 2000);
    drop(cluster);
}
