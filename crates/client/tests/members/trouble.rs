//! Appending when it does not go well: every way to lose an answer, a member, or a leader.

use std::time::{Duration, Instant};

use kontiki_client::{AppendError, Producer, ProducerConfig};
use kontiki_wire::{Offset, Refusal};

use crate::stage::{Act, Stage, record, soon};

/// One record is one batch.
fn single() -> ProducerConfig {
    ProducerConfig::new().batch_bytes(1)
}

fn impatient(timeout: Duration) -> ProducerConfig {
    single().delivery_timeout(timeout)
}

async fn producer(stage: &Stage, config: ProducerConfig) -> Producer {
    let topic = stage.client().await.topic("t").unwrap();
    topic.producer_with(config).unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:05}")).collect()
}

/// Appends all these and checks that each is acknowledged at its own place.
async fn append_all(producer: &Producer, names: &[String]) {
    let mut tickets = Vec::new();
    for name in names {
        tickets.push(producer.submit(record(name)).await.unwrap());
    }
    for (offset, ticket) in tickets.into_iter().enumerate() {
        let appended = soon(ticket).await.unwrap();
        assert_eq!(appended.offset, Offset(offset as u64));
    }
}

#[tokio::test]
async fn whatever_befalls_batches_they_end_up_once_in_order_where_they_were_acknowledged() {
    let stage = Stage::start(1);
    let busy = || Act::Refuse(Refusal::Busy);
    let away = || Act::Refuse(Refusal::NotLeader { leader: None });
    stage.shared.with(|state| {
        state.script = [
            Act::Take,
            Act::TakeAndHangUp,
            Act::Take,
            busy(),
            Act::TakeUnknown,
            Act::HangUp,
            Act::Take,
            Act::Refuse(Refusal::Unknown),
            away(),
            busy(),
            busy(),
            Act::Confuse,
            Act::TakeAndHangUp,
            Act::TakeUnknown,
        ]
        .into();
    });
    let producer = producer(&stage, single()).await;
    append_all(&producer, &names(40)).await;
    assert_eq!(stage.values(), names(40));
    assert!(stage.shared.with(|state| state.script.is_empty()));
    let epochs: Vec<_> = stage.seen().iter().map(|seen| seen.header.epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch == 0), "nothing failed");
}

#[tokio::test]
async fn batch_whose_answer_was_lost_is_sent_again_with_its_sequence_and_not_doubled() {
    let stage = Stage::start(1);
    stage
        .shared
        .with(|state| state.script = [Act::TakeAndHangUp].into());
    let producer = producer(&stage, single()).await;
    let appended = soon(producer.append(record("a"))).await.unwrap();
    assert_eq!(appended.offset, Offset(0));
    assert_eq!(stage.values(), ["a"]);
    let seen = stage.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header, seen[1].header);
}

#[tokio::test]
async fn member_that_does_not_lead_sends_the_producer_to_the_one_that_does() {
    let stage = Stage::start(3);
    let producer = producer(&stage, single()).await;
    soon(producer.append(record("a"))).await.unwrap();
    stage.elect("n3");
    let begun = Instant::now();
    soon(producer.append(record("b"))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    let members: Vec<_> = stage.seen().into_iter().map(|seen| seen.member).collect();
    assert_eq!(members, ["n1", "n1", "n3"]);
    assert_eq!(stage.values(), ["a", "b"]);
}

#[tokio::test]
async fn killed_leader_costs_a_fraction_of_a_second() {
    let mut stage = Stage::start(3);
    let producer = producer(&stage, single()).await;
    soon(producer.append(record("a"))).await.unwrap();
    stage.kill("n1");
    stage.elect("n2");
    let begun = Instant::now();
    let appended = soon(producer.append(record("b"))).await.unwrap();
    let took = begun.elapsed();
    println!("next acknowledgement after {took:?}");
    // Far less than QUIC takes to notice; the machine may be busy.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(appended.offset, Offset(1));
    assert_eq!(stage.values(), ["a", "b"]);
}

#[tokio::test]
async fn frozen_leader_is_left_for_its_successor_and_nothing_is_doubled() {
    let stage = Stage::start(3);
    stage
        .shared
        .with(|state| state.script = [Act::Take, Act::TakeInSilence].into());
    let producer = producer(&stage, single()).await;
    soon(producer.append(record("a"))).await.unwrap();
    let ticket = producer.submit(record("b")).await.unwrap();
    soon(stage.shared.until(|state| state.script.is_empty())).await;
    stage.shared.with(|state| state.mute.push("n1".to_owned()));
    stage.elect("n2");
    assert_eq!(soon(ticket).await.unwrap().offset, Offset(1));
    assert_eq!(stage.values(), ["a", "b"]);
}

/// A cluster with too much to do got handshakes to do as well, of every client whose leader was slow.
#[tokio::test]
async fn members_that_are_not_connected_are_not_dialled_where_another_can_tell_who_leads() {
    let mut dialled = Vec::new();
    // On a machine that stands still for a moment the other one answers too late.
    for _ in 0..5 {
        let stage = Stage::start(3);
        stage.shared.with(|state| state.make("u", "n2"));
        let client = stage.client().await;
        let there = client.topic("u").unwrap().producer();
        soon(there.append(record("n2 is connected"))).await.unwrap();
        let producer = client.topic("t").unwrap().producer();
        soon(producer.append(record("a"))).await.unwrap();
        stage.shared.with(|state| state.held = true);
        let late = producer.submit(record("b")).await.unwrap();
        let asked = stage.shared.with(|state| state.asked);
        soon(stage.shared.until(|state| state.asked >= asked + 2)).await;
        stage.elect("n2");
        stage.shared.with(|state| state.held = false);
        soon(late).await.unwrap();
        dialled.push(stage.shared.with(|state| state.connections));
        if dialled.ends_with(&[2]) {
            return;
        }
    }
    panic!("members that were connected: {dialled:?}");
}

#[tokio::test]
async fn members_that_are_not_connected_are_dialled_at_once_where_the_others_do_not_keep_the_topic()
{
    let mut took = Vec::new();
    for _ in 0..5 {
        let stage = Stage::start(4);
        stage.shared.with(|state| {
            state.make("u", "n4");
            state.topic("t").keepers = Some(["n1", "n2", "n3"].map(str::to_owned).into());
        });
        let client = stage.client().await;
        let producer = client.topic("t").unwrap().producer();
        soon(producer.append(record("a"))).await.unwrap();
        let there = client.topic("u").unwrap().producer();
        soon(there.append(record("n4 is connected"))).await.unwrap();
        if stage.shared.with(|state| state.connections) > 2 {
            // Something took long, and others were asked.
            continue;
        }
        stage.shared.with(|state| state.held = true);
        let held_at = Instant::now();
        let late = producer.submit(record("b")).await.unwrap();
        soon(stage.shared.until(|state| state.connections >= 4)).await;
        took.push(held_at.elapsed());
        stage.shared.with(|state| state.held = false);
        soon(late).await.unwrap();
        // Sooner than they would be anyhow.
        if took.last() < Some(&Duration::from_millis(350)) {
            return;
        }
    }
    panic!("it was waited for who cannot know: {took:?}");
}

#[tokio::test]
async fn producer_finds_a_leader_that_was_killed_and_came_back() {
    let mut stage = Stage::start(1);
    let producer = producer(&stage, single()).await;
    soon(producer.append(record("a"))).await.unwrap();
    stage.kill("n1");
    let ticket = producer.submit(record("b")).await.unwrap();
    stage.restart("n1");
    assert_eq!(soon(ticket).await.unwrap().offset, Offset(1));
    assert_eq!(stage.values(), ["a", "b"]);
}

#[tokio::test]
async fn record_that_was_never_taken_by_anybody_fails_without_side_effects() {
    let stage = Stage::start(2);
    stage.shared.with(|state| state.topic("t").leader = None);
    let producer = producer(&stage, impatient(Duration::from_secs(1))).await;
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(matches!(error, AppendError::NotAppended { .. }), "{error}");
    assert!(error.is_retryable() && error.has_no_side_effects());
    stage.elect("n2");
    soon(producer.append(record("b"))).await.unwrap();
    assert_eq!(stage.values(), ["b"]);
}

#[tokio::test]
async fn record_that_was_refused_to_the_end_fails_without_side_effects() {
    let stage = Stage::start(1);
    stage
        .shared
        .with(|state| state.script = vec![Act::Refuse(Refusal::Busy); 1_000].into());
    let producer = producer(&stage, impatient(Duration::from_secs(1))).await;
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(matches!(error, AppendError::NotAppended { .. }), "{error}");
    assert!(error.to_string().contains("waiting"), "says why: {error}");
}

#[tokio::test]
async fn record_without_an_answer_fails_as_ambiguous_and_the_next_goes_on_in_another_epoch() {
    let stage = Stage::start(1);
    stage
        .shared
        .with(|state| state.script = [Act::TakeInSilence].into());
    let producer = producer(&stage, impatient(Duration::from_secs(1))).await;
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(matches!(error, AppendError::Ambiguous { .. }), "{error}");
    assert!(!error.has_no_side_effects());
    let appended = soon(producer.append(record("b"))).await.unwrap();
    assert_eq!(appended.offset, Offset(1), "the first did happen");
    let last = stage.seen().last().unwrap().header;
    assert_eq!((last.epoch, last.sequence), (1, 0));
    assert_eq!(stage.values(), ["a", "b"]);
    let failure = soon(producer.flush()).await.unwrap_err();
    assert!(
        matches!(failure, AppendError::Ambiguous { .. }),
        "{failure}"
    );
    soon(producer.flush()).await.unwrap();
}

#[tokio::test]
async fn producer_that_the_topic_has_forgotten_goes_on_by_itself() {
    let stage = Stage::start(1);
    let producer = producer(&stage, single()).await;
    append_all(&producer, &names(3)).await;
    stage
        .shared
        .with(|state| state.topic("t").forget_producers());
    let appended = soon(producer.append(record("later"))).await.unwrap();
    assert_eq!(appended.offset, Offset(3));
    assert_eq!(stage.values().last().unwrap(), "later");
}

#[tokio::test]
async fn bearer_of_the_wrong_certificate_is_told_at_once() {
    let stage = Stage::start(1);
    let what = "a consumer may not append".to_owned();
    let refusal = Refusal::NotPermitted { what };
    stage
        .shared
        .with(|state| state.refusing.insert("n1".to_owned(), refusal));
    let producer = producer(&stage, single()).await;
    let begun = Instant::now();
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(matches!(error, AppendError::NotPermitted { .. }), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn producer_of_an_epoch_before_appends_nothing_in_the_next() {
    let stage = Stage::start(1);
    let producer = producer(&stage, single()).await;
    soon(producer.append(record("a"))).await.unwrap();
    stage.shared.with(|state| {
        let recovered = Refusal::Recovered { epoch: 1 };
        state.refusing.insert("n1".to_owned(), recovered);
        state.script = [Act::HangUp].into();
    });
    for _ in 0..2 {
        let error = soon(producer.append(record("b"))).await.unwrap_err();
        match &error {
            AppendError::Recovered { epoch: 1, .. } => assert!(error.has_no_side_effects()),
            // What was on its way when the stream ended may be there.
            AppendError::Ambiguous { .. } => {}
            _ => panic!("{error}"),
        }
        assert!(!error.is_retryable() || !error.has_no_side_effects());
    }
    assert_eq!(stage.values(), ["a"]);
}

#[tokio::test]
async fn batch_that_the_cluster_rejects_fails_and_those_behind_it_do_not() {
    let stage = Stage::start(1);
    let what = "a batch".to_owned();
    let refusal = Refusal::TooLarge { what, limit: 1 };
    stage
        .shared
        .with(|state| state.script = [Act::Refuse(refusal)].into());
    let producer = producer(&stage, single()).await;
    let first = producer.submit(record("a")).await.unwrap();
    let second = producer.submit(record("b")).await.unwrap();
    let error = soon(first).await.unwrap_err();
    assert!(matches!(error, AppendError::Rejected { .. }), "{error}");
    soon(second).await.unwrap();
    assert_eq!(stage.values(), ["b"]);
}

#[tokio::test]
async fn leader_that_is_no_member_is_not_looked_for_without_pause() {
    let stage = Stage::start(2);
    let producer = producer(&stage, impatient(Duration::from_millis(500))).await;
    stage.elect("n9");
    let error = soon(producer.append(record("a"))).await.unwrap_err();
    assert!(error.has_no_side_effects(), "{error}");
    let asked = stage.shared.with(|state| state.asked);
    assert!(asked < 100, "{asked} requests in half a second");
}

#[tokio::test]
async fn members_that_name_each_other_are_not_asked_without_pause() {
    let stage = Stage::start(2);
    let producer = producer(&stage, impatient(Duration::from_millis(500))).await;
    let refused = (0..1_000).map(|number| {
        let leader = Some(format!("n{}", 2 - number % 2));
        Act::Refuse(Refusal::NotLeader { leader })
    });
    stage.shared.with(|state| state.script = refused.collect());
    assert!(soon(producer.append(record("a"))).await.is_err());
    let attempts = stage.seen().len();
    assert!((1..60).contains(&attempts), "{attempts} in half a second");
}
