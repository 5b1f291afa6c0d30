//! Members stop, die and come back; what was acknowledged stays.

use std::time::Duration;

use kontiki_transport::Role;
use kontiki_wire::{From, Offset, Refusal, StreamEnd, TopicName, Until};

use crate::{
    caller::Producing,
    cluster::{Cluster, until},
};

/// Appends with a producer of its own, wherever the leader is, until it is acknowledged.
async fn append(cluster: &Cluster, topic: &TopicName, value: &str) -> Offset {
    loop {
        let leader = cluster.leader(topic).await;
        let operator = cluster.operator(leader).await;
        let mut producer = operator.produce(topic).await;
        if let Ok(acknowledged) = producer.append(&[value]).await {
            return acknowledged.offset;
        }
    }
}

/// The first records as a member has them, once it has them. One that was away may for a moment not
/// know the topic.
async fn history(cluster: &Cluster, at: usize, topic: &TopicName, count: usize) -> Vec<String> {
    let operator = cluster.operator(at).await;
    let end = Until::Offset(Offset(count as u64));
    let mut records = Vec::new();
    until("the member has the records", async || {
        let mut history = operator.subscribe(topic, From::Earliest, end).await;
        let (got, end) = history.rest().await;
        records = got.into_iter().map(|(_, value)| value).collect();
        match end {
            StreamEnd::Reached => true,
            StreamEnd::Refused(Refusal::NoSuchTopic { .. }) => false,
            other => panic!("{other:?}"),
        }
    })
    .await;
    records
}

#[tokio::test]
async fn leader_that_stops_hands_over_and_has_everything_when_it_is_back() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    append(&cluster, &topic, "before").await;
    let old = cluster.leader(&topic).await;

    cluster.stop(old).await;
    // Nobody had to wait for its silence: the others agreed before it was gone.
    let new = cluster.leader(&topic).await;
    assert_ne!(new, old);
    assert_eq!(append(&cluster, &topic, "while away").await, Offset(1));

    cluster.start_member(old).await;
    assert_eq!(
        history(&cluster, old, &topic, 2).await,
        ["before", "while away"]
    );
    append(&cluster, &topic, "after").await;
    assert_eq!(
        history(&cluster, old, &topic, 3).await,
        ["before", "while away", "after"]
    );
}

#[tokio::test]
async fn leader_that_dies_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    append(&cluster, &topic, "before").await;
    let old = cluster.leader(&topic).await;

    cluster.kill(old);
    append(&cluster, &topic, "while away").await;
    cluster.start_member(old).await;
    for at in 0..3 {
        assert_eq!(
            history(&cluster, at, &topic, 2).await,
            ["before", "while away"]
        );
    }
}

#[tokio::test]
async fn whole_cluster_that_died_comes_back_with_everything() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    for value in ["a", "b", "c"] {
        append(&cluster, &topic, value).await;
    }
    (0..3).for_each(|at| cluster.kill(at));
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    assert_eq!(append(&cluster, &topic, "d").await, Offset(3));
    for at in 0..3 {
        assert_eq!(history(&cluster, at, &topic, 4).await, ["a", "b", "c", "d"]);
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    append(&cluster, &topic, "before").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer: Producing = operator.produce(&topic).await;
    let others = (0..3).filter(|at| *at != leader);
    others.for_each(|at| cluster.kill(at));
    producer
        .append(&["lost?"])
        .await
        .expect_err("there is no majority");
}

#[tokio::test]
async fn subscription_goes_on_while_leadership_changes_elsewhere() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    append(&cluster, &topic, "before").await;
    let old = cluster.leader(&topic).await;
    let follower = (old + 1) % 3;
    let reader = cluster.client(follower, Role::Consumer, "reader").await;
    let mut subscription = reader
        .subscribe(&topic, From::Earliest, Until::Forever)
        .await;
    assert_eq!(
        subscription.take(1).await,
        [(Offset(0), "before".to_owned())]
    );

    cluster.kill(old);
    append(&cluster, &topic, "after").await;
    assert_eq!(
        subscription.take(1).await,
        [(Offset(1), "after".to_owned())]
    );
}

#[tokio::test]
async fn subscription_at_a_stopping_member_is_told_to_go_on_elsewhere() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    append(&cluster, &topic, "before").await;
    let reader = cluster.operator(0).await;
    let mut subscription = reader
        .subscribe(&topic, From::Earliest, Until::Forever)
        .await;
    subscription.take(1).await;
    let member = cluster.members[0].take().unwrap();
    let (rest, ()) = tokio::join!(subscription.rest(), member.stop());
    assert_eq!(rest, (Vec::new(), StreamEnd::Moving));
}

#[tokio::test]
async fn member_that_is_back_is_reached_at_once() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let follower = (leader + 1) % 3;
    append(&cluster, &topic, "before").await;
    cluster.kill(follower);
    append(&cluster, &topic, "while away").await;
    cluster.start_member(follower).await;
    let since = tokio::time::Instant::now();
    let operator = cluster.operator(follower).await;
    until("the member has caught up", async || {
        let mut history = operator.subscribe(&topic, From::Earliest, Until::End).await;
        history.rest().await.0.len() == 2
    })
    .await;
    // The silence after which a link is given up is longer than that.
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn member_that_missed_more_than_memory_holds_is_sent_it_from_the_disk() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("t").await;
    let leader = cluster.leader(&topic).await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;
    // The leader keeps 8 MiB of entries for its followers.
    let (count, large) = (40, "x".repeat(400 << 10));
    for _ in 0..count {
        producer.append(&[&large]).await.unwrap();
    }
    cluster.start_member(away).await;
    let got = history(&cluster, away, &topic, count).await;
    assert!(got.len() == count && got.iter().all(|value| *value == large));
}
