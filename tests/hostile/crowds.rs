//! Crowds that do little and hold much: streams that drip, readers that do not read.

use std::time::Duration;

use bytes::BytesMut;
use kontiki_client::{Client, Record, TopicName};
use kontiki_transport::Role;
use kontiki_wire::{ClientStream, From, Offset, Request, Subscribe, Until};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

use crate::{
    siege::{Siege, flood_time, setting},
    stranger::{CLIENTS, Papers, Stranger, clients_address},
};

/// Streams that a client may have on one connection.
const STREAMS: usize = 60;

type Stream = (SendStream, RecvStream);

async fn opened(connection: &Connection, first: &[u8]) -> Stream {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(first).await.unwrap();
    (send, recv)
}

fn encoded(stream: &ClientStream) -> Vec<u8> {
    let mut out = BytesMut::new();
    stream.encode(&mut out);
    out.to_vec()
}

fn subscription(topic: &str) -> Vec<u8> {
    encoded(&ClientStream::Subscribe(Subscribe {
        topic: topic.parse().unwrap(),
        group: None,
        from: From::Offset(Offset(0)),
        until: Until::Forever,
    }))
}

/// Fills a topic with large records.
async fn fill(client: &Client, topic: &TopicName, mebibytes: usize) {
    let producer = client.topic(topic).unwrap().producer();
    for _ in 0..mebibytes * 4 {
        let ticket = producer.submit(Record::new(vec![7; 256 << 10])).await;
        drop(ticket.unwrap());
    }
    producer.close().await.unwrap();
}

/// Headers and nothing after them; frames at a byte a second.
#[tokio::test]
async fn streams_that_drip_cost_next_to_nothing() {
    let siege = Siege::start().await;
    let flood = async |siege: &mut Siege| {
        let papers = Papers::of_client(&siege.cluster, Role::Producer, "mallory");
        let to = clients_address(&siege.cluster, siege.leader);
        let opening = encoded(&ClientStream::Produce {
            topic: "attacked".parse().unwrap(),
        });
        let mut connections = Vec::new();
        let mut streams: Vec<Stream> = Vec::new();
        let stranger = Stranger::new(&papers, CLIENTS);
        for _ in 0..8 {
            let connection = stranger.dial(to).await.unwrap();
            for nth in 0..STREAMS {
                let first = match nth % 3 {
                    0 => opening[..7].to_vec(),
                    1 => opening.clone(),
                    _ => [&opening[..], &large_header()].concat(),
                };
                streams.push(opened(&connection, &first).await);
            }
            connections.push(connection);
        }
        let mut ticks = interval(Duration::from_secs(1));
        let end = Instant::now() + flood_time();
        while Instant::now() < end {
            ticks.tick().await;
            for (send, _) in &mut streams {
                // Those that were given up take no more.
                let _ = send.write_all(&[0]).await;
            }
        }
        println!("{} dripping streams", streams.len());
    };
    siege.withstands("streams that drip", 0.3, flood).await;
}

/// Large frames that stop half-way, on all the streams of many connections.
#[tokio::test]
async fn frames_that_stop_half_way_hold_a_bounded_part_of_the_memory() {
    let siege = Siege::start().await;
    let flood = async |siege: &mut Siege| {
        let papers = Papers::of_client(&siege.cluster, Role::Producer, "mallory");
        let to = clients_address(&siege.cluster, siege.leader);
        let opening = encoded(&ClientStream::Produce {
            topic: "attacked".parse().unwrap(),
        });
        let half = [&opening[..], &large_header(), &[7; 1 << 20]].concat();
        let stranger = Stranger::new(&papers, CLIENTS);
        let mut sending = JoinSet::new();
        for _ in 0..16 {
            let connection = stranger.dial(to).await.unwrap();
            let half = half.clone();
            sending.spawn(async move {
                let mut streams = Vec::new();
                for _ in 0..STREAMS {
                    let Ok((mut send, recv)) = connection.open_bi().await else {
                        break;
                    };
                    // Those that are given up take no more.
                    let written = timeout(Duration::from_millis(200), send.write_all(&half));
                    let _ = written.await;
                    streams.push((send, recv));
                }
                (connection, streams)
            });
        }
        let held = sending.join_all().await;
        sleep(flood_time()).await;
        println!(
            "{} halves",
            held.iter().map(|(_, streams)| streams.len()).sum::<usize>()
        );
    };
    siege
        .withstands("frames that stop half-way", 0.05, flood)
        .await;
}

/// The header of a batch of the largest size.
fn large_header() -> Vec<u8> {
    let mut header = b"KT\x01\x04".to_vec();
    header.extend_from_slice(&(2u32 << 20).to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    let checksum = crc32c::crc32c(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

/// Subscribers of 64 MiB of history, with a window that takes one packet, or none of whose bytes are
/// ever read. A member holds a frame for each, and no more than its bound for all of them.
#[tokio::test]
async fn subscribers_that_do_not_read_hold_a_bounded_part_of_the_memory() {
    let siege = Siege::start().await;
    let attacked = "attacked".parse().unwrap();
    fill(&siege.client, &attacked, 64).await;
    let flood = async |siege: &mut Siege| {
        let papers = Papers::of_client(&siege.cluster, Role::Consumer, "mallory");
        let to = clients_address(&siege.cluster, siege.leader);
        let crowd = setting("HOSTILE_CROWD", 200) as usize;
        let narrow = Stranger::tuned(&papers, CLIENTS, |transport| {
            transport.stream_receive_window(VarInt::from_u32(1_200));
        });
        let wide = Stranger::tuned(&papers, CLIENTS, |transport| {
            transport.stream_receive_window(VarInt::from_u32(64 << 10));
        });
        let mut held = Vec::new();
        for nth in 0..crowd.div_ceil(STREAMS) {
            let stranger = if nth % 2 == 0 { &narrow } else { &wide };
            let connection = stranger.dial(to).await.unwrap();
            for _ in 0..STREAMS.min(crowd - nth * STREAMS) {
                let stream = opened(&connection, &subscription("attacked")).await;
                held.push((connection.clone(), stream));
            }
        }
        sleep(flood_time()).await;
        println!("{} stalled subscribers", held.len());
    };
    siege
        .withstands("subscribers that do not read", 0.1, flood)
        .await;
}

/// Requests without end, whose responses nobody takes.
#[tokio::test]
async fn responses_that_nobody_reads_stop_the_asker_alone() {
    let siege = Siege::start().await;
    let flood = async |siege: &mut Siege| {
        let papers = Papers::of_client(&siege.cluster, Role::Consumer, "mallory");
        let to = clients_address(&siege.cluster, siege.leader);
        let narrow = Stranger::tuned(&papers, CLIENTS, |transport| {
            transport.stream_receive_window(VarInt::from_u32(1_200));
        });
        let mut asked = BytesMut::new();
        Request::Metadata.encode(&mut asked);
        let asked = asked.repeat(256);
        let end = Instant::now() + flood_time();
        let mut streams = Vec::new();
        for _ in 0..4 {
            let connection = narrow.dial(to).await.unwrap();
            for _ in 0..STREAMS {
                streams.push(opened(&connection, &encoded(&ClientStream::Requests)).await);
            }
        }
        while Instant::now() < end {
            for (send, _) in &mut streams {
                let write = send.write_all(&asked);
                let _ = timeout(Duration::from_millis(2), write).await;
            }
        }
        println!("{} streams of requests", streams.len());
    };
    siege
        .withstands("responses that nobody reads", 0.2, flood)
        .await;
}

/// Requests without end, whose responses are taken.
#[tokio::test]
async fn requests_without_end_starve_nobody() {
    let siege = Siege::start().await;
    let flood = async |siege: &mut Siege| {
        let papers = Papers::of_client(&siege.cluster, Role::Operator, "mallory");
        let to = clients_address(&siege.cluster, siege.leader);
        let end = Instant::now() + flood_time();
        let stranger = Stranger::new(&papers, CLIENTS);
        let mut asking = JoinSet::new();
        for _ in 0..4 {
            let connection = stranger.dial(to).await.unwrap();
            for _ in 0..STREAMS / 4 {
                let mut stream = opened(&connection, &encoded(&ClientStream::Requests)).await;
                let connection = connection.clone();
                asking.spawn(async move {
                    let _connection = connection;
                    let mut asked = BytesMut::new();
                    Request::Status.encode(&mut asked);
                    let (mut answers, mut buffer) = (0u64, vec![0; 64 << 10]);
                    while Instant::now() < end {
                        stream.0.write_all(&asked).await.unwrap();
                        let read = stream.1.read(&mut buffer).await.unwrap();
                        answers += u64::from(read.is_some());
                    }
                    answers
                });
            }
        }
        println!("{} answers", asking.join_all().await.iter().sum::<u64>());
    };
    siege.withstands("requests without end", 0.05, flood).await;
}
