//! Frames over streams, and how connections end.

use bytes::{Bytes, BytesMut};
use kontiki_transport::{Error, Expect, Plane, Role};
use kontiki_wire::{FrameKind, Malformed, encode_frame};

use crate::cluster::{Cluster, Pair, soon};

const MAX: usize = 1 << 20;

fn frame(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, payload, &mut out);
    out.freeze()
}

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    for plane in [Plane::Peers, Plane::Clients] {
        let pair = Cluster::new().pair(plane).await;
        assert_eq!(pair.here.identity().name, "n1");
        assert_eq!(pair.here.identity().role, Role::Node);
        assert_eq!(pair.here.remote_address(), pair.listener.local_address());
        let (role, name) = match plane {
            Plane::Peers => (Role::Node, "n2"),
            Plane::Clients => (Role::Operator, "ops"),
        };
        assert_eq!(pair.there.identity().role, role);
        assert_eq!(pair.there.identity().name, name);
        assert_eq!(
            pair.there.remote_address().port(),
            pair.dialer.local_address().port()
        );
    }
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut asks, mut answers) = pair.here.open().await.expect("a stream");
    let echo = async {
        let (mut writes, mut reads) = pair.there.accept().await.expect("a stream");
        while let Some(got) = reads.next(MAX).await.expect("a frame") {
            writes.write(frame(&got.payload)).await.expect("room");
        }
        writes.finish();
    };
    let ask = async {
        for size in [0, 1, 100, 1_200, 70_000, 1 << 20] {
            let payload = vec![size as u8; size];
            asks.write(frame(&payload)).await.expect("room");
            let got = answers
                .next(MAX)
                .await
                .expect("a frame")
                .expect("not the end");
            assert!(got.payload == payload, "{size} bytes came back otherwise");
        }
        asks.finish();
        assert_eq!(answers.next(MAX).await.expect("a clean end"), None);
        assert_eq!(answers.next(MAX).await.expect("it stays the end"), None);
    };
    soon("the exchange", async { tokio::join!(echo, ask) }).await;
}

#[tokio::test]
async fn a_stream_carries_any_number_of_large_frames() {
    // More in total than may be unfinished at a time.
    const FRAMES: usize = 40;
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    let write = async {
        for at in 0..FRAMES {
            let large = frame(&vec![at as u8; MAX]);
            writer.write(large).await.expect("room");
        }
        writer.finish();
    };
    let read = async {
        let (_keep, mut reader) = pair.there.accept().await.expect("a stream");
        for at in 0..FRAMES {
            let frame = reader.next(MAX).await.expect("a frame");
            assert!(frame.expect("not the end").payload.starts_with(&[at as u8]));
        }
        assert_eq!(reader.next(MAX).await.expect("a clean end"), None);
    };
    soon("all frames", async { tokio::join!(write, read) }).await;
}

#[tokio::test]
async fn the_reason_of_a_close_arrives() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    pair.there.close(7, "gone\nfishing");
    match soon("the close", pair.here.closed()).await {
        Error::Closed { code, reason } => assert_eq!((code, reason.as_str()), (7, "gone fishing")),
        other => panic!("{other:?}"),
    }
    match pair.there.closed().await {
        Error::ClosedHere(reason) => assert_eq!(reason, "gone\nfishing"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_closed_endpoint_accepts_no_more() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    soon("the farewell", pair.listener.close("maintenance")).await;
    assert!(soon("the end", pair.listener.accept()).await.is_none());
    match soon("the close", pair.here.closed()).await {
        Error::Closed { reason, .. } => assert_eq!(reason, "maintenance"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_another_name_than_meant_is_refused_by_the_dialer() {
    let cluster = Cluster::new();
    let listener = cluster.listener(Plane::Peers);
    let dialer = cluster.dialer(Plane::Peers);
    let meant = Expect::Node("n3".to_owned());
    let refused = soon("the dial", dialer.connect(listener.local_address(), meant)).await;
    match refused {
        Err(Error::Identity(sentence)) => assert!(sentence.contains("n3"), "{sentence}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_an_error() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let whole = frame(&[1; 100]);
    for cut in [1, 15, 16, 17, 115] {
        let (mut writer, _keep) = pair.here.open().await.expect("a stream");
        writer.write(whole.clone()).await.expect("room");
        writer.write(whole.slice(..cut)).await.expect("room");
        writer.finish();
        let (_keep, mut reader) = soon("a stream", pair.there.accept())
            .await
            .expect("a stream");
        let first = soon("the whole frame", reader.next(MAX))
            .await
            .expect("a frame");
        assert_eq!(first.expect("not the end").payload, &[1; 100][..]);
        match soon("the end", reader.next(MAX)).await {
            Err(Error::Malformed(Malformed::Short { have, .. })) => assert_eq!(have, cut),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_cancelled_write_gives_the_stream_up() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    writer.write(frame(b"whole")).await.expect("room");
    let (_keep, mut reader) = soon("a stream", pair.there.accept())
        .await
        .expect("a stream");
    soon("a frame", reader.next(MAX))
        .await
        .expect("the first is whole");
    // Larger than the window, so that it cannot be written at once.
    let large = frame(&vec![0; 2 << 20]);
    {
        let mut write = std::pin::pin!(writer.write(large));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx)));
        assert!(polled.await.is_pending(), "it fits the window");
    }
    let more = soon("another write", writer.write(frame(b"more"))).await;
    assert!(more.is_err(), "in the middle of a frame");
    match soon("the end", reader.next(2 << 20)).await {
        Err(Error::StreamEnded { code }) => assert_eq!(code, 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_that_stops_is_told_to_the_writer() {
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    writer.write(frame(b"first")).await.expect("room");
    let (_keep, mut reader) = soon("a stream", pair.there.accept())
        .await
        .expect("a stream");
    reader.stop(9);
    soon("the stop", writer.stopped()).await;
    match writer.write(frame(b"second")).await {
        Err(Error::StreamEnded { code }) => assert_eq!(code, 9),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_that_have_arrived_are_ready_without_waiting() {
    const FRAMES: usize = 1_000;
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    let mut pieces: Vec<Bytes> = (0..FRAMES).map(|at| frame(&at.to_le_bytes())).collect();
    writer.write_all(&mut pieces).await.expect("room");
    writer.finish();
    let (_keep, mut reader) = soon("a stream", pair.there.accept())
        .await
        .expect("a stream");
    let (mut seen, mut waits) = (0_usize, 0);
    while let Some(first) = soon("a frame", reader.next(MAX)).await.expect("a frame") {
        waits += 1;
        let mut next = Some(first);
        while let Some(frame) = next {
            assert_eq!(frame.payload, &seen.to_le_bytes()[..]);
            seen += 1;
            next = reader.ready(MAX).expect("a frame");
        }
    }
    assert_eq!(seen, FRAMES);
    assert!(waits < FRAMES / 10, "{waits} waits for {FRAMES} frames");
}

#[tokio::test]
async fn reading_may_be_cancelled_at_any_point() {
    const FRAMES: usize = 200;
    let pair = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, _keep) = pair.here.open().await.expect("a stream");
    let write = async {
        for at in 0..FRAMES {
            let bytes = frame(&vec![at as u8; 10_000]);
            writer.write(bytes).await.expect("room");
        }
        writer.finish();
    };
    let read = async {
        let (_keep, mut reader) = pair.there.accept().await.expect("a stream");
        let mut seen = 0;
        loop {
            // Given up as soon as it has to wait, and begun anew.
            let next = tokio::select! {
                biased;
                next = reader.next(MAX) => next.expect("a frame"),
                () = tokio::task::yield_now() => continue,
            };
            let Some(frame) = next else { break };
            assert!(frame.payload == vec![seen as u8; 10_000], "frame {seen}");
            seen += 1;
        }
        assert_eq!(seen, FRAMES);
    };
    soon("all frames", async { tokio::join!(write, read) }).await;
}

#[tokio::test]
async fn a_connection_lives_as_long_as_one_of_its_streams() {
    let Pair { here, there, .. } = Cluster::new().pair(Plane::Clients).await;
    let (mut writer, reader) = here.open().await.expect("a stream");
    drop(here);
    writer.write(frame(b"still here")).await.expect("room");
    let (_keep, mut reads) = soon("a stream", there.accept()).await.expect("a stream");
    soon("a frame", reads.next(MAX)).await.expect("a frame");
    drop((writer, reader));
    match soon("the end", there.closed()).await {
        Error::Closed { code, .. } => assert_eq!(code, 0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn peers_open_streams_in_both_directions() {
    let pair = Cluster::new().pair(Plane::Peers).await;
    for (opens, accepts) in [(&pair.here, &pair.there), (&pair.there, &pair.here)] {
        let (mut writer, _keep) = soon("a stream", opens.open()).await.expect("a stream");
        writer.write(frame(b"hello")).await.expect("room");
        let (_keep, mut reader) = soon("a stream", accepts.accept()).await.expect("a stream");
        let got = soon("a frame", reader.next(MAX)).await.expect("a frame");
        assert_eq!(got.expect("not the end").payload, &b"hello"[..]);
    }
}
