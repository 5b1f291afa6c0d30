//! Handing over what a stopping member leads, so that nobody has to notice its silence first.

use kontiki_wire::{GroupId, MemberStatus, Request, TopicName};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::info;

use crate::{
    driver::Order,
    limits::{HANDOVER_LOOK, HANDOVER_MAX},
    service::Service,
};

/// Asks the best of the others to lead each group that this member leads, and waits until they do, but
/// not longer than [`HANDOVER_MAX`].
pub(crate) async fn hand_over(service: &Service, orders: &mpsc::Sender<Order>) {
    let all = async {
        while let Some(status) = status(orders).await {
            let wishes = wishes(&status, |group| service.topics.name(group));
            if wishes.is_empty() {
                return;
            }
            info!(groups = wishes.len(), "handing over");
            let mut asked = JoinSet::new();
            for request in wishes {
                let service = service.clone();
                asked.spawn(async move { service.ask(request).await });
            }
            // One that is refused is asked again with the next look.
            while asked.join_next().await.is_some() {}
            sleep(HANDOVER_LOOK).await;
        }
    };
    if timeout(HANDOVER_MAX, all).await.is_err() {
        info!("stopping while still leading: the others will elect");
    }
}

async fn status(orders: &mpsc::Sender<Order>) -> Option<MemberStatus> {
    let (asker, status) = oneshot::channel();
    orders.send(Order::Status(asker)).await.ok()?;
    status.await.ok()
}

/// For each group led here that someone else could lead: to whom it should go, the one furthest along.
fn wishes(status: &MemberStatus, name: impl Fn(GroupId) -> Option<TopicName>) -> Vec<Request> {
    let me = &status.member.name;
    let led = status
        .groups
        .iter()
        .filter(|group| group.leader.as_ref() == Some(me));
    led.filter_map(|group| {
        let others = group.replicas.iter().filter(|replica| &replica.name != me);
        let able = others.filter(|replica| replica.state == "follower");
        let best = able.max_by_key(|replica| replica.match_offset)?;
        let topic = match group.group {
            GroupId::CLUSTER => None,
            group => Some(name(group)?),
        };
        Some(Request::TransferLeader {
            topic,
            to: best.name.clone(),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{GroupStatus, MemberInfo, Offset, ReplicaStatus};

    use super::*;

    fn replica(name: &str, match_offset: u64, state: &str) -> ReplicaStatus {
        ReplicaStatus {
            name: name.to_owned(),
            match_offset: Offset(match_offset),
            lag: 0,
            state: state.to_owned(),
        }
    }

    fn group(group: u64, leader: &str, replicas: Vec<ReplicaStatus>) -> GroupStatus {
        GroupStatus {
            group: GroupId(group),
            leader: Some(leader.to_owned()),
            term: 1,
            first: Offset(0),
            next: Offset(9),
            replicas,
        }
    }

    #[test]
    fn each_group_led_here_goes_to_the_follower_furthest_along() {
        let me = || replica("n1", 9, "leader");
        let status = MemberStatus {
            member: MemberInfo {
                id: 1,
                incarnation: 1,
                name: "n1".to_owned(),
                address: String::new(),
                peer_address: String::new(),
            },
            recovering: Vec::new(),
            groups: vec![
                group(0, "n1", vec![me(), replica("n2", 0, "follower")]),
                group(
                    1,
                    "n1",
                    vec![
                        me(),
                        replica("n2", 7, "follower"),
                        replica("n3", 8, "follower"),
                        replica("n4", 9, "unreachable"),
                    ],
                ),
                group(2, "n2", Vec::new()),
                group(3, "n1", vec![me()]),
            ],
            up_seconds: 0,
        };
        let name = |group: GroupId| format!("t{group}").parse().ok();
        let transfer = |topic: Option<&str>, to: &str| Request::TransferLeader {
            topic: topic.map(|topic| topic.parse().unwrap()),
            to: to.to_owned(),
        };
        assert_eq!(
            wishes(&status, name),
            [transfer(None, "n2"), transfer(Some("t1"), "n3")]
        );
    }
}
