//! Handing over what a stopping member leads, so that nobody has to notice its silence first.

use std::{cmp::Reverse, collections::BTreeMap};

use kontiki_wire::{GroupId, MemberStatus, Request, Response};
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

/// What of the others did not take over when they were asked to, and how often: they may be stopping too.
type Declined = BTreeMap<(GroupId, String), u32>;

/// Seeks no leadership any more, asks the best of the others to lead each group that this member leads,
/// and waits until they do, but not longer than [`HANDOVER_MAX`].
pub(crate) async fn hand_over(service: &Service, orders: &mpsc::Sender<Order>) {
    // A driver that has ended leads nothing.
    let _ = orders.send(Order::Retire).await;
    let all = async {
        let mut declined = Declined::new();
        while let Some(status) = status(orders).await {
            let wishes = wishes(&status, &declined);
            if wishes.is_empty() {
                return;
            }
            info!(groups = wishes.len(), "handing over");
            let mut asked = JoinSet::new();
            for (group, to) in wishes {
                let service = service.clone();
                asked.spawn(async move {
                    let done = ask(&service, group, to.clone()).await;
                    (!done).then_some((group, to))
                });
            }
            while let Some(asked) = asked.join_next().await {
                if let Ok(Some(wish)) = asked {
                    *declined.entry(wish).or_default() += 1;
                }
            }
            sleep(HANDOVER_LOOK).await;
        }
    };
    if timeout(HANDOVER_MAX, all).await.is_err() {
        info!("stopping while still leading: the others will elect");
    }
}

/// Asks a member to lead a group, and waits for what comes of it; whether it does.
async fn ask(service: &Service, group: GroupId, to: String) -> bool {
    let topic = match group {
        GroupId::CLUSTER => None,
        group => match service.topics.name(group) {
            Some(name) => Some(name),
            // It was removed meanwhile.
            None => return true,
        },
    };
    let response = service.ask(Request::TransferLeader { topic, to }).await;
    response == Response::Done
}

/// What the member knows of itself; `None` if it ends.
pub(crate) async fn status(orders: &mpsc::Sender<Order>) -> Option<MemberStatus> {
    let (asker, status) = oneshot::channel();
    orders.send(Order::Status(asker)).await.ok()?;
    status.await.ok()
}

/// To whom each group that is led here should go: of those who may lead it, to one that has declined the
/// least often, and of these to the one furthest along.
fn wishes(status: &MemberStatus, declined: &Declined) -> Vec<(GroupId, String)> {
    let me = &status.member.name;
    let led = status
        .groups
        .iter()
        .filter(|group| group.leader.as_ref() == Some(me));
    led.filter_map(|group| {
        let others = group.replicas.iter().filter(|replica| &replica.name != me);
        let able = others.filter(|replica| replica.state == "follower");
        let best = able.max_by_key(|replica| {
            let wish = (group.group, replica.name.clone());
            let refused = declined.get(&wish).copied().unwrap_or(0);
            (Reverse(refused), replica.match_offset)
        })?;
        Some((group.group, best.name.clone()))
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
            ..ReplicaStatus::default()
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
            wanted: Vec::new(),
            waits: None,
            fetching: None,
        }
    }

    #[test]
    fn each_group_led_here_goes_to_the_follower_furthest_along_that_has_not_declined() {
        let me = || replica("n1", 9, "leader");
        let status = MemberStatus {
            member: MemberInfo {
                id: 1,
                incarnation: 1,
                name: "n1".to_owned(),
                address: String::new(),
                peer_address: String::new(),
                ..MemberInfo::default()
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
            placing: Vec::new(),
            up_seconds: 0,
            build: String::new(),
            version: 1,
        };
        let wish = |group, to: &str| (GroupId(group), to.to_owned());
        let first = wishes(&status, &Declined::new());
        assert_eq!(first, [wish(0, "n2"), wish(1, "n3")]);
        let mut declined = Declined::from([(wish(0, "n2"), 1), (wish(1, "n3"), 1)]);
        let second = wishes(&status, &declined);
        assert_eq!(second, [wish(0, "n2"), wish(1, "n2")], "the other one");
        declined.insert(wish(1, "n2"), 1);
        assert_eq!(wishes(&status, &declined), first, "and the first again");
    }
}
