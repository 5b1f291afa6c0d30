//! Processes killed, stopped and restarted under load: what was acknowledged stays, once, where it was.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kontiki_client::{Client, Record, TopicName};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::{
    cluster::{Cluster, PATIENCE},
    history::{History, Outcome, read_all},
};

/// Producers that append until told to stop, and what became of each value.
struct Load {
    history: Arc<Mutex<History>>,
    stop: tokio::sync::watch::Sender<bool>,
    producers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client, topic: &TopicName, producers: usize) -> Self {
        let history = Arc::new(Mutex::new(History::default()));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let producers = (0..producers)
            .map(|name| {
                let producer = client.topic(topic).expect("a name").producer();
                let history = history.clone();
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    let mut waiting = std::collections::VecDeque::new();
                    for number in 0u64.. {
                        if *stopped.borrow() {
                            break;
                        }
                        let value = format!("p{name}-{number}");
                        match producer.submit(Record::new(value.clone())).await {
                            Ok(ticket) => waiting.push_back((value, ticket)),
                            Err(error) => note(&history, value, Err(error)),
                        }
                        while waiting.len() >= 64 {
                            let (value, ticket) = waiting.pop_front().expect("not empty");
                            note(&history, value, ticket.await);
                        }
                    }
                    for (value, ticket) in waiting {
                        note(&history, value, ticket.await);
                    }
                })
            })
            .collect();
        Self {
            history,
            stop,
            producers,
        }
    }

    fn acknowledged(&self) -> usize {
        self.history
            .lock()
            .expect("no panic elsewhere")
            .acknowledged()
    }

    /// Waits until this many more were acknowledged.
    async fn progress(&self, more: usize) {
        let start = Instant::now();
        let goal = self.acknowledged() + more;
        while self.acknowledged() < goal {
            assert!(start.elapsed() < PATIENCE, "appends make no progress");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(self) -> History {
        self.stop.send(true).expect("producers listen");
        for producer in self.producers {
            tokio::time::timeout(PATIENCE, producer)
                .await
                .expect("a producer ends in time")
                .expect("a producer ends well");
        }
        Arc::into_inner(self.history)
            .expect("producers are gone")
            .into_inner()
            .expect("no panic")
    }
}

fn note(
    history: &Mutex<History>,
    value: String,
    result: Result<kontiki_client::Appended, kontiki_client::AppendError>,
) {
    let outcome = match result {
        Ok(appended) => Outcome::Acknowledged(appended.offset.0),
        Err(error) if error.has_no_side_effects() => Outcome::NotAppended,
        Err(_) => Outcome::Ambiguous,
    };
    history
        .lock()
        .expect("no panic elsewhere")
        .record(value, outcome);
}

async fn check(cluster: &Cluster, topic: &TopicName, history: &History) {
    let client = cluster.client().await;
    history.check(&read_all(&client, topic).await);
}

async fn topic(client: &Client) -> TopicName {
    let topic: TopicName = "orders".parse().expect("a name");
    client
        .admin()
        .ensure_topic(&topic, Default::default())
        .await
        .expect("a topic");
    topic
}

#[tokio::test]
async fn killed_leaders_lose_nothing_under_load() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let load = Load::start(&client, &topic, 4);
    for _ in 0..3 {
        load.progress(500).await;
        let leader = cluster.leader(&client, &topic).await;
        cluster.kill(leader);
        load.progress(500).await;
        cluster.serve(leader);
    }
    let history = load.end().await;
    check(&cluster, &topic, &history).await;
}

#[tokio::test]
async fn killed_followers_are_not_missed_and_catch_up() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let load = Load::start(&client, &topic, 2);
    load.progress(200).await;
    let leader = cluster.leader(&client, &topic).await;
    let followers: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for follower in &followers {
        cluster.kill(*follower);
        load.progress(1000).await;
        cluster.serve(*follower);
        load.progress(200).await;
    }
    let history = load.end().await;
    // Only those who were killed are left to serve what they missed.
    cluster.kill(leader);
    check(&cluster, &topic, &history).await;
}

#[tokio::test]
async fn a_cluster_killed_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let load = Load::start(&client, &topic, 4);
    for _ in 0..2 {
        load.progress(1000).await;
        cluster.kill_all();
        for at in 0..3 {
            cluster.serve(at);
        }
    }
    load.progress(500).await;
    let history = load.end().await;
    check(&cluster, &topic, &history).await;
}

#[tokio::test]
async fn a_stopped_leader_that_wakes_acknowledges_nothing_stale() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let load = Load::start(&client, &topic, 4);
    load.progress(500).await;
    let leader = cluster.leader(&client, &topic).await;
    cluster.signal(leader, Signal::STOP);
    // The others elect and go on while it sleeps.
    load.progress(1000).await;
    cluster.signal(leader, Signal::CONT);
    load.progress(1000).await;
    let history = load.end().await;
    check(&cluster, &topic, &history).await;
}

#[tokio::test]
async fn a_member_that_stops_cleanly_hands_over_first() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let topic = topic(&client).await;
    let load = Load::start(&client, &topic, 2);
    load.progress(500).await;
    let leader = cluster.leader(&client, &topic).await;
    cluster.signal(leader, Signal::TERM);
    assert!(cluster.wait(leader).success());
    load.progress(500).await;
    cluster.serve(leader);
    let history = load.end().await;
    assert!(
        history
            .appends
            .values()
            .all(|o| matches!(o, Outcome::Acknowledged(_))),
        "a planned stop fails no append"
    );
    check(&cluster, &topic, &history).await;
}
