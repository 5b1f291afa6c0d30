//! Subscriptions that are slow, many, or early.

use std::time::Duration;

use kontiki_wire::{From, Offset, Request, Response, StreamEnd, Until};
use tokio::{task::JoinSet, time::timeout};

use crate::cluster::{Cluster, PATIENCE, until};

#[tokio::test]
async fn slow_subscriber_keeps_nobody_else_waiting() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    // Nobody reads this one: it soon has no window left.
    let stuck = cluster.operator(0).await;
    let _stuck = stuck
        .subscribe(&topic, From::Earliest, Until::Forever)
        .await;
    let mut quick = operator
        .subscribe(&topic, From::Earliest, Until::Forever)
        .await;
    let mut producer = operator.produce(&topic).await;

    let large = "x".repeat(512 << 10);
    let count = 24;
    for _ in 0..count {
        producer.append(&[&large]).await.unwrap();
    }
    assert_eq!(quick.take(count).await.len(), count);
}

#[tokio::test]
async fn member_that_has_several_subscribers_of_a_topic_takes_only_those_who_insist() {
    let cluster = Cluster::start(1).await;
    let topics = [
        cluster.create_topic("t").await,
        cluster.create_topic("u").await,
    ];
    for topic in &topics {
        cluster.leader(topic).await;
    }
    let operator = cluster.operator(0).await;
    let mut few = Vec::new();
    for _ in 0..8 {
        let mut subscription = operator.follow_if_few(&topics[0]).await;
        assert_eq!(subscription.next().await, Ok(Vec::new()));
        few.push(subscription);
    }
    let mut late = operator.follow_if_few(&topics[0]).await;
    assert_eq!(late.next().await, Err(StreamEnd::Crowded));
    let mut insists = operator
        .subscribe(&topics[0], From::Latest, Until::Forever)
        .await;
    assert_eq!(insists.next().await, Ok(Vec::new()));
    let mut of_another = operator.follow_if_few(&topics[1]).await;
    assert_eq!(of_another.next().await, Ok(Vec::new()));

    // When they have gone there is room again: how soon the member hears of it is not said.
    drop((few, insists));
    until("there is room again", async || {
        let mut again = operator.follow_if_few(&topics[0]).await;
        again.next().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn who_came_for_the_leader_is_sent_on_when_that_is_another_and_who_did_not_stays() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let old = cluster.leader(&topic).await;
    let operator = cluster.operator(old).await;
    let mut came = operator.follow_if_few(&topic).await;
    let mut stays = operator
        .subscribe(&topic, From::Latest, Until::Forever)
        .await;
    for subscription in [&mut came, &mut stays] {
        assert_eq!(subscription.next().await, Ok(Vec::new()));
    }
    let to = format!("n{}", (old + 1) % 3 + 1);
    let transfer = Request::TransferLeader {
        topic: Some(topic.clone()),
        to,
    };
    assert_eq!(operator.request(transfer).await, Response::Done);
    assert_eq!(came.rest().await, (Vec::new(), StreamEnd::Moving));
    let new = cluster.leader(&topic).await;
    assert_ne!(old, new);
    let elsewhere = cluster.operator(new).await;
    elsewhere
        .produce(&topic)
        .await
        .append(&["x"])
        .await
        .unwrap();
    assert_eq!(stays.take(1).await, [(Offset(0), "x".to_owned())]);
}

#[tokio::test]
async fn hundred_subscribers_each_get_every_record_once() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let reader = cluster.operator(0).await;
        let mut subscriptions = Vec::new();
        for _ in 0..25 {
            subscriptions.push(
                reader
                    .subscribe(&topic, From::Earliest, Until::Forever)
                    .await,
            );
        }
        readers.spawn(async move {
            for subscription in &mut subscriptions {
                let got = subscription.take(60).await;
                assert!(
                    got.iter()
                        .zip(0..)
                        .all(|((at, _), expected)| at.0 == expected)
                );
            }
        });
    }
    let operator = cluster.operator(0).await;
    let mut producer = operator.produce(&topic).await;
    for _ in 0..20 {
        producer.append(&["a", "b", "c"]).await.unwrap();
    }
    while let Some(read) = timeout(PATIENCE, readers.join_next())
        .await
        .expect("in time")
    {
        read.unwrap();
    }
}

#[tokio::test]
async fn idle_subscription_gets_signs_of_life_with_the_watermark() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    operator.produce(&topic).await.append(&["a"]).await.unwrap();
    let mut idle = operator
        .subscribe(&topic, From::Latest, Until::Forever)
        .await;
    for _ in 0..2 {
        let nothing = timeout(Duration::from_secs(5), idle.next())
            .await
            .expect("in time");
        assert_eq!(nothing, Ok(Vec::new()));
        assert_eq!(idle.watermark, Some(Offset(1)));
    }
}

#[tokio::test]
async fn subscription_from_an_offset_to_come_waits_for_it() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    let to_come = From::Offset(Offset(1));
    let mut early = operator
        .subscribe(&topic, to_come, Until::Offset(Offset(2)))
        .await;
    let mut producer = operator.produce(&topic).await;
    for value in ["a", "b", "c"] {
        producer.append(&[value]).await.unwrap();
    }
    let expected = vec![(Offset(1), "b".to_owned())];
    assert_eq!(early.rest().await, (expected, StreamEnd::Reached));
}

#[tokio::test]
async fn member_that_has_heard_nobody_does_not_guess_where_a_time_lies() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    operator.produce(&topic).await.append(&["a"]).await.unwrap();
    let request = || Request::OffsetAt {
        topic: topic.clone(),
        time: u64::MAX,
    };
    let end = Response::Offset(Offset(1));
    assert_eq!(operator.request(request()).await, end);
    for at in 0..3 {
        cluster.kill(at);
    }
    cluster.start_member(leader).await;
    let alone = cluster.operator(leader).await.request(request()).await;
    assert!(
        matches!(&alone, Response::Refused(refusal) if refusal.is_retryable()),
        "{alone:?}"
    );
}

#[tokio::test]
async fn trimmed_or_absurd_offsets_are_answered_and_not_feared() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    operator.produce(&topic).await.append(&["a"]).await.unwrap();
    let far = From::Offset(Offset(u64::MAX));
    let mut waits = operator.subscribe(&topic, far, Until::Forever).await;
    assert_eq!(waits.next().await, Ok(Vec::new()));
    let mut last = operator
        .subscribe(&topic, From::Last(u64::MAX), Until::End)
        .await;
    assert_eq!(last.rest().await.0.len(), 1);
}
