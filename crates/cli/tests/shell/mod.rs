//! A user of the built binary with a home of their own.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part of a test's helper"
)]

pub(crate) mod dev;
pub(crate) mod growing;
pub(crate) mod serving;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;

/// Where a member of one test can listen: a loopback address that is no other test's, nor another
/// process's beside this one.
pub(crate) fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let (high, low) = (process % 251 + 2, process / 251 % 251);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{high}.{low}.{nth}:7401")
}

/// A home directory that goes with it.
pub(crate) struct Shell {
    home: TempDir,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its data.
    pub(crate) out: String,
    /// Its chatter.
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// A command in the home directory that knows nothing of the real user.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command
            .args(words)
            .current_dir(self.home())
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    /// Runs a command to its end with this on its stdin.
    pub(crate) fn feed(&self, words: &[&str], input: &[u8]) -> Said {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        // A command that ends early need not read all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().into()
    }

    /// Starts a command.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Itself, if it ended with this code and its chatter holds all of these.
    #[track_caller]
    pub(crate) fn ends(self, code: i32, holds: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in holds {
            assert!(self.err.contains(text), "{text:?} is not in {self:?}");
        }
        for ugly in ["panicked", "fault of kontiki", "{ ", "Err("] {
            assert!(!self.err.contains(ugly), "{ugly:?} is in {self:?}");
        }
        self
    }

    /// The one line of JSON on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}
