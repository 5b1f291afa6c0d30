//! A cluster of `kontiki dev`, as a user has it in the other terminal.

use std::{
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    process::Child,
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::Value;

use crate::shell::Shell;

/// Anything that is waited for takes far less.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A command that goes on, whose lines can be waited for. Killed when it is dropped.
pub(crate) struct Going {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Going {
    pub(crate) fn start(shell: &Shell, words: &[&str]) -> Self {
        let mut child = shell.start(words);
        let (send, lines) = channel();
        pass_lines(child.stdout.take().unwrap(), send.clone());
        pass_lines(child.stderr.take().unwrap(), send);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The next line that this takes, whatever comes before it.
    #[track_caller]
    pub(crate) fn line<T>(&mut self, mut take: impl FnMut(&str) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it did not say it, but {:?}", self.seen);
            };
            let taken = take(&line);
            self.seen.push(line);
            if let Some(taken) = taken {
                return taken;
            }
        }
    }

    /// The next event of this kind that this takes.
    #[track_caller]
    pub(crate) fn event<T>(&mut self, kind: &str, mut take: impl FnMut(&Value) -> Option<T>) -> T {
        self.line(|line| {
            // Chatter comes this way too.
            let event: Value = serde_json::from_str(line).ok()?;
            (event["event"] == kind).then(|| take(&event)).flatten()
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal and says with which code it ends.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        let process = Process::find(self.pid());
        process.signal(signal);
        process.ends();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
}

/// A process that is watched: another of the same number later is not mistaken for it.
pub(crate) struct Process {
    pid: Pid,
    watched: OwnedFd,
}

impl Process {
    #[track_caller]
    pub(crate) fn find(pid: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        Self {
            pid,
            watched: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ends(&self) {
        let patience = Timespec::try_from(DEADLINE).unwrap();
        let ended = poll(
            &mut [PollFd::new(&self.watched, PollFlags::IN)],
            Some(&patience),
        );
        assert_eq!(ended, Ok(1), "process {:?} does not end", self.pid);
    }
}

/// A first port that other tests do not start from, below those that the kernel deals out.
pub(crate) fn first_port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 400).unwrap();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    (10_000 + own * 40 + nth * 20).to_string()
}
