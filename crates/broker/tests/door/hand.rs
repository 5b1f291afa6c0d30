//! A broker in a test's hand, with a disk that is done with a write at once unless it is told to wait.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::{
    Broker, Effect, GroupBoot, GroupWrite, Input, Now, Settings, StreamId, Ticket, Writes,
};
use kontiki_raft::{
    AppendHead, Body, Boot, Entry, Hard, Incarnation, Index, Kind, LogId, Membership, Message,
    Micros, NodeId, NodeRef, Session, Term,
};
use kontiki_wire::{
    Answer, Batch, BatchBuilder, ClusterCommand, ClusterId, ClusterState, Epoch, GroupId,
    GroupMessage, Member, MemberStatus, ProducerId, Record, Refusal, Request, Response, Topic,
    TopicSettings,
};

pub(crate) fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id * 10),
    }
}

pub(crate) fn settings(members: u64) -> Settings {
    let member = |id| Member {
        id,
        incarnation: id * 10,
        name: format!("n{id}"),
        address: String::new(),
        peer_address: String::new(),
        ..Member::default()
    };
    Settings {
        cluster: ClusterId(1),
        epoch: Epoch::FIRST,
        me: node(1),
        raft: kontiki_raft::Settings {
            rest: kontiki_broker::REST,
            ..kontiki_raft::Settings::default()
        },
        birth: ClusterState {
            members: (1..=members).map(member).collect(),
            ..ClusterState::default()
        },
        checkpoints: kontiki_broker::CheckpointEvery::default(),
        fetch_bytes_min: u64::MAX,
        damage: None,
        seed: 1,
    }
}

pub(crate) fn boot(group: u64, entries: Vec<Entry>) -> GroupBoot {
    let last = Index(entries.len() as u64);
    let term = entries.last().map_or(Term(0), |entry| entry.id.term);
    let boot = Boot {
        me: node(1),
        fresh: entries.is_empty(),
        forgot: false,
        hard: Hard {
            term,
            ..Hard::default()
        },
        base: LogId::ORIGIN,
        base_config: (Index(0), Membership::default()),
        terms: entries
            .first()
            .map(|_| vec![(Index(1), term)])
            .unwrap_or_default(),
        configs: BTreeMap::new(),
        last,
        commit: Index(0),
        applied: Index(0),
        tail: entries,
    };
    GroupBoot {
        group: GroupId(group),
        boot,
        checkpoint: None,
        missing: Vec::new(),
        damage: String::new(),
    }
}

pub(crate) fn entry(index: u64, kind: Kind, body: Bytes) -> Entry {
    Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        kind,
        time: Micros(index),
        checksum: kontiki_wire::entry_checksum(&body),
        body,
    }
}

pub(crate) fn command(index: u64, command: &ClusterCommand) -> Entry {
    entry(index, Kind::Command, kontiki_wire::encode(command).into())
}

pub(crate) fn create_command(name: &str, replicas: &[u64]) -> ClusterCommand {
    ClusterCommand::CreateTopic {
        name: name.parse().unwrap(),
        settings: TopicSettings::default(),
        replicas: replicas.to_vec(),
        preferred: replicas[0],
    }
}

/// A topic that was made for these members, the first of which is to lead it.
pub(crate) fn founded(name: &str, group: u64, replicas: &[u64]) -> Topic {
    let founders = replicas.iter().map(|id| node(*id).into()).collect();
    let (name, group) = (name.parse().unwrap(), GroupId(group));
    Topic::founded(name, group, TopicSettings::default(), founders, replicas[0])
}

pub(crate) fn batch(producer: u128, sequence: u64, count: u32) -> Batch {
    let mut builder = BatchBuilder::new(256);
    for _ in 0..count {
        builder.push(&Record::default()).unwrap();
    }
    builder.finish(ProducerId(producer), 0, sequence)
}

/// A broker, and its disk, which is done with a write at once unless it is told to wait.
pub(crate) struct Hand {
    pub(crate) broker: Broker,
    pub(crate) now: u64,
    pub(crate) seen: Vec<Effect>,
    pub(crate) disk_waits: bool,
    /// What was written of each group, as long as nothing of it was cut.
    pub(crate) written: BTreeMap<GroupId, (Hard, Vec<Entry>)>,
}

impl Hand {
    pub(crate) fn new(settings: Settings, groups: Vec<GroupBoot>) -> Result<Self, String> {
        let now = 1_000;
        let mut hand = Self {
            broker: Broker::new(settings, groups, at(now))?,
            now,
            seen: Vec::new(),
            disk_waits: false,
            written: BTreeMap::new(),
        };
        hand.drain();
        Ok(hand)
    }

    /// A cluster of one that leads all its groups.
    pub(crate) fn alone() -> Self {
        Self::new(settings(1), vec![boot(0, Vec::new())]).unwrap()
    }

    /// One input, and whatever follows from the disk.
    pub(crate) fn give(&mut self, input: Input) -> Vec<Effect> {
        self.give_all(vec![input])
    }

    /// Several inputs, one drain, and whatever follows from the disk.
    pub(crate) fn give_all(&mut self, inputs: Vec<Input>) -> Vec<Effect> {
        self.now += 10;
        for input in inputs {
            self.broker.handle(at(self.now), input);
        }
        let before = self.seen.len();
        self.drain();
        self.seen[before..].to_vec()
    }

    /// Lets time go to the next deadline, so many times.
    pub(crate) fn wait(&mut self, times: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..times {
            let Some(deadline) = self.broker.next_deadline() else {
                break;
            };
            self.now = deadline.0.max(self.now);
            effects.extend(self.give(Input::Timer));
        }
        effects
    }

    fn drain(&mut self) {
        loop {
            let mut effects = Vec::new();
            self.broker.drain(at(self.now), &mut effects);
            let mut last = None;
            for effect in &effects {
                if let Effect::Persist(writes) = effect {
                    last = Some(writes.seq);
                    self.write(writes);
                }
            }
            self.seen.extend(effects);
            match last {
                Some(upto) if !self.disk_waits => {
                    self.broker.handle(at(self.now), Input::Persisted { upto });
                }
                _ => return,
            }
        }
    }

    fn write(&mut self, writes: &Writes) {
        for GroupWrite { group, persist } in &writes.writes {
            let (hard, entries) = self.written.entry(*group).or_default();
            *hard = persist.hard.unwrap_or(*hard);
            entries.extend(persist.append.iter().cloned());
        }
    }

    /// A group as the disk has it, whole.
    pub(crate) fn on_disk(&self, group: GroupId) -> GroupBoot {
        let (hard, entries) = self.written[&group].clone();
        let mut found = boot(group.0, entries);
        found.boot.commit = found.boot.last;
        found.boot.hard = hard;
        found
    }

    pub(crate) fn status(&self) -> MemberStatus {
        self.broker.status(at(self.now))
    }

    pub(crate) fn request(&mut self, request: Request) -> Response {
        self.now += 1;
        let ticket = Ticket(self.now);
        let effects = self.give(Input::Request { ticket, request });
        let mut responses = effects.into_iter().filter_map(|effect| match effect {
            Effect::Respond {
                ticket: of,
                response,
            } if of == ticket => Some(response),
            _ => None,
        });
        responses.next().unwrap()
    }

    pub(crate) fn create(&mut self, name: &str) -> GroupId {
        let request = Request::CreateTopic {
            name: name.parse().unwrap(),
            settings: TopicSettings::default(),
        };
        match self.request(request) {
            Response::Topic(topic) => topic.group,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn append(&mut self, group: GroupId, batches: Vec<Batch>) -> Vec<Answer> {
        let stream = STREAM;
        let input = |batch| Input::Append {
            stream,
            group,
            batch,
        };
        answers(&self.give_all(batches.into_iter().map(input).collect()))
    }
}

pub(crate) const STREAM: StreamId = StreamId(4);

pub(crate) fn at(now: u64) -> Now {
    Now {
        monotonic: Micros(now),
        wall: Micros(now),
    }
}

pub(crate) fn answers(effects: &[Effect]) -> Vec<Answer> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

pub(crate) fn refusals(answers: Vec<Answer>) -> Vec<Refusal> {
    answers
        .into_iter()
        .map(|answer| answer.unwrap_err().refusal)
        .collect()
}

/// What a leader of term 1 says to a follower whose log is empty.
pub(crate) fn appended(group: u64, commit: u64, entries: Vec<Entry>) -> Input {
    let message = Message {
        term: Term(1),
        body: Body::Append {
            head: AppendHead {
                session: Session(1),
                prev: LogId::ORIGIN,
                commit: Index(commit),
            },
            entries,
        },
    };
    Input::Peer {
        from: node(2),
        messages: vec![GroupMessage {
            group: GroupId(group),
            message,
        }],
    }
}
