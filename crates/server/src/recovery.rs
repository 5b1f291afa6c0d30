//! After the loss of a majority for good: what one member has left, and how it goes on alone, in another epoch.
//!
//! The step that counts is the one in which `member.toml` names the new epoch. Before it nothing has happened;
//! after it, whoever starts or recovers the member does the rest, as often as it takes: nothing the member has
//! is used before all of it is done.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{SystemTime, UNIX_EPOCH},
};

use kontiki_broker::{Remains, Writes, remains};
use kontiki_raft::Micros;
use kontiki_storage::{Event, Recovered, Storage, rehearse};
use kontiki_wire::{Epoch, Recovery};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::info;

use crate::{
    config::Config,
    data::{DataDir, failed},
    error::StartError,
    member::{MemberFile, node_ref, write_durably},
};

mod others;
mod report;

pub use others::ask;
use report::obstacles;
pub use report::{GroupReport, Report};

/// Why a member was not recovered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A process has it.
    #[error("{} is in use: its member runs, and what it can do without the others it does", .0.display())]
    Running(PathBuf),
    /// Its folder or its disk is not as it has to be. Nothing was changed.
    #[error("{0}")]
    Unfit(#[from] StartError),
    /// There is nothing to recover, or nothing to do it with. Nothing was changed.
    #[error("{}", .0.join("; "))]
    Obstacles(Vec<String>),
}

/// Says what the member in `dir` has left, and what would be lost if it went on alone. Writes nothing, but for
/// a copy of a small part in the directory for temporary files meanwhile. Blocks.
pub fn look(dir: &Path) -> Result<Report, RecoveryError> {
    let member = MemberFile::load(dir)?;
    let config = Config::load(dir)?;
    let data = DataDir::found(dir, &member)?;
    let recovered = match data.path.is_dir() {
        true => rehearse(&data.path, &data.settings(&config, member.started)).map_err(disk)?,
        false => nothing(),
    };
    let left = left(&member, recovered)?;
    Ok(Report::of(&member, &config, &left, data.is_behind))
}

/// Has the member in `dir` go on alone, in a new epoch; `by` says who wants it. If that was begun before and
/// interrupted, it is finished. Blocks.
pub fn recover(dir: &Path, by: &str) -> Result<Report, RecoveryError> {
    let mut member = MemberFile::load(dir)?;
    let config = Config::load(dir)?;
    let data = DataDir::found(dir, &member)?;
    if data.is_behind {
        let left = finish(&config, &member, &data)?;
        return Ok(Report::of(&member, &config, &left, true));
    }
    if !data.path.is_dir() {
        return Err(RecoveryError::Obstacles(obstacles(&left(
            &member,
            nothing(),
        )?)));
    }
    let disk = Opened::open(&config, &member, &data)?;
    let obstacles = obstacles(&disk.left);
    if !obstacles.is_empty() {
        disk.close()?;
        return Err(RecoveryError::Obstacles(obstacles));
    }
    let before = member.epoch;
    let record = disk.left.record(Recovery {
        epoch: next_epoch(before, &disk.left)?,
        at: now().0,
        by: by.to_owned(),
        ..Recovery::default()
    });
    let report = Report::of(&member, &config, &disk.left, false);
    Audit::of(&record).save(dir)?;
    member.epoch = record.epoch;
    let saved = member.save(dir);
    saved.map_err(failed("cannot write in", dir))?;
    // From here on it has happened.
    disk.take_over(&record)?;
    DataDir::found(dir, &member)?.claim()?;
    Ok(report)
}

/// Does what is left to be done of a recovery that was interrupted.
pub(crate) fn finish(
    config: &Config,
    member: &MemberFile,
    data: &DataDir,
) -> Result<Remains, StartError> {
    let audit = Audit::load(&config.dir, member.epoch)?;
    let disk = Opened::open(config, member, data)?;
    let done = disk.left.state.recoveries.last().map(|it| it.epoch);
    let left = disk.left.clone();
    if done == Some(member.epoch) {
        disk.close()?;
    } else if disk.left.obstacles.is_empty() {
        disk.take_over(&left.record(audit.recovery(member.epoch)))?;
    } else {
        let why = left.obstacles.join("; ");
        disk.close()?;
        return Err(StartError::Log(format!(
            "a recovery was begun and cannot be finished: {why}"
        )));
    }
    data.claim()?;
    info!(epoch = %member.epoch, "a recovery that was interrupted is finished");
    Ok(left)
}

/// A later one than any that this member knows of, and no other member's.
fn next_epoch(before: Epoch, left: &Remains) -> Result<Epoch, StartError> {
    let known = left.state.recoveries.last().map_or(0, |it| it.epoch.number);
    Ok(Epoch {
        number: before.number.max(known).saturating_add(1),
        mark: getrandom::u64().map_err(StartError::Randomness)?,
    })
}

fn left(member: &MemberFile, recovered: Recovered) -> Result<Remains, StartError> {
    let me = node_ref(member.me());
    let boots = recovered.into_boots(me, member.started);
    remains(&member.birth_state(), me, &boots).map_err(StartError::Log)
}

/// What is in a directory that is not there.
fn nothing() -> Recovered {
    Recovered {
        groups: Vec::new(),
        damage: Vec::new(),
        torn: None,
    }
}

fn disk(error: kontiki_storage::Error) -> RecoveryError {
    match error {
        kontiki_storage::Error::InUse(dir) => RecoveryError::Running(dir),
        error => StartError::Storage(error).into(),
    }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    Micros(u64::try_from(micros).unwrap_or(u64::MAX / 2))
}

/// The member's disk, while its member does not run.
struct Opened {
    storage: Storage,
    events: mpsc::Receiver<Event>,
    left: Remains,
}

impl Opened {
    fn open(config: &Config, member: &MemberFile, data: &DataDir) -> Result<Self, StartError> {
        let (sender, events) = mpsc::channel();
        let tell = Arc::new(move |event| {
            // Nobody listens any more when it is closed.
            let _ = sender.send(event);
        });
        let settings = data.settings(config, member.started);
        let (storage, recovered) = Storage::open(&data.path, settings, tell)?;
        Ok(Self {
            storage,
            events,
            left: left(member, recovered)?,
        })
    }

    /// Appends to every group what makes the member go on alone, all of it durably.
    fn take_over(self, record: &Recovery) -> Result<(), StartError> {
        let writes = self.left.takeover(record, now());
        self.storage.persist(Writes { seq: 1, writes });
        loop {
            match self.events.recv() {
                Ok(Event::Persisted { upto: 1.. }) => break,
                Ok(Event::Failed(error)) => return Err(error.into()),
                Ok(_) => {}
                Err(_) => return Err(kontiki_storage::Error::Poisoned.into()),
            }
        }
        self.close()
    }

    fn close(self) -> Result<(), StartError> {
        Ok(self.storage.close()?)
    }
}

/// What is remembered of a recovery in the member's folder, beside what the cluster's own log remembers.
#[derive(Serialize, Deserialize)]
struct Audit {
    epoch: u64,
    mark: String,
    /// Microseconds since the Unix epoch.
    at: u64,
    by: String,
    survivor: String,
    members_given_up: Vec<String>,
    topics_kept: u64,
    topics_lost: u64,
    /// The first few of those.
    topics_lost_named: Vec<String>,
}

impl Audit {
    fn of(record: &Recovery) -> Self {
        Self {
            epoch: record.epoch.number,
            mark: format!("{:016x}", record.epoch.mark),
            at: record.at,
            by: record.by.clone(),
            survivor: record.survivor.clone(),
            members_given_up: record.given_up.clone(),
            topics_kept: record.kept,
            topics_lost: record.lost,
            topics_lost_named: record.lost_topics.clone(),
        }
    }

    fn name(epoch: Epoch) -> String {
        format!("recovery-{}.toml", epoch.number)
    }

    fn save(&self, dir: &Path) -> Result<(), StartError> {
        let name = format!("recovery-{}.toml", self.epoch);
        let body = toml::to_string(self).expect("strings and numbers only");
        let head = "# What was done when this member was made a cluster of its own.\n";
        let written = write_durably(dir, &name, format!("{head}{body}").as_bytes());
        written.map_err(failed("cannot write", &dir.join(name)))
    }

    /// What was to be remembered of the recovery that began this epoch.
    fn load(dir: &Path, epoch: Epoch) -> Result<Self, StartError> {
        let path = dir.join(Self::name(epoch));
        let text = fs::read_to_string(&path).map_err(failed("cannot read", &path))?;
        toml::from_str(&text).map_err(|error| StartError::Config {
            path,
            what: error.to_string().trim_end().to_owned(),
        })
    }

    fn recovery(&self, epoch: Epoch) -> Recovery {
        Recovery {
            epoch,
            at: self.at,
            by: self.by.clone(),
            ..Recovery::default()
        }
    }
}

#[cfg(test)]
mod tests;
