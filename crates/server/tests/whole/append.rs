//! What is appended is acknowledged, and read by anyone from any member.

use kontiki_wire::{
    From, Offset, StreamEnd, Until,
    limits::{BATCH_BYTES_MAX, PRODUCER_BATCHES_IN_FLIGHT_MAX},
};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE};

#[tokio::test]
async fn acknowledged_records_are_read_from_every_member() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("greetings").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;

    let first = producer.append(&["a", "b"]).await.unwrap();
    let second = producer.append(&["c"]).await.unwrap();
    assert_eq!((first.offset, second.offset), (Offset(0), Offset(2)));
    assert!(first.time <= second.time);

    let expected: Vec<_> = ["a", "b", "c"].into_iter().map(str::to_owned).collect();
    for at in 0..3 {
        let reader = cluster.operator(at).await;
        let mut history = reader
            .subscribe(&topic, From::Earliest, Until::Forever)
            .await;
        let got = history.take(3).await;
        assert_eq!(
            got.iter().map(|(at, _)| at.0).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(
            got.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            expected
        );
    }
    let mut bounded = operator
        .subscribe(&topic, From::Offset(Offset(1)), Until::End)
        .await;
    let (got, end) = bounded.rest().await;
    assert_eq!(end, StreamEnd::Reached);
    // A delivery carries whole batches; the client drops what lies before its offset.
    assert_eq!(got.last(), Some(&(Offset(2), "c".to_owned())));
}

#[tokio::test]
async fn batches_sent_without_waiting_are_answered_in_order_each_once() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;
    let count = 5 * PRODUCER_BATCHES_IN_FLIGHT_MAX;
    for _ in 0..count {
        producer.send(&["a", "b"]).await;
    }
    let mut offsets = Vec::new();
    while offsets.len() < count {
        for answer in producer.answers().await {
            offsets.push(answer.unwrap().offset.0);
        }
    }
    let expected = (0..count as u64).map(|batch| 2 * batch);
    assert_eq!(offsets, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn batches_that_exceed_the_bytes_in_flight_together_wait_and_are_all_answered() {
    let mut cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.stop(0).await;
    let limits = format!("[limits]\nbytes_in_flight = {BATCH_BYTES_MAX}\n");
    std::fs::write(cluster.member_dir(0).join("kontiki.toml"), limits).unwrap();
    cluster.start_member(0).await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    let large = "x".repeat(BATCH_BYTES_MAX / 3);
    let (mut one, mut other) = (
        operator.produce(&topic).await,
        operator.produce(&topic).await,
    );
    for _ in 0..4 {
        let value = [large.as_str()];
        let sent = async { tokio::join!(one.send(&value), other.send(&value)) };
        timeout(PATIENCE, sent)
            .await
            .expect("there is room again and again");
    }
    for producer in [&mut one, &mut other] {
        let mut answered = 0;
        while answered < 4 {
            for answer in producer.answers().await {
                answer.unwrap();
                answered += 1;
            }
        }
    }
}
