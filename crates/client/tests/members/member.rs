//! One member of the stage: answers what comes as the script says.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kontiki_transport::{Connection, Endpoint, FrameReader, FrameWriter};
use kontiki_wire::{
    Acknowledged, Answer, AppendRefused, Batch, ClientStream, Deliver, DeliveredBatch, From,
    GroupId, GroupStatus, MemberStatus, Offset, Produced, Refusal, ReplicaStatus, Request,
    Response, StreamEnd, Subscribe, TopicName, Until, Walked, limits::CLIENT_FRAME_BYTES_MAX,
};
use tokio::time::{Duration, sleep};

use crate::stage::{Act, Reader, Seen, Shared, State};

/// An idle subscription gets a sign of life this often.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// The append time of the record at an offset is this much for each offset.
pub(crate) const TIME_STEP: u64 = 1_000;

pub(crate) async fn serve(endpoint: &Endpoint, name: &str, shared: &Arc<Shared>) {
    while let Some(connection) = endpoint.accept().await {
        shared.with(|state| state.connections += 1);
        let member = Member {
            name: name.to_owned(),
            shared: Arc::clone(shared),
            connection: connection.clone(),
        };
        tokio::spawn(async move {
            while let Ok((writer, reader)) = connection.accept().await {
                tokio::spawn(member.clone().stream(writer, reader));
            }
        });
    }
}

#[derive(Clone)]
struct Member {
    name: String,
    shared: Arc<Shared>,
    connection: Connection,
}

impl Member {
    /// Says nothing while it is mute, and takes its time.
    async fn speak(&self) {
        sleep(self.shared.with(|state| state.delay)).await;
        let silent = |state: &State| state.mute.contains(&self.name);
        self.shared.until(|state| !silent(state)).await;
    }

    async fn stream(self, mut writer: FrameWriter, mut reader: FrameReader) {
        let Ok(Some(frame)) = reader.next(CLIENT_FRAME_BYTES_MAX).await else {
            return;
        };
        self.speak().await;
        let refused = self
            .shared
            .with(|state| state.refusing.get(&self.name).cloned());
        let stream = ClientStream::decode(&frame).unwrap();
        match (stream, refused) {
            (ClientStream::Requests, _) => self.requests(&mut writer, &mut reader).await,
            (_, Some(refusal)) => end(&mut writer, StreamEnd::Refused(refusal)).await,
            (ClientStream::Produce { topic, .. }, None) => {
                self.produce(&topic, &mut writer, &mut reader).await;
            }
            (ClientStream::SubscribeIfFew(subscribe), None) => {
                let ends = self.shared.with(|state| {
                    state.asked_if_few += 1;
                    state.ends_if_few.get(&self.name).cloned()
                });
                match ends {
                    Some(with) => end(&mut writer, with).await,
                    None => self.subscription(&subscribe, &mut writer).await,
                }
            }
            (ClientStream::Subscribe(subscribe), None) => {
                self.subscription(&subscribe, &mut writer).await;
            }
        }
    }

    async fn requests(&self, writer: &mut FrameWriter, reader: &mut FrameReader) {
        while let Ok(Some(frame)) = reader.next(CLIENT_FRAME_BYTES_MAX).await {
            self.speak().await;
            let request = Request::decode(&frame).unwrap();
            self.shared.with(|state| state.asked += 1);
            if request == Request::Members && self.shared.with(|state| state.earlier_build) {
                let what = "it is no request".to_owned();
                return end(writer, StreamEnd::Refused(Refusal::Malformed { what })).await;
            }
            let response = self.shared.with(|state| self.respond(state, request));
            let mut out = BytesMut::new();
            response.encode(&mut out);
            if writer.write(out.freeze()).await.is_err() {
                return;
            }
        }
    }

    fn respond(&self, state: &mut State, request: Request) -> Response {
        let unknown = |name: &TopicName| {
            Response::Refused(Refusal::NoSuchTopic {
                name: name.to_string(),
            })
        };
        match request {
            // The cluster's own group is led by the last member.
            Request::Topics if !self.leads_the_cluster(state) => {
                let leader = state.infos.last().map(|last| last.name.clone());
                Response::Refused(Refusal::NotLeader { leader })
            }
            Request::Metadata | Request::Topics | Request::Members => Response::Metadata {
                cluster: self.connection_cluster(),
                members: state.infos.clone(),
                topics: state
                    .topics
                    .keys()
                    .filter(|_| request != Request::Members)
                    .filter_map(|name| state.info(name, &self.name))
                    .collect(),
                auto_create: state.auto_create,
                turnover: None,
            },
            Request::Topic { name } => match state.info(&name, &self.name) {
                Some(info) => Response::Topic(info),
                None => unknown(&name),
            },
            Request::CreateTopic { .. } | Request::DeleteTopic { .. }
                if !self.leads_the_cluster(state) =>
            {
                let leader = state.infos.last().map(|last| last.name.clone());
                Response::Refused(Refusal::NotLeader { leader })
            }
            Request::CreateTopic { name, .. } => match state.info(&name, &self.name) {
                Some(info) => Response::Exists(info),
                None => {
                    state.make(name.as_str(), "n1");
                    Response::Topic(state.info(&name, &self.name).unwrap())
                }
            },
            Request::DeleteTopic { name } => match state.topics.remove(&name) {
                Some(_) => Response::Done,
                None => unknown(&name),
            },
            Request::TransferLeader { topic, to } => self.transfer(state, topic, to),
            Request::OffsetAt { topic, time } => match state.topics.get(&topic) {
                Some(topic) => Response::Offset(Offset(time.div_ceil(TIME_STEP).min(topic.next))),
                None => unknown(&topic),
            },
            Request::Status => Response::Status(self.status(state)),
            Request::Walk { first, .. } => Response::Walked(Walked {
                placed: state.claims.get(&self.name).copied().unwrap_or_default(),
                upto: first - 1,
                ..Walked::default()
            }),
            other => panic!("{other:?} is not in the script"),
        }
    }

    fn leads_the_cluster(&self, state: &State) -> bool {
        state
            .infos
            .last()
            .is_some_and(|last| last.name == self.name)
    }

    fn connection_cluster(&self) -> kontiki_wire::ClusterId {
        self.connection.identity().cluster
    }

    fn transfer(&self, state: &mut State, topic: Option<TopicName>, to: String) -> Response {
        let known: Vec<_> = state.infos.iter().map(|info| info.name.clone()).collect();
        if !known.contains(&to) {
            return Response::Refused(Refusal::NoSuchMember { name: to, known });
        }
        let Some(topic) = topic.and_then(|name| state.topics.get_mut(&name)) else {
            return Response::Done;
        };
        if topic.leader.as_ref() != Some(&self.name) {
            let keepers = topic.keepers.as_ref();
            let keeps = keepers.is_none_or(|keepers| keepers.contains(&self.name));
            let leader = topic.leader.clone().filter(|_| keeps);
            return Response::Refused(Refusal::NotLeader { leader });
        }
        topic.leader = Some(to);
        Response::Done
    }

    fn status(&self, state: &State) -> MemberStatus {
        let replicas = |leads: bool| {
            let replica = |name: &String| ReplicaStatus {
                name: name.clone(),
                match_offset: Offset(0),
                lag: 0,
                state: if *name == self.name {
                    "leader"
                } else {
                    "follower"
                }
                .to_owned(),
                ..ReplicaStatus::default()
            };
            let names = state.infos.iter().map(|info| &info.name);
            if leads {
                names.map(replica).collect()
            } else {
                Vec::new()
            }
        };
        let last = state.infos.last().map(|last| last.name.clone());
        let mut groups = vec![GroupStatus {
            group: GroupId::CLUSTER,
            replicas: replicas(last.as_ref() == Some(&self.name)),
            leader: last,
            term: 3,
            first: Offset(0),
            next: Offset(0),
            wanted: Vec::new(),
            waits: None,
            fetching: None,
        }];
        groups.extend(state.topics.values().map(|topic| GroupStatus {
            group: GroupId(topic.group),
            leader: topic.leader.clone(),
            term: 5,
            first: Offset(topic.first),
            next: Offset(topic.next),
            replicas: replicas(topic.leader.as_ref() == Some(&self.name)),
            wanted: Vec::new(),
            waits: None,
            fetching: None,
        }));
        let own = state.infos.iter().find(|info| info.name == self.name);
        MemberStatus {
            member: own.unwrap().clone(),
            recovering: Vec::new(),
            groups,
            placing: Vec::new(),
            up_seconds: 1,
            build: String::new(),
            version: 1,
        }
    }

    async fn produce(&self, topic: &TopicName, writer: &mut FrameWriter, reader: &mut FrameReader) {
        while let Ok(Some(frame)) = reader.next(CLIENT_FRAME_BYTES_MAX).await {
            let batch = Produced::decode(&frame).unwrap().batch;
            let header = *batch.header();
            let member = self.name.clone();
            self.shared
                .with(|state| state.seen.push(Seen { member, header }));
            // Whoever is held takes note of what comes after, so that pipelining can be seen.
            if self.shared.with(|state| state.held) {
                self.hold(topic, batch, writer, reader).await;
                continue;
            }
            if !self.take(topic, &batch, writer).await {
                return;
            }
        }
    }

    /// Collects batches until it may go on, then takes them all.
    async fn hold(
        &self,
        topic: &TopicName,
        first: Batch,
        writer: &mut FrameWriter,
        reader: &mut FrameReader,
    ) {
        let mut batches = vec![first];
        loop {
            tokio::select! {
                frame = reader.next(CLIENT_FRAME_BYTES_MAX) => {
                    let Ok(Some(frame)) = frame else { return };
                    let batch = Produced::decode(&frame).unwrap().batch;
                    let (member, header) = (self.name.clone(), *batch.header());
                    self.shared.with(|state| state.seen.push(Seen { member, header }));
                    batches.push(batch);
                }
                () = self.shared.until(|state| !state.held) => break,
            }
        }
        for batch in batches {
            if !self.take(topic, &batch, writer).await {
                return;
            }
        }
    }

    /// Does the next deed of the script. False if the stream is over.
    async fn take(&self, topic: &TopicName, batch: &Batch, writer: &mut FrameWriter) -> bool {
        self.speak().await;
        let answer = self.shared.with(|state| self.deed(state, topic, batch));
        match answer {
            Deed::Answer(answer) => {
                let mut out = BytesMut::new();
                Acknowledged::encode(&[answer], &mut out);
                writer.write(out.freeze()).await.is_ok()
            }
            Deed::HangUp => {
                self.connection.close(7, "the script says so");
                false
            }
            Deed::Nothing => true,
        }
    }

    fn deed(&self, state: &mut State, topic: &TopicName, batch: &Batch) -> Deed {
        let act = state.script.pop_front().unwrap_or(Act::Take);
        let sequence = batch.header().sequence;
        let refuse = |refusal| Deed::Answer(Err(AppendRefused { sequence, refusal }));
        let Some(topic) = state.topics.get_mut(topic) else {
            let name = topic.to_string();
            return refuse(Refusal::NoSuchTopic { name });
        };
        if topic.leader.as_ref() != Some(&self.name) {
            let leader = topic.leader.clone();
            return refuse(Refusal::NotLeader { leader });
        }
        let mut take = || match topic.append(batch) {
            Ok(offset) => Deed::Answer(Ok(Acknowledged {
                sequence,
                offset,
                time: offset.0 * TIME_STEP,
            })),
            Err(refusal) => refuse(refusal),
        };
        match act {
            Act::Take => take(),
            Act::Refuse(refusal) => refuse(refusal),
            Act::TakeUnknown => {
                take();
                refuse(Refusal::Unknown)
            }
            Act::TakeAndHangUp => {
                take();
                Deed::HangUp
            }
            Act::HangUp => Deed::HangUp,
            Act::Confuse => Deed::Answer(Ok(Acknowledged {
                sequence: sequence + 1_000_000,
                offset: Offset(0),
                time: 0,
            })),
            Act::TakeInSilence => {
                take();
                Deed::Nothing
            }
        }
    }

    async fn subscription(&self, subscribe: &Subscribe, writer: &mut FrameWriter) {
        let mut place = match self.shared.with(|state| self.begin(state, subscribe)) {
            Ok(place) => place,
            Err(refusal) => return end(writer, StreamEnd::Refused(refusal)).await,
        };
        if !self.deliver(&subscribe.topic, None, writer).await {
            return;
        }
        let mut sent = 0;
        loop {
            self.speak().await;
            let reader = self
                .shared
                .with(|state| state.readers.get(&self.name).copied());
            match reader.unwrap_or(Reader::Serve) {
                Reader::HangUpAfter(count) if sent >= count => {
                    // What has not arrived when a connection is closed is lost.
                    writer.finish();
                    writer.stopped().await;
                    return self.connection.close(7, "the script says so");
                }
                Reader::FallSilentAfter(count) if sent >= count => {
                    return std::future::pending().await;
                }
                Reader::EndAfter(count) if sent >= count => {
                    return end(writer, StreamEnd::Reached).await;
                }
                Reader::CrowdedAfter(count) if sent >= count => {
                    return end(writer, StreamEnd::Crowded).await;
                }
                Reader::Skip(at) if sent == at => place += 1,
                Reader::Repeat(at) if sent == at + 1 => place -= 1,
                _ => {}
            }
            let next = self.shared.with(|state| {
                let topic = state.topics.get(&subscribe.topic)?;
                let next = topic.log.get(place).cloned();
                Some(next.filter(|(offset, _)| !is_beyond(*offset, subscribe.until)))
            });
            let went = match next {
                None => {
                    let group = GroupId(1);
                    return end(writer, StreamEnd::Deleted { group }).await;
                }
                Some(Some((offset, batch))) => {
                    sent += 1;
                    place += 1;
                    let bytes = batch.bytes().clone();
                    self.deliver(&subscribe.topic, Some((offset, bytes)), writer)
                        .await
                }
                Some(None) => {
                    let length = place;
                    let grown = self.shared.until(|state| {
                        let topic = state.topics.get(&subscribe.topic);
                        topic.is_none_or(|topic| topic.log.len() > length)
                    });
                    tokio::select! {
                        () = grown => true,
                        () = sleep(SIGN_OF_LIFE) => {
                            self.speak().await;
                            self.deliver(&subscribe.topic, None, writer).await
                        }
                    }
                }
            };
            if !went {
                return;
            }
        }
    }

    /// The place in the log of the batch to begin with: the one that holds the offset.
    fn begin(&self, state: &mut State, subscribe: &Subscribe) -> Result<usize, Refusal> {
        let from = match subscribe.from {
            From::Earliest => None,
            From::Offset(offset) => Some(offset.0),
            other => panic!("{other:?} was to be resolved by the client"),
        };
        state.served.push((self.name.clone(), from));
        let Some(topic) = state.topics.get(&subscribe.topic) else {
            let name = subscribe.topic.to_string();
            return Err(Refusal::NoSuchTopic { name });
        };
        let from = from.unwrap_or(topic.first);
        if from < topic.first {
            return Err(Refusal::OffsetOutOfRange {
                first: topic.first,
                next: topic.next,
            });
        }
        let ends = |(offset, batch): &(u64, Batch)| offset + u64::from(batch.header().count);
        Ok(topic.log.iter().filter(|entry| ends(entry) <= from).count())
    }

    async fn deliver(
        &self,
        topic: &TopicName,
        batch: Option<(u64, Bytes)>,
        writer: &mut FrameWriter,
    ) -> bool {
        let bytes = batch.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let watermark = self
            .shared
            .with(|state| state.topics.get(topic).map_or(0, |topic| topic.next));
        let delivery = Deliver {
            watermark: Offset(watermark),
            batches: batch
                .into_iter()
                .map(|(offset, batch)| DeliveredBatch {
                    offset: Offset(offset),
                    time: offset * TIME_STEP,
                    batch,
                })
                .collect(),
        };
        let mut out = BytesMut::new();
        delivery.encode(&mut out);
        if writer.write(out.freeze()).await.is_err() {
            return false;
        }
        self.shared.with(|state| state.delivered += bytes);
        true
    }
}

enum Deed {
    Answer(Answer),
    HangUp,
    Nothing,
}

/// Whether a member has no reason to send what begins there.
fn is_beyond(offset: u64, until: Until) -> bool {
    matches!(until, Until::Offset(end) if offset >= end.0)
}

async fn end(writer: &mut FrameWriter, end: StreamEnd) {
    let mut out = BytesMut::new();
    end.encode(&mut out);
    // Whoever has gone does not hear why.
    let _ = writer.write(out.freeze()).await;
    writer.finish();
    writer.stopped().await;
}
