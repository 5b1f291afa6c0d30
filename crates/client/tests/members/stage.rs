//! A cluster for clients to meet: real endpoints and certificates, members that share one log and
//! do what the script says. Each member has a runtime of its own, so that it can be killed: what a
//! killed process does not send, it does not send either.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use kontiki_client::{Client, ConnectOptions};
use kontiki_transport::{Authority, Credentials, Endpoint, Identity, Issued, Plane, Role};
use kontiki_wire::{
    Batch, BatchBuilder, BatchHeader, ClusterId, GroupId, MemberInfo, Offset, ProducerId, Record,
    Refusal, StreamEnd, TopicInfo, TopicName, TopicSettings,
};
use tokio::{
    runtime::Builder,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::member;

/// Nothing here takes so long, on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a leader does with the next batch that comes.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Take,
    Refuse(Refusal),
    /// Takes it and says that nobody knows.
    TakeUnknown,
    /// Takes it, and ends the connection before anybody is told.
    TakeAndHangUp,
    /// Ends the connection.
    HangUp,
    /// Answers another batch than the one that came.
    Confuse,
    /// Takes it, and tells nobody.
    TakeInSilence,
}

/// What a member does with a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reader {
    Serve,
    /// Ends the connection after this many batches.
    HangUpAfter(usize),
    /// Says nothing any more after this many batches.
    FallSilentAfter(usize),
    /// Leaves the batch at this place out.
    Skip(usize),
    /// Sends the batch at this place twice.
    Repeat(usize),
    /// Says that the end is reached after this many batches.
    EndAfter(usize),
    /// Says after this many batches that it has too many subscribers.
    CrowdedAfter(usize),
}

/// One batch that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) member: String,
    pub(crate) header: BatchHeader,
}

#[derive(Default)]
pub(crate) struct TopicState {
    pub(crate) group: u64,
    pub(crate) leader: Option<String>,
    /// Who keeps it, if not all do; the others know neither its leader nor its end.
    pub(crate) keepers: Option<Vec<String>>,
    /// In order, contiguous: offset and batch.
    pub(crate) log: Vec<(u64, Batch)>,
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// Epoch, next sequence, and where each batch went.
    producers: BTreeMap<ProducerId, (u32, u64, BTreeMap<u64, u64>)>,
}

/// What all members share, and the script.
pub(crate) struct State {
    pub(crate) topics: BTreeMap<TopicName, TopicState>,
    pub(crate) infos: Vec<MemberInfo>,
    pub(crate) auto_create: bool,
    /// For the next batches, whoever leads.
    pub(crate) script: VecDeque<Act>,
    /// Batches stay unanswered and are not taken while this is set.
    pub(crate) held: bool,
    /// Members that say nothing at all.
    pub(crate) mute: Vec<String>,
    /// Members do not know what an earlier build did not.
    pub(crate) earlier_build: bool,
    /// How long every member takes to answer.
    pub(crate) delay: Duration,
    /// Members of which every stream is refused so.
    pub(crate) refusing: BTreeMap<String, Refusal>,
    pub(crate) readers: BTreeMap<String, Reader>,
    /// Members that serve nobody who may as well go elsewhere, and what they say.
    pub(crate) ends_if_few: BTreeMap<String, StreamEnd>,
    /// Subscriptions that came of those who may.
    pub(crate) asked_if_few: usize,
    /// How far members say that their logs go; of what is there they say nothing.
    pub(crate) claims: BTreeMap<String, u64>,
    pub(crate) seen: Vec<Seen>,
    /// Who served a subscription, and from where.
    pub(crate) served: Vec<(String, Option<u64>)>,
    /// Bytes of batches written to subscribers.
    pub(crate) delivered: usize,
    /// Connections that were let in.
    pub(crate) connections: usize,
    /// Requests that came.
    pub(crate) asked: usize,
}

/// The state, and that it has changed.
pub(crate) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Shared {
    /// Looks at the state, or changes it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let looked = look(&mut self.lock());
        self.changes.send_modify(|changes| *changes += 1);
        looked
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until the state is so.
    pub(crate) async fn until(&self, mut so: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        changes
            .wait_for(|_| so(&self.lock()))
            .await
            .expect("it lives as long as this");
    }
}

impl State {
    pub(crate) fn topic(&mut self, name: &str) -> &mut TopicState {
        let name = name.parse().unwrap();
        self.topics.get_mut(&name).expect("the topic was made")
    }

    pub(crate) fn make(&mut self, name: &str, leader: &str) {
        let group = self.topics.len() as u64 + 1;
        let topic = TopicState {
            group,
            leader: Some(leader.to_owned()),
            ..TopicState::default()
        };
        self.topics.insert(name.parse().unwrap(), topic);
    }

    /// A topic as this member knows it.
    pub(crate) fn info(&self, name: &TopicName, member: &str) -> Option<TopicInfo> {
        let topic = self.topics.get(name)?;
        let all = || self.infos.iter().map(|info| info.name.clone()).collect();
        let replicas: Vec<String> = topic.keepers.clone().unwrap_or_else(all);
        let keeps = replicas.iter().any(|keeper| keeper == member);
        Some(TopicInfo {
            name: name.clone(),
            group: GroupId(topic.group),
            settings: TopicSettings::default(),
            replicas,
            leader: topic.leader.clone().filter(|_| keeps),
            first: Offset(if keeps { topic.first } else { 0 }),
            next: Offset(if keeps { topic.next } else { 0 }),
            epoch: 0,
        })
    }

    /// The values of a topic's records, in order.
    pub(crate) fn values(&mut self, name: &str) -> Vec<String> {
        let log = &self.topic(name).log;
        log.iter()
            .flat_map(|(_, batch)| batch.records())
            .map(|record| String::from_utf8(record.unwrap().value.to_vec()).unwrap())
            .collect()
    }
}

impl TopicState {
    /// Judges a batch as a broker does.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<Offset, Refusal> {
        let header = *batch.header();
        let entry = self.producers.get(&header.producer);
        let (epoch, next) = entry.map_or((header.epoch, 0), |known| (known.0, known.1));
        if header.epoch < epoch {
            return Err(Refusal::Fenced { epoch });
        }
        let next = if header.epoch > epoch { 0 } else { next };
        if header.sequence < next {
            let place = entry.and_then(|known| known.2.get(&header.sequence));
            return place
                .map(|place| Offset(*place))
                .ok_or(Refusal::SequenceGap { expected: next });
        }
        if header.sequence > next {
            return Err(Refusal::SequenceGap { expected: next });
        }
        let offset = self.next;
        let known = self.producers.entry(header.producer).or_default();
        if header.epoch > epoch {
            known.2.clear();
        }
        (known.0, known.1) = (header.epoch, next + u64::from(header.count));
        known.2.insert(header.sequence, offset);
        self.put(batch.clone());
        Ok(Offset(offset))
    }

    fn put(&mut self, batch: Batch) {
        let count = u64::from(batch.header().count);
        self.log.push((self.next, batch));
        self.next += count;
    }

    /// Puts a batch of these values at the end.
    pub(crate) fn fill(&mut self, values: &[&str]) {
        let mut builder = BatchBuilder::new(0);
        for value in values {
            builder.push(&record(value)).unwrap();
        }
        self.put(builder.finish(ProducerId(u128::MAX), 0, self.next));
    }

    pub(crate) fn forget_producers(&mut self) {
        self.producers.clear();
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// A cluster of members named n1, n2, …
pub(crate) struct Stage {
    pub(crate) shared: Arc<Shared>,
    id: ClusterId,
    nodes: Authority,
    clients: Authority,
    running: BTreeMap<String, Running>,
}

const VALID: Duration = Duration::from_secs(3600);

impl Stage {
    /// A cluster of `count` members with one topic, `t`, led by n1.
    pub(crate) fn start(count: usize) -> Self {
        let state = State {
            topics: BTreeMap::new(),
            infos: Vec::new(),
            auto_create: false,
            script: VecDeque::new(),
            held: false,
            mute: Vec::new(),
            earlier_build: false,
            delay: Duration::ZERO,
            refusing: BTreeMap::new(),
            readers: BTreeMap::new(),
            ends_if_few: BTreeMap::new(),
            asked_if_few: 0,
            claims: BTreeMap::new(),
            seen: Vec::new(),
            served: Vec::new(),
            delivered: 0,
            connections: 0,
            asked: 0,
        };
        let mut stage = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changes: watch::Sender::new(0),
            }),
            id: ClusterId(0xab),
            nodes: Authority::new("nodes", VALID).unwrap(),
            clients: Authority::new("clients", VALID).unwrap(),
            running: BTreeMap::new(),
        };
        for id in 1..=count {
            let name = format!("n{id}");
            let address = stage.run(&name, "127.0.0.1:0".parse().unwrap());
            let info = MemberInfo {
                id: id as u64,
                incarnation: 1,
                name,
                address: address.to_string(),
                peer_address: "127.0.0.1:1".to_owned(),
                ..MemberInfo::default()
            };
            stage.shared.with(|state| state.infos.push(info));
        }
        stage.shared.with(|state| state.make("t", "n1"));
        stage
    }

    fn run(&mut self, name: &str, address: SocketAddr) -> SocketAddr {
        let issued = self.issue(&self.nodes, Role::Node, name);
        let credentials = Credentials::from_pem(
            &issued.certificate_pem,
            &issued.key_pem,
            self.nodes.certificate_pem(),
            self.clients.certificate_pem(),
        )
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let (shared, own) = (Arc::clone(&self.shared), name.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let endpoint = Endpoint::listen(address, Plane::Clients, &credentials).unwrap();
                bound.send(endpoint.local_address()).unwrap();
                tokio::select! {
                    () = member::serve(&endpoint, &own, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        self.running
            .insert(name.to_owned(), Running { stop, thread });
        is_bound.recv().unwrap()
    }

    fn issue(&self, authority: &Authority, role: Role, name: &str) -> Issued {
        let identity = Identity {
            cluster: self.id,
            role,
            name: name.to_owned(),
        };
        authority.issue(&identity, VALID).unwrap()
    }

    /// Ends a member's process: it says no farewell.
    pub(crate) fn kill(&mut self, name: &str) {
        let running = self.running.remove(name).expect("it runs");
        drop(running.stop);
        running.thread.join().unwrap();
    }

    /// Starts a member that was killed, where it was.
    pub(crate) fn restart(&mut self, name: &str) {
        let address = self.address(name);
        self.run(name, address);
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let address = self.shared.with(|state| {
            let info = state.infos.iter().find(|info| info.name == name);
            info.expect("it is a member").address.clone()
        });
        address.parse().unwrap()
    }

    /// Makes another member lead `t`.
    pub(crate) fn elect(&self, leader: &str) {
        self.shared
            .with(|state| state.topic("t").leader = Some(leader.to_owned()));
    }

    /// Options for a client that finds the cluster by this member.
    pub(crate) fn options_by(&self, name: &str) -> ConnectOptions {
        let issued = self.issue(&self.clients, Role::Operator, "tester");
        ConnectOptions::new([self.address(name).to_string()])
            .identity_pem(issued.certificate_pem, issued.key_pem)
            .ca_pem(self.nodes.certificate_pem())
            .cluster_id(self.id)
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        self.options_by("n1")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.shared.with(|state| state.values("t"))
    }

    /// The headers of the batches that came, in the order in which they came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.with(|state| state.seen.clone())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        while let Some((_, running)) = self.running.pop_first() {
            drop(running.stop);
            // If it has panicked, its own message says so.
            let _ = running.thread.join();
        }
    }
}

pub(crate) fn record(value: &str) -> Record {
    Record {
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Record::default()
    }
}

/// What must come, before patience ends.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes too long")
}
