//! Members show one certificate after the other under load, and nobody who is honest notices.

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use kontiki_client::{Client, From, Record, TopicName};
use kontiki_server::own;
use kontiki_transport::{Certificate, Credentials, Endpoint, Expect, Plane};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, PATIENCE};

/// What clients did meanwhile; an error of any of it ends the test.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    appended: AtomicU64,
    asked: AtomicU64,
    dialled: AtomicU64,
}

/// Appends one record after the other until it is told to stop; gives back the longest that one took.
async fn append(client: Client, topic: TopicName, done: Arc<Done>) -> Duration {
    let producer = client.topic(&topic).expect("a name").producer();
    let mut longest = Duration::ZERO;
    while !done.stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        let at = done.appended.load(Ordering::Relaxed);
        let appended = producer.append(Record::new(format!("{at:08}"))).await;
        appended.expect("no append fails");
        longest = longest.max(since.elapsed());
        done.appended.fetch_add(1, Ordering::Relaxed);
    }
    producer.close().await.expect("everything acknowledged");
    longest
}

async fn ask(client: Client, topic: TopicName, done: Arc<Done>) {
    while !done.stop.load(Ordering::Relaxed) {
        let described = client.admin().describe_topic(&topic).await;
        described.expect("no request fails");
        done.asked.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
    }
}

fn dialler(cluster: &Cluster) -> Endpoint {
    let folder = cluster.dir.path().join("cluster/operator");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let credentials = Credentials::from_pem(
        &read("client.pem"),
        &read("client.key"),
        &read("node-ca.pem"),
        "",
    );
    Endpoint::dialer(Plane::Clients, &credentials.expect("good ones")).expect("a free port")
}

/// Gives a member another certificate, and waits until it shows it. Whoever dials meanwhile is let in.
async fn rotate(cluster: &Cluster, at: usize, dialler: &Endpoint, done: &Done) {
    let member = &cluster.members[at];
    own::renew(
        &member.data,
        Some(Path::new(&cluster.dir.path().join("cluster/ca"))),
    )
    .expect("another certificate");
    let wanted = fs::read_to_string(member.data.join("certs/node.pem")).expect("a file");
    let wanted = Certificate::from_pem(&wanted).expect("readable").serial;
    let since = Instant::now();
    loop {
        let dialled = dialler.connect(member.address, Expect::Node(member.name.clone()));
        let dialled = dialled.await.expect("no dial fails");
        done.dialled.fetch_add(1, Ordering::Relaxed);
        if dialled.certificate().serial == wanted {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "it is never shown");
        sleep(Duration::from_millis(50)).await;
    }
}

/// `ROTATIONS` makes it longer.
#[tokio::test]
async fn members_change_certificates_under_load_and_no_request_fails() {
    let rotations = env::var("ROTATIONS").ok();
    let rotations: usize = rotations.map_or(6, |count| count.parse().expect("a number"));
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic: TopicName = "orders".parse().expect("a name");
    let admin = client.admin();
    let made = admin.ensure_topic(&topic, Default::default()).await;
    made.expect("a topic");
    let done = Arc::new(Done::default());
    let subscribed = client.topic(&topic).expect("a name");
    let mut subscription = subscribed
        .subscribe(From::Earliest)
        .await
        .expect("subscribed");
    let appends = append(cluster.client().await, topic.clone(), Arc::clone(&done));
    let appends = tokio::spawn(appends);
    let asks = tokio::spawn(ask(client.clone(), topic.clone(), Arc::clone(&done)));
    let dialler = dialler(&cluster);
    let since = Instant::now();
    // All members at once: nothing is spared that could meet.
    for round in 0..rotations.div_ceil(3) {
        let left = (rotations - round * 3).min(3);
        let turns = (0..left).map(|at| rotate(&cluster, at, &dialler, &done));
        futures_util::future::join_all(turns).await;
    }
    let took = since.elapsed();
    done.stop.store(true, Ordering::Relaxed);
    let longest = appends.await.expect("no append fails");
    asks.await.expect("no request fails");
    let appended = done.appended.load(Ordering::Relaxed);
    for expected in 0..appended {
        let delivered = timeout(PATIENCE, subscription.next()).await;
        let delivered = delivered.expect("in time").expect("it goes on");
        let delivered = delivered.expect("no delivery fails");
        assert_eq!(delivered.record.value, format!("{expected:08}").as_bytes());
    }
    println!(
        "{rotations} rotations in {took:.1?}: {appended} appends, the longest of them {longest:.1?}, \
         {} requests, {} dials, none failed",
        done.asked.load(Ordering::Relaxed),
        done.dialled.load(Ordering::Relaxed),
    );
}
