//! The handles a user starts from.

use std::{fmt, sync::Arc, time::Duration};

use kontiki_transport::{Credentials, Endpoint, Plane};
use kontiki_wire::{ClusterId, From, TopicName, Turnover};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    admin::Admin,
    connections::NoAnswer,
    dialler::Dialler,
    error::ConnectError,
    options::{ConnectOptions, InvalidOption, ProducerConfig},
    producer::Producer,
    routing::{NoRoute, Routing},
    subscription::{SubscribeBuilder, Subscription},
    ticket::Ticket,
};

/// A cluster, as one of its clients. Cheap to clone; clones share the connections to each member.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    routing: Arc<Routing>,
    deadline: Duration,
    producer: ProducerConfig,
    runtime: Handle,
}

impl Client {
    /// Reaches one member within the deadline; the others are dialled when they are needed. Takes
    /// [`ConnectOptions`], or a [`Context`](crate::Context). Needs a tokio runtime.
    pub async fn connect<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<ConnectOptions>,
        ConnectError: std::convert::From<O::Error>,
    {
        let options = options.try_into()?;
        let addresses = options.addresses.join(", ");
        let client = Self::with(options)?;
        let deadline = Instant::now() + client.inner.deadline;
        match client.inner.routing.refresh(deadline).await {
            Ok(_) => Ok(client),
            Err(NoRoute::NotPermitted(why)) => Err(ConnectError::Credentials { why }),
            Err(NoRoute::NoAnswer(NoAnswer {
                why,
                strangers: true,
                ..
            })) => Err(ConnectError::Strangers { why }),
            Err(no_route) => Err(ConnectError::Unreachable {
                waited_ms: client.inner.deadline.as_millis() as u64,
                addresses,
                last: match no_route {
                    NoRoute::NoAnswer(no_answer) => no_answer.why,
                    _ => "it was closed".into(),
                },
            }),
        }
    }

    /// As [`connect`](Self::connect), but dials nothing yet: works while no member is up.
    pub fn lazy<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<ConnectOptions>,
        ConnectError: std::convert::From<O::Error>,
    {
        Self::with(options.try_into()?)
    }

    fn with(options: ConnectOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let runtime = Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let unusable = |why: kontiki_transport::Error| ConnectError::Credentials {
            why: why.to_string().into(),
        };
        let credentials = Credentials::from_pem(
            &options.certificate_pem,
            &options.key_pem.0,
            &options.ca_pem,
            "",
        )
        .map_err(unusable)?;
        let certificate = credentials.identity().cluster;
        if let Some(context) = options.cluster.filter(|cluster| *cluster != certificate) {
            return Err(ConnectError::OtherCluster {
                certificate,
                context,
            });
        }
        let endpoint = Endpoint::dialer(Plane::Clients, &credentials).map_err(unusable)?;
        let dialler = Dialler::new(endpoint, options.files);
        let routing = Routing::new(dialler, certificate, options.addresses);
        Ok(Self {
            inner: Arc::new(Inner {
                name: options.name,
                routing: Arc::new(routing),
                deadline: options.deadline,
                producer: options.producer,
                runtime,
            }),
        })
    }

    /// The cluster that the certificate belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.routing.cluster()
    }

    /// A topic by its name. Nothing is asked of the cluster yet.
    pub fn topic(&self, name: impl AsRef<str>) -> Result<Topic, InvalidOption> {
        let name = name.as_ref();
        match name.parse::<TopicName>() {
            Ok(name) => Ok(Topic {
                client: self.clone(),
                name,
            }),
            Err(must) => Err(InvalidOption {
                option: "the topic's name",
                given: format!("{name:?}"),
                must: must.into(),
            }),
        }
    }

    /// Administration.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.inner.routing), self.inner.deadline)
    }

    /// Which authority of the members takes the place of another, or did, as far as a member has told. It is one
    /// member's word: by it one asks for another certificate, and believes nobody.
    #[must_use]
    pub fn turnover(&self) -> Option<Turnover> {
        self.inner.routing.turnover()
    }

    /// The authorities that members' certificates chain to, as PEM.
    pub(crate) fn node_roots_pem(&self) -> String {
        self.inner.routing.node_roots_pem()
    }

    /// Closes all connections, telling the members; for all clones. Close producers before: what they
    /// still have fails.
    pub async fn close(&self) {
        self.inner.routing.close().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} of {})", self.inner.name, self.cluster_id())
    }
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
        self.spawn(self.client.inner.producer.clone())
    }

    /// A producer of one's own making.
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer, InvalidOption> {
        config.check()?;
        Ok(self.spawn(config))
    }

    fn spawn(&self, config: ProducerConfig) -> Producer {
        let Inner {
            name,
            routing,
            runtime,
            ..
        } = &*self.client.inner;
        let topic = self.name.clone();
        Producer::spawn(topic, config, Arc::clone(routing), name, runtime)
    }

    /// Reads the topic from here on; `.until(..)` says where to end, `.await` begins.
    pub fn subscribe(&self, from: From) -> SubscribeBuilder {
        let Inner {
            routing, deadline, ..
        } = &*self.client.inner;
        SubscribeBuilder::new(self.name.clone(), from, Arc::clone(routing), *deadline)
    }
}

/// Handles can be shared between threads and sent to others: this does not compile otherwise.
const _: fn() = || {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Topic>();
    shared::<Producer>();
    shared::<Admin>();
    shared::<Ticket>();
    sent::<SubscribeBuilder>();
    sent::<Subscription>();
};
