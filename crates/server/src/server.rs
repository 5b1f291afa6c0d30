//! A whole member: wiring, start and stop, in one place.

use std::{net::SocketAddr, sync::Arc};

use kontiki_broker::Members;
use kontiki_transport::{Endpoint, Pace};
use kontiki_wire::ClusterId;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tracing::{error, info};

use crate::{
    agreed::Agreed,
    answers::Answers,
    arrivals::{Arrivals, Paced},
    awake::Awake,
    boot::{Booted, boot},
    budget::Budget,
    catch_up::CatchUp,
    config::Config,
    driver::{Driver, Inputs, OnTheirWay, Order},
    error::{ServerError, StartError},
    fetching::Fetches,
    handover::{hand_over, status},
    keeper::Keeper,
    limits::{
        CLIENT_INPUTS_MAX, DISK_READS_MAX, FAREWELL_MAX, ORDERS_MAX, PEER_INPUTS_MAX,
        REQUESTS_IN_A_BURST, REQUESTS_PER_SECOND, SAID_MAX, STOPPING_MAX, UNSENT_BYTES_MAX,
    },
    links::{Callers, Links},
    member::node_ref,
    present::Present,
    reception::Reception,
    renewals::Renewals,
    service::Service,
    session,
    shipping::Shipping,
    signing::Signing,
    topics::Topics,
    unsent::Unsent,
};

/// A running member. Dropping it ends it like a crash; [`Server::shutdown`] ends it well.
pub struct Server {
    cluster: ClusterId,
    address: SocketAddr,
    peer_address: SocketAddr,
    clients: Endpoint,
    peers: Endpoint,
    service: Service,
    orders: mpsc::Sender<Order>,
    members: watch::Receiver<Arc<Members>>,
    newcomer: bool,
    stopping: watch::Sender<bool>,
    ended: watch::Receiver<Option<Result<(), ServerError>>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Starts the member in `config.dir`. To be called within a tokio runtime, best one of its own with
    /// one thread. A damaged disk is no error: the member starts, says so, and neither votes nor leads.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let booted = boot(&config).await?;
        let known = known_members(&booted);
        let (cluster, auto_create) = (booted.member.cluster, booted.member.auto_create);
        let epoch = booted.member.epoch;
        let (clients, peers) = (booted.clients, booted.peers);
        let (beats, from_beats) = mpsc::channel(PEER_INPUTS_MAX);
        let (log, from_log) = mpsc::channel(PEER_INPUTS_MAX);
        let (client_inputs, from_clients) = mpsc::channel(CLIENT_INPUTS_MAX);
        let (orders, from_owner) = mpsc::channel(ORDERS_MAX);
        let (stopping, is_stopping) = watch::channel(false);
        let newcomer = known.next > booted.broker.cluster().next_member;
        let members = watch::Sender::new(Arc::new(known.clone()));
        let heard = members.subscribe();
        let agreed = Agreed::new(booted.broker.cluster().trust.clone());
        let agreed = watch::Sender::new(Arc::new(agreed));
        // Before anybody who is revoked is served; what they may have begun is ended.
        for endpoint in [&clients, &peers] {
            endpoint.set_revoked(&agreed.borrow().revoked);
        }
        let (saying, said) = mpsc::channel(SAID_MAX);
        let signing = Signing {
            vault: booted.vault.map(Arc::new),
            valid_for: config.certificates_valid,
            credentials: peers.credentials(),
            agreed: agreed.subscribe(),
        };
        let member = Arc::new(booted.member.clone());
        let callers = Callers::default();
        let service = Service {
            topics: Topics::new(),
            answers: Answers::default(),
            inputs: client_inputs,
            requests: Arc::new(Pace::new(REQUESTS_PER_SECOND, REQUESTS_IN_A_BURST)),
            bytes_in_flight: Arc::new(Semaphore::new(config.limits.bytes_in_flight)),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            walking: Arc::default(),
            storage: booted.storage.clone(),
            unsent: Arc::new(Unsent::new(UNSENT_BYTES_MAX)),
            auto_create,
            epoch: epoch.number,
            signing: signing.clone(),
            renewals: Arc::new(Renewals::new(config.certificates_valid)),
            present: Present::default(),
            streams: Arc::default(),
            stopping: is_stopping,
        };
        let least = config.limits.catch_up_bytes_per_second;
        let budget = Arc::new(Budget::new(booted.storage.clone(), least));
        let log_inputs = log.clone();
        let arrivals = Arrivals {
            cluster,
            epoch,
            me: booted.me,
            founders: booted.member.members.iter().map(node_ref).collect(),
            members: members.subscribe(),
            callers: callers.clone(),
            shipping: Shipping::new(booted.storage.clone(), budget.clone()),
            agreed: agreed.subscribe(),
            said: saying,
            paced: Paced::default(),
            beats: beats.clone(),
            log,
        };
        let reception = Reception {
            service: service.clone(),
            orders: orders.clone(),
            members: members.subscribe(),
            member: Arc::clone(&member),
        };
        let keeper = Keeper {
            dir: config.dir.clone(),
            member,
            endpoints: [clients.clone(), peers.clone()],
            signing,
            members: members.subscribe(),
            agreed: agreed.subscribe(),
            orders: orders.clone(),
            service: service.clone(),
            said,
        };
        let me = (booted.me, booted.member.me().peer_address.clone());
        let fetches = Fetches::new(booted.storage.clone(), log_inputs, budget.clone());
        let mut links = Links::new((cluster, epoch), me, peers.clone(), beats, callers, budget);
        links.set_members(&known.list);
        let driver = Driver {
            me: booted.me,
            broker: booted.broker,
            clock: booted.clock,
            storage: booted.storage,
            links,
            fetches,
            topics: service.topics.clone(),
            answers: service.answers.clone(),
            members,
            agreed,
            inputs: Inputs {
                events: booted.events,
                beats: from_beats,
                log: from_log,
                clients: from_clients,
                orders: from_owner,
            },
            precedence: peers.precedence().clone(),
            awake: Awake::new(config.limits.awake_micros),
            writes: OnTheirWay::default(),
        };
        let mut tasks = JoinSet::new();
        let precedence = peers.precedence().clone();
        tasks.spawn(precedence.first(arrivals.run(peers.clone())));
        tasks.spawn(session::accept(clients.clone(), service.clone()));
        tasks.spawn(reception.run(clients.clone()));
        tasks.spawn(keeper.run());
        let ended = supervise(driver, [clients.clone(), peers.clone()], &mut tasks);
        let address = clients.local_address();
        let peer_address = peers.local_address();
        info!(member = %booted.member.name, %cluster, clients = %address, peers = %peer_address, "serving");
        Ok(Self {
            cluster,
            address,
            peer_address,
            clients,
            peers,
            service,
            orders,
            members: heard,
            newcomer,
            stopping,
            ended,
            tasks,
        })
    }

    /// The cluster it is a member of.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Where it listens for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for peers.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Resolves when the cluster's own log has told this member that it is one: at once, unless it has just
    /// joined. Cancel-safe.
    pub async fn caught_up(&self) {
        if self.newcomer {
            // Until the log says so, nothing changes what was told when it joined. A driver that is gone says
            // nothing more, and then there is nothing to wait for.
            let _ = self.members.clone().changed().await;
        }
    }

    /// What this member lacks to be like the others; `None` if it ends. Cancel-safe.
    pub async fn catch_up(&self) -> Option<CatchUp> {
        let status = status(&self.orders).await?;
        Some(CatchUp::of(&status, |group| {
            self.service.topics.name(group)
        }))
    }

    /// Resolves when the member has ended: by itself, with the reason, or by [`Server::shutdown`].
    /// Cancel-safe.
    pub async fn wait(&self) -> Result<(), ServerError> {
        let mut ended = self.ended.clone();
        let result = match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        result.unwrap_or_else(|| Err(ServerError::Halted("its task is gone".to_owned())))
    }

    /// Ends it well: others take over what it leads, subscriptions are told to go on elsewhere, the disk
    /// is closed cleanly.
    pub async fn shutdown(mut self) {
        info!("stopping");
        hand_over(&self.service, &self.orders).await;
        // Whoever is told now to go elsewhere finds somebody leading there.
        self.stopping.send_replace(true);
        if timeout(FAREWELL_MAX, self.service.no_streams())
            .await
            .is_err()
        {
            info!("some clients do not hear that they are to go elsewhere");
        }
        self.clients.close("the member is stopping").await;
        // A driver that has ended by itself hears nothing, and need not.
        let _ = self.orders.send(Order::Stop).await;
        if timeout(STOPPING_MAX, self.wait()).await.is_err() {
            error!("the disk does not close in time");
        }
        self.peers.close("the member is stopping").await;
        self.tasks.shutdown().await;
        info!("stopped");
    }
}

/// Who is a member, as far as can be known before anything was heard: as the log says, or, where it does not
/// say yet that this one is, as was told when it joined.
fn known_members(booted: &Booted) -> Members {
    let applied = Members::of(booted.broker.cluster());
    match &booted.member.joined {
        Some(joined) if applied.next <= joined.me.id => Members {
            list: joined.known.clone(),
            next: joined.me.id + 1,
            version: applied.version,
        },
        _ => applied,
    }
}

/// Runs the driver to its end, whatever it is, and closes the disk behind it.
fn supervise(
    driver: Driver,
    endpoints: [Endpoint; 2],
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<Option<Result<(), ServerError>>> {
    let (sender, ended) = watch::channel(None);
    let precedence = endpoints[0].precedence().clone();
    tasks.spawn(precedence.first(async move {
        let (storage, result) = driver.run().await;
        let closed = spawn_blocking(move || storage.close()).await;
        let result = match (result, closed) {
            (Ok(()), Ok(Err(error))) => Err(ServerError::Disk(error.to_string())),
            (result, _) => result,
        };
        if let Err(error) = &result {
            error!(%error, "the member has ended");
            // Whoever is connected hears it before anybody ends the process.
            let why = error.to_string();
            let [clients, peers] = endpoints;
            tokio::join!(clients.close(&why), peers.close(&why));
        }
        sender.send_replace(Some(result));
    }));
    ended
}
