//! Member processes: started, watched, started again when they die, and ended together.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::exit::Failure;

/// Events that may wait to be told.
const EVENTS_WAITING_MAX: usize = 64;
/// Bytes at the end of a log in which its last words are looked for.
const LAST_WORDS_BYTES: u64 = 4096;

/// What members run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The file of the program.
    pub(crate) file: PathBuf,
    /// What members log, if not what they do by themselves.
    pub(crate) log_level: Option<String>,
}

/// One member to run.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Its data directory.
    pub(crate) data: PathBuf,
}

/// How long members are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long a member that died stays dead, so that the others can be seen to go on without it.
    pub(crate) restart_after: Duration,
    /// How long a member may take to end before it is ended.
    pub(crate) ending_max: Duration,
}

/// What happened to a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It runs, as this process.
    Started {
        /// Which.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// It ended though nobody asked it to.
    Died {
        /// Which.
        name: String,
        /// The process it was.
        pid: u32,
        /// How it ended, as the end of a sentence.
        how: String,
    },
    /// It could not be started.
    NotStarted {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
}

/// Keeps members running until it is told to stop. If this process dies without a word, the members
/// end by themselves: each asks the kernel to be told of it.
pub(crate) struct Supervisor {
    events: mpsc::Receiver<Event>,
    stop: watch::Sender<bool>,
    keepers: JoinSet<()>,
}

impl Supervisor {
    /// Starts all members with `program serve`, each logging to `log` in its data directory. Must be
    /// called on the main thread: the kernel takes the end of the thread that started a child for the
    /// end of its parent.
    pub(crate) fn start(program: &Program, members: &[Member], patience: Patience) -> Self {
        let (send, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let (stop, stopped) = watch::channel(false);
        let mut keepers = JoinSet::new();
        for member in members {
            let keeper = Keeper {
                program: program.clone(),
                member: member.clone(),
                patience,
                events: send.clone(),
                stopped: stopped.clone(),
            };
            keepers.spawn(keeper.run());
        }
        Self {
            events,
            stop,
            keepers,
        }
    }

    /// The next thing that happens. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Ends all members, politely first, and returns when all are gone.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        self.events.close();
        while self.keepers.join_next().await.is_some() {}
    }
}

/// Keeps one member running.
struct Keeper {
    program: Program,
    member: Member,
    patience: Patience,
    events: mpsc::Sender<Event>,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            match self.spawn() {
                Ok((child, pid)) => self.watch(child, pid).await,
                Err(failure) => {
                    let why = failure.to_string();
                    self.tell(Event::NotStarted {
                        name: self.member.name.clone(),
                        why,
                    })
                    .await;
                }
            }
            // Either it is to stop or the pause is over; the loop's condition tells which.
            let _ = timeout(self.patience.restart_after, until(&mut self.stopped)).await;
        }
    }

    async fn watch(&mut self, mut child: Child, pid: u32) {
        let name = self.member.name.clone();
        self.tell(Event::Started {
            name: name.clone(),
            pid,
        })
        .await;
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = until(&mut self.stopped) => return end(child, pid, self.patience.ending_max).await,
        };
        let how = match ended {
            Ok(status) => describe(status, &self.member.log()),
            Err(error) => format!("it cannot be watched: {error}"),
        };
        self.tell(Event::Died { name, pid, how }).await;
    }

    fn spawn(&self) -> Result<(Child, u32), Failure> {
        let log = self.member.open_log()?;
        let also = log
            .try_clone()
            .map_err(|error| self.member.log_failure(&error))?;
        let mut command = Command::new(&self.program.file);
        if let Some(level) = &self.program.log_level {
            command.arg("--log").arg(level);
        }
        let child = command
            .arg("serve")
            .arg("--data")
            .arg(&self.member.data)
            .arg("--with-parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            // Ctrl-C goes to the terminal's whole group; the members are ended in order instead.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Failure::new(format!(
                    "cannot start {}: {error}",
                    self.program.file.display()
                ))
            })?;
        let pid = child.id().ok_or_else(|| Failure::new("it ended at once"))?;
        Ok((child, pid))
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more once everything is being stopped.
        let _ = self.events.send(event).await;
    }
}

impl Member {
    /// Where its process writes its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    fn open_log(&self) -> Result<File, Failure> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|error| self.log_failure(&error))
    }

    fn log_failure(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot write {}: {error}", self.log().display()))
    }
}

/// Resolves when it is to stop.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // A supervisor that is gone has stopped too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn end(mut child: Child, pid: u32, ending_max: Duration) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        _ = child.wait() => {}
        () = sleep(ending_max) => {
            let _ = child.kill().await;
        }
    }
}

fn describe(status: ExitStatus, log: &Path) -> String {
    if let Some(signal) = status.signal() {
        return format!("killed by {}", signal_name(signal));
    }
    let code = status.code().unwrap_or_default();
    last_words(log).map_or_else(
        || format!("ended with code {code}"),
        |words| format!("ended with code {code}: {words}"),
    )
}

fn signal_name(signal: i32) -> String {
    match Signal::from_named_raw(signal) {
        Some(Signal::KILL) => "SIGKILL".into(),
        Some(Signal::TERM) => "SIGTERM".into(),
        Some(Signal::INT) => "SIGINT".into(),
        Some(Signal::ABORT) => "SIGABRT".into(),
        Some(Signal::SEGV) => "SIGSEGV".into(),
        _ => format!("signal {signal}"),
    }
}

/// The last line of a log that says anything.
pub(crate) fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(LAST_WORDS_BYTES).read_to_end(&mut tail).ok()?;
    String::from_utf8_lossy(&tail)
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const SHORT: Patience = Patience {
        restart_after: Duration::from_millis(50),
        ending_max: Duration::from_millis(100),
    };

    /// A program that stands in for `kontiki`: a shell script.
    fn program(dir: &Path, script: &str) -> Program {
        let path = dir.join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Program {
            file: path,
            log_level: None,
        }
    }

    fn member(dir: &Path) -> Member {
        Member {
            name: "n1".into(),
            data: dir.to_owned(),
        }
    }

    fn is_alive(pid: u32) -> bool {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::test_kill_process(pid).is_ok()
    }

    async fn next(supervisor: &mut Supervisor) -> Event {
        timeout(Duration::from_secs(10), supervisor.next())
            .await
            .expect("in time")
            .unwrap()
    }

    #[tokio::test]
    async fn a_member_that_dies_is_said_so_and_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let program = program(dir.path(), "echo the disk is full >&2; exit 1");
        let mut supervisor = Supervisor::start(&program, &[member(dir.path())], SHORT);
        let Event::Started { pid, .. } = next(&mut supervisor).await else {
            panic!()
        };
        let died = next(&mut supervisor).await;
        let how = "ended with code 1: the disk is full".into();
        assert_eq!(
            died,
            Event::Died {
                name: "n1".into(),
                pid,
                how
            }
        );
        let Event::Started { pid: again, .. } = next(&mut supervisor).await else {
            panic!()
        };
        assert_ne!(pid, again);
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn stopping_ends_polite_and_deaf_members_alike() {
        let dir = tempfile::tempdir().unwrap();
        let deaf = program(dir.path(), "trap '' TERM; while :; do sleep 0.05; done");
        let mut supervisor = Supervisor::start(&deaf, &[member(dir.path())], SHORT);
        let Event::Started { pid, .. } = next(&mut supervisor).await else {
            panic!()
        };
        assert!(is_alive(pid));
        supervisor.stop().await;
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn a_kill_is_named_and_arguments_are_those_of_serve() {
        let dir = tempfile::tempdir().unwrap();
        let program = program(dir.path(), "echo \"$@\"; kill -9 $$");
        let mut supervisor = Supervisor::start(&program, &[member(dir.path())], SHORT);
        let Event::Started { .. } = next(&mut supervisor).await else {
            panic!()
        };
        let Event::Died { how, .. } = next(&mut supervisor).await else {
            panic!()
        };
        assert_eq!(how, "killed by SIGKILL");
        supervisor.stop().await;
        let said = last_words(&dir.path().join("log")).unwrap();
        let own = std::process::id();
        assert_eq!(
            said,
            format!("serve --data {} --with-parent {own}", dir.path().display())
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let none = Program {
            file: dir.path().join("none"),
            log_level: None,
        };
        let mut supervisor = Supervisor::start(&none, &[member(dir.path())], SHORT);
        let Event::NotStarted { why, .. } = next(&mut supervisor).await else {
            panic!()
        };
        assert!(why.starts_with("cannot start "), "{why}");
        supervisor.stop().await;
    }
}
