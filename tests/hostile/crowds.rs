//! Crowds that do little and hold much: streams that drip, frames that stop half-way, readers that do not
//! read.

use std::time::Duration;

use bytes::BytesMut;
use kontiki_client::{Client, Record, TopicName};
use kontiki_transport::Role;
use kontiki_wire::{ClientStream, From, Offset, Subscribe, Until};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use crate::{
    siege::{Siege, besieged, flood_time, setting},
    stranger::{CLIENTS, client_papers, clients_address},
};

/// Streams that a client may have on one connection, less some.
pub(crate) const STREAMS: usize = 60;
/// A window that takes one packet.
pub(crate) const PACKET: u32 = 1_200;
/// History that those who do not read ask for.
const HISTORY_MEBIBYTES: usize = 64;

pub(crate) type Stream = (SendStream, RecvStream);

pub(crate) async fn opened(connection: &Connection, first: &[u8]) -> Stream {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(first).await.unwrap();
    (send, recv)
}

pub(crate) fn encoded(stream: &ClientStream) -> Vec<u8> {
    let mut out = BytesMut::new();
    stream.encode(&mut out);
    out.to_vec()
}

fn topic() -> TopicName {
    "attacked".parse().unwrap()
}

/// What opens a producer's stream.
fn production() -> Vec<u8> {
    encoded(&ClientStream::Produce {
        topic: topic(),
        epoch: None,
    })
}

fn subscription() -> Vec<u8> {
    encoded(&ClientStream::Subscribe(Subscribe {
        topic: topic(),
        group: None,
        epoch: None,
        from: From::Offset(Offset(0)),
        until: Until::Forever,
    }))
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

/// Fills the attacked topic with large records.
async fn fill(client: &Client) {
    let producer = client.topic(topic()).unwrap().producer();
    for _ in 0..HISTORY_MEBIBYTES * 4 {
        let ticket = producer.submit(Record::new(vec![7; 256 << 10])).await;
        drop(ticket.unwrap());
    }
    producer.close().await.unwrap();
}

#[test]
fn crowds_hold_a_bounded_part_of_the_memory() {
    besieged(|siege| {
        streams_that_drip(siege);
        frames_that_stop_half_way(siege);
        siege.prepare(async |siege| fill(&siege.client).await);
        subscribers_that_do_not_read(siege);
    });
}

/// Headers and nothing after them; frames at a byte a second.
fn streams_that_drip(siege: &mut Siege) {
    siege.withstands("streams that drip", 0.3, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Producer);
        let to = clients_address(&siege.cluster, siege.leader);
        let stranger = siege.stranger(&papers, CLIENTS);
        let begun = [
            production()[..7].to_vec(),
            production(),
            [production(), large_header()].concat(),
        ];
        let mut streams: Vec<Stream> = Vec::new();
        for _ in 0..8 {
            let connection = stranger.dial(to).await.unwrap();
            for nth in 0..STREAMS {
                streams.push(opened(&connection, &begun[nth % begun.len()]).await);
            }
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
    });
}

/// Large frames that stop half-way, on all the streams of many connections.
fn frames_that_stop_half_way(siege: &mut Siege) {
    siege.withstands("frames that stop half-way", 0.05, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Producer);
        let to = clients_address(&siege.cluster, siege.leader);
        let half = [production(), large_header(), vec![7; 1 << 20]].concat();
        let stranger = siege.stranger(&papers, CLIENTS);
        let mut connections = Vec::new();
        for _ in 0..16 {
            connections.push(stranger.dial(to).await.unwrap());
        }
        let mut sending = JoinSet::new();
        for connection in &connections {
            for _ in 0..STREAMS {
                let (connection, half) = (connection.clone(), half.clone());
                sending.spawn(async move {
                    // Those that are given up take no more, and so do those of a connection that is.
                    if let Ok((mut send, _recv)) = connection.open_bi().await {
                        let _ = send.write_all(&half).await;
                        let _ = send.stopped().await;
                    }
                });
            }
        }
        sleep(flood_time()).await;
        println!("{} halves", sending.len());
    });
}

/// Subscribers of a long history, with a window that takes one packet, or none of whose bytes are ever
/// read. A member holds a frame for each, and no more than its bound for all of them.
fn subscribers_that_do_not_read(siege: &mut Siege) {
    siege.withstands("subscribers that do not read", 0.1, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Consumer);
        let to = clients_address(&siege.cluster, siege.leader);
        let crowd = setting("HOSTILE_CROWD", 200) as usize;
        let strangers = [PACKET, 64 << 10].map(|window| {
            siege.tuned_stranger(&papers, CLIENTS, |transport| {
                transport.stream_receive_window(VarInt::from_u32(window));
            })
        });
        let mut held: Vec<Stream> = Vec::new();
        for nth in 0..crowd.div_ceil(STREAMS) {
            let connection = strangers[nth % 2].dial(to).await.unwrap();
            for _ in 0..STREAMS.min(crowd - nth * STREAMS) {
                held.push(opened(&connection, &subscription()).await);
            }
        }
        sleep(flood_time()).await;
        println!("{} stalled subscribers", held.len());
    });
}
