//! Subscribers of a real cluster: slow ones, many of them, and leaders that die under them.

use std::time::Duration;

use futures_util::StreamExt as _;
use kontiki_client::{Client, From, Record, TopicName};

use crate::cluster::{Cluster, PATIENCE};

async fn topic(client: &Client) -> TopicName {
    let topic: TopicName = "news".parse().expect("a name");
    client
        .admin()
        .ensure_topic(&topic, Default::default())
        .await
        .expect("a topic");
    topic
}

async fn append(client: &Client, topic: &TopicName, values: std::ops::Range<u64>, bytes: usize) {
    let producer = client.topic(topic).expect("a name").producer();
    for value in values {
        let mut text = format!("{value:08}");
        text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
        let record = Record::new(text);
        // Closing the producer waits for all of them.
        drop(producer.submit(record).await.expect("room"));
    }
    producer.close().await.expect("everything acknowledged");
}

/// Reads `count` records from the start and checks that they are 0, 1, 2, ….
async fn read(client: &Client, topic: &TopicName, count: u64) {
    let mut subscription = client
        .topic(topic)
        .expect("a name")
        .subscribe(From::Earliest)
        .await
        .expect("subscribed");
    for expected in 0..count {
        let delivered = tokio::time::timeout(PATIENCE, subscription.next())
            .await
            .unwrap_or_else(|_| panic!("record {expected} does not come"))
            .expect("the stream goes on")
            .expect("a delivery");
        assert_eq!(delivered.offset.0, expected);
        assert_eq!(
            &delivered.record.value[..8],
            format!("{expected:08}").as_bytes()
        );
    }
}

#[tokio::test]
async fn a_subscription_goes_on_through_its_members_death() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    append(&client, &topic, 0..500, 100).await;
    let reader = tokio::spawn({
        let (client, topic) = (cluster.client().await, topic.clone());
        async move { read(&client, &topic, 2000).await }
    });
    for round in 0..3 {
        let leader = cluster.leader(&client, &topic).await;
        cluster.kill(leader);
        append(&client, &topic, 500 * (round + 1)..500 * (round + 2), 100).await;
        cluster.serve(leader);
    }
    tokio::time::timeout(PATIENCE, reader)
        .await
        .expect("in time")
        .expect("every record, once");
}

#[tokio::test]
async fn a_slow_subscriber_loses_nothing_and_hurts_nobody() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let slow = cluster.client().await;
    let mut slow = slow
        .topic(&topic)
        .expect("a name")
        .subscribe(From::Earliest)
        .await
        .expect("slow");
    // More than all windows and read-ahead together hold, while the slow one reads nothing.
    let (records, bytes) = (64_000, 1000);
    append(&client, &topic, 0..records, bytes).await;
    read(&client, &topic, records).await;
    for expected in 0..records {
        let delivered = tokio::time::timeout(PATIENCE, slow.next())
            .await
            .expect("the slow one gets it in its own time")
            .expect("the stream goes on")
            .expect("a delivery");
        assert_eq!(delivered.offset.0, expected);
    }
}

#[tokio::test]
async fn a_thousand_subscribers_get_everything_in_order() {
    const SUBSCRIBERS: usize = 1000;
    const RECORDS: u64 = 50;
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    append(&client, &topic, 0..RECORDS / 2, 100).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(cluster.client().await);
    }
    let mut readers = tokio::task::JoinSet::new();
    for at in 0..SUBSCRIBERS {
        let (client, topic) = (clients[at % clients.len()].clone(), topic.clone());
        readers.spawn(async move { read(&client, &topic, RECORDS).await });
    }
    append(&client, &topic, RECORDS / 2..RECORDS, 100).await;
    let all = async {
        while readers
            .join_next()
            .await
            .transpose()
            .expect("every record")
            .is_some()
        {}
    };
    tokio::time::timeout(PATIENCE + Duration::from_secs(60), all)
        .await
        .expect("in time");
}
