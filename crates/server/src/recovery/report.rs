//! What a member has left of its cluster, in plain sentences.

use std::path::PathBuf;

use kontiki_broker::{GroupRemains, Remains};
use kontiki_raft::NodeRef;
use kontiki_wire::{MemberInfo, Topic};
use serde::Serialize;

use crate::{authorities::Authorities, config::Config, member::MemberFile};

/// What a member has left. It serialises as one object.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The member's directory.
    pub dir: PathBuf,
    /// Its name.
    pub member: String,
    /// Its cluster, in hexadecimal.
    pub cluster_id: String,
    /// How often the cluster was recovered until then.
    pub epoch: u64,
    /// Whether a recovery had been begun, and was interrupted.
    pub interrupted: bool,
    /// Why it cannot go on alone, a sentence each; none if it can.
    pub obstacles: Vec<String>,
    /// Why it should not, though it can: others live. None before they were [asked](super::ask).
    pub objections: Vec<String>,
    /// What is here of each group.
    pub groups: Vec<GroupReport>,
    /// Topics of which nothing is here.
    pub lost_topics: Vec<String>,
    /// The members that are given up.
    pub given_up: Vec<String>,
    /// What follows if it goes on alone, a sentence each.
    pub consequences: Vec<String>,
    /// What nobody can know who looks at this member alone, a sentence each.
    pub unknown: Vec<String>,
    /// The members that are given up, and where they are to be asked.
    #[serde(skip)]
    pub(crate) others: Vec<MemberInfo>,
}

/// What is here of one group.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GroupReport {
    /// Its topic; `None` for the cluster's own log.
    pub topic: Option<String>,
    /// Its number; 0 is the cluster's own.
    pub group: u64,
    /// The latest term that it was in here.
    pub term: u64,
    /// The last entry that is here.
    pub last_entry: u64,
    /// The term of that entry: of two members, the one with the higher one has more, and if they are the same,
    /// the one with the later entry.
    pub last_entry_term: u64,
    /// The last entry that is known to be committed.
    pub committed_entry: u64,
    /// The offset that comes next.
    pub next_offset: u64,
    /// Who counts in it, by name.
    pub voters: Vec<String>,
    /// Whether it can go on with this member alone as it is.
    pub alive: bool,
}

impl Report {
    pub(crate) fn of(
        member: &MemberFile,
        config: &Config,
        left: &Remains,
        interrupted: bool,
    ) -> Self {
        let names = |id: &NodeRef| {
            let mut members = left.state.members.iter();
            let known = members.find(|member| member.node() == *id);
            known.map_or_else(|| id.id.to_string(), |member| member.name.clone())
        };
        let groups = left.groups.iter().map(|group| GroupReport {
            topic: group.topic.as_ref().map(ToString::to_string),
            group: group.group.0,
            term: group.term.0,
            last_entry: group.last.index.0,
            last_entry_term: group.last.term.0,
            committed_entry: group.commit.0,
            next_offset: group.next.0,
            voters: group.config.voters.iter().map(names).collect(),
            alive: group.is_alive(left.me),
        });
        Self {
            dir: config.dir.clone(),
            member: member.name.clone(),
            cluster_id: member.cluster.to_string(),
            epoch: member.epoch.number,
            interrupted,
            obstacles: match interrupted {
                true => left.obstacles.clone(),
                false => obstacles(left),
            },
            objections: Vec::new(),
            groups: groups.collect(),
            lost_topics: left.lost.iter().map(ToString::to_string).collect(),
            given_up: left.given_up().map(|one| one.name.clone()).collect(),
            consequences: consequences(config, left),
            unknown: unknown(left),
            others: left.given_up().cloned().collect(),
        }
    }
}

/// Why no recovery is to be begun.
pub(crate) fn obstacles(left: &Remains) -> Vec<String> {
    let mut obstacles = left.obstacles.clone();
    if left.goes_on() {
        obstacles.push(goes_on(left));
    }
    obstacles
}

/// Why a member is to be started that needs no recovery, and what becomes of the topics that others kept.
fn goes_on(left: &Remains) -> String {
    let start = "every group here can go on with this member alone; start it";
    let topics = left.state.topics.iter();
    let lost: Vec<&Topic> = topics
        .filter(|topic| left.lost.contains(&topic.name))
        .collect();
    let names: Vec<&str> = lost.iter().map(|topic| topic.name.as_str()).collect();
    let keeps = |one: &&MemberInfo| {
        lost.iter()
            .any(|topic| topic.keepers().any(|id| id == one.id))
    };
    let keepers: Vec<&str> = left
        .given_up()
        .filter(keeps)
        .map(|one| one.name.as_str())
        .collect();
    if keepers.is_empty() {
        return format!("nothing is lost: {start}");
    }
    format!(
        "{start}. Nothing is here of {}, and no recovery brings that back: start those who keep it ({}), or delete \
         the topics",
        names.join(", "),
        keepers.join(", ")
    )
}

fn consequences(config: &Config, left: &Remains) -> Vec<String> {
    let mut said = Vec::new();
    let others: Vec<&str> = left.given_up().map(|one| one.name.as_str()).collect();
    if !others.is_empty() {
        said.push(format!(
            "{} are given up for good: do not start them again; one that is started nevertheless is \
             refused, and stops when it hears so from a member of the new epoch. To have one back, let it \
             join with a new token and an empty directory",
            others.join(", ")
        ));
    }
    if !left.lost.is_empty() {
        let names: Vec<&str> = left.lost.iter().map(|topic| topic.as_str()).collect();
        said.push(format!(
            "topics of which nothing is here are gone: {}",
            names.join(", ")
        ));
    }
    let unsure = |group: &&GroupRemains| group.last.index > group.commit;
    let unsure: Vec<String> = left.groups.iter().filter(unsure).map(whose).collect();
    if !unsure.is_empty() {
        said.push(format!(
            "the last entries of {} were perhaps never acknowledged; they count from then on",
            unsure.join(", ")
        ));
    }
    if !left.nameless.is_empty() {
        let groups: Vec<String> = left.nameless.iter().map(ToString::to_string).collect();
        said.push(format!(
            "group {} is on this disk, and nothing here says which topic it is: its files are removed",
            groups.join(", ")
        ));
    }
    said.push(
        "producers and subscriptions that began before end with an error that says so, and tokens that \
         were not used yet admit nobody"
            .to_owned(),
    );
    if Authorities::folder(&config.dir, config.ca.as_deref()).is_none() {
        said.push(format!(
            "this member does not sign, and nobody can join before one does: put the folder with the \
             authorities where `dir` under `[ca]` in {} says, and restart it",
            config.dir.join("kontiki.toml").display()
        ));
    }
    said
}

fn unknown(left: &Remains) -> Vec<String> {
    let mut said = vec![
        "whether the others have acknowledged more than is here: records that never came to this member \
         are gone, and their offsets will be given to others; who has read them cannot tell"
            .to_owned(),
        "which members, topics, tokens and settings the others have agreed on that never came here"
            .to_owned(),
    ];
    let forgot: Vec<String> = left
        .groups
        .iter()
        .filter(|it| it.forgot)
        .map(whose)
        .collect();
    if !forgot.is_empty() {
        said.push(format!(
            "what this member itself had of {} before its disk was damaged",
            forgot.join(", ")
        ));
    }
    said
}

fn whose(group: &GroupRemains) -> String {
    match &group.topic {
        Some(topic) => topic.to_string(),
        None => "the cluster's own log".to_owned(),
    }
}
