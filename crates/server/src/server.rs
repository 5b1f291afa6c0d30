//! A whole member: wiring, start and stop, in one place.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use kontiki_broker::Broker;
use kontiki_storage::{Event, Recovered, Storage};
use kontiki_transport::{Endpoint, Limits, Plane};
use kontiki_wire::ClusterId;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{
    answers::Answers,
    arrivals::Arrivals,
    boot,
    clock::Clock,
    config::Config,
    driver::{Driver, Inputs, Order},
    error::{ServerError, StartError},
    handover::hand_over,
    limits::{
        CLIENT_INPUTS_MAX, DISK_READS_MAX, FAREWELL_MAX, ORDERS_MAX, PEER_INPUTS_MAX, STOPPING_MAX,
    },
    links::{Callers, Links},
    member::{MemberFile, node_ref},
    service::Service,
    session,
    topics::Topics,
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
    stopping: watch::Sender<bool>,
    ended: watch::Receiver<Option<Result<(), ServerError>>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Starts the member in `config.dir`. To be called within a tokio runtime, best one of its own with
    /// one thread. A damaged disk is no error: the member starts, says so, and neither votes nor leads.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let mut member = MemberFile::load(&config.dir)?;
        check_advertised(&config, &member)?;
        let credentials = boot::credentials(&config.dir, &member)?;
        let listen = |plane, address, setting, limits| {
            Endpoint::listen_within(address, plane, &credentials, limits).map_err(|error| {
                StartError::Listen {
                    address,
                    setting,
                    // The sentence names the address already.
                    reason: match error {
                        kontiki_transport::Error::Bind { source, .. } => source.to_string(),
                        other => other.to_string(),
                    },
                }
            })
        };
        let me = member.me();
        let peer_address = listen_address(config.listen_peers, &me.peer_address)?;
        let address = listen_address(config.listen, &me.address)?;
        let peers = listen(
            Plane::Peers,
            peer_address,
            "listen_peers",
            Limits::of(Plane::Peers),
        )?;
        let limits = Limits {
            connections: config.limits.connections,
            ..Limits::of(Plane::Clients)
        };
        let clients = listen(Plane::Clients, address, "listen", limits)?;

        let (data, lost) = boot::data_dir(&config.dir, &member)?;
        let (storage, recovered, events) = open_storage(data).await?;
        if let Some(torn) = &recovered.torn {
            info!(%torn, "the last write had not finished; it was cut off");
        }
        let mut damage = recovered.damage.clone();
        damage.extend(lost);
        let unsound = (!damage.is_empty()).then(|| damage.join("; "));
        if let Some(why) = &unsound {
            warn!(%why, "the disk is not to be trusted: this member neither votes nor leads");
        }
        let clock = Clock::start();
        let raft = kontiki_raft::Settings::default();
        let me = node_ref(member.me());
        let settings = kontiki_broker::Settings {
            cluster: member.cluster,
            me,
            raft,
            birth: member.birth_state(),
            unsound: unsound.clone(),
            seed: getrandom::u64().map_err(StartError::Randomness)?,
        };
        let groups = boot::groups(&member, recovered, unsound.is_none());
        let broker = Broker::new(settings, groups, clock.now()).map_err(StartError::Log)?;
        if !member.started {
            member.started = true;
            member.save(&config.dir).map_err(|source| StartError::Io {
                doing: "cannot write in",
                path: config.dir.clone(),
                source,
            })?;
        }

        let (peer_inputs, from_peers) = mpsc::channel(PEER_INPUTS_MAX);
        let (client_inputs, from_clients) = mpsc::channel(CLIENT_INPUTS_MAX);
        let (orders, from_owner) = mpsc::channel(ORDERS_MAX);
        let (stopping, is_stopping) = watch::channel(false);
        let members = watch::Sender::new(Arc::new(member.members.clone()));
        let callers = Callers::default();
        let service = Service {
            topics: Topics::new(),
            answers: Answers::default(),
            inputs: client_inputs,
            bytes_in_flight: Arc::new(Semaphore::new(config.limits.bytes_in_flight)),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            auto_create: member.auto_create,
            streams: Arc::default(),
            stopping: is_stopping,
        };
        let arrivals = Arrivals {
            cluster: member.cluster,
            me,
            members: members.subscribe(),
            callers: callers.clone(),
            inputs: peer_inputs.clone(),
        };
        let links = Links::new(member.cluster, me, peers.clone(), peer_inputs, callers);
        let driver = Driver {
            broker,
            clock,
            storage,
            links,
            topics: service.topics.clone(),
            answers: service.answers.clone(),
            members,
            inputs: Inputs {
                events,
                peers: from_peers,
                clients: from_clients,
                orders: from_owner,
            },
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(arrivals.run(peers.clone()));
        tasks.spawn(session::accept(clients.clone(), service.clone()));
        let ended = supervise(driver, [clients.clone(), peers.clone()], &mut tasks);
        let server = Self {
            cluster: member.cluster,
            address: clients.local_address(),
            peer_address: peers.local_address(),
            clients,
            peers,
            service,
            orders,
            stopping,
            ended,
            tasks,
        };
        info!(
            member = %member.name,
            cluster = %server.cluster,
            clients = %server.address,
            peers = %server.peer_address,
            "the member serves"
        );
        Ok(server)
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

/// Runs the driver to its end, whatever it is, and closes the disk behind it.
fn supervise(
    driver: Driver,
    endpoints: [Endpoint; 2],
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<Option<Result<(), ServerError>>> {
    let (sender, ended) = watch::channel(None);
    tasks.spawn(async move {
        let (storage, result) = driver.run().await;
        let closed = spawn_blocking(move || storage.close()).await;
        let result = match (result, closed) {
            (Ok(()), Ok(Err(error))) => Err(ServerError::Disk(error.to_string())),
            (result, _) => result,
        };
        let failed = result.as_ref().err().map(|error| {
            error!(%error, "the member has ended");
            error.to_string()
        });
        sender.send_replace(Some(result));
        if let Some(why) = failed {
            for endpoint in endpoints {
                endpoint.close(&why).await;
            }
        }
    });
    ended
}

/// Recovery reads whatever the disk holds: off the runtime's thread. Storage's events come through a
/// queue that never blocks its threads.
async fn open_storage(
    data: PathBuf,
) -> Result<(Storage, Recovered, mpsc::UnboundedReceiver<Event>), StartError> {
    let (sender, events) = mpsc::unbounded_channel();
    let tell = Arc::new(move |event| {
        // Nobody listens any more when the member is stopping.
        let _ = sender.send(event);
    });
    let open = move || Storage::open(&data, kontiki_storage::Settings::default(), tell);
    let opened = spawn_blocking(open).await;
    let (storage, recovered) =
        opened.map_err(|error| StartError::Log(format!("opening the disk failed: {error}")))??;
    Ok((storage, recovered, events))
}

/// The address to listen on: as configured, as born, or the born port on all interfaces where the
/// address is a host's name.
fn listen_address(configured: Option<SocketAddr>, born: &str) -> Result<SocketAddr, StartError> {
    if let Some(address) = configured {
        return Ok(address);
    }
    if let Ok(address) = born.parse() {
        return Ok(address);
    }
    let port = born
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let port: u16 = port.ok_or_else(|| StartError::Log(format!("{born:?} has no port")))?;
    Ok(SocketAddr::from(([0, 0, 0, 0], port)))
}

fn check_advertised(config: &Config, member: &MemberFile) -> Result<(), StartError> {
    let me = member.me();
    for (key, wanted, known) in [
        ("advertise", &config.advertise, &me.address),
        ("advertise_peers", &config.advertise_peers, &me.peer_address),
    ] {
        if let Some(wanted) = wanted
            && wanted != known
        {
            return Err(StartError::Config {
                path: config.dir.join("kontiki.toml"),
                what: format!(
                    "`{key}` is {wanted}, and the cluster knows this member at {known}; change it \
                     back, or replace the member"
                ),
            });
        }
    }
    Ok(())
}
