//! Two builds in one cluster, each a real binary: the present one, and one of the next version, which the feature
//! `next` makes of the same sources. It raises the highest version by one, and has one layout that only this version
//! has: the cluster's checkpoint ends in a checksum, which the present build cannot read and says so.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use kontiki_client::Record;

use crate::cluster::{Cluster, PATIENCE, built, kontiki};

/// The build of the next version, beside the present one.
fn next() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("kontiki-next", &["--features", "next"]))
}

/// Stops a member as an operator does, and starts it with this build.
fn restart(cluster: &mut Cluster, at: usize, build: &Path) {
    cluster.end(at);
    cluster.launch(at, Command::new(build));
    cluster.ready(at).expect("it serves");
    said(cluster, "cluster status --wait-healthy", true);
}

/// What a command says, which is to succeed or not.
fn said(cluster: &Cluster, line: &str, succeeds: bool) -> String {
    let output = Command::new(kontiki())
        .arg("--context")
        .arg(cluster.context())
        .args(["--timeout", "60s"])
        .args(line.split(' '))
        .output()
        .expect("kontiki runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.success(), succeeds, "{line}: {said}");
    said
}

/// Waits until the status says this: what a build can do the cluster learns a moment after its start.
fn until_status_says(cluster: &Cluster, text: &str) {
    let late = std::time::Instant::now() + PATIENCE;
    let mut status = String::new();
    while std::time::Instant::now() < late {
        status = said(cluster, "cluster status --wait-healthy", true);
        if status.contains(text) {
            return;
        }
    }
    panic!("{text:?} does not come: {status}");
}

/// Appends, one record after the other, until it is told to stop; says how many were acknowledged.
async fn load(cluster: PathBuf, stop: &AtomicBool) -> u64 {
    let context = kontiki_client::Context::load(&cluster).expect("a context");
    let client = kontiki_client::Client::connect(context)
        .await
        .expect("a cluster");
    let producer = client.topic("orders").expect("a name").producer();
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let record = Record::new(acknowledged.to_string());
        producer.append(record).await.expect("no append fails");
        acknowledged += 1;
    }
    producer.close().await.expect("it closes");
    acknowledged
}

#[test]
fn members_are_upgraded_one_by_one_under_load_and_back_until_it_is_finalized() {
    let (old, new) = (kontiki(), next());
    let mut cluster = Cluster::start(3);
    said(&cluster, "cluster status --wait-healthy", true);
    said(&cluster, "topic create orders", true);
    let stop = AtomicBool::new(false);
    let context = cluster.context();
    let acknowledged = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(load(context, &stop))
        });
        let refused = said(&cluster, "cluster finalize", false);
        assert!(refused.contains("no member runs a build"), "{refused}");
        restart(&mut cluster, 0, new);
        restart(&mut cluster, 1, new);
        until_status_says(&cluster, "1-2");
        let refused = said(&cluster, "cluster finalize", false);
        assert!(refused.contains("version 2: n3 (version 1)"), "{refused}");

        // Nothing of the next version is written yet: the way back is open.
        restart(&mut cluster, 2, new);
        until_status_says(
            &cluster,
            "all members can do version 2: `kontiki cluster finalize`",
        );
        restart(&mut cluster, 0, old);
        restart(&mut cluster, 0, new);
        until_status_says(&cluster, "all members can do version 2");
        let done = said(&cluster, "cluster finalize", true);
        assert!(done.contains("the cluster is at version 2 now"), "{done}");
        until_status_says(&cluster, "  version 2");
        restart(&mut cluster, 1, new);
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load goes on")
    });
    assert!(acknowledged > 0);
    let values: Vec<String> = (0..acknowledged).map(|value| value.to_string()).collect();
    let read = said(&cluster, "read orders --from earliest", true);
    assert_eq!(read.lines().collect::<Vec<_>>(), values);

    // Now it is closed.
    cluster.end(2);
    cluster.launch(2, Command::new(old));
    assert!(
        cluster.ready(2).is_err(),
        "an old build serves a newer cluster"
    );
    let told = cluster.said_lately(2);
    assert!(told.contains("this build can do version 1"), "{told}");
}
