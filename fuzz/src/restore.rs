//! Checkpoints as a disk gives them back: of the cluster's own group, and of a topic's.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::{Broker, GroupBoot, Input, Now, Settings};
use kontiki_raft::{
    Boot, Hard, Incarnation, Index, LogId, Membership, Micros, NodeId, NodeRef, Term,
};
use kontiki_wire::{
    ClusterId, ClusterState, Epoch, GroupId, Member, MemberRef, Topic, TopicSettings, TopicState,
    decode, encode, limits::CHECKPOINT_BYTES_MAX,
};

const TOPIC: GroupId = GroupId(1);
const NOW: Now = Now {
    monotonic: Micros(1_000),
    wall: Micros(1_000),
};

pub(crate) fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id * 10),
    }
}

/// The first of three members, born with one topic.
pub(crate) fn settings() -> Settings {
    let member = |id| Member {
        id,
        incarnation: id * 10,
        name: format!("n{id}"),
        address: String::new(),
        peer_address: String::new(),
        ..Member::default()
    };
    let founder = |id| MemberRef {
        id,
        incarnation: id * 10,
    };
    let name = "t".parse().expect("a name");
    let founders = (1..=3).map(founder).collect();
    let topic = Topic::founded(name, TOPIC, TopicSettings::default(), founders, 1);
    Settings {
        cluster: ClusterId(1),
        epoch: Epoch::FIRST,
        me: node(1),
        raft: kontiki_raft::Settings {
            rest: kontiki_broker::REST,
            ..kontiki_raft::Settings::default()
        },
        birth: ClusterState {
            members: (1..=3).map(member).collect(),
            topics: vec![topic],
            next_group: 2,
            ..ClusterState::default()
        },
        checkpoints: kontiki_broker::CheckpointEvery::default(),
        fetch_bytes_min: u64::MAX,
        damage: None,
        seed: 1,
    }
}

/// A group with one entry, which its checkpoint includes, or without either.
pub(crate) fn boot(group: GroupId, checkpoint: Option<Bytes>) -> GroupBoot {
    let last = LogId {
        term: Term(1),
        index: Index(1),
    };
    let one = u64::from(checkpoint.is_some());
    GroupBoot {
        group,
        boot: Boot {
            me: node(1),
            fresh: checkpoint.is_none(),
            forgot: false,
            hard: Hard {
                term: Term(one),
                ..Hard::default()
            },
            base: LogId::ORIGIN,
            base_config: (Index(0), Membership::default()),
            terms: checkpoint.iter().map(|_| (Index(1), Term(1))).collect(),
            configs: BTreeMap::new(),
            last: Index(one),
            commit: Index(one),
            applied: Index(one),
            tail: Vec::new(),
        },
        checkpoint: checkpoint.map(|state| (last, state)),
        missing: Vec::new(),
        damage: String::new(),
    }
}

/// The bytes as either checkpoint. A broker that starts from them holds exactly what they say, and can
/// go on from there.
pub(crate) fn restore(bytes: &[u8]) {
    let state = Bytes::copy_from_slice(bytes);
    let own = vec![boot(GroupId::CLUSTER, Some(state.clone()))];
    if let Ok(broker) = Broker::new(settings(), own, NOW) {
        let said = decode::<ClusterState>("a state", bytes, CHECKPOINT_BYTES_MAX);
        let mut said = said.expect("a broker has read it");
        said.next_group = said.next_group.max(1);
        assert_eq!(*broker.cluster(), said);
        go_on(broker);
    }
    let both = vec![boot(GroupId::CLUSTER, None), boot(TOPIC, Some(state))];
    if let Ok(broker) = Broker::new(settings(), both, NOW) {
        let said = decode::<TopicState>("a state", bytes, CHECKPOINT_BYTES_MAX);
        let (_, held) = broker.state(TOPIC).expect("the group was given");
        assert_eq!(held, encode(&said.expect("a broker has read it")));
        go_on(broker);
    }
}

fn go_on(mut broker: Broker) {
    let mut effects = Vec::new();
    for seconds in 1..4 {
        let at = Micros(seconds * 1_000_000);
        let now = Now {
            monotonic: at,
            wall: at,
        };
        broker.handle(now, Input::Timer);
        broker.drain(now, &mut effects);
    }
}
