//! Appending when all goes well: order, pipelining, room, flushing, closing, cancelling.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kontiki_client::{AppendError, ProducerConfig};
use kontiki_wire::Offset;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage, record, soon};

/// One record is one batch.
fn single() -> ProducerConfig {
    ProducerConfig::new().batch_bytes(1)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:05}")).collect()
}

#[tokio::test]
async fn records_are_acknowledged_at_dense_offsets_in_the_order_they_were_submitted_in() {
    let stage = Stage::start(1);
    let producer = stage.client().await.topic("t").unwrap().producer();
    let names = names(2_000);
    let mut tickets = Vec::new();
    for name in &names {
        tickets.push(producer.submit(record(name)).await.unwrap());
    }
    for (offset, ticket) in tickets.into_iter().enumerate() {
        let appended = soon(ticket).await.unwrap();
        assert_eq!(appended.offset, Offset(offset as u64));
    }
    assert_eq!(stage.values(), names);
    let batches = stage.seen().len();
    assert!(batches < 500, "records gather into batches, not {batches}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_on_several_threads_share_an_order_and_lose_nothing() {
    let stage = Stage::start(1);
    let producer = stage.client().await.topic("t").unwrap().producer();
    let mut tasks = Vec::new();
    for task in 0..4 {
        let producer = producer.clone();
        tasks.push(tokio::spawn(async move {
            let mut last = None;
            for number in 0..100 {
                let name = format!("{task}-{number:03}");
                let appended = producer.append(record(&name)).await.unwrap();
                assert!(last < Some(appended.offset), "a task's own order");
                last = Some(appended.offset);
            }
        }));
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
    let values: BTreeSet<_> = stage.values().into_iter().collect();
    assert_eq!(values.len(), 400);
    assert_eq!(stage.values().len(), 400);
}

#[tokio::test]
async fn so_many_batches_are_on_their_way_as_are_allowed_and_no_more() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let topic = stage.client().await.topic("t").unwrap();
    let producer = topic.producer_with(single().in_flight_batches(4)).unwrap();
    let mut tickets = Vec::new();
    for name in names(20) {
        tickets.push(producer.submit(record(&name)).await.unwrap());
    }
    soon(stage.shared.until(|state| state.seen.len() >= 4)).await;
    // A fifth would come before an answer to a request that is asked after it was due.
    topic_is_known(&stage).await;
    assert_eq!(stage.seen().len(), 4);
    stage.shared.with(|state| state.held = false);
    for ticket in tickets {
        soon(ticket).await.unwrap();
    }
    let sequences: Vec<_> = stage
        .seen()
        .iter()
        .map(|seen| seen.header.sequence)
        .collect();
    assert_eq!(sequences, (0..20).collect::<Vec<_>>());
}

async fn topic_is_known(stage: &Stage) {
    let admin = stage.client().await.admin();
    let name = "t".parse().unwrap();
    soon(admin.describe_topic(&name)).await.unwrap();
}

#[tokio::test]
async fn full_buffer_is_felt_by_who_submits_and_is_bounded_by_its_bytes() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let topic = stage.client().await.topic("t").unwrap();
    let producer = topic
        .producer_with(ProducerConfig::new().buffer_bytes(2 << 20))
        .unwrap();
    let large = "x".repeat(100_000);
    let mut tickets = Vec::new();
    let full = loop {
        match producer.try_submit(record(&large)) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AppendError::BufferFull), "{full}");
    assert!(full.is_retryable() && full.has_no_side_effects());
    assert_eq!(tickets.len(), (2 << 20) / 100_000);

    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.submit(record("late")).await?.await }
    });
    // It waits until the first batch is acknowledged, and takes its turn then.
    stage.shared.with(|state| state.held = false);
    soon(waiting).await.unwrap().unwrap();
    for ticket in tickets {
        soon(ticket).await.unwrap();
    }
    assert_eq!(stage.values().last().unwrap(), "late");
}

#[tokio::test]
async fn flush_waits_for_everything_before_it() {
    let stage = Stage::start(1);
    let producer = stage.client().await.topic("t").unwrap().producer();
    for name in names(100) {
        drop(producer.submit(record(&name)).await.unwrap());
    }
    soon(producer.flush()).await.unwrap();
    assert_eq!(stage.values(), names(100));
}

#[tokio::test]
async fn closed_producer_has_sent_what_it_had_and_takes_no_more_from_any_clone() {
    let stage = Stage::start(1);
    let producer = stage.client().await.topic("t").unwrap().producer();
    let clone = producer.clone();
    drop(producer.submit(record("a")).await.unwrap());
    soon(producer.close()).await.unwrap();
    assert_eq!(stage.values(), ["a"]);
    assert!(matches!(
        soon(clone.append(record("b"))).await,
        Err(AppendError::Closed)
    ));
    soon(clone.close()).await.unwrap();
    assert_eq!(stage.values(), ["a"]);
}

#[tokio::test]
async fn dropped_producer_goes_on_with_what_was_submitted() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let topic = stage.client().await.topic("t").unwrap();
    let producer = topic.producer();
    drop(producer.submit(record("a")).await.unwrap());
    let kept = producer.submit(record("b")).await.unwrap();
    drop(producer);
    drop(topic);
    stage.shared.with(|state| state.held = false);
    soon(kept).await.unwrap();
    assert_eq!(stage.values(), ["a", "b"]);
}

#[tokio::test]
async fn giving_up_to_wait_changes_nothing_for_the_record() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let producer = stage.client().await.topic("t").unwrap().producer();
    let append = producer.append(record("a"));
    let short = Duration::from_millis(10);
    assert!(timeout(short, append).await.is_err());
    drop(producer.submit(record("b")).await.unwrap());
    stage.shared.with(|state| state.held = false);
    soon(producer.append(record("c"))).await.unwrap();
    assert_eq!(stage.values(), ["a", "b", "c"]);
}

#[tokio::test]
async fn lingering_batch_leaves_when_its_time_has_come() {
    let stage = Stage::start(1);
    let topic = stage.client().await.topic("t").unwrap();
    let config = ProducerConfig::new().linger(Duration::from_millis(30));
    let producer = topic.producer_with(config).unwrap();
    let first = producer.submit(record("a")).await.unwrap();
    tokio::task::yield_now().await;
    let second = producer.submit(record("b")).await.unwrap();
    soon(first).await.unwrap();
    soon(second).await.unwrap();
    assert_eq!(stage.seen().len(), 1, "both went together");
}

#[tokio::test]
async fn topic_is_made_on_first_use_where_that_is_the_way() {
    let stage = Stage::start(2);
    stage.shared.with(|state| state.auto_create = true);
    let producer = stage.client().await.topic("new").unwrap().producer();
    soon(producer.append(record("a"))).await.unwrap();
    assert_eq!(stage.shared.with(|state| state.values("new")), ["a"]);
}

#[tokio::test]
async fn unknown_topic_is_an_error_without_side_effects_where_it_is_not() {
    let stage = Stage::start(2);
    let producer = stage.client().await.topic("new").unwrap().producer();
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(matches!(error, AppendError::NoSuchTopic { .. }), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());
    // It is made meanwhile: the same producer goes on.
    stage.shared.with(|state| state.make("new", "n2"));
    soon(producer.append(record("b"))).await.unwrap();
    assert_eq!(stage.shared.with(|state| state.values("new")), ["b"]);
}

#[tokio::test]
async fn more_producers_than_one_connection_has_streams_for_all_get_through() {
    let stage = Stage::start(1);
    let topic = stage.client().await.topic("t").unwrap();
    let producers: Vec<_> = (0..120).map(|_| topic.producer()).collect();
    let mut tickets = Vec::new();
    for (producer, name) in producers.iter().zip(names(120)) {
        tickets.push(producer.submit(record(&name)).await.unwrap());
    }
    for ticket in tickets {
        soon(ticket).await.unwrap();
    }
    let values: BTreeSet<_> = stage.values().into_iter().collect();
    assert_eq!(values.len(), 120);
    let connections = stage.shared.with(|state| state.connections);
    assert!((3..=8).contains(&connections), "{connections}");
}

#[test]
fn runtime_that_goes_down_leaves_no_ticket_waiting() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let first = runtime().unwrap();
    let (sent, unsent, producer) = first.block_on(async {
        let topic = stage.client().await.topic("t").unwrap();
        let config = single().in_flight_batches(1);
        let producer = topic.producer_with(config).unwrap();
        let sent = producer.submit(record("a")).await.unwrap();
        soon(stage.shared.until(|state| state.seen.len() == 1)).await;
        let unsent = producer.submit(record("b")).await.unwrap();
        (sent, unsent, producer)
    });
    first.shutdown_timeout(PATIENCE);
    runtime().unwrap().block_on(async {
        let sent = soon(sent).await.unwrap_err();
        assert!(matches!(sent, AppendError::Ambiguous { .. }), "{sent}");
        let unsent = soon(unsent).await.unwrap_err();
        assert!(
            matches!(unsent, AppendError::NotAppended { .. }),
            "{unsent}"
        );
        let closed = soon(producer.append(record("c"))).await.unwrap_err();
        assert!(matches!(closed, AppendError::Closed), "{closed}");
    });
}

#[tokio::test]
async fn closed_client_fails_what_its_producers_still_have() {
    let stage = Stage::start(1);
    stage.shared.with(|state| state.held = true);
    let client = stage.client().await;
    let producer = client.topic("t").unwrap().producer();
    let ticket = producer.submit(record("a")).await.unwrap();
    soon(stage.shared.until(|state| state.seen.len() == 1)).await;
    soon(client.close()).await;
    let error = soon(ticket).await.unwrap_err();
    assert!(matches!(error, AppendError::Ambiguous { .. }), "{error}");
    let error = soon(producer.append(record("b"))).await.unwrap_err();
    assert!(matches!(error, AppendError::Closed), "{error}");
}

#[tokio::test]
async fn leader_is_found_by_who_knows_only_members_that_do_not_keep_the_topic() {
    let stage = Stage::start(4);
    stage.shared.with(|state| {
        let topic = state.topic("t");
        topic.leader = Some("n3".to_owned());
        // Nor does n4, which leads the cluster's own group.
        topic.keepers = Some(vec!["n2".to_owned(), "n3".to_owned()]);
    });
    // It is connected to n1, and asks it first.
    let client = stage.client().await;
    let producer = client.topic("t").unwrap().producer();
    let appended = soon(producer.append(record("a"))).await.unwrap();
    assert_eq!(appended.offset, Offset(0));
    let listed = soon(client.admin().list_topics()).await.unwrap();
    let [listed] = listed.as_slice() else {
        panic!("there is one topic: {listed:?}");
    };
    assert_eq!(listed.leader.as_deref(), Some("n3"));
    assert_eq!(listed.next, Offset(1));
    let admin = stage.client().await.admin();
    soon(admin.transfer_leader(Some(&listed.name), "n2"))
        .await
        .unwrap();
    let appended = soon(producer.append(record("b"))).await.unwrap();
    assert_eq!(appended.offset, Offset(1));
}

#[tokio::test]
async fn keeper_that_is_silent_holds_up_nobody_who_looks_for_the_leader() {
    let stage = Stage::start(4);
    stage.shared.with(|state| {
        state.mute.push("n3".to_owned());
        let topic = state.topic("t");
        topic.leader = None;
        topic.keepers = Some(vec!["n2".to_owned(), "n3".to_owned()]);
    });
    let client = stage.client().await;
    let producer = client.topic("t").unwrap().producer();
    let asked = || stage.shared.with(|state| state.asked);
    let appending = tokio::spawn(async move { producer.append(record("a")).await });
    // It looks again and again, though one of two who could know does not answer.
    let before = asked();
    let begun = Instant::now();
    stage.shared.until(|state| state.asked >= before + 12).await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    stage
        .shared
        .with(|state| state.topic("t").leader = Some("n2".to_owned()));
    soon(appending).await.unwrap().unwrap();
}

#[tokio::test]
async fn leader_is_found_where_every_answer_takes_longer_than_is_waited_for_at_a_time() {
    let stage = Stage::start(4);
    let client = stage.client().await;
    stage.shared.with(|state| {
        state.delay = Duration::from_millis(200);
        let topic = state.topic("t");
        topic.leader = Some("n3".to_owned());
        topic.keepers = Some(vec!["n2".to_owned(), "n3".to_owned()]);
    });
    let producer = client.topic("t").unwrap().producer();
    soon(producer.append(record("a"))).await.unwrap();
}

/// An answer that came too late had every connection made anew, which gave those who were slow more to do.
#[tokio::test]
async fn who_is_slow_but_lives_is_not_dialled_anew() {
    let stage = Stage::start(3);
    let client = stage.client().await;
    let topic = client.topic("t").unwrap();
    soon(topic.producer().append(record("a"))).await.unwrap();
    let slow = Duration::from_millis(700);
    stage.shared.with(|state| state.delay = slow);
    let ask = async || {
        let (admin, name) = (client.admin(), "t".parse().unwrap());
        // Whatever comes of it: each is asked, and answers too late.
        let _ = timeout(3 * slow, admin.describe_topic(&name)).await;
        stage.shared.with(|state| state.connections)
    };
    let all_know_it = ask().await;
    for _ in 0..3 {
        assert_eq!(ask().await, all_know_it);
    }
}
