//! What moves because members come and go: from where, how much is left, how fast, how long it takes, and
//! why it does not go on when it does not.

use std::time::{Duration, Instant};

use kontiki_client::{Client, ClusterStatus, ReplicaHealth, TopicHealth, TopicName};
use tokio::time::sleep;

use crate::{
    exit::Failure,
    invocation::Invocation,
    output::Counted,
    verbs::teller::{Teller, bytes_left_words, span},
};

/// How long a change is watched unless told otherwise.
const WATCH_DEFAULT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Whoever has not answered for so long is told of with how long.
const SILENT_MS: u64 = 1_000;

/// Looks at the cluster until it is so, and says on the way what it waits for. It is an error if it is not so
/// in time: it goes on all the same.
pub(super) async fn until(
    client: &Client,
    invocation: &Invocation,
    is_so: impl Fn(&ClusterStatus) -> bool,
) -> Result<bool, Failure> {
    let patience = invocation.timeout.unwrap_or(WATCH_DEFAULT);
    let late = Instant::now() + patience;
    let mut teller = Teller::new(invocation.output);
    let mut last = None;
    loop {
        match client.admin().status().await {
            Ok(status) if is_so(&status) => return Ok(true),
            Ok(status) => {
                let left = status.topics.iter().map(bytes_left).sum();
                teller.tell(left, sentences(&status));
            }
            Err(error) => last = Some(error),
        }
        if Instant::now() >= late {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    if teller.told().is_empty()
        && let Some(error) = last
    {
        return Err(error.into());
    }
    let why = match teller.told().is_empty() {
        true => "the cluster does not say why".to_owned(),
        false => teller.told().join("; "),
    };
    Err(Failure::new(format!(
        "after {} s it is not done: {why}",
        patience.as_secs()
    ))
    .advise("it goes on by itself; `kontiki member status --watch` shows how far it is"))
}

/// What is under way, and what it waits for.
pub(super) fn sentences(status: &ClusterStatus) -> Vec<String> {
    let topics = status.topics.iter();
    let moving = topics.filter(|topic| !topic.wanted.is_empty());
    let moving = moving.map(|topic| format!("topic {}: {}", topic.name, sentence(topic)));
    status.placing.iter().cloned().chain(moving).collect()
}

/// The same of one topic; `None` if it is kept where it is to be, as far as is known.
pub(crate) fn moving(status: &ClusterStatus, topic: &TopicName) -> Option<String> {
    let mut topics = status.topics.iter();
    let moving = topics.find(|one| one.name == topic.as_str() && !one.wanted.is_empty());
    moving.map(sentence)
}

/// Bytes that those lack who are to keep a topic and cannot yet.
fn bytes_left(topic: &TopicHealth) -> u64 {
    let joins = |replica: &&ReplicaHealth| topic.wanted.contains(&replica.name);
    let joining = topic.replicas.iter().filter(joins);
    joining.map(|replica| replica.lag_bytes).sum()
}

fn sentence(topic: &TopicHealth) -> String {
    let leader = topic
        .leader
        .as_deref()
        .unwrap_or("a leader, when there is one");
    let wanted = topic.wanted.iter();
    let mut said: Vec<String> = wanted
        .filter_map(|name| joins(topic, name, leader))
        .collect();
    let leaves = |replica: &&ReplicaHealth| !topic.wanted.contains(&replica.name);
    let leaving = topic.replicas.iter().filter(leaves);
    let leaving: Vec<&str> = leaving.map(|one| one.name.as_str()).collect();
    if !leaving.is_empty() {
        let then = if said.is_empty() { "" } else { "then " };
        said.push(format!(
            "{then}it is kept no more by {}",
            leaving.join(", ")
        ));
    }
    if said.is_empty() {
        let names = topic.wanted.join(", ");
        said.push(format!("{names} have all of it"));
    }
    let mut sentence = said.join("; ");
    // Whoever fetches is no Raft yet, and its leader knows no more than that it does not answer.
    let fetches = topic.replicas.iter().any(|one| one.fetching.is_some());
    if let Some(why) = topic.waits.as_ref().filter(|_| !fetches) {
        sentence.push_str(&format!(" ({why})"));
    }
    sentence
}

/// How far one is that is to keep a topic, unless it does.
fn joins(topic: &TopicHealth, name: &str, leader: &str) -> Option<String> {
    let replica = topic.replicas.iter().find(|one| one.name == name);
    let Some(replica) = replica else {
        return Some(format!("{name} is to copy it from {leader}"));
    };
    match replica.state.as_str() {
        "leader" | "follower" => None,
        "unreachable" => {
            let long = replica.silent_ms.filter(|silent| *silent >= SILENT_MS);
            let long = long.map_or_else(String::new, |silent| {
                format!(" for {}", span(silent.div_ceil(1_000)))
            });
            Some(format!("{name} does not answer {leader}{long}"))
        }
        _ => Some(match &replica.fetching {
            Some(why) if replica.lag_bytes == 0 => why.clone(),
            Some(why) => format!("{why}: {}", left(replica)),
            None => format!("{name} copies it from {leader}: {}", left(replica)),
        }),
    }
}

fn left(replica: &ReplicaHealth) -> String {
    match replica.lag_bytes {
        0 => format!("{} left", Counted(replica.lag, "record")),
        bytes => bytes_left_words(bytes, Some(replica.bytes_per_second)),
    }
}
