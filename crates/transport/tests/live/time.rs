//! What takes too long, on a clock that runs ahead whenever everybody waits. The sockets are real: on
//! loopback what was sent has arrived before anybody waits.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use kontiki_transport::{Error, Expect, FRAME_TIME_MAX, Limits, Plane};
use kontiki_wire::{FrameKind, encode_frame, limits::PEER_FRAME_BYTES_MAX};
use tokio::{
    net::UdpSocket,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::cluster::{Cluster, Pair, loopback};

const FRAME_MAX: usize = 2 << 20;

fn frame(bytes: usize) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Peer, &vec![7; bytes], &mut out);
    out.freeze()
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_drips_is_given_up() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    tokio::spawn(async move {
        let slow = frame(1_000);
        for at in 0.. {
            if writer.write(slow.slice(at..=at)).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (_keep, mut reader) = pair.there.accept().await.expect("a stream");
    let start = Instant::now();
    match reader.next(FRAME_MAX).await {
        Err(Error::TimedOut(what)) => assert_eq!(what, "the rest of a frame"),
        other => panic!("{other:?}"),
    }
    let took = start.elapsed();
    let limit = FRAME_TIME_MAX + Duration::from_secs(2);
    assert!((FRAME_TIME_MAX..limit).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_keeps_coming_may_take_longer() {
    let pair = Cluster::new().pair(Plane::Peers).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    tokio::spawn(async move {
        let mut left = frame(PEER_FRAME_BYTES_MAX);
        while !left.is_empty() {
            // 100 KiB a second.
            let part = left.split_to(left.len().min(200 << 10));
            writer.write(part).await.expect("room");
            sleep(Duration::from_secs(2)).await;
        }
    });
    let (_keep, mut reader) = pair.there.accept().await.expect("a stream");
    let start = Instant::now();
    let whole = reader.next(PEER_FRAME_BYTES_MAX).await.expect("in time");
    assert_eq!(
        whole.expect("not the end").payload.len(),
        PEER_FRAME_BYTES_MAX
    );
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn each_frame_has_its_own_time() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    tokio::spawn(async move {
        // Two frames, cut where none begins or ends, so that one is always unfinished.
        let two = [frame(100), frame(100)].concat();
        writer
            .write(Bytes::copy_from_slice(&two[..50]))
            .await
            .expect("room");
        let round = Bytes::from([&two[50..], &two[..50]].concat());
        while writer.write(round.clone()).await.is_ok() {
            sleep(Duration::from_secs(10)).await;
        }
    });
    let (_keep, mut reader) = pair.there.accept().await.expect("a stream");
    let start = Instant::now();
    while start.elapsed() < 3 * FRAME_TIME_MAX {
        let frame = reader.next(FRAME_MAX).await.expect("in time");
        assert_eq!(frame.expect("not the end").payload.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    for plane in [Plane::Peers, Plane::Clients] {
        let Pair { here, there, .. } = Cluster::new().pair(plane).await;
        tokio::select! {
            error = here.closed() => panic!("{error}"),
            error = there.closed() => panic!("{error}"),
            () = sleep(Duration::from_secs(120)) => {}
        }
    }
}

/// Passes datagrams between whoever dials it and `to`, until it is aborted.
async fn relay(to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(loopback()).await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let passing = tokio::spawn(async move {
        let mut bytes = vec![0; 65_536];
        let mut dialer = None;
        while let Ok((count, from)) = socket.recv_from(&mut bytes).await {
            let onwards = if from == to {
                dialer.expect("the dialer comes first")
            } else {
                dialer = Some(from);
                to
            };
            let _ = socket.send_to(&bytes[..count], onwards).await;
        }
    });
    (address, passing)
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_other_side_falls_silent_is_lost() {
    for (plane, idle) in [(Plane::Peers, 8), (Plane::Clients, 15)] {
        let cluster = Cluster::new();
        let listener = cluster.listener(plane);
        let (relayed, passing) = relay(listener.local_address()).await;
        let dialer = cluster.dialer(plane);
        let here = dialer
            .connect(relayed, Expect::AnyNode)
            .await
            .expect("let in");
        let there = listener.accept().await.expect("open");
        passing.abort();
        let start = Instant::now();
        for side in [here, there] {
            match side.closed().await {
                Error::Lost(told) => assert_eq!(told, "the other side has fallen silent"),
                other => panic!("{other:?}"),
            }
        }
        let took = start.elapsed().as_secs();
        assert!(
            (idle..idle + 2).contains(&took),
            "{plane:?}: {took} seconds"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialer_that_gets_no_answer_gives_up() {
    let nobody = UdpSocket::bind(loopback()).await.expect("a free port");
    let dialer = Cluster::new().dialer(Plane::Clients);
    let start = Instant::now();
    let to = nobody.local_addr().expect("bound");
    match dialer.connect(to, Expect::AnyNode).await {
        Err(Error::Lost(told)) => assert_eq!(told, format!("{to} does not answer")),
        other => panic!("{other:?}"),
    }
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_given_up() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let hanging = cluster.hangs_at(listener.local_address()).await;
    let start = Instant::now();
    while listener.arrivals().refused == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(listener.arrivals().accepted, 0);
    hanging.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_longer_than_dialers_do_is_told_to_come_again() {
    let cluster = Cluster::new();
    let limits = Limits {
        handshakes_per_origin: 1,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    // It keeps the one place for five seconds.
    let hanging = cluster.hangs_at(to).await;
    let dialer = cluster.dialer(Plane::Clients);
    let start = Instant::now();
    match dialer.connect(to, Expect::AnyNode).await {
        Err(Error::Refused(sentence)) => {
            assert!(sentence.contains("more come at once"), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(start.elapsed().as_millis() / 100, 10);
    assert_eq!(listener.arrivals().turned_away, 1);
    hanging.abort();
}
