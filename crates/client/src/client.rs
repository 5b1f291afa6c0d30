//! The handles a user starts from.

use kontiki_wire::{ClusterId, From, TopicName};

use crate::{
    admin::Admin,
    error::{ConnectError, InvalidOption},
    options::{ConnectOptions, ProducerConfig},
    producer::Producer,
    subscription::SubscribeBuilder,
};

/// A cluster, as one of its clients. Cheap to clone; clones share one connection to each member.
#[derive(Clone, Debug)]
pub struct Client {}

impl Client {
    /// Reaches one member within the deadline; the others are dialled when they are needed. Takes
    /// [`ConnectOptions`], or a [`Context`](crate::Context). Needs a tokio runtime.
    pub async fn connect<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<ConnectOptions>,
        ConnectError: std::convert::From<O::Error>,
    {
        Self::lazy(options)
    }

    /// As [`connect`](Self::connect), but dials nothing yet: works while no member is up.
    pub fn lazy<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<ConnectOptions>,
        ConnectError: std::convert::From<O::Error>,
    {
        let options = options.try_into()?;
        options.check()?;
        let _ = (&options.addresses, options.cluster, &options.key_pem.0);
        let _ = (&options.certificate_pem, &options.ca_pem);
        unreachable!("skeleton")
    }

    /// The cluster that the certificate belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        unreachable!("skeleton")
    }

    /// A topic by its name. Nothing is asked of the cluster yet.
    pub fn topic(&self, name: impl AsRef<str>) -> Result<Topic, InvalidOption> {
        let name = name.as_ref();
        match name.parse() {
            Ok(name) => Ok(Topic {
                client: self.clone(),
                name,
            }),
            Err(must) => Err(InvalidOption {
                option: "the topic's name",
                given: format!("{name:?}"),
                must,
            }),
        }
    }

    /// Administration.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Closes all connections. What has not been flushed before is lost to its tickets.
    pub async fn close(&self) {}
}

/// A topic of a cluster.
#[derive(Clone, Debug)]
pub struct Topic {
    client: Client,
    name: TopicName,
}

impl Topic {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// A producer as the client's options describe it.
    #[must_use]
    pub fn producer(&self) -> Producer {
        let _ = &self.client;
        unreachable!("skeleton")
    }

    /// A producer of one's own making.
    pub fn producer_with(&self, _config: ProducerConfig) -> Result<Producer, InvalidOption> {
        unreachable!("skeleton")
    }

    /// Reads the topic from here on; `.until(..)` says where to end, `.await` begins.
    pub fn subscribe(&self, from: From) -> SubscribeBuilder {
        SubscribeBuilder::new(self.name.clone(), from)
    }
}
