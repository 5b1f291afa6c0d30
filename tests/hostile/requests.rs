//! Requests without end: whose responses are taken, and whose responses nobody takes.

use std::time::Duration;

use bytes::BytesMut;
use kontiki_transport::Role;
use kontiki_wire::{ClientStream, Request};
use quinn::VarInt;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    crowds::{PACKET, STREAMS, encoded, opened},
    siege::{Siege, besieged, flood_time},
    stranger::{CLIENTS, client_papers, clients_address},
};

/// Requests that a member answers at once, and in a second.
const AT_ONCE_MAX: f64 = 1_000.0;
const PER_SECOND_MAX: f64 = 2_000.0;
/// How long somebody else then takes to be answered.
const NEWCOMER_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections that ask.
const ASKERS: usize = 4;
/// How long one stream that takes no more may hold up the others.
const WRITE_TIME_MAX: Duration = Duration::from_millis(2);

#[test]
fn requests_without_end_starve_nobody() {
    besieged(|siege| {
        whose_responses_are_taken(siege);
        whose_responses_nobody_takes(siege);
    });
}

fn whose_responses_are_taken(siege: &mut Siege) {
    siege.withstands("requests without end", 0.05, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Operator);
        let to = clients_address(&siege.cluster, siege.leader);
        let begun = Instant::now();
        let end = begun + flood_time();
        let stranger = siege.stranger(&papers, CLIENTS);
        let mut asking = JoinSet::new();
        for _ in 0..ASKERS {
            let connection = stranger.dial(to).await.unwrap();
            for _ in 0..STREAMS / ASKERS {
                let stream = opened(&connection, &encoded(&ClientStream::Requests)).await;
                let (mut send, mut recv) = stream;
                asking.spawn(async move {
                    let mut asked = BytesMut::new();
                    Request::Status.encode(&mut asked);
                    let (mut answers, mut buffer) = (0u64, vec![0; 64 << 10]);
                    while Instant::now() < end {
                        send.write_all(&asked).await.unwrap();
                        let read = recv.read(&mut buffer).await.unwrap();
                        answers += u64::from(read.is_some());
                    }
                    answers
                });
            }
        }
        let newcomer = timeout(NEWCOMER_TIME_MAX, siege.cluster.client()).await;
        newcomer.expect("others are answered").close().await;
        let answers: u64 = asking.join_all().await.iter().sum();
        let most = AT_ONCE_MAX + PER_SECOND_MAX * begun.elapsed().as_secs_f64();
        println!("{answers} answers, {most:.0} are the most");
        assert!(answers as f64 <= most);
    });
}

fn whose_responses_nobody_takes(siege: &mut Siege) {
    siege.withstands("responses that nobody reads", 0.2, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Consumer);
        let to = clients_address(&siege.cluster, siege.leader);
        let narrow = siege.tuned_stranger(&papers, CLIENTS, |transport| {
            transport.stream_receive_window(VarInt::from_u32(PACKET));
        });
        let mut asked = BytesMut::new();
        Request::Metadata.encode(&mut asked);
        let asked = asked.repeat(256);
        let end = Instant::now() + flood_time();
        let mut streams = Vec::new();
        for _ in 0..ASKERS {
            let connection = narrow.dial(to).await.unwrap();
            for _ in 0..STREAMS {
                streams.push(opened(&connection, &encoded(&ClientStream::Requests)).await);
            }
        }
        while Instant::now() < end {
            for (send, _) in &mut streams {
                let _ = timeout(WRITE_TIME_MAX, send.write_all(&asked)).await;
            }
        }
        println!("{} streams of requests", streams.len());
    });
}
