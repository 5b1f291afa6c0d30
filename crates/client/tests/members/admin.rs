//! Connecting and administering: what works, and what the errors say.

use std::time::{Duration, Instant};

use kontiki_client::{AdminError, Client, ConnectError, ConnectOptions, TopicName, TopicSettings};
use kontiki_transport::Authority;
use kontiki_wire::ClusterId;

use crate::stage::{Stage, record, soon};

fn name(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn settings() -> TopicSettings {
    TopicSettings::default()
}

#[tokio::test]
async fn topics_are_made_listed_described_and_deleted() {
    let stage = Stage::start(3);
    let admin = stage.client().await.admin();
    let made = soon(admin.create_topic(&name("b"), settings()))
        .await
        .unwrap();
    assert_eq!(made.name, name("b"));
    let error = soon(admin.create_topic(&name("b"), settings())).await;
    assert!(matches!(error, Err(AdminError::TopicExists { .. })));
    let there = soon(admin.ensure_topic(&name("b"), settings()))
        .await
        .unwrap();
    assert_eq!(there, made);
    soon(admin.ensure_topic(&name("a"), settings()))
        .await
        .unwrap();
    let names: Vec<_> = soon(admin.list_topics()).await.unwrap();
    let names: Vec<_> = names.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "t"]);
    let described = soon(admin.describe_topic(&name("b"))).await.unwrap();
    assert_eq!(described.leader.as_deref(), Some("n1"));
    soon(admin.delete_topic(&name("b"))).await.unwrap();
    for error in [
        soon(admin.delete_topic(&name("b"))).await.err(),
        soon(admin.describe_topic(&name("b"))).await.err(),
    ] {
        let error = error.expect("it was deleted");
        assert!(matches!(error, AdminError::NoSuchTopic { .. }), "{error}");
    }
}

#[tokio::test]
async fn leadership_is_handed_over_by_whoever_has_it() {
    let stage = Stage::start(3);
    let admin = stage.client().await.admin();
    soon(admin.transfer_leader(Some(&name("t")), "n3"))
        .await
        .unwrap();
    soon(admin.transfer_leader(Some(&name("t")), "n2"))
        .await
        .unwrap();
    assert_eq!(
        stage.shared.with(|state| state.topic("t").leader.clone()),
        Some("n2".to_owned())
    );
    let error = soon(admin.transfer_leader(Some(&name("t")), "n9")).await;
    let Err(AdminError::NoSuchMember { known, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(known, ["n1", "n2", "n3"]);
}

#[tokio::test]
async fn status_joins_all_members_and_names_the_one_that_is_down() {
    let mut stage = Stage::start(3);
    let admin = stage.client().await.admin();
    let status = soon(admin.status()).await.unwrap();
    assert!(status.healthy, "{:?}", status.reasons);
    assert_eq!(status.members.len(), 3);
    assert_eq!(status.leader.as_deref(), Some("n3"));
    assert_eq!(status.topics[0].leader.as_deref(), Some("n1"));

    stage.kill("n2");
    let begun = Instant::now();
    let status = soon(admin.status()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!status.healthy);
    let states: Vec<_> = status.members.iter().map(|m| m.state.as_str()).collect();
    assert_eq!(states, ["up", "down", "up"]);
    assert!(status.reasons[0].starts_with("member n2 does not answer"));
}

#[tokio::test]
async fn one_address_that_answers_is_enough_to_find_the_others() {
    let mut stage = Stage::start(3);
    let client = Client::connect(stage.options_by("n2")).await.unwrap();
    stage.kill("n2");
    let begun = Instant::now();
    let topics = soon(client.admin().list_topics()).await.unwrap();
    assert_eq!(topics.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn members_of_an_earlier_build_are_asked_for_all_they_know() {
    let stage = Stage::start(3);
    stage.shared.with(|state| state.earlier_build = true);
    let client = stage.client().await;
    stage.elect("n3");
    let producer = client.topic("t").unwrap().producer();
    soon(producer.append(record("a"))).await.unwrap();
}

#[tokio::test]
async fn member_without_an_answer_is_not_waited_for() {
    let stage = Stage::start(3);
    let client = stage.client().await;
    stage.shared.with(|state| state.mute.push("n1".to_owned()));
    let begun = Instant::now();
    for _ in 0..5 {
        soon(client.admin().list_topics()).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn cluster_that_cannot_be_reached_is_an_error_within_the_deadline() {
    let mut stage = Stage::start(1);
    let options = stage.options().deadline(Duration::from_millis(300));
    stage.kill("n1");
    let begun = Instant::now();
    let error = soon(Client::connect(options.clone())).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.is_retryable());

    // Without dialling it can be made, and fails when it is used; or works when somebody is there.
    let client = Client::lazy(options).unwrap();
    let error = soon(client.admin().list_topics()).await.unwrap_err();
    assert!(matches!(error, AdminError::Unavailable { .. }), "{error}");
    assert!(error.has_no_side_effects());
    stage.restart("n1");
    let mut listed = client.admin().list_topics().await;
    while listed.is_err() {
        listed = client.admin().list_topics().await;
    }
    assert_eq!(listed.unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_certificates_are_named_before_or_at_the_first_contact() {
    let stage = Stage::start(1);
    let connect = |options: ConnectOptions| soon(Client::connect(options));

    let other = stage.options().cluster_id(ClusterId(0xcd));
    let error = connect(other).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::OtherCluster { .. }),
        "{error}"
    );

    let none = stage.options().identity_pem("", "");
    let error = connect(none).await.unwrap_err();
    assert!(matches!(error, ConnectError::Credentials { .. }), "{error}");

    let stranger = Authority::new("strangers", Duration::from_secs(60)).unwrap();
    let untrusted = stage
        .options()
        .ca_pem(stranger.certificate_pem())
        .deadline(Duration::from_millis(500));
    let error = connect(untrusted).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn client_without_a_runtime_is_an_error() {
    let stage = Stage::start(1);
    let error = Client::lazy(stage.options()).unwrap_err();
    assert!(matches!(error, ConnectError::NoRuntime), "{error}");
}
