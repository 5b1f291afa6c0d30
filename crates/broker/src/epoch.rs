//! What the first word of another epoch makes of the cluster's state: one member is left, with the topics that
//! it has, and nobody of the life before is owed anything.

use kontiki_raft::{Micros, NodeId};
use kontiki_wire::{GroupId, Member, Recovery, Response, Standing, Topic, limits::RECOVERIES_MAX};

use crate::{
    broker::Broker,
    cluster::{Change, Cluster, unfit},
    input::Now,
};

/// Who started less than that ago may have come back after a recovery.
const RETURNED: Micros = Micros(60_000_000);

impl Cluster {
    /// The survivor goes on alone, with these groups and the next number for one. Said again, as after a recovery
    /// that was interrupted, it changes nothing.
    pub(crate) fn recover(
        &mut self,
        recovery: Recovery,
        survivor: u64,
        (kept, next_group): (&[GroupId], u64),
        now: Micros,
    ) -> Result<Change, String> {
        let mut state = self.state().clone();
        let latest = state.recoveries.last().map_or(0, |it| it.epoch.number);
        if recovery.epoch.number <= latest {
            return Ok(unfit(format!("the cluster is in epoch {latest} already")));
        }
        let Some(member) = self.member(survivor).cloned() else {
            return Ok(Change::Void(self.no_such_member(&survivor.to_string())));
        };
        let given_up: Vec<Member> = std::mem::replace(
            &mut state.members,
            vec![Member {
                standing: Standing::Active,
                ..member
            }],
        );
        state.named = vec![survivor];
        // Whom they were spent by may be among what is lost.
        state.tokens.clear();
        let (topics, lost): (Vec<Topic>, _) = std::mem::take(&mut state.topics)
            .into_iter()
            .partition(|topic| kept.contains(&topic.group));
        state.topics = topics.into_iter().map(|it| alone(it, survivor)).collect();
        state.next_group = state.next_group.max(next_group);
        state.recoveries.push(recovery);
        let past = state.recoveries.len().saturating_sub(RECOVERIES_MAX);
        state.recoveries.drain(..past);
        self.become_of(state)?;
        for member in given_up.iter().filter(|one| one.id != survivor) {
            self.disown(member, now);
        }
        Ok(Change::Recovered { lost })
    }
}

/// A topic that one member keeps, and nobody else.
fn alone(topic: Topic, survivor: u64) -> Topic {
    Topic {
        replicas: vec![survivor],
        leaving: Vec::new(),
        coming: Vec::new(),
        stuck: Vec::new(),
        parted: Vec::new(),
        preferred: survivor,
        placement: topic.placement.saturating_add(1),
        settled: true,
        ..topic
    }
}

impl Broker {
    /// A peer says that the cluster has gone on in a later epoch, without this node.
    ///
    /// Those who are started on what they had before a recovery may elect each other again: so whoever has just
    /// started believes it at once. A cluster that has served all the while goes on, for then the recovery was
    /// a mistake, and one member's word must not end all the others.
    pub(crate) fn outdated(&mut self, now: Now, by: NodeId) {
        if self.is_led(now) && now.monotonic.since(self.started) >= RETURNED {
            return;
        }
        let (me, by) = (self.settings.me.id, self.cluster.name(by));
        let me = self.cluster.name(me);
        self.outbox.expelled(format!(
            "{by} says that the cluster was recovered after a majority was lost for good, and {me} is of \
             the life before: what it keeps counts no more, and it is not to serve anybody; keep a copy of \
             its folder if records are missed, and to have {me} back, let it join with a new token and an \
             empty directory"
        ));
    }

    /// How the cluster was recovered.
    pub(crate) fn recoveries(&self) -> Response {
        Response::Recoveries(self.cluster.state().recoveries.clone())
    }
}
