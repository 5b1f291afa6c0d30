//! Two builds in one cluster, each a real binary: the present one, and one of the next version, which the feature
//! `next` makes of the same sources. It raises the highest version by one, and has one layout that only this version
//! has: the cluster's checkpoint ends in a checksum, which the present build cannot read and says so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use kontiki_client::{Client, Context, Record};

use crate::{
    cluster::{Cluster, PATIENCE, address, built, kontiki, ports},
    readme::{blocks, typed},
};

/// The build of the next version, beside the present one. It serves for seconds: to optimise those of our crates
/// that are optimised elsewhere would take longer than it runs.
fn next() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let plain = ["wire", "broker", "storage", "sim"];
        let plain = plain.map(|of| format!("profile.dev.package.kontiki-{of}.opt-level=0"));
        let mut options = vec!["--features", "next"];
        options.extend(plain.iter().flat_map(|it| ["--config", it]));
        built("kontiki-next", &options)
    })
}

/// Stops a member as an operator does, and starts it with this build.
fn restart(cluster: &mut Cluster, at: usize, build: &Path) {
    cluster.stop(at);
    start(cluster, at, build);
}

/// Starts a member that does not run with this build, and waits until all is well.
fn start(cluster: &mut Cluster, at: usize, build: &Path) {
    cluster.launch(at, Command::new(build));
    cluster.ready(at).expect("it serves");
    said(cluster, kontiki(), "cluster status --wait-healthy", true);
}

/// Starts a member that does not run with this build, which is not to go on; says what it ended with.
fn ends(cluster: &mut Cluster, at: usize, build: &Path) -> String {
    cluster.launch(at, Command::new(build));
    let status = cluster.wait(at);
    let told = cluster.said_lately(at);
    assert_eq!(status.code(), Some(1), "{told}");
    told
}

/// What a command of this build says, which is to succeed or not.
fn said(cluster: &Cluster, build: &Path, line: &str, succeeds: bool) -> String {
    let output = Command::new(build)
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

/// Waits until the status is so: what a build can do the cluster learns a moment after its start.
fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&str) -> bool) {
    let late = Instant::now() + PATIENCE;
    let mut status = String::new();
    while Instant::now() < late {
        status = said(cluster, kontiki(), "cluster status --wait-healthy", true);
        if is_so(&status) {
            return;
        }
    }
    panic!("{what} does not come about: {status}");
}

/// Waits until all are known to be able to do the next version.
fn until_all_can(cluster: &Cluster) {
    until(cluster, "that all can", |status| status.contains(ALL_CAN));
}

/// Waits until so many are known to run the next build.
fn until_known(cluster: &Cluster, count: usize) {
    let known = |status: &str| status.matches("1-2").count() == count;
    until(cluster, "that it is known who can", known);
}

/// What the present build is told that asks for a version which not all can do.
fn not_yet(cluster: &Cluster) -> String {
    said(cluster, kontiki(), "cluster finalize", false)
}

const ALL_CAN: &str = "all members can do version 2: `kontiki cluster finalize`";

/// Runs the load beside `work`, and says how many records were acknowledged: not one append may fail.
fn under_load(cluster: &mut Cluster, work: impl FnOnce(&mut Cluster)) -> u64 {
    let (stop, context) = (AtomicBool::new(false), cluster.context());
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(load(context, &stop))
        });
        let stops = Stops(&stop);
        work(cluster);
        drop(stops);
        load.join().expect("the load goes on")
    })
}

/// Stops the load when it is dropped, also by a test that fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Appends, one record after the other, until it is told to stop; says how many were acknowledged.
async fn load(context: PathBuf, stop: &AtomicBool) -> u64 {
    let context = Context::load(&context).expect("a context");
    let client = Client::connect(context).await.expect("a cluster");
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
    said(&cluster, old, "cluster status --wait-healthy", true);
    said(&cluster, old, "topic create orders", true);
    let acknowledged = under_load(&mut cluster, |cluster| {
        let done = said(cluster, old, "cluster finalize", true);
        assert!(done.contains("the cluster is at version 1 now"), "{done}");
        restart(cluster, 0, new);
        restart(cluster, 1, new);
        until_known(cluster, 2);
        let refused = not_yet(cluster);
        assert!(refused.contains("version 2: n3 (version 1)"), "{refused}");

        // Nothing of the next version is written yet: the way back is open.
        restart(cluster, 2, new);
        until_all_can(cluster);
        restart(cluster, 0, old);
        until_known(cluster, 2);
        let refused = not_yet(cluster);
        assert!(refused.contains("version 2: n1 (version 1)"), "{refused}");
        restart(cluster, 0, new);
        until_all_can(cluster);

        // It is closed for everybody, also for who does not hear of it.
        cluster.end(2);
        let context = cluster.context();
        let finalize = blocks("Upgrade", "").pop().expect("a command");
        let done = typed(&finalize, |shell| shell.env("KONTIKI_CONTEXT", context));
        assert!(done.contains("the cluster is at version 2 now"), "{done}");
        // Asked for once more, it is as it was.
        let again = said(cluster, old, "cluster finalize", true);
        assert!(again.contains("the cluster is at version 2 now"), "{again}");
        let told = ends(cluster, 2, old);
        assert!(told.contains("the cluster is at version 2"), "{told}");
        start(cluster, 2, new);
        until(cluster, "version 2", |status| {
            status.contains("\n  version 2\n")
        });
        cluster.stop(0);
        let told = ends(cluster, 0, old);
        assert!(told.contains("this build can do version 1"), "{told}");
        start(cluster, 0, new);
    });
    assert!(acknowledged > 0);
    let values: Vec<String> = (0..acknowledged).map(|value| value.to_string()).collect();
    let read = said(&cluster, old, "read orders --from earliest", true);
    assert_eq!(read.lines().collect::<Vec<_>>(), values);
}

#[test]
fn an_older_build_that_would_join_is_told_so_and_its_token_stays_good() {
    let mut cluster = Cluster::born(1);
    // Who signs has the authorities.
    let (data, home) = (cluster.members[0].data.clone(), cluster.dir.path());
    fs::rename(home.join("cluster/ca"), data.join("ca")).expect("a folder");
    let (folder, address) = (home.join("n2"), address());
    let port = ports(address, 1)[0];
    start(&mut cluster, 0, next());
    until_all_can(&cluster);
    said(&cluster, next(), "cluster finalize", true);
    let token = said(&cluster, kontiki(), "token create --role node", true);
    let token = token.lines().next().expect("a token");
    let folder = folder.display();
    let join =
        format!("join --data {folder} --name n2 --listen {address}:{port} --no-serve {token}");
    let refused = said(&cluster, kontiki(), &join, false);
    assert!(
        refused.contains("the cluster is at version 2, and this build can do version 1"),
        "{refused}"
    );
    said(&cluster, next(), &join, true);
    let listed = said(&cluster, kontiki(), "member list", true);
    assert!(listed.contains("n2"), "{listed}");
}
