//! Who may do what, over real connections.

use kontiki_transport::Role;
use kontiki_wire::{
    ClientStream, From, GroupId, Offset, Refusal, Request, Response, StreamEnd, TopicName,
    TopicSettings, Until,
};

use crate::{caller::Caller, cluster::Cluster};

async fn refused(caller: &Caller, request: Request) -> bool {
    let response = caller.request(request).await;
    matches!(response, Response::Refused(Refusal::NotPermitted { .. }))
}

fn create(name: &TopicName) -> Request {
    Request::CreateTopic {
        name: name.clone(),
        settings: TopicSettings::default(),
    }
}

fn delete(name: &TopicName) -> Request {
    Request::DeleteTopic { name: name.clone() }
}

#[tokio::test]
async fn producer_appends_and_does_not_read_or_administer() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let producer = cluster.client(0, Role::Producer, "p").await;
    let acknowledged = producer.produce(&topic).await.append(&["a"]).await.unwrap();
    assert_eq!(acknowledged.offset, Offset(0));

    let mut reading = producer.subscribe(&topic, From::Earliest, Until::End).await;
    let what = "a producer may not read".to_owned();
    let end = StreamEnd::Refused(Refusal::NotPermitted { what });
    assert_eq!(reading.rest().await, (Vec::new(), end));
    assert!(refused(&producer, create(&"u".parse().unwrap())).await);
    assert!(refused(&producer, delete(&topic)).await);
    assert!(refused(&producer, Request::Status).await);
    assert!(!refused(&producer, Request::Metadata).await);
    assert!(!refused(&producer, Request::Members).await);
}

#[tokio::test]
async fn consumer_reads_and_does_not_append_or_administer() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let consumer = cluster.client(0, Role::Consumer, "c").await;
    let mut appending = consumer.produce(&topic).await;
    let what = "a consumer may not append".to_owned();
    let end = StreamEnd::Refused(Refusal::NotPermitted { what });
    assert_eq!(appending.end().await, end);
    assert!(refused(&consumer, create(&"u".parse().unwrap())).await);
    assert!(refused(&consumer, delete(&topic)).await);
    let transfer = Request::TransferLeader {
        topic: None,
        to: "n1".to_owned(),
    };
    assert!(refused(&consumer, transfer).await);
    let mut reading = consumer.subscribe(&topic, From::Earliest, Until::End).await;
    assert_eq!(reading.rest().await, (Vec::new(), StreamEnd::Reached));
}

#[tokio::test]
async fn producer_makes_a_topic_only_where_first_use_makes_it() {
    let cluster = Cluster::start_with(1, true).await;
    cluster.create_topic("t").await;
    let producer = cluster.client(0, Role::Producer, "p").await;
    assert!(!refused(&producer, create(&"u".parse().unwrap())).await);
}

#[tokio::test]
async fn batch_for_an_unknown_topic_is_refused_and_the_stream_serves_once_it_is_made() {
    let cluster = Cluster::start(1).await;
    // Only where the cluster has a leader is it known what there is not.
    cluster.create_topic("other").await;
    let name: TopicName = "late".parse().unwrap();
    let operator = cluster.operator(0).await;
    let mut producer = operator.produce(&name).await;
    let refused = producer.append(&["a"]).await.unwrap_err();
    let name_asked = name.to_string();
    assert_eq!(refused.refusal, Refusal::NoSuchTopic { name: name_asked });

    cluster.create_topic("late").await;
    cluster.leader(&name).await;
    let mut again = operator.produce(&name).await;
    assert_eq!(again.append(&["b"]).await.unwrap().offset, Offset(0));
    let gap = producer.append(&["c"]).await.unwrap_err().refusal;
    assert!(matches!(gap, Refusal::SequenceGap { .. }), "{gap}");
}

#[tokio::test]
async fn subscription_to_an_unknown_topic_is_refused() {
    let cluster = Cluster::start(1).await;
    cluster.create_topic("somewhere").await;
    let operator = cluster.operator(0).await;
    let name: TopicName = "nowhere".parse().unwrap();
    let mut subscription = operator.subscribe(&name, From::Earliest, Until::End).await;
    let name = name.to_string();
    let end = StreamEnd::Refused(Refusal::NoSuchTopic { name });
    assert_eq!(subscription.rest().await, (Vec::new(), end));
}

#[tokio::test]
async fn subscription_to_a_deleted_topic_ends() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    let operator = cluster.operator(0).await;
    let mut subscription = operator
        .subscribe(&topic, From::Earliest, Until::Forever)
        .await;
    subscription
        .next()
        .await
        .expect("a sign of life comes at once");
    assert_eq!(operator.request(delete(&topic)).await, Response::Done);
    let (_, end) = subscription.rest().await;
    assert!(matches!(end, StreamEnd::Deleted { .. }), "{end:?}");
}

#[tokio::test]
async fn subscription_is_not_resumed_in_a_later_topic_of_the_same_name() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    let operator = cluster.operator(0).await;
    let group_of = |response| match response {
        Response::Topic(info) => info.group,
        other => panic!("{other:?}"),
    };
    let asked = Request::Topic {
        name: topic.clone(),
    };
    let first = group_of(operator.request(asked.clone()).await);
    assert_eq!(operator.request(delete(&topic)).await, Response::Done);
    cluster.create_topic("t").await;
    let second = group_of(operator.request(asked).await);
    assert!(second > first);

    let from = From::Offset(Offset(7));
    let mut resumed = operator
        .resume(&topic, Some(first), from, Until::Forever)
        .await;
    assert_eq!(resumed.rest().await.1, StreamEnd::Deleted { group: first });
    let mut meant = operator
        .resume(&topic, Some(second), from, Until::Forever)
        .await;
    meant.next().await.expect("a sign of life comes at once");
    let later = Some(GroupId(second.0 + 1));
    let mut early = operator.resume(&topic, later, from, Until::Forever).await;
    let (_, end) = early.rest().await;
    let StreamEnd::Refused(Refusal::Unavailable { .. }) = end else {
        panic!("{end:?}");
    };
}

#[tokio::test]
async fn frame_that_means_nothing_ends_its_stream_and_no_other() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("t").await;
    cluster.leader(&topic).await;
    let operator = cluster.operator(0).await;
    let mut honest = operator.produce(&topic).await;
    let (mut writer, mut reader) = operator.open(&ClientStream::Requests).await;
    let mut out = bytes::BytesMut::new();
    kontiki_wire::encode_frame(kontiki_wire::FrameKind::Request, &[0xff; 9], &mut out);
    writer.write(out.freeze()).await.unwrap();
    let frame = reader.next(1 << 20).await.unwrap().expect("an end");
    let end = StreamEnd::decode(&frame).unwrap();
    assert!(
        matches!(end, StreamEnd::Refused(Refusal::Malformed { .. })),
        "{end:?}"
    );
    assert!(honest.append(&["a"]).await.is_ok());
}
