//! The bound, the batches that come out, lingering and flushing.

use std::future::Future;

use bytes::Bytes;
use kontiki_wire::{Header, limits::BATCH_BYTES_MAX};
use tokio::time::{advance, pause, timeout};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

fn record(bytes: usize) -> Record {
    Record {
        value: Bytes::from(vec![7; bytes]),
        ..Record::default()
    }
}

fn taken(buffer: &Buffer) -> Option<Gathered> {
    match buffer.take(Instant::now(), 0) {
        Taken::Batch(gathered) => Some(*gathered),
        Taken::Lingers(_) | Taken::Nothing => None,
    }
}

fn settle(buffer: &Buffer, gathered: &Gathered) {
    buffer.settle(gathered.charged, gathered.serial, None);
}

async fn is_pending(future: impl Future) -> bool {
    timeout(MOMENT, future).await.is_err()
}

#[tokio::test(flavor = "current_thread")]
async fn records_come_out_in_order_in_batches_of_the_size_that_was_asked_for() {
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(1_000));
    for _ in 0..25 {
        drop(buffer.submit(record(100)).await.unwrap());
    }
    let batches: Vec<_> = std::iter::from_fn(|| taken(&buffer)).collect();
    let counts: Vec<_> = batches.iter().map(|batch| batch.builder.count()).collect();
    assert_eq!(counts, [9, 9, 7]);
    let serials: Vec<_> = batches.iter().map(|batch| batch.serial.0).collect();
    assert_eq!(serials, [1, 2, 3]);
}

#[tokio::test(flavor = "current_thread")]
async fn record_that_does_not_fit_begins_the_next_batch() {
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(BATCH_BYTES_MAX));
    drop(buffer.submit(record(1 << 20)).await.unwrap());
    drop(buffer.submit(record(1 << 20)).await.unwrap());
    let counts: Vec<_> = std::iter::from_fn(|| taken(&buffer))
        .map(|batch| batch.builder.count())
        .collect();
    assert_eq!(counts, [1, 1]);
}

#[tokio::test(flavor = "current_thread")]
async fn full_buffer_makes_submit_wait_and_try_submit_fail_until_there_is_room() {
    pause();
    let buffer = Buffer::new(ProducerConfig::default().buffer_bytes(BATCH_BYTES_MAX));
    let mut submitted = 0;
    while buffer.try_submit(record(100_000)).is_ok() {
        submitted += 1;
    }
    assert_eq!(submitted, BATCH_BYTES_MAX / 100_000);
    assert!(matches!(
        buffer.try_submit(record(100_000)),
        Err(AppendError::BufferFull)
    ));
    assert!(is_pending(buffer.submit(record(100_000))).await);
    let first = taken(&buffer).unwrap();
    assert!(
        is_pending(buffer.submit(record(100_000))).await,
        "on its way"
    );
    settle(&buffer, &first);
    drop(buffer.submit(record(100_000)).await.unwrap());
    // What was given up while it waited has taken no room and submitted nothing.
    let left: u32 = std::iter::from_fn(|| taken(&buffer))
        .map(|batch| batch.builder.count())
        .sum();
    assert_eq!(
        left as usize,
        submitted + 1 - first.builder.count() as usize
    );
}

#[tokio::test(flavor = "current_thread")]
async fn record_beyond_the_bounds_is_refused_and_takes_no_room() {
    let buffer = Buffer::new(ProducerConfig::default());
    let room = buffer.room.available_permits();
    let mut too_long = record(10);
    too_long.headers.push(Header {
        name: "n".repeat(9_000),
        value: Bytes::new(),
    });
    for refused in [too_long, record((1 << 20) + 1), record(1 << 25)] {
        assert!(matches!(
            buffer.try_submit(refused),
            Err(AppendError::Refused(_))
        ));
    }
    assert_eq!(buffer.room.available_permits(), room);
    assert!(!buffer.has_waiting());
    buffer.flush().await.unwrap();
    drop(buffer.submit(record(1 << 20)).await.unwrap());
    assert_eq!(taken(&buffer).unwrap().builder.count(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn batch_lingers_until_its_time_or_until_it_is_full_or_flushed() {
    pause();
    let linger = Duration::from_millis(5);
    let config = ProducerConfig::default().linger(linger).batch_bytes(1_000);
    let buffer = Buffer::new(config);
    drop(buffer.submit(record(10)).await.unwrap());
    assert!(matches!(buffer.take(Instant::now(), 0), Taken::Lingers(_)));
    advance(linger).await;
    assert!(taken(&buffer).is_some());

    drop(buffer.submit(record(10)).await.unwrap());
    assert!(taken(&buffer).is_none());
    drop(buffer.submit(record(2_000)).await.unwrap());
    assert!(taken(&buffer).is_some(), "full");

    drop(buffer.submit(record(10)).await.unwrap());
    assert!(taken(&buffer).is_none());
    assert!(is_pending(buffer.flush()).await);
    assert!(taken(&buffer).is_some(), "flushed");
}

#[tokio::test(flavor = "current_thread")]
async fn batch_behind_two_others_gathers_for_a_moment_or_until_it_is_full_or_flushed() {
    pause();
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(1_000));
    let taken = |ahead| matches!(buffer.take(Instant::now(), ahead), Taken::Batch(_));
    let put = async |bytes| drop(buffer.submit(record(bytes)).await.unwrap());
    put(10).await;
    assert!(taken(1), "one is on its way");
    put(10).await;
    assert!(!taken(2), "two are");
    assert!(taken(1), "one of them has come back");
    put(10).await;
    assert!(!taken(2));
    advance(GATHERING_MAX).await;
    assert!(taken(2), "it has waited");
    put(10).await;
    put(2_000).await;
    assert!(taken(2), "it is full");
    put(10).await;
    assert!(is_pending(buffer.flush()).await);
    assert!(taken(2), "flushed");

    let at_once = Buffer::new(ProducerConfig::default().linger(Duration::ZERO));
    drop(at_once.submit(record(10)).await.unwrap());
    assert!(matches!(at_once.take(Instant::now(), 2), Taken::Batch(_)));
}

#[tokio::test(flavor = "current_thread")]
async fn sender_is_told_of_the_first_record_it_waits_for() {
    pause();
    let buffer = Buffer::new(ProducerConfig::default());
    assert!(!buffer.has_waiting());
    assert!(is_pending(buffer.worked()).await);
    drop(buffer.submit(record(10)).await.unwrap());
    assert!(!is_pending(buffer.worked()).await);
    drop(buffer.submit(record(10)).await.unwrap());
    assert!(is_pending(buffer.worked()).await, "it was told already");
}

#[tokio::test(flavor = "current_thread")]
async fn flush_waits_for_what_came_before_and_for_nothing_later() {
    pause();
    let buffer = Buffer::new(ProducerConfig::default());
    buffer.flush().await.unwrap();
    drop(buffer.submit(record(10)).await.unwrap());
    let first = taken(&buffer).unwrap();
    assert!(is_pending(buffer.flush()).await);
    let flush = buffer.flush();
    tokio::pin!(flush);
    assert!(timeout(MOMENT, &mut flush).await.is_err());
    drop(buffer.submit(record(10)).await.unwrap());
    settle(&buffer, &first);
    assert!(timeout(MOMENT, flush).await.is_ok());
    assert!(
        is_pending(buffer.flush()).await,
        "the second is not settled"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn flush_reports_the_first_failure_since_the_last_once() {
    let buffer = Buffer::new(ProducerConfig::default());
    drop(buffer.submit(record(10)).await.unwrap());
    let batch = taken(&buffer).unwrap();
    buffer.settle(batch.charged, batch.serial, Some(AppendError::BufferFull));
    buffer.settle(0, batch.serial, Some(AppendError::Closed));
    assert!(matches!(buffer.flush().await, Err(AppendError::BufferFull)));
    buffer.flush().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn ended_buffer_takes_nothing_more_and_keeps_what_it_has() {
    pause();
    let config = ProducerConfig::default().buffer_bytes(BATCH_BYTES_MAX);
    let buffer = Arc::new(Buffer::new(config.linger(Duration::from_secs(1))));
    drop(buffer.submit(record(1 << 20)).await.unwrap());
    let waiting = tokio::spawn({
        let buffer = Arc::clone(&buffer);
        async move { buffer.submit(record(1 << 20)).await }
    });
    tokio::task::yield_now().await;
    buffer.end();
    assert!(matches!(waiting.await.unwrap(), Err(AppendError::Closed)));
    assert!(matches!(
        buffer.try_submit(record(1)),
        Err(AppendError::Closed)
    ));
    assert!(taken(&buffer).is_some(), "it does not linger any more");
}

#[tokio::test(flavor = "current_thread")]
async fn only_what_was_begun_by_then_expires() {
    pause();
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(10));
    drop(buffer.submit(record(10)).await.unwrap());
    let then = Instant::now();
    advance(MOMENT).await;
    drop(buffer.submit(record(10)).await.unwrap());
    assert_eq!(buffer.waiting_since(), Some(then));
    assert!(buffer.take_begun_by(then - MOMENT).is_none());
    assert_eq!(buffer.take_begun_by(then).unwrap().serial, Serial(1));
    assert!(buffer.take_begun_by(then).is_none());
    assert_eq!(buffer.waiting_since(), Some(then + MOMENT));
}

#[tokio::test(flavor = "current_thread")]
async fn room_for_a_full_batch_outlives_small_ones_between_but_not_many_in_a_row() {
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(BATCH_BYTES_MAX));
    let room = |bytes| {
        drop(buffer.try_submit(record(bytes)).unwrap());
        settle(&buffer, &taken(&buffer).unwrap());
        buffer.lock().capacity
    };
    let full = room(100_000);
    assert!(full >= 100_000);
    for _ in 0..2 {
        for _ in 1..SMALL_MAX {
            assert_eq!(room(1), full);
        }
        assert_eq!(room(60_000), full);
    }
    for _ in 1..SMALL_MAX {
        assert_eq!(room(1), full);
    }
    assert_eq!(room(1), full / 2);
    for _ in 0..20 * SMALL_MAX {
        room(1);
    }
    assert_eq!(buffer.lock().capacity, CAPACITY_MIN);
}

#[tokio::test(flavor = "current_thread")]
async fn one_huge_record_makes_no_room_for_others_in_small_batches() {
    let buffer = Buffer::new(ProducerConfig::default().batch_bytes(10_000));
    drop(buffer.try_submit(record(1 << 20)).unwrap());
    settle(&buffer, &taken(&buffer).unwrap());
    assert_eq!(buffer.lock().room(100, 10_000), 10_100);
}
