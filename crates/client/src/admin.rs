//! Administration: topics, leaders, the cluster's status.

use kontiki_wire::{TopicInfo, TopicName, TopicSettings};

use crate::{client::Client, error::AdminError, status::ClusterStatus};

/// Administration of the cluster. Every call ends within the client's deadline.
#[derive(Clone, Debug)]
pub struct Admin {
    _client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { _client: client }
    }

    /// Makes a topic; fails with [`AdminError::TopicExists`] if there is one of that name.
    pub async fn create_topic(
        &self,
        _name: &TopicName,
        _settings: TopicSettings,
    ) -> Result<TopicInfo, AdminError> {
        unreachable!("skeleton")
    }

    /// Makes a topic unless there is one of that name; returns the one there is then.
    pub async fn ensure_topic(
        &self,
        _name: &TopicName,
        _settings: TopicSettings,
    ) -> Result<TopicInfo, AdminError> {
        unreachable!("skeleton")
    }

    /// All topics, by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, AdminError> {
        unreachable!("skeleton")
    }

    /// One topic, as its leader knows it.
    pub async fn describe_topic(&self, _name: &TopicName) -> Result<TopicInfo, AdminError> {
        unreachable!("skeleton")
    }

    /// Removes a topic and all its records.
    pub async fn delete_topic(&self, _name: &TopicName) -> Result<(), AdminError> {
        unreachable!("skeleton")
    }

    /// Hands the leadership of a topic, or of the cluster's own group, to a member.
    pub async fn transfer_leader(
        &self,
        _topic: Option<&TopicName>,
        _to: &str,
    ) -> Result<(), AdminError> {
        unreachable!("skeleton")
    }

    /// Asks every member what it knows, and joins the answers. A member that does not answer is
    /// `down` in the result; only when none answers is it an error.
    pub async fn status(&self) -> Result<ClusterStatus, AdminError> {
        unreachable!("skeleton")
    }
}
