//! What is appended is acknowledged, and read by anyone from any member.

use kontiki_wire::{From, Offset, StreamEnd, Until};

use crate::cluster::Cluster;

#[tokio::test]
async fn acknowledged_records_are_read_from_every_member() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("greetings").await;
    let leader = cluster.leader(&topic).await;
    let operator = cluster.operator(leader).await;
    let mut producer = operator.produce(&topic).await;

    let first = producer.append(&["a", "b"]).await.unwrap();
    let second = producer.append(&["c"]).await.unwrap();
    assert_eq!((first.offset, second.offset), (Offset(0), Offset(2)));
    assert!(first.time <= second.time);

    let expected: Vec<_> = ["a", "b", "c"].into_iter().map(str::to_owned).collect();
    for at in 0..3 {
        let reader = cluster.operator(at).await;
        let mut history = reader
            .subscribe(&topic, From::Earliest, Until::Forever)
            .await;
        let got = history.take(3).await;
        assert_eq!(
            got.iter().map(|(at, _)| at.0).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(
            got.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            expected
        );
    }
    let mut bounded = operator
        .subscribe(&topic, From::Offset(Offset(1)), Until::End)
        .await;
    let (got, end) = bounded.rest().await;
    assert_eq!(end, StreamEnd::Reached);
    // A delivery carries whole batches; the client drops what lies before its offset.
    assert_eq!(got.last(), Some(&(Offset(2), "c".to_owned())));
}
