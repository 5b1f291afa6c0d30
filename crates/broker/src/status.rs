//! What this node knows, told for people and for clients that look for a leader.

use kontiki_raft::{Index, Micros, NodeId, PeerStatus, Status};
use kontiki_wire::{
    GroupId, GroupStatus, MemberInfo, MemberStatus, Offset, ReplicaStatus, Topic, TopicInfo,
};

use crate::{apply::TopicLog, broker::Broker, group::Group, input::Now, mend::Mending};

impl Broker {
    /// A topic as clients find it. Its replicas are named with the one that was to lead first at the
    /// head: without a known leader, that is the one to ask.
    pub(crate) fn topic_info(&self, topic: &Topic) -> TopicInfo {
        let group = self.groups.get(&topic.group);
        let leader = group.and_then(|group| self.leader_of(group));
        let mending = || self.mending.get(&topic.group).and_then(Mending::log);
        let log = group.map_or_else(mending, Group::log);
        let mut replicas = topic.replicas.clone();
        replicas.sort_by_key(|id| *id != topic.preferred);
        TopicInfo {
            name: topic.name.clone(),
            group: topic.group,
            settings: topic.settings.clone(),
            replicas: replicas
                .into_iter()
                .map(|id| self.cluster.name(NodeId(id)))
                .collect(),
            leader: leader.map(|leader| self.cluster.name(leader)),
            first: log.map_or(Offset(0), TopicLog::first),
            next: log.map_or(Offset(0), TopicLog::next),
            epoch: self.settings.epoch.number,
        }
    }

    pub(crate) fn member_status(&self, now: Now) -> MemberStatus {
        let me = self.settings.me;
        let member = self.cluster.member(me.id.0).cloned();
        let up = now.monotonic.0.saturating_sub(self.started.0);
        let groups = self.groups.iter();
        MemberStatus {
            member: member.unwrap_or_else(|| MemberInfo {
                id: me.id.0,
                incarnation: me.incarnation.0,
                name: self.cluster.name(me.id),
                ..MemberInfo::default()
            }),
            recovering: self.recovering(now.monotonic),
            groups: groups
                .map(|(id, group)| self.group_status(*id, group, now.monotonic))
                .chain(self.mending.keys().map(|id| self.mending_status(*id)))
                .chain(self.fetching.keys().map(|id| self.mending_status(*id)))
                .collect(),
            placing: self.placing_sentences(now.monotonic),
            up_seconds: up / 1_000_000,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            version: self.cluster.state().version,
        }
    }

    fn group_status(&self, id: GroupId, group: &Group, now: Micros) -> GroupStatus {
        let status = group.status(now);
        let offset_at = |index: Index| group.log().map_or(Offset(0), |log| log.offset_at(index));
        let next = group.watermark();
        let replica = |node: NodeId, durable: Index, state: &str| {
            let match_offset = offset_at(durable).min(next);
            ReplicaStatus {
                name: self.cluster.name(node),
                match_offset,
                lag: next.0 - match_offset.0,
                lag_bytes: group.log().map_or(0, |log| log.bytes_after(durable)),
                state: state.to_owned(),
                ..ReplicaStatus::default()
            }
        };
        let own = |state| replica(status.me.id, status.durable, state);
        let replicas = if group.leads() {
            let peers = status.peers.iter();
            let timeout = self.settings.raft.election_timeout;
            let peers = peers.map(|peer| {
                let state = peer_state(peer, &status, timeout);
                ReplicaStatus {
                    bytes_per_second: self.speed(id, peer.peer),
                    silent_ms: peer.heard.map(|ago| ago.0 / 1_000),
                    ..replica(peer.peer.id, peer.has(), state)
                }
            });
            std::iter::once(own("leader")).chain(peers).collect()
        } else if status.recovering {
            vec![own("recovering")]
        } else if let Some(lag_bytes) = self.lacks(id, group) {
            let lacks = ReplicaStatus {
                lag_bytes,
                ..own("catching-up")
            };
            vec![lacks]
        } else if !status.config.is_voter(status.me) {
            vec![own("learner")]
        } else if status.leader.is_none() {
            vec![own("follower")]
        } else {
            Vec::new()
        };
        let (wanted, waits) = match group.leads() {
            true => self.waits(id, &status),
            false => (Vec::new(), None),
        };
        GroupStatus {
            group: id,
            leader: status.leader.map(|leader| self.cluster.name(leader.id)),
            term: status.term.0,
            first: group.log().map_or(Offset(0), TopicLog::first),
            next,
            replicas,
            wanted,
            waits,
            fetching: None,
        }
    }

    /// About how many bytes of what is committed this node has not applied, if that is much: as many entries as its
    /// leader has told of, as large as those that are here.
    fn lacks(&self, id: GroupId, group: &Group) -> Option<u64> {
        let (applied, bytes) = match group.log() {
            Some(log) => (log.applied().0, log.bytes_after(Index(0))),
            None if id == GroupId::CLUSTER => (self.cluster.applied().index.0, 0),
            None => return None,
        };
        let lacks = group.told.0.saturating_sub(applied);
        let about = u128::from(lacks) * u128::from(bytes) / u128::from(applied.max(1));
        (lacks > CATCHING_UP_ENTRIES).then(|| u64::try_from(about).unwrap_or(u64::MAX))
    }

    /// Of a group that is no Raft for now.
    fn mending_status(&self, id: GroupId) -> GroupStatus {
        let log = self.mending.get(&id).and_then(Mending::log);
        let next = log.map_or(Offset(0), TopicLog::next);
        let state = match self.fetching.contains_key(&id) {
            true => "catching-up",
            false => "recovering",
        };
        let own = ReplicaStatus {
            name: self.cluster.name(self.settings.me.id),
            match_offset: next,
            state: state.to_owned(),
            ..ReplicaStatus::default()
        };
        GroupStatus {
            group: id,
            leader: None,
            term: 0,
            first: log.map_or(Offset(0), TopicLog::first),
            next,
            replicas: vec![own],
            wanted: Vec::new(),
            waits: None,
            fetching: self.fetch_status(id),
        }
    }

    fn leader_of(&self, group: &Group) -> Option<NodeId> {
        if group.leads() {
            return Some(self.settings.me.id);
        }
        group.other_leader().map(|leader| leader.id)
    }
}

fn peer_state(peer: &PeerStatus, status: &Status, timeout: Micros) -> &'static str {
    let behind = status.commit.0.saturating_sub(peer.matched.0);
    match peer.heard {
        _ if !peer.counts => "recovering",
        None => "unreachable",
        Some(ago) if ago > timeout => "unreachable",
        Some(_) if !status.config.is_voter(peer.peer) => "learner",
        Some(_) if !peer.streaming || behind > CATCHING_UP_ENTRIES => "catching-up",
        Some(_) => "follower",
    }
}

/// A replica that lacks more committed entries than this is not merely some round trips behind.
const CATCHING_UP_ENTRIES: u64 = 256;

#[cfg(test)]
mod tests {
    use kontiki_raft::{LogId, Membership, NodeRef, Role, Term};

    use super::*;

    fn state_of(matched: u64, heard: Option<u64>, streaming: bool) -> &'static str {
        word(
            Membership::of([NodeRef::default()]),
            matched,
            heard,
            streaming,
        )
    }

    fn word(config: Membership, matched: u64, heard: Option<u64>, streaming: bool) -> &'static str {
        let status = Status {
            me: NodeRef::default(),
            term: Term(1),
            role: Role::Leader,
            leader: None,
            base: LogId::ORIGIN,
            last: LogId::ORIGIN,
            durable: Index(0),
            commit: Index(1000),
            recovering: false,
            home: None,
            config,
            config_index: Index(0),
            peers: Vec::new(),
        };
        let peer = PeerStatus {
            peer: NodeRef::default(),
            matched: Index(matched),
            heard: heard.map(Micros),
            counts: true,
            home: None,
            streaming,
            caught_up: false,
            leaving: false,
            fetched: None,
        };
        peer_state(&peer, &status, Micros(100))
    }

    #[test]
    fn words_for_a_peer() {
        assert_eq!(state_of(1000, Some(5), true), "follower");
        assert_eq!(state_of(900, Some(5), true), "follower");
        assert_eq!(state_of(100, Some(5), true), "catching-up");
        assert_eq!(state_of(1000, Some(5), false), "catching-up");
        assert_eq!(state_of(1000, Some(101), true), "unreachable");
        assert_eq!(state_of(1000, None, true), "unreachable");
        let of_a_learner = |heard| word(Membership::default(), 100, heard, true);
        assert_eq!(of_a_learner(Some(5)), "learner");
        assert_eq!(of_a_learner(None), "unreachable");
    }
}
