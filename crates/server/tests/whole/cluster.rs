//! A cluster in a temporary directory, and what a test does to it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use kontiki_server::{
    Config, Server, ServerError, StartError,
    birth::{Birth, MemberSpec, birth_cluster},
};
use kontiki_transport::{Authority, Credentials, Endpoint, Expect, Identity, Plane, Role};
use kontiki_wire::{Request, Response, TopicInfo, TopicName, TopicSettings};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::caller::Caller;

/// Long enough for two elections on a busy machine; nothing in a good run takes near as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A member on a runtime and a thread of its own, as in production.
pub(crate) struct Member {
    end: oneshot::Sender<End>,
    ended: oneshot::Receiver<Result<(), ServerError>>,
    thread: JoinHandle<()>,
}

enum End {
    Stop,
    Kill,
}

impl Member {
    pub(crate) async fn start(config: Config) -> Result<Self, StartError> {
        let (started, start) = oneshot::channel();
        let (end, wanted) = oneshot::channel();
        let (told, ended) = oneshot::channel();
        let thread = thread::spawn(move || run(config, started, wanted, told));
        start.await.unwrap()?;
        Ok(Self { end, ended, thread })
    }

    pub(crate) async fn stop(self) {
        let _ = self.end.send(End::Stop);
        let _ = self.ended.await;
        self.thread.join().unwrap();
    }

    pub(crate) fn kill(self) {
        let _ = self.end.send(End::Kill);
        self.thread.join().unwrap();
    }
}

fn run(
    config: Config,
    started: oneshot::Sender<Result<(), StartError>>,
    wanted: oneshot::Receiver<End>,
    told: oneshot::Sender<Result<(), ServerError>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = match runtime.block_on(Server::start(config)) {
        Ok(server) => server,
        Err(error) => {
            // Whoever tries again finds nothing of this attempt in the way.
            drop(runtime);
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let left = runtime.block_on(async {
        tokio::select! {
            end = wanted => match end {
                Ok(End::Stop) => {
                    server.shutdown().await;
                    let _ = told.send(Ok(()));
                    None
                }
                Ok(End::Kill) | Err(_) => Some(server),
            },
            result = server.wait() => {
                let _ = told.send(result);
                None
            }
        }
    });
    // Its tasks end where they are, and nobody is told.
    drop(runtime);
    drop(left);
}

pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) birth: Birth,
    pub(crate) members: Vec<Option<Member>>,
    operator: Endpoint,
}

impl Cluster {
    /// A new cluster, all of whose members run.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, false).await
    }

    pub(crate) async fn start_with(count: usize, auto_create: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let birth = birth_cluster(dir.path(), &specs(count), auto_create).unwrap();
        let operator = Endpoint::dialer(
            Plane::Clients,
            &credentials(&birth.operator_dir, "operator", &birth),
        )
        .unwrap();
        let mut cluster = Self {
            dir,
            birth,
            members: Vec::new(),
            operator,
        };
        for at in 0..count {
            cluster.members.push(None);
            cluster.start_member(at).await;
        }
        cluster
    }

    /// Starts a member that does not run.
    pub(crate) async fn start_member(&mut self, at: usize) {
        assert!(self.members[at].is_none(), "it runs");
        self.members[at] = Some(self.try_start(at).await.unwrap());
    }

    pub(crate) async fn try_start(&self, at: usize) -> Result<Member, StartError> {
        Member::start(Config::load(&self.member_dir(at))?).await
    }

    /// Stops a member well.
    pub(crate) async fn stop(&mut self, at: usize) {
        self.members[at].take().expect("it runs").stop().await;
    }

    /// Ends a member like a crash of its process, as far as a process can do that to a part of itself.
    pub(crate) fn kill(&mut self, at: usize) {
        self.members[at].take().expect("it runs").kill();
    }

    pub(crate) fn member_dir(&self, at: usize) -> PathBuf {
        self.birth.member_dirs[at].clone()
    }

    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.birth.members[at].address.parse().unwrap()
    }

    pub(crate) fn peer_address(&self, at: usize) -> SocketAddr {
        self.birth.members[at].peer_address.parse().unwrap()
    }

    pub(crate) fn place(&self, name: &str) -> usize {
        let mut members = self.birth.members.iter();
        members.position(|member| member.name == name).unwrap()
    }

    /// The operator's connection to a member.
    pub(crate) async fn operator(&self, at: usize) -> Caller {
        let dialled = self
            .operator
            .connect(self.address(at), Expect::AnyNode)
            .await;
        Caller::new(dialled.unwrap())
    }

    /// A client of another role. Its authority is the cluster's own.
    pub(crate) async fn client(&self, at: usize, role: Role, name: &str) -> Caller {
        let endpoint = self.dialer(role, name);
        let dialled = endpoint.connect(self.address(at), Expect::AnyNode).await;
        Caller::new(dialled.unwrap())
    }

    fn dialer(&self, role: Role, name: &str) -> Endpoint {
        let ca = self.dir.path().join("ca");
        let read = |name: &str| std::fs::read_to_string(ca.join(name)).unwrap();
        let authority =
            Authority::from_pem(&read("client-ca.pem"), &read("client-ca.key")).unwrap();
        let identity = Identity {
            cluster: self.birth.cluster,
            role,
            name: name.to_owned(),
        };
        let issued = authority
            .issue(&identity, Duration::from_secs(3600))
            .unwrap();
        let credentials = Credentials::from_pem(
            &issued.certificate_pem,
            &issued.key_pem,
            &read("node-ca.pem"),
            "",
        );
        Endpoint::dialer(Plane::Clients, &credentials.unwrap()).unwrap()
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(|at| self.members[*at].is_some())
    }

    /// Makes a topic, asking one member after the other until its group has a leader.
    pub(crate) async fn create_topic(&self, name: &str) -> TopicName {
        let name: TopicName = name.parse().unwrap();
        let create = async {
            loop {
                for at in self.running() {
                    let request = Request::CreateTopic {
                        name: name.clone(),
                        settings: TopicSettings::default(),
                    };
                    let response = self.operator(at).await.request(request).await;
                    if matches!(response, Response::Topic(_) | Response::Exists(_)) {
                        return;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, create)
            .await
            .expect("no member makes the topic");
        name
    }

    /// The member that leads a topic, once all that run agree on it.
    pub(crate) async fn leader(&self, topic: &TopicName) -> usize {
        let running: Vec<_> = self.running().collect();
        self.leader_among(&running, topic).await
    }

    /// The member that leads a topic, once these agree on it.
    pub(crate) async fn leader_among(&self, members: &[usize], topic: &TopicName) -> usize {
        let agree = async {
            loop {
                let mut leaders = Vec::new();
                for at in members {
                    leaders.push(self.topic(*at, topic).await.and_then(|info| info.leader));
                }
                leaders.dedup();
                if let [Some(leader)] = &leaders[..]
                    && self.members[self.place(leader)].is_some()
                {
                    return self.place(leader);
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, agree)
            .await
            .expect("the members agree on no leader")
    }

    async fn topic(&self, at: usize, name: &TopicName) -> Option<TopicInfo> {
        let request = Request::Topic { name: name.clone() };
        match self.operator(at).await.request(request).await {
            Response::Topic(info) => Some(info),
            _ => None,
        }
    }
}

fn credentials(dir: &std::path::Path, name: &str, _birth: &Birth) -> Credentials {
    let read = |file: String| std::fs::read_to_string(dir.join(file)).unwrap();
    Credentials::from_pem(
        &read(format!("{name}.pem")),
        &read(format!("{name}.key")),
        &read("node-ca.pem".to_owned()),
        "",
    )
    .unwrap()
}

/// Members with addresses that are free now and stay so until they start: a loopback address is no other
/// test's, nor another process's beside this one, and the ports lie below the range from which the system
/// gives them to those who ask for any.
pub(crate) fn specs(count: usize) -> Vec<MemberSpec> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let host = Ipv4Addr::new(
        127,
        (process % 251) as u8 + 2,
        (process / 251 % 251) as u8,
        NEXT.fetch_add(1, Ordering::Relaxed),
    );
    let mut ports = 10_000..30_000;
    let mut held = Vec::new();
    while held.len() < 2 * count {
        let port = ports.next().expect("a free port");
        if let Ok(socket) = UdpSocket::bind((host, port)) {
            held.push(socket);
        }
    }
    let address = |at: usize| held[at].local_addr().unwrap().to_string();
    let member = |at: usize| MemberSpec {
        name: format!("n{}", at + 1),
        address: address(2 * at),
        peer_address: address(2 * at + 1),
    };
    (0..count).map(member).collect()
}

/// Waits until something holds, looking again and again.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < PATIENCE, "still not so: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
