//! Certificates of real members under load: members show one after the other, clients' are taken back, and nobody
//! who is honest notices.

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
use kontiki_client::{Client, From, Record, TopicName, Whom};
use kontiki_server::{MemberFile, own};
use kontiki_transport::{
    Authority, CLOSE_CERTIFICATE, Certificate, Credentials, Endpoint, Error, Expect, Identity,
    Plane, Role,
};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, PATIENCE};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every member has ended what was revoked by then.
const ENDED_IN: Duration = Duration::from_secs(5);

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

/// A client of this name, which the cluster's own authority vouches for.
fn dialler(cluster: &Cluster, name: &str) -> Endpoint {
    let ca = cluster.dir.path().join("cluster/ca");
    let read = |name: &str| fs::read_to_string(ca.join(name)).expect("a file");
    let authority = Authority::from_pem(&read("client-ca.pem"), &read("client-ca.key"));
    let member = MemberFile::load(&cluster.members[0].data).expect("a member's");
    let identity = Identity::new(member.cluster, Role::Producer, name).expect("a name");
    let issued = authority.expect("an authority").issue(&identity, DAY);
    let issued = issued.expect("a leaf");
    let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
    let credentials = Credentials::from_pem(chain, key, &read("node-ca.pem"), "");
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
    let dialler = dialler(&cluster, "dialler");
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

/// `REVOCATIONS` makes it longer.
#[tokio::test]
async fn who_is_revoked_under_load_is_ended_at_every_member_within_five_seconds() {
    let revocations = env::var("REVOCATIONS").ok();
    let revocations: usize = revocations.map_or(5, |count| count.parse().expect("a number"));
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic: TopicName = "orders".parse().expect("a name");
    let admin = client.admin();
    let made = admin.ensure_topic(&topic, Default::default()).await;
    made.expect("a topic");
    let done = Arc::new(Done::default());
    let appends = append(cluster.client().await, topic.clone(), Arc::clone(&done));
    let appends = tokio::spawn(appends);
    let honest = dialler(&cluster, "honest");
    let mut lasting = Vec::new();
    for member in &cluster.members {
        let dialled = honest.connect(member.address, Expect::AnyNode).await;
        lasting.push(dialled.expect("let in"));
    }
    let mut took = Vec::new();
    for revocation in 0..revocations {
        let name = format!("shop-{revocation}");
        let shop = dialler(&cluster, &name);
        let mut live = Vec::new();
        for member in &cluster.members {
            let dialled = shop.connect(member.address, Expect::AnyNode).await;
            live.push(dialled.expect("let in"));
        }
        let since = Instant::now();
        let whom = Whom::Name { role: None, name };
        admin.revoke_certificates(whom).await.expect("revoked");
        for connection in &live {
            let ended = timeout(
                ENDED_IN.saturating_sub(since.elapsed()),
                connection.closed(),
            );
            match ended.await.expect("ended in time") {
                Error::Closed { code, .. } => assert_eq!(code, u64::from(CLOSE_CERTIFICATE)),
                other => panic!("{other}"),
            }
        }
        took.push(since.elapsed());
        for member in &cluster.members {
            let again = shop.connect(member.address, Expect::AnyNode).await;
            assert!(again.is_err(), "let in again");
        }
    }
    done.stop.store(true, Ordering::Relaxed);
    appends.await.expect("no append fails");
    for connection in &lasting {
        let ended = timeout(Duration::from_millis(10), connection.closed()).await;
        assert!(ended.is_err(), "an honest one was ended: {ended:?}");
    }
    took.sort();
    println!(
        "{revocations} revocations: every member had ended its connections after {:.1?} (median) and {:.1?} at \
         most; {} appends meanwhile, none failed",
        took[took.len() / 2],
        took[took.len() - 1],
        done.appended.load(Ordering::Relaxed),
    );
}
