//! A cluster of real processes with real disks, sockets and certificates, each test with its own
//! loopback address, ports and folder.

use std::{
    io::{BufRead, BufReader, Write},
    iter::repeat_with,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use kontiki_client::{Client, Context, TopicName};
use tempfile::TempDir;

/// How long anything may take before a test says that it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Names another binary to test: a long run is of one build, whatever becomes of the sources meanwhile.
const VARIABLE: &str = "KONTIKI_BINARY";

/// The binary under test, of the same profile as the tests; built if it is not fresh.
pub(crate) fn kontiki() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os(VARIABLE) {
            return named.into();
        }
        built("kontiki", &[])
    })
}

/// This binary of the same sources and profile as the tests, with more features if need be; built if it is not fresh.
pub(crate) fn built(binary: &str, more: &[&str]) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "kontiki-cli"]);
    build.args(["--bin", binary]).args(more);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What cargo tells this test of its own package, some build scripts would take for theirs, and what
    // they make would be built anew, here and in the next build that is not from here.
    for (name, _) in std::env::vars_os() {
        let of_this = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        let is_of_this = |name: &str| of_this.iter().any(|start| name.starts_with(start));
        if name.to_str().is_some_and(is_of_this) {
            build.env_remove(name);
        }
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = build.status().expect("cargo runs").success();
    assert!(built, "the binary {binary} does not build");
    // .../target/<profile>/deps/<this test>
    let mut path = std::env::current_exe().expect("the test's own path");
    path.pop();
    path.pop();
    path.join(binary)
}

/// One member's process.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    /// What else `kontiki serve` is told.
    pub(crate) options: Vec<String>,
    process: Option<Child>,
    /// Hears that it says to be ready, and then only that it says nothing any more.
    heard: Option<mpsc::Receiver<()>>,
    /// Where in the file of all that it ever said the latest start begins.
    said_from: u64,
}

impl Member {
    /// One that does not run yet.
    pub(crate) fn new(name: String, data: PathBuf, address: SocketAddr) -> Self {
        Self {
            name,
            data,
            address,
            options: Vec::new(),
            process: None,
            heard: None,
            said_from: 0,
        }
    }
}

/// The cluster. Its processes die with it.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) members: Vec<Member>,
}

/// A loopback address that no other test of this process or of one running beside it uses.
pub(crate) fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(
        127,
        (process % 251) as u8 + 2,
        (process / 251 % 251) as u8,
        nth as u8,
    )
}

/// Ports that are free at `address`, and stay so until somebody listens there: they lie below the range from which
/// the system gives them to those who ask for any, as everybody does who dials, and no two calls return the same.
pub(crate) fn ports(address: Ipv4Addr, count: usize) -> Vec<u16> {
    const RANGE: Range<u32> = 10_000..30_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = || RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % RANGE.len() as u32;
    let ports = repeat_with(|| u16::try_from(next()).expect("a port"));
    let is_free = |port: &u16| UdpSocket::bind(SocketAddr::from((address, *port))).is_ok();
    ports.filter(is_free).take(count).collect()
}

impl Cluster {
    /// Births a cluster with `init` and starts every member.
    pub(crate) fn start(size: usize) -> Self {
        let mut cluster = Self::born(size);
        for at in 0..size {
            cluster.serve(at);
        }
        cluster
    }

    /// The same, where topics are made on first use.
    pub(crate) fn start_on_first_use(size: usize) -> Self {
        let mut cluster = Self::born_with(size, &["--auto-create"]);
        for at in 0..size {
            cluster.serve(at);
        }
        cluster
    }

    /// Births a cluster and starts nobody.
    pub(crate) fn born(size: usize) -> Self {
        Self::born_with(size, &[])
    }

    fn born_with(size: usize, options: &[&str]) -> Self {
        let address = address();
        let ports = ports(address, size * 2);
        let addresses = ports.chunks(2).map(|of_one| {
            let at = |port: u16| SocketAddr::from((address, port));
            (at(of_one[0]), at(of_one[1]))
        });
        Self::born_at(&addresses.collect::<Vec<_>>(), options)
    }

    /// Births a cluster whose members are known at these addresses: for clients, and for peers.
    pub(crate) fn born_at(addresses: &[(SocketAddr, SocketAddr)], options: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("kontiki-")
            .tempdir()
            .expect("a folder");
        let mut init = Command::new(kontiki());
        init.args(["init"].iter().chain(options))
            .arg("--data")
            .arg(dir.path().join("cluster"));
        for (at, (clients, peers)) in addresses.iter().enumerate() {
            init.arg("--member")
                .arg(format!("n{}@{clients},{peers}", at + 1));
        }
        let output = init.output().expect("kontiki runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let members = addresses.iter().zip(1..);
        let members = members.map(|((address, _), n)| {
            let data = dir.path().join("cluster").join(format!("n{n}"));
            Member::new(format!("n{n}"), data, *address)
        });
        let members = members.collect();
        Self { dir, members }
    }

    /// The operator's context.
    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("cluster/context.toml")
    }

    /// A client with the operator's certificate.
    pub(crate) async fn client(&self) -> Client {
        let context = Context::load(self.context()).expect("the operator's context");
        tokio::time::timeout(PATIENCE, Client::connect(context))
            .await
            .expect("a client connects in time")
            .expect("a client connects")
    }

    /// Starts a member and waits until it says that it serves.
    pub(crate) fn serve(&mut self, at: usize) {
        self.launch(at, Command::new(kontiki()));
        if let Err(status) = self.ready(at) {
            panic!(
                "{} does not serve ({status}):\n{}",
                self.members[at].name,
                self.said(at)
            );
        }
    }

    /// Starts a member and waits for nothing. `program` is the binary, or what runs it with the
    /// arguments that follow.
    pub(crate) fn launch(&mut self, at: usize, mut program: Command) {
        let said = self.said_file(at);
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "{} is running", member.name);
        program.arg("serve").arg("--data").arg(&member.data);
        program
            .args(&member.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = program.spawn().expect("kontiki runs");
        let stderr = process.stderr.take().expect("a piped stderr");
        let mut log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(said)
            .expect("a log");
        member.said_from = log.metadata().expect("an open file").len();
        let (ready, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writeln!(log, "{line}").ok();
                if line.contains(" is ready: ") {
                    ready.send(()).ok();
                }
            }
        });
        member.process = Some(process);
        member.heard = Some(heard);
    }

    /// Waits until a launched member says that it serves, or gives its status if it ends instead.
    pub(crate) fn ready(&mut self, at: usize) -> Result<(), ExitStatus> {
        match self.hear(at, PATIENCE) {
            Ok(()) => Ok(()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.reap(at)),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!(
                    "{} does not start:\n{}",
                    self.members[at].name,
                    self.said(at)
                )
            }
        }
    }

    fn hear(&self, at: usize, patience: Duration) -> Result<(), mpsc::RecvTimeoutError> {
        let heard = self.members[at].heard.as_ref().expect("it was launched");
        heard.recv_timeout(patience)
    }

    /// The status of a member that has closed its stderr, and so ends or has ended.
    fn reap(&mut self, at: usize) -> ExitStatus {
        let process = self.members[at].process.take();
        let mut process = process.expect("a process not waited for");
        process.wait().expect("a process to wait for")
    }

    fn said_file(&self, at: usize) -> PathBuf {
        let name = format!("{}.said", self.members[at].name);
        self.dir.path().join(name)
    }

    /// What a member wrote to stderr so far.
    pub(crate) fn said(&self, at: usize) -> String {
        std::fs::read_to_string(self.said_file(at)).unwrap_or_default()
    }

    /// What it wrote to stderr since it was last started.
    pub(crate) fn said_lately(&self, at: usize) -> String {
        let mut said = self.said(at);
        said.split_off(self.members[at].said_from as usize)
    }

    /// Whether its process was started and has not been waited for.
    pub(crate) fn is_up(&self, at: usize) -> bool {
        self.members[at].process.is_some()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("a running member");
        process.kill().expect("a process to kill");
        process.wait().expect("a process to wait for");
    }

    /// `kill -9` of one that may have ended by itself meanwhile.
    pub(crate) fn end(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            // An error says that it is gone.
            let _ = process.kill();
            process.wait().expect("a process to wait for");
        }
    }

    /// `kill -9` of everybody still running, as near to at once as a loop can.
    pub(crate) fn kill_all(&mut self) {
        let mut dead = Vec::new();
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                process.kill().expect("a process to kill");
                dead.push(process);
            }
        }
        for mut process in dead {
            process.wait().expect("a process to wait for");
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, at: usize, signal: rustix::process::Signal) {
        let id = self.pid(at);
        let pid = rustix::process::Pid::from_raw(id as i32).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a process to signal");
    }

    /// Ends a member in order.
    pub(crate) fn stop(&mut self, at: usize) {
        self.signal(at, rustix::process::Signal::TERM);
        let status = self.wait(at);
        assert!(status.success(), "{}: {status}", self.members[at].name);
    }

    /// A running member's process id.
    pub(crate) fn pid(&self, at: usize) -> u32 {
        self.members[at]
            .process
            .as_ref()
            .expect("a running member")
            .id()
    }

    /// Waits for a member's process to end by itself.
    pub(crate) fn wait(&mut self, at: usize) -> ExitStatus {
        let ended = self.ends_within(at, PATIENCE);
        ended.unwrap_or_else(|| panic!("{} does not end", self.members[at].name))
    }

    /// How a member's process ended by itself, if it does within that time.
    pub(crate) fn ends_within(&mut self, at: usize, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.hear(at, left) {
                // It was ready before that.
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Some(self.reap(at)),
                Err(mpsc::RecvTimeoutError::Timeout) => return None,
            }
        }
    }

    /// Which member leads a topic, once one does.
    pub(crate) async fn leader(&self, client: &Client, topic: &TopicName) -> usize {
        let start = Instant::now();
        loop {
            if let Ok(info) = client.admin().describe_topic(topic).await
                && let Some(leader) = info.leader
                && let Some(at) = self.members.iter().position(|m| m.name == leader)
                && self.members[at].process.is_some()
            {
                return at;
            }
            assert!(start.elapsed() < PATIENCE, "nobody leads {topic}");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            if std::thread::panicking() {
                eprintln!("--- {} said:\n{}", self.members[at].name, self.said(at));
            }
        }
        self.kill_all();
    }
}
