//! Honest clients: one appends numbered records as fast as they are acknowledged, one reads along. Both
//! know what must come.

use std::collections::VecDeque;

use kontiki_client::{Client, From, Record, Ticket, TopicName};
use tokio::{select, sync::watch, task::JoinHandle, time::timeout};

use crate::cluster::{Cluster, PATIENCE};

const IN_FLIGHT: usize = 256;
const VALUE_BYTES: usize = 120;

pub(crate) struct Honest {
    acknowledged: watch::Receiver<u64>,
    stopping: watch::Sender<bool>,
    producing: JoinHandle<u64>,
    reading: JoinHandle<u64>,
    /// What the reader is to read; `u64::MAX` until it is known.
    end: watch::Sender<u64>,
}

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, number as u8);
    value
}

impl Honest {
    pub(crate) async fn start(cluster: &Cluster, topic: &TopicName) -> Self {
        let (producer, reader) = (cluster.client().await, cluster.client().await);
        let (acknowledge, acknowledged) = watch::channel(0);
        let (stopping, is_stopping) = watch::channel(false);
        let (end, known_end) = watch::channel(u64::MAX);
        let producing = produce(producer, topic.clone(), acknowledge, is_stopping);
        let reading = read(reader, topic.clone(), known_end);
        Self {
            acknowledged,
            stopping,
            producing: tokio::spawn(producing),
            reading: tokio::spawn(reading),
            end,
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits for so many more.
    pub(crate) async fn settle(&self, records: u64) {
        let target = self.acknowledged() + records;
        let mut acknowledged = self.acknowledged.clone();
        let settled = acknowledged.wait_for(|done| *done >= target).await;
        settled.expect("the producer goes on");
    }

    /// Ends both when everything appended has been read; how much that was.
    pub(crate) async fn stop(&mut self) -> u64 {
        self.stopping.send_replace(true);
        let appended = timeout(PATIENCE, &mut self.producing).await;
        let appended = appended.expect("all is acknowledged in time").unwrap();
        self.end.send_replace(appended);
        let read = timeout(PATIENCE, &mut self.reading).await;
        let read = read.expect("all is read in time").unwrap();
        assert!(read >= appended);
        appended
    }
}

async fn produce(
    client: Client,
    topic: TopicName,
    acknowledged: watch::Sender<u64>,
    stopping: watch::Receiver<bool>,
) -> u64 {
    let producer = client.topic(&topic).unwrap().producer();
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    let (mut submitted, mut done) = (0, 0);
    while !*stopping.borrow() || !waiting.is_empty() {
        while waiting.len() < IN_FLIGHT && !*stopping.borrow() {
            waiting.push_back(
                producer
                    .submit(Record::new(value(submitted)))
                    .await
                    .unwrap(),
            );
            submitted += 1;
        }
        if let Some(ticket) = waiting.pop_front() {
            let appended = ticket.await.expect("an honest record is acknowledged");
            assert_eq!(
                appended.offset.0, done,
                "nobody else appends to the honest topic"
            );
            done += 1;
            acknowledged.send_replace(done);
        }
    }
    producer.close().await.unwrap();
    done
}

/// Reads until the end is known and reached.
async fn read(client: Client, topic: TopicName, mut end: watch::Receiver<u64>) -> u64 {
    let topic = client.topic(&topic).unwrap();
    let mut subscription = topic.subscribe(From::Earliest).await.unwrap();
    let mut next = 0;
    while next < *end.borrow_and_update() {
        let batch = select! {
            batch = subscription.next_batch() => batch,
            // It may become known while nothing more comes.
            _ = end.changed() => continue,
        };
        for delivered in batch
            .expect("an honest reader is served")
            .expect("it has no end")
        {
            let delivered = delivered.unwrap();
            assert_eq!(delivered.offset.0, next, "no gap");
            assert!(
                delivered.record.value == value(next),
                "record {next} is altered"
            );
            next += 1;
        }
    }
    next
}
