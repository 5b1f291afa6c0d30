//! What an operator does to have a cluster grow and shrink, with the binary: tokens, joins, removals.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kontiki_client::Context;
use tempfile::TempDir;

use crate::cluster::{Cluster, Member, PATIENCE, kontiki};

/// Where whoever signs finds the authorities, seen from a member's folder: they outlive each of the members.
pub(crate) const AUTHORITIES: &str = "[ca]\ndir = \"../ca\"\n";
/// How long one command may take before it is to say why it is not done.
const TIMEOUT: &str = "20s";

/// Somebody at a shell, with an operator's certificate.
#[derive(Clone)]
pub(crate) struct Operator {
    home: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Operator {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            home: cluster.dir.path().to_owned(),
        }
    }

    /// The binary with these words, for this cluster.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(kontiki());
        command
            .args(words)
            .current_dir(&self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("KONTIKI_CONTEXT", self.home.join("cluster/context.toml"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        let ended = self.command(words).output().expect("kontiki runs");
        Said {
            code: ended.status.code(),
            out: String::from_utf8_lossy(&ended.stdout).into_owned(),
            err: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }

    /// Does it until it is done, as a patient operator would. Whatever fails has to say why; `done` is how it
    /// says that there is nothing left to do.
    pub(crate) fn insist(&self, words: &[&str], done: Option<&str>) -> String {
        let begun = Instant::now();
        loop {
            let said = self.run(&[&["--timeout", TIMEOUT], words].concat());
            if said.code == Some(0) {
                return said.out;
            }
            said.explains_itself(words);
            if done.is_some_and(|done| said.err.contains(done)) {
                return said.out;
            }
            let waited = begun.elapsed();
            assert!(waited < PATIENCE * 2, "{words:?} is not done: {said:?}");
        }
    }

    /// A token for one new member.
    pub(crate) fn token(&self) -> String {
        let token = self.insist(&["token", "create", "--role", "node"], None);
        token.trim().to_owned()
    }

    /// Exchanges a token for membership, perhaps after attempts that were cut short.
    pub(crate) fn join(&self, member: &Newcomer, interrupted: &[Duration]) {
        let token = self.token();
        let data = member.data.to_str().expect("a path in words");
        let [clients, peers] = [member.clients, member.peers].map(|at| at.to_string());
        let words = [
            "join",
            "--no-serve",
            "--data",
            data,
            "--name",
            &member.name,
            "--listen",
            &clients,
            "--listen-peers",
            &peers,
            &token,
        ];
        for after in interrupted {
            let mut quiet = self.command(&words);
            let quiet = quiet.stdout(Stdio::null()).stderr(Stdio::null());
            let mut attempt = quiet.spawn().expect("kontiki runs");
            std::thread::sleep(*after);
            // An error says that it had ended.
            let _ = attempt.kill();
            attempt.wait().expect("a process to wait for");
        }
        self.insist(&words, None);
    }
}

impl Said {
    /// It failed, and somebody who reads what it says knows why.
    fn explains_itself(&self, words: &[&str]) {
        let Self { code, err, .. } = self;
        let is_a_reason = matches!(code, Some(1 | 3)) && err.contains("error: ");
        let ugly = [
            "panicked",
            "fault of kontiki",
            "does not say why",
            "  do not",
        ];
        let ugly = ugly.iter().find(|ugly| err.contains(**ugly));
        assert!(is_a_reason && ugly.is_none(), "{words:?}: {self:?}");
    }
}

/// A member to be.
#[derive(Clone)]
pub(crate) struct Newcomer {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) clients: SocketAddr,
    pub(crate) peers: SocketAddr,
    pub(crate) options: Vec<String>,
}

impl From<Newcomer> for Member {
    /// One that has joined and does not run yet.
    fn from(newcomer: Newcomer) -> Self {
        let mut member = Self::new(newcomer.name, newcomer.data, newcomer.clients);
        member.options = newcomer.options;
        member
    }
}

impl Cluster {
    /// Births a cluster of one. Its authorities and its operator's certificate are taken out of the member's
    /// folder, so that it is a member like any other.
    pub(crate) fn born_alone(dir: TempDir, first: Newcomer) -> Self {
        let home = dir.path().join("cluster");
        let mut cluster = Self {
            dir,
            members: Vec::new(),
        };
        fs::create_dir(&home).expect("a folder");
        let data = first.data.to_str().expect("a path in words");
        let [clients, peers] = [first.clients, first.peers].map(|at| at.to_string());
        let words = [
            "init",
            "--data",
            data,
            "--name",
            &first.name,
            "--listen",
            &clients,
            "--listen-peers",
            &peers,
        ];
        let said = Operator::of(&cluster).run(&words);
        assert_eq!(said.code, Some(0), "{said:?}");
        for folder in ["ca", "operator"] {
            fs::rename(first.data.join(folder), home.join(folder)).expect("a folder of its birth");
        }
        let context = Context::load(home.join("operator/context.toml")).expect("a context");
        context.save(cluster.context()).expect("a context");
        cluster.members.push(first.into());
        cluster
    }
}
