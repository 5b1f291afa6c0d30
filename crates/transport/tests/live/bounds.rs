//! What a connection may cost, and when it ends by itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use kontiki_transport::{
    Authority, CLOSE_CERTIFICATE, CLOSE_CROWDED, Credentials, Endpoint, Error, Expect, Identity,
    Limits, Plane, Role,
};
use kontiki_wire::{ClusterId, FrameKind, Malformed, encode_frame};
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::cluster::{CLUSTER, Cluster, DAY, Pair, loopback, soon};

const FRAME_MAX: usize = 2 << 20;
const CONNECTION_WINDOW: usize = 4 << 20;
const STREAM_WINDOW: usize = 1 << 20;

fn frame(bytes: usize) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, &vec![7; bytes], &mut out);
    out.freeze()
}

/// Time for whatever is still under way: a round trip on a connection of one's own.
async fn round_trip(cluster: &Cluster) {
    let pair = cluster.pair(Plane::Clients).await;
    let (mut writer, _reader) = pair.here.open().await.expect("a stream");
    writer.write(frame(1)).await.expect("room");
    let (_writer, mut reader) = soon("a stream", pair.there.accept())
        .await
        .expect("a stream");
    soon("a frame", reader.next(FRAME_MAX))
        .await
        .expect("a frame");
}

#[tokio::test]
async fn a_connection_ends_within_a_second_of_the_dialers_certificate() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let brief = cluster.credentials_for(Role::Operator, "brief", Duration::from_secs(2));
    let dialer = Endpoint::dialer(Plane::Clients, &brief).expect("a free port");
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    let here = soon("the dial", dialed).await.expect("let in");
    let there = soon("the dialer", listener.accept()).await.expect("open");

    let reason = soon("the end", there.closed()).await;
    assert_ended_at(there.certificate().not_after);
    assert!(matches!(reason, Error::ClosedHere(_)), "{reason:?}");
    match soon("the end here", here.closed()).await {
        Error::Closed { code, reason } => {
            assert_eq!(code, u64::from(CLOSE_CERTIFICATE));
            assert_eq!(reason, "the certificate has expired");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_ends_within_a_second_of_the_listeners_certificate() {
    let cluster = Cluster::new();
    let brief = cluster.credentials_for(Role::Node, "n1", Duration::from_secs(2));
    let listener = Endpoint::listen(loopback(), Plane::Peers, &brief).expect("a free port");
    let dialer = cluster.dialer(Plane::Peers);
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    let here = soon("the dial", dialed).await.expect("let in");
    let reason = soon("the end", here.closed()).await;
    assert_ended_at(here.certificate().not_after);
    assert!(matches!(reason, Error::ClosedHere(_)), "{reason:?}");
}

fn assert_ended_at(not_after: SystemTime) {
    let late = SystemTime::now()
        .duration_since(not_after)
        .expect("not before the certificate");
    assert!(
        late < Duration::from_secs(1),
        "{late:?} after the certificate"
    );
}

#[tokio::test]
async fn new_credentials_end_the_connections_they_do_not_accept() {
    let cluster = Cluster::new();
    let Pair {
        here,
        there,
        listener,
        dialer,
    } = cluster.pair(Plane::Clients).await;
    let to = listener.local_address();
    let own = |clients: &Authority| {
        let name = Identity::new(CLUSTER, Role::Node, "n1").expect("a name");
        let issued = cluster.nodes.issue(&name, DAY).expect("a leaf");
        Credentials::from_pem(
            &issued.certificate_pem,
            &issued.key_pem,
            cluster.nodes.certificate_pem(),
            clients.certificate_pem(),
        )
        .expect("good credentials")
    };

    listener
        .set_credentials(&own(&cluster.clients))
        .expect("the same roots");
    let again = soon("another dial", dialer.connect(to, Expect::AnyNode)).await;
    let again = again.expect("let in by the renewed listener");

    let others = Authority::new("another", DAY).expect("an authority");
    listener
        .set_credentials(&own(&others))
        .expect("other roots");
    for connection in [here, again] {
        match soon("the end", connection.closed()).await {
            Error::Closed { code, reason } => {
                assert_eq!(code, u64::from(CLOSE_CERTIFICATE));
                assert!(reason.contains("no longer accepted"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    soon("the end there", there.closed()).await;
    let refused = soon("a dial", dialer.connect(to, Expect::AnyNode)).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn credentials_of_another_cluster_or_role_are_not_taken_over() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Clients);
    let name = Identity::new(ClusterId(1), Role::Node, "n1").expect("a name");
    let issued = cluster.nodes.issue(&name, DAY).expect("a leaf");
    let foreign = Credentials::from_pem(
        &issued.certificate_pem,
        &issued.key_pem,
        cluster.nodes.certificate_pem(),
        cluster.clients.certificate_pem(),
    );
    let wrong = [
        foreign.expect("good in themselves"),
        cluster.credentials(Role::Operator, "ops"),
    ];
    for wrong in wrong {
        let refused = listener.set_credentials(&wrong);
        assert!(matches!(refused, Err(Error::Credentials(_))), "{refused:?}");
    }
    let dialer = cluster.dialer(Plane::Clients);
    let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
    soon("the dial", dialed)
        .await
        .expect("the last good ones still hold");
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_one_window_of_the_others_bytes() {
    let cluster = Cluster::new();
    let pair = cluster.pair(Plane::Clients).await;
    let written = Arc::new(AtomicUsize::new(0));
    for stream in 0..16 {
        let (mut writer, reader) = pair.here.open().await.expect("a stream");
        let written = Arc::clone(&written);
        tokio::spawn(async move {
            let _reader = reader;
            let mut here = 0;
            while writer
                .write(Bytes::from_static(&[0; 1 << 10]))
                .await
                .is_ok()
            {
                here += 1 << 10;
                written.fetch_add(1 << 10, Ordering::SeqCst);
                assert!(here <= STREAM_WINDOW, "stream {stream} took {here} bytes");
            }
        });
    }
    soon("the full window", async {
        while written.load(Ordering::SeqCst) < CONNECTION_WINDOW {
            tokio::task::yield_now().await;
        }
    })
    .await;
    round_trip(&cluster).await;
    assert_eq!(written.load(Ordering::SeqCst), CONNECTION_WINDOW);
}

#[tokio::test]
async fn a_frame_that_says_it_is_too_large_is_refused_by_its_header_alone() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    for (length, limit) in [(101, 100), (1 << 20, 100), (1, 0)] {
        let (mut writer, _keep) = pair.here.open().await.expect("a stream");
        writer.write(frame(length).slice(..16)).await.expect("room");
        let (_keep, mut reader) = soon("a stream", pair.there.accept())
            .await
            .expect("a stream");
        match soon("the refusal", reader.next(limit)).await {
            Err(Error::Malformed(Malformed::TooLarge {
                have, limit: said, ..
            })) => {
                assert_eq!((have, said), (length as u64, limit as u64));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Sends `bytes` of a frame of the largest size on each of `streams`, while the other side reads them
/// all; ends when all are written, or when a reader refuses.
async fn half_frames(streams: usize, bytes: usize) -> Result<(), Error> {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let half = frame(FRAME_MAX).slice(..bytes);
    let mut halves = Vec::new();
    for _ in 0..streams {
        halves.push(pair.here.open().await?);
    }
    let mut written = JoinSet::new();
    for (mut writer, reader) in halves {
        let half = half.clone();
        written.spawn(async move {
            writer.write(half).await?;
            Ok((writer, reader))
        });
    }
    let mut refused = JoinSet::new();
    let read = async {
        for _ in 0..streams {
            let (writer, mut reader) = pair.there.accept().await?;
            refused.spawn(async move {
                let _writer = writer;
                reader.next(FRAME_MAX).await.map(|_| ())
            });
        }
        // Nobody finishes a frame, so the first to say anything refuses.
        refused
            .join_next()
            .await
            .expect("a reader")
            .expect("no panic")
    };
    tokio::select! {
        refused = read => refused,
        written = written.join_all() => written.into_iter().collect::<Result<Vec<_>, _>>().map(|_| ()),
    }
}

#[tokio::test]
async fn unfinished_frames_are_held_within_a_bound_over_all_streams() {
    // More than the connection's window, so that it is written only if it is read.
    soon("some halves", half_frames(12, 1 << 20))
        .await
        .expect("an honest amount");
    match soon("many halves", half_frames(40, 1 << 20)).await {
        Err(Error::Lost(sentence)) => {
            assert!(sentence.contains("unfinished frames"), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn when_all_hold_too_much_whoever_holds_more_than_a_fair_part_is_given_up() {
    let cluster = Cluster::new();
    let limits = Limits {
        unfinished_bytes: 1 << 20,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    let dialer = cluster.dialer(Plane::Clients);
    let mut kept = Vec::new();
    let mut reading = Vec::new();
    // Two greedy ones, each within the bound alone, and a modest one.
    let modest_bytes = 400 << 10;
    for (whole, bytes) in [
        (FRAME_MAX, 700 << 10),
        (FRAME_MAX, 700 << 10),
        (modest_bytes, 100 << 10),
    ] {
        let here = soon("a dial", dialer.connect(to, Expect::AnyNode)).await;
        let here = here.expect("let in");
        let there = soon("the dialer", listener.accept()).await.expect("open");
        let (mut writer, reader) = here.open().await.expect("a stream");
        let half = frame(whole).slice(..bytes);
        soon("room", writer.write(half)).await.expect("room");
        let (_, mut incoming) = soon("a stream", there.accept()).await.expect("a stream");
        reading.push(tokio::spawn(async move { incoming.next(FRAME_MAX).await }));
        kept.push((here, there, writer, reader));
    }
    let modest = reading.pop().expect("three were pushed");
    let (one, other) = (reading.remove(0), reading.remove(0));
    let refused = soon("one is given up", async {
        tokio::select! {
            refused = one => refused,
            refused = other => refused,
        }
    })
    .await
    .expect("no panic");
    match refused {
        Err(Error::Lost(sentence)) => {
            assert!(
                sentence.contains("524288 bytes of unfinished frames"),
                "{sentence}"
            );
        }
        other => panic!("{other:?}"),
    }
    let rest = frame(modest_bytes).slice(100 << 10..);
    let (.., writer, _) = kept.last_mut().expect("three were pushed");
    let finish = async {
        writer.write(rest).await.expect("room");
        modest.await.expect("no panic").expect("a frame")
    };
    let frame = soon("the modest one's frame", finish).await;
    assert_eq!(frame.expect("a frame").payload.len(), modest_bytes);
}

#[tokio::test]
async fn whoever_comes_when_all_places_are_taken_is_turned_away_until_one_is_free() {
    let cluster = Cluster::new();
    let limits = Limits {
        connections: 2,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    let dialer = cluster.dialer(Plane::Clients);
    let first = soon("one", dialer.connect(to, Expect::AnyNode))
        .await
        .expect("let in");
    let _second = soon("two", dialer.connect(to, Expect::AnyNode))
        .await
        .expect("let in");
    match soon("three", dialer.connect(to, Expect::AnyNode)).await {
        Err(Error::Refused(sentence)) => {
            assert!(
                sentence.contains("as many connections as it takes"),
                "{sentence}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(listener.arrivals().turned_away, 1);
    let there = soon("the first", listener.accept()).await.expect("open");
    first.close(0, "making room");
    soon("its end", there.closed()).await;
    soon("a place", async {
        while dialer.connect(to, Expect::AnyNode).await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_hang_make_others_prove_their_address_and_no_more() {
    let cluster = Cluster::new();
    let limits = Limits {
        handshakes_unproven: 1,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    let hanging = cluster.hangs_at(to).await;
    let honest = cluster.dialer(Plane::Clients);
    soon("a challenge", async {
        while listener.arrivals().challenged == 0 {
            honest.connect(to, Expect::AnyNode).await.expect("let in");
        }
    })
    .await;
    assert!(listener.arrivals().accepted >= 1);
    hanging.abort();
}

/// A line that is longer than dialers wait held handshakes with those alone who had given up: nobody got in.
#[tokio::test]
async fn of_a_crowd_that_dials_anew_again_and_again_everybody_gets_in() {
    const CROWD: u32 = 240;
    const DIAL: Duration = Duration::from_secs(3);
    const PER_SECOND: u32 = 40;
    let cluster = Cluster::new();
    let limits = Limits {
        handshakes_per_second: PER_SECOND,
        handshakes_in_a_burst: 1,
        handshakes_per_origin: 4,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    let dialer = cluster.dialer(Plane::Clients);
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let dialer = dialer.clone();
        crowd.spawn(async move {
            loop {
                let dialed = timeout(DIAL, dialer.connect(to, Expect::AnyNode)).await;
                if let Ok(Ok(connection)) = dialed {
                    return connection;
                }
                sleep(Duration::from_millis(100 + u64::from(number))).await;
            }
        });
    }
    let taken = tokio::spawn(async move {
        let mut taken = Vec::new();
        while taken.len() < CROWD as usize {
            taken.push(listener.accept().await.expect("open"));
        }
        (taken, listener.arrivals())
    });
    let all_in = timeout(Duration::from_secs(30), crowd.join_all()).await;
    assert_eq!(all_in.expect("all within 30 s").len(), CROWD as usize);
    let (_taken, arrivals) = soon("the listener", taken).await.expect("no panic");
    assert!(arrivals.turned_away > 0, "{arrivals:?}");
}

#[tokio::test]
async fn garbage_datagrams_hurt_nobody() {
    let cluster = Cluster::new();
    for plane in [Plane::Peers, Plane::Clients] {
        let listener = cluster.listener(plane);
        let to = listener.local_address();
        let socket = UdpSocket::bind(loopback()).await.expect("a free port");
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..300 {
            let mut bytes: Vec<u8> = (0..random() % 1_500).map(|_| random() as u8).collect();
            // Long headers of this version, of another, short headers, and anything.
            let start: &[u8] = match round % 4 {
                0 => &[0xc0, 0, 0, 0, 1, 8],
                1 => &[0xc0, 0xff, 0xff, 0, 1, 8],
                2 => &[0x40],
                _ => &[],
            };
            for (byte, start) in bytes.iter_mut().zip(start) {
                *byte = *start;
            }
            send(&socket, &bytes, to).await;
        }
        let dialed = cluster.dialer(plane).connect(to, Expect::AnyNode).await;
        dialed.expect("the honest are let in");
        let arrivals = listener.arrivals();
        assert_eq!(
            (arrivals.accepted, arrivals.turned_away),
            (1, 0),
            "{arrivals:?}"
        );
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    socket.send_to(bytes, to).await.expect("sent");
}

#[tokio::test]
async fn one_identity_takes_its_own_places_only_and_is_told_so() {
    let cluster = Cluster::new();
    let limits = Limits {
        connections_per_identity: 2,
        ..Limits::of(Plane::Clients)
    };
    let listener = cluster.listener_within(limits);
    let to = listener.local_address();
    let dialer = cluster.dialer(Plane::Clients);
    let first = soon("one", dialer.connect(to, Expect::AnyNode))
        .await
        .expect("let in");
    let there = soon("the first", listener.accept()).await.expect("open");
    let _second = soon("two", dialer.connect(to, Expect::AnyNode))
        .await
        .expect("let in");
    match soon("three", dialer.connect(to, Expect::AnyNode)).await {
        Err(Error::Closed { code, reason }) => {
            assert_eq!(code, u64::from(CLOSE_CROWDED));
            assert!(
                reason.contains("operator/ops has 2 connections here"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    let other = Endpoint::dialer(
        Plane::Clients,
        &cluster.credentials(Role::Producer, "another"),
    )
    .expect("a free port");
    soon("another", other.connect(to, Expect::AnyNode))
        .await
        .expect("another identity is let in");
    first.close(0, "making room");
    soon("its end", there.closed()).await;
    soon("a place", async {
        while dialer.connect(to, Expect::AnyNode).await.is_err() {}
    })
    .await;
}
