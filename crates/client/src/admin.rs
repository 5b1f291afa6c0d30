//! Administration: topics, leaders, the cluster's status.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use kontiki_wire::{GroupId, Refusal, Request, Response, TopicInfo, TopicName, TopicSettings};
use tokio::time::Instant;

use crate::{
    connections::NoAnswer,
    error::AdminError,
    routing::{NoRoute, Routing, Unanswered},
    status::{ClusterStatus, Listed, Witness},
    verify::{ClusterVerified, verify},
};

/// How long a member may take to say how it is before it counts as down.
const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

/// Administration of the cluster. Every call ends within the client's deadline.
#[derive(Clone)]
pub struct Admin {
    pub(crate) routing: Arc<Routing>,
    deadline: Duration,
}

impl Admin {
    pub(crate) fn new(routing: Arc<Routing>, deadline: Duration) -> Self {
        Self { routing, deadline }
    }

    /// Makes a topic; fails with [`AdminError::TopicExists`] if there is one of that name. If an
    /// attempt got lost on the way, and there is one then, that is taken for the one it made.
    pub async fn create_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<TopicInfo, AdminError> {
        match self.create(name, settings).await? {
            (Response::Topic(info), _) | (Response::Exists(info), true) => Ok(info),
            (Response::Exists(_), false) => Err(AdminError::TopicExists {
                topic: name.clone(),
            }),
            (other, _) => Err(refused(other)),
        }
    }

    /// Makes a topic unless there is one of that name; returns the one there is then.
    pub async fn ensure_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<TopicInfo, AdminError> {
        match self.create(name, settings).await? {
            (Response::Topic(info) | Response::Exists(info), _) => Ok(info),
            (other, _) => Err(refused(other)),
        }
    }

    async fn create(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<(Response, bool), AdminError> {
        let request = Request::CreateTopic {
            name: name.clone(),
            settings,
        };
        self.ask_leader(None, &request).await
    }

    /// All topics, by name: every one that was made by now, so somebody has to lead the cluster's own
    /// group. Leaders and ends are as members know them, those who keep a topic before those who do not.
    /// [`status`](Self::status) tells what is known without.
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, AdminError> {
        let metadata = self.routing.topics(self.until()).await;
        let mut topics = metadata.map_err(|why| self.no_answer(why, false))?.topics;
        if topics.iter().any(|topic| topic.leader.is_none()) {
            self.ask_who_keeps(&mut topics).await;
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Completes what a member told of topics that it does not keep.
    async fn ask_who_keeps(&self, topics: &mut [TopicInfo]) {
        let told = self.routing.ask_all(&Request::Metadata, STATUS_TIME_MAX);
        let told = told.await.into_iter();
        let told = told.filter_map(|(_, answer)| match answer {
            Ok(Response::Metadata { topics, .. }) => Some(topics),
            _ => None,
        });
        let mut best: HashMap<GroupId, TopicInfo> = HashMap::new();
        for info in told.flatten() {
            let known = |info: &TopicInfo| (info.leader.is_some(), info.next);
            let before = best.get(&info.group);
            if before.is_none_or(|before| known(before) < known(&info)) {
                best.insert(info.group, info);
            }
        }
        for topic in topics.iter_mut().filter(|topic| topic.leader.is_none()) {
            if let Some(known) = best.remove(&topic.group) {
                (topic.leader, topic.first) = (known.leader, known.first);
                topic.next = topic.next.max(known.next);
            }
        }
    }

    /// One topic, as its leader knows it: its end includes every record that was acknowledged by now.
    /// If nobody leads it, as the member that is furthest ahead knows it; then it has no `leader`, and
    /// its end may lie before that.
    pub async fn describe_topic(&self, name: &TopicName) -> Result<TopicInfo, AdminError> {
        match self.routing.topic_at_leader(name, self.until()).await {
            Ok(info) => Ok(info),
            Err(NoRoute::NoSuchTopic) => Err(AdminError::NoSuchTopic {
                topic: name.to_string(),
            }),
            Err(why) => Err(self.no_answer(why, false)),
        }
    }

    /// Removes a topic and all its records.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        let request = Request::DeleteTopic { name: name.clone() };
        match self.ask_leader(None, &request).await? {
            (Response::Done, _) => Ok(()),
            // An attempt that got lost on the way has removed it.
            (Response::Refused(Refusal::NoSuchTopic { .. }), true) => Ok(()),
            (other, _) => Err(refused(other)),
        }
    }

    /// Hands the leadership of a topic, or of the cluster's own group, to a member.
    pub async fn transfer_leader(
        &self,
        topic: Option<&TopicName>,
        to: &str,
    ) -> Result<(), AdminError> {
        let request = Request::TransferLeader {
            topic: topic.cloned(),
            to: to.to_owned(),
        };
        match self.ask_leader(topic, &request).await? {
            (Response::Done, _) => {
                if let Some(topic) = topic {
                    self.routing.hint(topic, to);
                }
                Ok(())
            }
            (other, _) => Err(refused(other)),
        }
    }

    /// Asks every member what it knows, and joins the answers. A member that does not answer within a
    /// second is `down` in the result; only when none answers is it an error.
    pub async fn status(&self) -> Result<ClusterStatus, AdminError> {
        let metadata = self
            .routing
            .metadata(self.until())
            .await
            .map_err(|why| self.no_answer(why, false))?;
        let (answers, confirmed) = tokio::join!(
            self.routing.ask_all(&Request::Status, STATUS_TIME_MAX),
            self.routing.topics(Instant::now() + STATUS_TIME_MAX),
        );
        let witnesses = answers.into_iter().map(|(member, answer)| Witness {
            name: member.name().to_string(),
            said: match answer {
                Ok(Response::Status(status)) => Ok(status),
                Ok(Response::Refused(refusal)) => Err(refusal.to_string()),
                Ok(_) => Err("it gave an answer to another question".to_owned()),
                Err(why) => Err(why.to_string()),
            },
        });
        let listed = Listed {
            confirmed: confirmed.is_ok(),
            known: confirmed.unwrap_or(metadata),
        };
        Ok(ClusterStatus::join(
            self.routing.cluster(),
            &listed,
            witnesses.collect(),
        ))
    }

    /// Has every member read all of its own log, slowly, so that other work goes on, and holds the
    /// replicas against each other. What a member finds damaged it repairs by itself. Takes as long as
    /// it takes; dropping it ends it. `progress` is told how many entries of how many have been read. A
    /// member that does not answer is part of the answer; only when none answers is it an error.
    pub async fn verify(
        &self,
        progress: impl FnMut(u64, u64),
    ) -> Result<ClusterVerified, AdminError> {
        let confirmed = self.routing.topics(Instant::now() + STATUS_TIME_MAX).await;
        let mut listed = Listed {
            confirmed: confirmed.is_ok(),
            known: match confirmed {
                Ok(confirmed) => confirmed,
                // Nobody leads: what one of them knows can be read all the same.
                Err(_) => {
                    let metadata = self.routing.metadata(self.until()).await;
                    metadata.map_err(|why| self.no_answer(why, false))?
                }
            },
        };
        listed.known.topics.sort_by(|a, b| a.name.cmp(&b.name));
        verify(&self.routing, &listed, progress).await
    }

    pub(crate) fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    pub(crate) async fn ask_leader(
        &self,
        topic: Option<&TopicName>,
        request: &Request,
    ) -> Result<(Response, bool), AdminError> {
        let asked = self.routing.ask_leader(topic, request, self.until());
        asked
            .await
            .map_err(|Unanswered { why, maybe_done }| self.no_answer(why, maybe_done))
    }

    pub(crate) fn no_answer(&self, why: NoRoute, may_have_happened: bool) -> AdminError {
        let unavailable = |no_answer: NoAnswer| AdminError::Unavailable {
            waited_ms: self.deadline.as_millis() as u64,
            last: no_answer.why,
            may_have_happened,
        };
        match why {
            NoRoute::NotPermitted(what) => AdminError::NotPermitted { what },
            NoRoute::Closed => AdminError::Closed,
            NoRoute::NoSuchTopic => unavailable(NoAnswer::new("the topic is not known")),
            NoRoute::NoAnswer(why) => unavailable(why),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({})", self.routing.cluster())
    }
}

/// An answer that is none.
pub(crate) fn refused(response: Response) -> AdminError {
    match response {
        Response::Refused(Refusal::NoSuchTopic { name }) => AdminError::NoSuchTopic { topic: name },
        Response::Refused(Refusal::NoSuchMember { name, known }) => AdminError::NoSuchMember {
            member: name,
            known,
        },
        Response::Refused(Refusal::NotPermitted { what }) => {
            AdminError::NotPermitted { what: what.into() }
        }
        Response::Refused(refusal) => AdminError::Refused {
            why: refusal.to_string().into(),
        },
        _ => AdminError::Refused {
            why: "a member gave an answer to another question".into(),
        },
    }
}
