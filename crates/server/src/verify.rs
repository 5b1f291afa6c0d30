//! Looks over the directory of a member that does not run: its files, and the words for what is wrong.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use kontiki_broker::cluster_state;
use kontiki_storage::{Finding, Outlook, Verified};
use kontiki_wire::{ClusterState, GroupId};
use serde::Serialize;
use thiserror::Error;

use crate::{
    config::Config,
    data::{OWNER, owner_of},
    error::StartError,
    member::{MEMBER_FILE, MemberFile},
    own::credentials,
};

/// What a member's directory was found to be. It serialises as one object.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The directory.
    pub dir: PathBuf,
    /// The member's name, if its file can be read.
    pub member: Option<String>,
    /// Its cluster, in hexadecimal.
    pub cluster_id: Option<String>,
    /// Whether nothing is damaged.
    pub sound: bool,
    /// Whether a join was interrupted before there was a member here.
    pub joining: bool,
    /// Files of the log that were read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What is kept of each topic, by group.
    pub topics: Vec<TopicReport>,
    /// What is not as it was written.
    pub findings: Vec<Found>,
    /// Damage that is not listed because there is too much of it.
    pub unlisted: u64,
}

/// What is kept of one topic.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct TopicReport {
    /// Its name, if the cluster's own log tells; `None` for that log itself.
    pub topic: Option<String>,
    /// Its group; 0 is the cluster's own.
    pub group: u64,
    /// Its segments.
    pub segments: u64,
    /// Sound entries in them.
    pub entries: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// The last entry, in the segments or in the journal.
    pub last_entry: u64,
}

/// One thing that is not as it was written.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Found {
    /// Whether something is damaged; else it is what a crash leaves behind, or what is left over.
    pub damage: bool,
    /// The file or directory.
    pub file: PathBuf,
    /// The byte where it begins.
    pub byte: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// The topic, if it is one's.
    pub topic: Option<String>,
    /// The group, if it is one's.
    pub group: Option<u64>,
    /// The first and the last entry concerned.
    pub entries: Option<(u64, u64)>,
    /// The first and the last offset concerned.
    pub offsets: Option<(u64, u64)>,
    /// What becomes of it at the member's next start.
    pub next_start: String,
}

/// Why a directory could not be looked over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A process has it.
    #[error(
        "{} is in use: its member runs; stop it first, or verify the running cluster with `kontiki verify`",
        .0.display()
    )]
    Running(PathBuf),
    /// It is nobody's.
    #[error(
        "{} is neither a member's directory nor the data directory in one; name the one that `kontiki serve --data` was given",
        .0.display()
    )]
    NotAMember(PathBuf),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] kontiki_storage::Error),
}

/// Reads everything in a member's directory, or in a bare data directory, and writes nothing. `progress`
/// is told now and then how many bytes of how many have been read; when it is, nothing is left of what was
/// copied to the directory for temporary files. Blocks.
pub fn verify_dir(
    dir: &Path,
    progress: impl Fn(u64, u64) + Send + Sync + 'static,
) -> Result<Report, VerifyError> {
    let has = |name: &str| dir.join(name).exists();
    let bare = ["journal", "groups", OWNER].into_iter().any(has);
    let whole = has(MEMBER_FILE) || has("data");
    let mut findings = Vec::new();
    if !whole && !bare {
        let Some(key) = lone_key(dir) else {
            return Err(VerifyError::NotAMember(dir.to_owned()));
        };
        findings.push(without_member(dir, key));
        let mut report = report(dir, None, Verified::default(), findings);
        report.joining = report.sound;
        return Ok(report);
    }
    let (member, data) = if whole {
        (member(dir, &mut findings), dir.join("data"))
    } else {
        (None, dir.to_owned())
    };
    owner(&data, member.as_ref(), &mut findings);
    let verified = if data.is_dir() {
        walk(&data, Arc::new(progress))?
    } else {
        Verified::default()
    };
    Ok(report(dir, member, verified, findings))
}

/// The key of somebody who asked to be let in, or was a member.
fn lone_key(dir: &Path) -> Option<PathBuf> {
    let keys = ["certs/node.key", "certs/node.key.new"];
    keys.map(|key| dir.join(key))
        .into_iter()
        .find(|key| key.exists())
}

/// Who has asked and kept no answer has a key and nothing else. A certificate comes with the answer, and the
/// member's file right after it.
fn without_member(dir: &Path, key: PathBuf) -> Found {
    if ["certs/node.pem", "ca"]
        .into_iter()
        .any(|name| dir.join(name).exists())
    {
        let what = "it and the data are missing: they were lost, or what made the folder was cut off at its very \
                    end";
        return beside(dir.join(MEMBER_FILE), what.to_owned(), Outlook::Refused, 0);
    }
    let what = "a join was interrupted here: there is no member yet";
    Found {
        damage: false,
        next_start: "the same `kontiki join` goes on with this key when it is run again; to give it up, remove the \
                     folder"
            .to_owned(),
        ..beside(key, what.to_owned(), Outlook::Ignored, 0)
    }
}

fn walk(
    data: &Path,
    progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
) -> Result<Verified, VerifyError> {
    kontiki_storage::verify(data, progress).map_err(|error| match error {
        kontiki_storage::Error::InUse(dir) => VerifyError::Running(dir),
        error => error.into(),
    })
}

/// Reads what is beside the data: who the member is, its settings, its certificates.
fn member(dir: &Path, findings: &mut Vec<Found>) -> Option<MemberFile> {
    let mut refused = |file: PathBuf, error: StartError| {
        let what = match error {
            StartError::NotAMember { what, .. }
            | StartError::Certificate { what, .. }
            | StartError::Config { what, .. } => what,
            StartError::Io { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        findings.push(beside(file, what, Outlook::Refused, 0));
    };
    if let Err(error) = Config::load(dir) {
        refused(dir.join("kontiki.toml"), error);
    }
    let member = match MemberFile::load(dir) {
        Ok(member) => member,
        Err(error) => {
            refused(dir.join(MEMBER_FILE), error);
            return None;
        }
    };
    if let Err(error) = credentials(dir, &member) {
        let file = match &error {
            StartError::Io { path, .. } | StartError::Certificate { path, .. } => path.clone(),
            _ => dir.join("certs"),
        };
        refused(file, error);
    }
    Some(member)
}

/// Whether the data is this member's, and still there.
fn owner(data: &Path, member: Option<&MemberFile>, findings: &mut Vec<Found>) {
    let path = data.join(OWNER);
    let Some(member) = member else {
        return;
    };
    let members = member.members.len();
    match fs::read_to_string(&path) {
        Ok(owner) if owner == owner_of(member) => {}
        Ok(owner) => {
            let what = format!(
                "it says that the data is that of {}, not of {}",
                owner.trim_end(),
                owner_of(member).trim_end()
            );
            findings.push(beside(path, what, Outlook::Refused, members));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let again = member.joined.as_ref().is_some_and(|joined| joined.again);
            if again {
                findings.push(never_run(path, members));
            } else if member.started {
                let what = "the data is lost: the member has started before".to_owned();
                findings.push(beside(path, what, Outlook::Rejoins, members));
            }
        }
        Err(error) => findings.push(beside(path, error.to_string(), Outlook::Refused, members)),
    }
}

/// Whoever is let in twice may have lost what it promised in between, but by all that is here it has never run.
fn never_run(file: PathBuf, replicas: usize) -> Found {
    Found {
        damage: false,
        ..beside(
            file,
            "a join was interrupted, and done when it was run again: the member has kept nothing here yet"
                .to_owned(),
            Outlook::Rejoins,
            replicas,
        )
    }
}

fn beside(file: PathBuf, what: String, outlook: Outlook, replicas: usize) -> Found {
    Found {
        damage: true,
        file,
        byte: None,
        what,
        topic: None,
        group: None,
        entries: None,
        offsets: None,
        next_start: next_start(outlook, replicas).to_owned(),
    }
}

fn report(
    dir: &Path,
    member: Option<MemberFile>,
    verified: Verified,
    mut findings: Vec<Found>,
) -> Report {
    let state = names(member.as_ref(), &verified);
    let members = state.members.len();
    let topic = |group: GroupId| state.topics.iter().find(|topic| topic.group == group);
    let name = |group| topic(group).map(|topic| topic.name.to_string());
    let found = |finding: Finding| {
        let topic = finding.group.and_then(topic);
        let replicas = topic.map_or(members, |topic| topic.replicas.len());
        Found {
            damage: finding.damage,
            file: finding.path,
            byte: finding.at,
            what: finding.what,
            topic: topic.map(|topic| topic.name.to_string()),
            group: finding.group.map(|group| group.0),
            entries: finding.entries.map(|(first, last)| (first.0, last.0)),
            offsets: finding.offsets.map(|(first, end)| (first.0, end.0 - 1)),
            next_start: next_start(finding.outlook, replicas).to_owned(),
        }
    };
    findings.extend(verified.findings.into_iter().map(found));
    let topics = verified.groups.iter().map(|walked| TopicReport {
        topic: name(walked.group),
        group: walked.group.0,
        segments: walked.segments,
        entries: walked.entries,
        bytes: walked.bytes,
        last_entry: walked.last.0,
    });
    Report {
        dir: dir.to_owned(),
        member: member.as_ref().map(|member| member.name.clone()),
        cluster_id: member.as_ref().map(|member| member.cluster.to_string()),
        sound: verified.unlisted == 0 && !findings.iter().any(|found| found.damage),
        joining: false,
        files: verified.files,
        bytes: verified.bytes,
        topics: topics.collect(),
        findings,
        unlisted: verified.unlisted,
    }
}

/// Members and topics, as far as the cluster's own log in this directory tells.
fn names(member: Option<&MemberFile>, verified: &Verified) -> ClusterState {
    let birth = member.map(MemberFile::birth_state).unwrap_or_default();
    let commands = &verified.commands[..];
    let checkpoint = verified.cluster.as_ref();
    // Names only help to read the report: without them it names groups.
    cluster_state(birth.clone(), checkpoint, commands)
        .or_else(|_| cluster_state(birth.clone(), checkpoint, &[]))
        .unwrap_or(birth)
}

/// What becomes of a finding, as a sentence; `replicas` are those of the topic, 0 if nobody knows.
fn next_start(outlook: Outlook, replicas: usize) -> &'static str {
    match (outlook, replicas) {
        (Outlook::Cut, _) => "it is cut off at the next start: nothing of it had been acknowledged",
        (Outlook::Rebuilt, _) => "it is made again from what is sound in this directory",
        (Outlook::Mended, 1) => {
            "no other member has these entries: bring back a copy of the file, or they are lost"
        }
        (Outlook::Mended, _) => {
            "the entries are fetched from another member, at the next start or when they are first read"
        }
        (Outlook::Rejoins, 1 | 2) => {
            "without this member there is no majority that could give back what it may have promised: \
             bring back a copy of the file"
        }
        (Outlook::Rejoins, _) => {
            "at its next start the member copies from the leaders, and does not vote before it is whole"
        }
        (Outlook::Ignored, _) => "nothing needs it",
        (Outlook::Unseen, _) => {
            "the next start does not see it: compare the members with `kontiki verify` once it runs"
        }
        (Outlook::Refused, _) => "the member does not start before this is put right",
    }
}

impl Found {
    /// Whose it is: the topic, the entries, the offsets; empty if it is nobody's in particular.
    #[must_use]
    pub fn whose(&self) -> String {
        let mut text = match (&self.topic, self.group) {
            (Some(topic), _) => format!("topic {topic}"),
            (None, Some(0)) => "the cluster's own log".to_owned(),
            (None, Some(group)) => format!("group {group}"),
            (None, None) => return String::new(),
        };
        for (what, range) in [
            (("entry", "entries"), self.entries),
            (("offset", "offsets"), self.offsets),
        ] {
            // Writing to a string cannot fail.
            let _ = match range {
                Some((first, last)) if first == last => write!(text, ", {} {first}", what.0),
                Some((first, last)) => write!(text, ", {} {first} to {last}", what.1),
                None => Ok(()),
            };
        }
        text
    }
}
