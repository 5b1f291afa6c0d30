//! What a user sees while members come and go: through the client, which finds its way by itself.

use std::{collections::BTreeMap, time::Duration};

use kontiki_client::{Client, ConnectOptions, From, Record, Ticket};
use tokio::{task::JoinHandle, time::sleep};

use crate::cluster::Cluster;

pub(crate) async fn client(cluster: &Cluster) -> Client {
    let read = |name: &str| std::fs::read_to_string(cluster.birth.operator_dir.join(name)).unwrap();
    let members = cluster.birth.members.iter();
    let options = ConnectOptions::new(members.map(|member| member.address.clone()))
        .cluster_id(cluster.birth.cluster)
        .identity_pem(read("operator.pem"), read("operator.key"))
        .ca_pem(read("node-ca.pem"));
    Client::connect(options).await.unwrap()
}

/// Subscribes from the beginning and gives back the first so many values, checking that offsets are
/// dense and in order.
fn read(topic: &kontiki_client::Topic, count: u64) -> JoinHandle<Vec<String>> {
    let topic = topic.clone();
    tokio::spawn(async move {
        let mut subscription = topic.subscribe(From::Earliest).await.unwrap();
        let mut values = Vec::new();
        while (values.len() as u64) < count {
            let batch = subscription
                .next_batch()
                .await
                .unwrap()
                .expect("it has no end");
            for delivered in batch {
                let delivered = delivered.unwrap();
                assert_eq!(delivered.offset.0, values.len() as u64);
                values.push(String::from_utf8(delivered.record.value.to_vec()).unwrap());
            }
        }
        values
    })
}

/// Submits numbered records at an even pace.
fn write(topic: &kontiki_client::Topic, count: u64) -> JoinHandle<BTreeMap<u64, u64>> {
    let producer = topic.producer();
    tokio::spawn(async move {
        let mut tickets: Vec<Ticket> = Vec::new();
        for number in 0..count {
            let value = number.to_string().into();
            let record = Record {
                value,
                ..Record::default()
            };
            tickets.push(producer.submit(record).await.unwrap());
            sleep(Duration::from_millis(1)).await;
        }
        let mut placed = BTreeMap::new();
        for (ticket, number) in tickets.into_iter().zip(0..) {
            placed.insert(ticket.await.unwrap().offset.0, number);
        }
        placed
    })
}

/// Every record was acknowledged at one place, and that is where it is read, once.
async fn check(written: JoinHandle<BTreeMap<u64, u64>>, read: JoinHandle<Vec<String>>) {
    let placed = written.await.unwrap();
    let values = read.await.unwrap();
    assert_eq!(placed.len(), values.len());
    for (at, number) in placed {
        assert_eq!(values[at as usize], number.to_string(), "at offset {at}");
    }
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_moved_while_the_leader_dies_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let name = cluster.create_topic("t").await;
    let client = client(&cluster).await;
    let topic = client.topic(&name).unwrap();
    let count = 600;
    let (written, read) = (write(&topic, count), read(&topic, count));
    for _ in 0..2 {
        sleep(Duration::from_millis(150)).await;
        let leader = cluster.leader(&name).await;
        cluster.kill(leader);
        cluster.leader(&name).await;
        cluster.start_member(leader).await;
    }
    check(written, read).await;
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_moved_while_all_members_restart_in_turn() {
    let mut cluster = Cluster::start(3).await;
    let name = cluster.create_topic("t").await;
    let client = client(&cluster).await;
    let topic = client.topic(&name).unwrap();
    let count = 600;
    let (written, read) = (write(&topic, count), read(&topic, count));
    for at in 0..3 {
        cluster.leader(&name).await;
        cluster.stop(at).await;
        cluster.start_member(at).await;
    }
    check(written, read).await;
}
