//! Handing over what a stopping member leads, so that nobody has to notice its silence first.

use kontiki_wire::{GroupId, MemberStatus, Request, TopicName};
use tokio::{
    sync::{mpsc, oneshot},
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
            for request in wishes {
                info!(?request, "handing over");
                // One that is refused is asked again with the next look.
                service.ask(request).await;
            }
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
