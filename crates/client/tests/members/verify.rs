//! Having members read their own logs, whatever they say of them.

use std::time::{Duration, Instant};

use kontiki_client::ClusterVerified;

use crate::stage::{Stage, soon};

async fn verified(stage: &Stage) -> ClusterVerified {
    let admin = stage.client().await.admin();
    soon(admin.verify(|_, _| {})).await.unwrap()
}

/// Of each group in order, what is said of the replica at this member.
fn unread<'a>(verified: &'a ClusterVerified, member: &str) -> Vec<Option<&'a str>> {
    let replicas = verified.replicas.iter();
    let of_it = replicas.filter(|replica| replica.member == member);
    of_it.map(|replica| replica.unread.as_deref()).collect()
}

#[tokio::test]
async fn logs_that_cannot_be_so_long_cost_nothing_and_are_not_read() {
    let stage = Stage::start(3);
    stage.shared.with(|state| {
        for name in ["n1", "n2"] {
            state.claims.insert(name.to_owned(), u64::MAX);
        }
    });
    let verified = verified(&stage).await;
    assert!(!verified.sound);
    for name in ["n1", "n2"] {
        let says_nothing = Some("from entry 1 on: it does not say");
        assert_eq!(unread(&verified, name), [says_nothing; 2]);
    }
    assert_eq!(unread(&verified, "n3"), [None; 2]);
}

#[tokio::test]
async fn silent_member_is_waited_for_once_and_not_for_every_topic() {
    let stage = Stage::start(3);
    stage.shared.with(|state| {
        for name in ["a", "b", "c", "d"] {
            state.make(name, "n1");
        }
        state.mute.push("n2".to_owned());
    });
    let begun = Instant::now();
    let verified = verified(&stage).await;
    assert!(begun.elapsed() < Duration::from_secs(8));
    let said = unread(&verified, "n2");
    assert_eq!(said.len(), 6);
    assert!(said.iter().all(Option::is_some), "{said:?}");
    assert_eq!(unread(&verified, "n1"), [None; 6]);
}

#[tokio::test]
async fn cluster_is_not_called_sound_where_nobody_confirms_which_topics_there_are() {
    let stage = Stage::start(3);
    assert!(verified(&stage).await.sound);
    // It leads the cluster's own group.
    stage.shared.with(|state| state.mute.push("n3".to_owned()));
    let verified = verified(&stage).await;
    assert!(!verified.sound && !verified.topics_confirmed);
}
