//! What `dev` says: what to type once all is ready, and then what happens to members and leaders.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use kontiki_client::ClusterStatus;
use serde::Serialize;

use crate::{
    exit::Failure,
    output::{Output, Paint},
    verbs::dev::supervise::Event,
};

/// Topics whose leaders are told of; more would be noise.
const TOPICS_TOLD_MAX: usize = 16;

/// Says it, as text or as JSON.
pub(crate) struct Narrator {
    output: Output,
    restart_after: Duration,
    /// How to call this program from the shell it was called from.
    kontiki: String,
}

/// A cluster that is ready.
pub(crate) struct Ready<'a> {
    /// How it is.
    pub(crate) status: &'a ClusterStatus,
    /// The members' processes.
    pub(crate) pids: &'a BTreeMap<String, u32>,
    /// Where it lives.
    pub(crate) folder: &'a Path,
    /// Whether the folder is removed at the end.
    pub(crate) passing: bool,
    /// The context that reaches it.
    pub(crate) context: &'a str,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    Ready {
        cluster_id: &'a str,
        context: &'a str,
        dir: &'a Path,
        leader: Option<&'a str>,
        members: Vec<ReadyMember<'a>>,
    },
    Started {
        member: &'a str,
        pid: u32,
    },
    Died {
        member: &'a str,
        pid: u32,
        how: &'a str,
    },
    NotStarted {
        member: &'a str,
        why: &'a str,
    },
    Leads {
        topic: Option<&'a str>,
        member: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct ReadyMember<'a> {
    name: &'a str,
    address: &'a str,
    pid: u32,
    log: PathBuf,
}

impl Narrator {
    /// One that says it there.
    pub(crate) fn new(output: Output, restart_after: Duration) -> Self {
        Self {
            output,
            restart_after,
            kontiki: how_to_call(),
        }
    }

    /// That the cluster is ready, and what to type next.
    pub(crate) fn ready(&self, ready: &Ready<'_>) -> Result<(), Failure> {
        let pid = |name: &str| ready.pids.get(name).copied().unwrap_or_default();
        let members = ready.status.members.iter().map(|member| ReadyMember {
            name: &member.name,
            address: &member.address,
            pid: pid(&member.name),
            log: ready.folder.join(&member.name).join("log"),
        });
        let told = Told::Ready {
            cluster_id: &ready.status.cluster_id,
            context: ready.context,
            dir: ready.folder,
            leader: ready.status.leader.as_deref(),
            members: members.collect(),
        };
        self.output
            .say(&told, |output| self.welcome(ready, output))?;
        for reason in &ready.status.reasons {
            self.output
                .note(self.output.paint_note(Paint::Warn, reason));
        }
        Ok(())
    }

    fn welcome(&self, ready: &Ready<'_>, output: Output) -> String {
        let members = &ready.status.members;
        let fate = if ready.passing {
            "removed at the end"
        } else {
            "kept"
        };
        let mut lines = vec![format!(
            "{} in {:.1} s, in {} ({fate})",
            output.paint(Paint::Good, &format!("{} members are ready", members.len())),
            ready.took.as_secs_f64(),
            ready.folder.display(),
        )];
        let leader = ready.status.leader.as_deref();
        for member in members {
            let pid = ready.pids.get(&member.name).copied().unwrap_or_default();
            let leads = if leader == Some(&member.name) {
                "  leads"
            } else {
                ""
            };
            lines.push(format!(
                "  {}  {}  process {pid}{leads}",
                member.name, member.address
            ));
        }
        lines.push(String::new());
        lines.push(format!(
            "In another terminal (they find this cluster by its context, {}):",
            ready.context
        ));
        let kontiki = &self.kontiki;
        for command in [
            format!("echo hello | {kontiki} append greetings"),
            format!("{kontiki} read greetings --from earliest -f"),
            format!("{kontiki} cluster status"),
        ] {
            lines.push(format!("  {}", output.paint(Paint::Bold, &command)));
        }
        if let Some(pid) = leader
            .and_then(|leader| ready.pids.get(leader))
            .filter(|_| members.len() > 2)
        {
            let kill = output.paint(Paint::Bold, &format!("kill -9 {pid}"));
            lines.push(format!(
                "  {kill}    the others go on; it is started again {} s later",
                self.restart_after.as_secs()
            ));
        }
        lines.push("Ctrl-C here ends it all.".into());
        lines.push(String::new());
        lines.join("\n")
    }

    /// What happened to a member.
    pub(crate) fn event(&self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Started { name, pid } => {
                let told = Told::Started {
                    member: name,
                    pid: *pid,
                };
                self.output
                    .say(&told, |_| format!("{name} runs again, process {pid}"))
            }
            Event::Died { name, pid, how } => {
                let told = Told::Died {
                    member: name,
                    pid: *pid,
                    how,
                };
                self.output.say(&told, |output| {
                    let died = output.paint(Paint::Warn, &format!("{name} (process {pid}) {how}"));
                    format!(
                        "{died}; it is started again in {} s",
                        self.restart_after.as_secs()
                    )
                })
            }
            Event::NotStarted { name, why } => {
                let told = Told::NotStarted { member: name, why };
                self.output.say(&told, |output| {
                    output.paint(Paint::Bad, &format!("{name} cannot be started: {why}"))
                })
            }
        }
    }

    /// That somebody leads now, or nobody.
    pub(crate) fn leads(&self, change: &Change) -> Result<(), Failure> {
        let told = Told::Leads {
            topic: change.topic.as_deref(),
            member: change.member.as_deref(),
        };
        self.output.say(&told, |_| {
            let what = change.topic.as_deref().unwrap_or("the cluster");
            match &change.member {
                Some(member) => format!("{member} leads {what}"),
                None => format!("nobody leads {what}"),
            }
        })
    }
}

/// Who leads what, as last told.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<Option<String>, Option<String>>);

/// That a leader changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Of which topic; of the cluster itself if none.
    pub(crate) topic: Option<String>,
    /// Who leads now.
    pub(crate) member: Option<String>,
}

impl Leaders {
    /// Those of this status, as told.
    pub(crate) fn of(status: &ClusterStatus) -> Self {
        Self(Self::read(status))
    }

    /// What is different in a newer status.
    pub(crate) fn update(&mut self, status: &ClusterStatus) -> Vec<Change> {
        self.replace(Self::read(status))
    }

    fn read(status: &ClusterStatus) -> BTreeMap<Option<String>, Option<String>> {
        let topics = status.topics.iter().take(TOPICS_TOLD_MAX);
        topics
            .map(|topic| (Some(topic.name.clone()), topic.leader.clone()))
            .chain([(None, status.leader.clone())])
            .collect()
    }

    fn replace(&mut self, newer: BTreeMap<Option<String>, Option<String>>) -> Vec<Change> {
        let changed = newer
            .iter()
            .filter(|(topic, member)| self.0.get(*topic) != Some(*member));
        let changes = changed
            .map(|(topic, member)| Change {
                topic: topic.clone(),
                member: member.clone(),
            })
            .collect();
        self.0 = newer;
        changes
    }
}

/// `kontiki` if the shell finds this very program under that name, its path otherwise.
fn how_to_call() -> String {
    let Ok(own) = env::current_exe() else {
        return "kontiki".into();
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join("kontiki"))
        .find(|candidate| candidate.is_file());
    if found.and_then(|found| found.canonicalize().ok()) == own.canonicalize().ok() {
        return "kontiki".into();
    }
    let below = env::current_dir()
        .ok()
        .and_then(|here| own.strip_prefix(here).ok().map(Path::to_owned));
    match below {
        Some(below) if below.components().count() > 1 => below.display().to_string(),
        Some(below) => format!("./{}", below.display()),
        None => own.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(pairs: &[(Option<&str>, Option<&str>)]) -> BTreeMap<Option<String>, Option<String>> {
        pairs
            .iter()
            .map(|(topic, member)| (topic.map(Into::into), member.map(Into::into)))
            .collect()
    }

    #[test]
    fn only_changes_are_told() {
        let mut known = Leaders(leaders(&[(None, Some("n1")), (Some("a"), Some("n2"))]));
        assert_eq!(
            known.replace(leaders(&[(None, Some("n1")), (Some("a"), Some("n2"))])),
            []
        );
        let changes = known.replace(leaders(&[
            (None, Some("n1")),
            (Some("a"), Some("n3")),
            (Some("b"), None),
        ]));
        let change = |topic: &str, member: Option<&str>| Change {
            topic: Some(topic.into()),
            member: member.map(Into::into),
        };
        assert_eq!(changes, [change("a", Some("n3")), change("b", None)]);
    }
}
