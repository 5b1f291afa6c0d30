//! A machine that stands still with all that runs on it, as one that is moved or has no processor to spare, and goes
//! on: that is nobody's silence.

use std::{thread, time::Duration};

use kontiki_client::{Client, Record, TopicName};
use rustix::process::Signal;
use tokio::{sync::watch, time::timeout};

use crate::cluster::{Cluster, PATIENCE};

const ROUNDS: u64 = 4;
/// Longer than any election timeout.
const STANDS_STILL: Duration = Duration::from_millis(800);
/// Records acknowledged between two rounds.
const RECORDS: u64 = 1_000;

async fn term(client: &Client, topic: &TopicName) -> u64 {
    let status = client.admin().status().await.expect("a status");
    let mut topics = status.topics.iter();
    let topic = topics.find(|known| known.name == topic.to_string());
    topic.expect("the topic").term
}

/// Appends until nobody wants to know any more how many records were acknowledged.
async fn append(client: Client, topic: TopicName, acknowledged: watch::Sender<u64>) {
    let producer = client.topic(&topic).expect("a name").producer();
    while !acknowledged.is_closed() {
        let mut promised = Vec::new();
        for value in 0..100 {
            let record = Record::new(format!("{value}"));
            promised.push(producer.submit(record).await.expect("room"));
        }
        for promise in promised {
            promise.await.expect("an acknowledgement");
        }
        acknowledged.send_modify(|records| *records += 100);
    }
    producer.close().await.expect("everything acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_that_stood_still_goes_on_with_its_leaders() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic: TopicName = "busy".parse().expect("a name");
    let admin = client.admin();
    let made = admin.ensure_topic(&topic, Default::default()).await;
    made.expect("a topic");
    let (sender, mut acknowledged) = watch::channel(0);
    let appending = tokio::spawn(append(client.clone(), topic.clone(), sender));
    let mut more = async || {
        let enough = *acknowledged.borrow() + RECORDS;
        let heard = acknowledged.wait_for(|records| *records >= enough);
        let heard = timeout(PATIENCE, heard).await;
        heard.expect("in time").expect("the producer goes on");
    };
    more().await;
    let before = term(&client, &topic).await;
    for _ in 0..ROUNDS {
        for signal in [Signal::STOP, Signal::CONT] {
            for at in 0..3 {
                cluster.signal(at, signal);
            }
            if signal == Signal::STOP {
                thread::sleep(STANDS_STILL);
            }
        }
        more().await;
    }
    let elections = term(&client, &topic).await - before;
    drop(acknowledged);
    appending.await.expect("a producer that was answered");
    // The real machine may hold up one of them alone for that long; not each time.
    assert!(elections <= ROUNDS / 4, "{elections} elections");
    let told = (0..3).filter(|at| {
        cluster
            .said(*at)
            .contains("this member did not come to its turn")
    });
    assert!(told.count() > 0, "somebody says that it was late");
}
