//! What every session of a member shares.

use std::sync::Arc;

use kontiki_broker::Input;
use kontiki_storage::Storage;
use kontiki_transport::Pace;
use kontiki_wire::{ClusterCommand, Refusal, Request, Response, StreamEnd, TopicName};
use tokio::{
    sync::{Mutex, Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::error;

use crate::{
    answers::{Answers, PendingResponse},
    limits::{CONFIRMED_MAX, TOPIC_AWAITED_MAX},
    present::Present,
    renewals::Renewals,
    signing::Signing,
    topics::{KeptTopic, Topics},
    unsent::Unsent,
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) topics: Topics,
    pub(crate) answers: Answers,
    /// To the driver.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// One slot for each request of a client.
    pub(crate) requests: Arc<Pace>,
    /// One permit for each byte of a batch that is not answered yet, over all producers.
    pub(crate) bytes_in_flight: Arc<Semaphore>,
    /// One permit for each read from the disk that may be under way.
    pub(crate) disk_reads: Arc<Semaphore>,
    /// Held by the one walk over the log that reads just now.
    pub(crate) walking: Arc<Mutex<()>>,
    pub(crate) storage: Storage,
    /// What clients have not taken yet.
    pub(crate) unsent: Arc<Unsent>,
    /// Whether topics are made on first use.
    pub(crate) auto_create: bool,
    /// How often the cluster was recovered.
    pub(crate) epoch: u64,
    pub(crate) signing: Signing,
    pub(crate) renewals: Arc<Renewals>,
    /// Clients that are connected.
    pub(crate) present: Present,
    /// Streams of producers and subscribers under way.
    pub(crate) streams: Arc<watch::Sender<usize>>,
    /// Becomes true when the member is going away.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Service {
    /// Refuses what is meant for another life of the cluster.
    pub(crate) fn check_epoch(&self, meant: Option<u64>) -> Result<(), Refusal> {
        match meant {
            Some(meant) if meant < self.epoch => Err(Refusal::Recovered { epoch: self.epoch }),
            Some(meant) if meant > self.epoch => Err(Refusal::Unavailable {
                why: format!(
                    "this member is of epoch {} of the cluster, which has been recovered since",
                    self.epoch
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Has the driver answer a request.
    pub(crate) async fn ask(&self, request: Request) -> Response {
        let pending = self.answers.open_ticket();
        let input = Input::Request {
            ticket: pending.ticket(),
            request,
        };
        self.put(input, pending).await
    }

    async fn put(&self, input: Input, pending: PendingResponse) -> Response {
        if self.inputs.send(input).await.is_err() {
            return Response::Refused(going_away());
        }
        match pending.response().await {
            Some(response) => response,
            None => Response::Refused(going_away()),
        }
    }

    /// Has the cluster's own group agree on a command, wherever its leader is.
    pub(crate) async fn agree(&self, command: ClusterCommand) -> Response {
        let pending = self.answers.open_ticket();
        let input = Input::Command {
            ticket: pending.ticket(),
            command,
        };
        self.put(input, pending).await
    }

    /// Resolves when this member has applied all that the cluster had agreed on before.
    pub(crate) async fn confirm(&self) -> Result<(), Refusal> {
        let unavailable = |why: String| Refusal::Unavailable { why };
        let mark = getrandom::u64()
            .map_err(|error| unavailable(format!("this machine gives no randomness: {error}")))?;
        let confirmed = self.agree(ClusterCommand::Confirm { mark });
        match timeout(CONFIRMED_MAX, confirmed).await {
            Ok(Response::Done) => Ok(()),
            Err(_) | Ok(Response::Refused(Refusal::Unknown)) => Err(unavailable(
                "the cluster has no leader that is known here, and without one this member does not know what was \
                 agreed on"
                    .to_owned(),
            )),
            Ok(Response::Refused(refusal)) => Err(refusal),
            Ok(other) => Err(unavailable(format!("the cluster answers {other:?}"))),
        }
    }

    /// A topic kept here, or why it cannot be had here. One that another member has just made may take
    /// a moment to be known here.
    pub(crate) async fn topic(&self, name: &TopicName) -> Result<Arc<KeptTopic>, Refusal> {
        if let Ok(topic) = timeout(TOPIC_AWAITED_MAX, self.topics.made(name)).await {
            return Ok(topic);
        }
        Err(self.elsewhere(name).await)
    }

    /// What to say of a topic that is not kept here.
    pub(crate) async fn elsewhere(&self, name: &TopicName) -> Refusal {
        let request = Request::Topic { name: name.clone() };
        match self.ask(request).await {
            Response::Topic(info) => Refusal::NotLeader {
                leader: info.leader,
            },
            Response::Refused(refusal) => refusal,
            _ => Refusal::NoSuchTopic {
                name: name.to_string(),
            },
        }
    }

    /// Reads from the disk, off the runtime's thread, when it is this read's turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, kontiki_storage::Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.disk_reads.clone().acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let read = spawn_blocking(move || {
            let _turn = turn;
            read()
        });
        match read.await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => {
                error!(%error, "a client's read fails");
                Err(Refusal::Unavailable {
                    why: error.to_string(),
                })
            }
            Err(_) => Err(going_away()),
        }
    }

    /// Counts a stream as long as what it gives back is held.
    pub(crate) fn stream(&self) -> StreamGuard {
        self.streams.send_modify(|streams| *streams += 1);
        StreamGuard(self.streams.clone())
    }

    /// Resolves when no producer's and no subscriber's stream is under way.
    pub(crate) async fn no_streams(&self) {
        // The sender is in self, so the waiting ends with what is waited for.
        let _ = self
            .streams
            .subscribe()
            .wait_for(|streams| *streams == 0)
            .await;
    }

    /// Resolves when the member is going away.
    pub(crate) async fn stopped(&self) {
        // An owner that has gone without a word is gone as well.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

/// A stream under way.
pub(crate) struct StreamGuard(Arc<watch::Sender<usize>>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.send_modify(|streams| *streams -= 1);
    }
}

pub(crate) fn going_away() -> Refusal {
    Refusal::Unavailable {
        why: "the member is stopping".to_owned(),
    }
}

/// Another member may know.
pub(crate) fn unheard() -> Refusal {
    Refusal::Unavailable {
        why: "this member has not heard yet how far the topic goes".to_owned(),
    }
}

/// How a stream of a client ends.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Say this and finish it.
    With(StreamEnd),
    /// The client has gone or has heard all there is.
    Silently,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::With(StreamEnd::Refused(refusal))
    }
}

impl From<kontiki_wire::Malformed> for Ended {
    fn from(malformed: kontiki_wire::Malformed) -> Self {
        Self::from(Refusal::Malformed {
            what: malformed.to_string(),
        })
    }
}

impl From<kontiki_transport::Error> for Ended {
    fn from(error: kontiki_transport::Error) -> Self {
        match error {
            kontiki_transport::Error::Malformed(malformed) => malformed.into(),
            _ => Self::Silently,
        }
    }
}
