//! A cluster of real processes with real disks, sockets and certificates, each test with its own
//! loopback address, ports and folder.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

/// The binary under test, of the same profile as the tests; built if it is not fresh.
pub(crate) fn kontiki() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "kontiki-cli",
            "--bin",
            "kontiki",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(
            build.status().expect("cargo runs").success(),
            "the binary does not build"
        );
        // .../target/<profile>/deps/<this test>
        let mut path = std::env::current_exe().expect("the test's own path");
        path.pop();
        path.pop();
        path.join("kontiki")
    })
}

/// One member's process.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    process: Option<Child>,
}

/// The cluster. Its processes die with it.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) members: Vec<Member>,
}

/// A loopback address that no other test of this process or of one running beside it uses.
fn address() -> Ipv4Addr {
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

/// Ports that are free at `address`.
fn ports(address: Ipv4Addr, count: usize) -> Vec<u16> {
    let sockets: Vec<UdpSocket> = (0..count)
        .map(|_| UdpSocket::bind(SocketAddr::from((address, 0))).expect("a free port"))
        .collect();
    sockets
        .iter()
        .map(|s| s.local_addr().expect("a bound socket").port())
        .collect()
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
        let dir = tempfile::Builder::new()
            .prefix("kontiki-")
            .tempdir()
            .expect("a folder");
        let address = address();
        let ports = ports(address, size * 2);
        let mut init = Command::new(kontiki());
        init.args(["init"].iter().chain(options))
            .arg("--data")
            .arg(dir.path().join("cluster"));
        for at in 0..size {
            let (clients, peers) = (ports[at * 2], ports[at * 2 + 1]);
            init.arg("--member")
                .arg(format!("n{}@{address}:{clients},{address}:{peers}", at + 1));
        }
        let output = init.output().expect("kontiki runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let members = (1..=size)
            .map(|n| Member {
                name: format!("n{n}"),
                data: dir.path().join("cluster").join(format!("n{n}")),
                process: None,
            })
            .collect();
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
        self.serve_with(at, |_| {});
    }

    /// The same, with the command changed first.
    pub(crate) fn serve_with(&mut self, at: usize, change: impl FnOnce(&mut Command)) {
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "{} is running", member.name);
        let mut serve = Command::new(kontiki());
        serve.arg("serve").arg("--data").arg(&member.data);
        serve
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut serve);
        let mut process = serve.spawn().expect("kontiki runs");
        let said = process.stderr.take().expect("a piped stderr");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(member.data.join("said"))
            .expect("a log");
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut log = log;
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                use std::io::Write;
                writeln!(log, "{line}").ok();
                if line.contains(" is ready: ") {
                    ready.send(()).ok();
                }
            }
        });
        member.process = Some(process);
        if is_ready.recv_timeout(PATIENCE).is_err() {
            panic!(
                "{} does not serve:\n{}",
                self.members[at].name,
                self.said(at)
            );
        }
    }

    /// What a member wrote to stderr so far.
    pub(crate) fn said(&self, at: usize) -> String {
        std::fs::read_to_string(self.members[at].data.join("said")).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("a running member");
        process.kill().expect("a process to kill");
        process.wait().expect("a process to wait for");
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

    /// A running member's process id.
    pub(crate) fn pid(&self, at: usize) -> u32 {
        self.members[at]
            .process
            .as_ref()
            .expect("a running member")
            .id()
    }

    /// Waits for a member's process to end by itself.
    pub(crate) fn wait(&mut self, at: usize) -> std::process::ExitStatus {
        let mut process = self.members[at].process.take().expect("a running member");
        let start = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("a process to wait for") {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} does not end",
                self.members[at].name
            );
            std::thread::yield_now();
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
