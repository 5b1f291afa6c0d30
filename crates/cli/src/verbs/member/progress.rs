//! What moves because members come and go: from where, how much is left, how fast, how long it takes, and
//! why it does not go on when it does not.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use kontiki_client::{Client, ClusterStatus, ReplicaHealth, TopicHealth};
use tokio::time::sleep;

use crate::{
    exit::Failure,
    invocation::Invocation,
    output::{Counted, Output},
};

/// How long a change is watched unless told otherwise.
const WATCH_DEFAULT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is told of what goes on as before, but for the numbers.
const TELL_EVERY: Duration = Duration::from_secs(5);
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
            Ok(status) => teller.tell(&status),
            Err(error) => last = Some(error),
        }
        if Instant::now() >= late {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    if teller.told.is_empty()
        && let Some(error) = last
    {
        return Err(error.into());
    }
    let why = match teller.told.is_empty() {
        true => "the cluster does not say why".to_owned(),
        false => teller.told.join("; "),
    };
    Err(Failure::new(format!(
        "after {} s it is not done: {why}",
        patience.as_secs()
    ))
    .advise("it goes on by itself; `kontiki member status --watch` shows how far it is"))
}

/// Tells how far it is: on a terminal with a bar that is drawn anew, elsewhere with a line now and then.
struct Teller {
    output: Output,
    bar: Option<ProgressBar>,
    /// The most bytes that were left.
    most: u64,
    told: Vec<String>,
    told_at: Instant,
}

impl Teller {
    fn new(output: Output) -> Self {
        let style =
            ProgressStyle::with_template("{bar:24} {binary_bytes}/{binary_total_bytes}\n{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = output
            .progress()
            .then(|| ProgressBar::new(0).with_style(style));
        Self {
            output,
            bar,
            most: 0,
            told: Vec::new(),
            told_at: Instant::now(),
        }
    }

    fn tell(&mut self, status: &ClusterStatus) {
        let said = sentences(status);
        if let Some(bar) = &self.bar {
            let left = status.topics.iter().map(bytes_left).sum();
            self.most = self.most.max(left);
            bar.set_length(self.most);
            bar.set_position(self.most - left);
            bar.set_message(said.join("\n"));
            self.told = said;
            return;
        }
        let news = plain(&said) != plain(&self.told);
        if news || (said != self.told && self.told_at.elapsed() >= TELL_EVERY) {
            said.iter().for_each(|why| self.output.note(why));
            self.told_at = Instant::now();
            self.told = said;
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is said, whatever the numbers: those change each time.
fn plain(sentences: &[String]) -> Vec<String> {
    let letters = |sentence: &String| {
        let words = sentence.split_whitespace();
        let words = words.filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
        words.collect::<Vec<_>>().join(" ")
    };
    sentences.iter().map(letters).collect()
}

/// What is under way, and what it waits for.
pub(super) fn sentences(status: &ClusterStatus) -> Vec<String> {
    let topics = status.topics.iter();
    let moving = topics.filter(|topic| !topic.wanted.is_empty());
    let moving = moving.map(sentence);
    status.placing.iter().cloned().chain(moving).collect()
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
    let mut sentence = format!("topic {}: {}", topic.name, said.join("; "));
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
    let (bytes, speed) = (replica.lag_bytes, replica.bytes_per_second);
    if bytes == 0 {
        return format!("{} left", Counted(replica.lag, "record"));
    }
    let mut text = format!("{} left", HumanBytes(bytes));
    match bytes.checked_div(speed) {
        None => text.push_str(", and none arrives at the moment"),
        Some(seconds) => {
            let speed = HumanBytes(speed);
            text.push_str(&format!(", {speed}/s, about {}", span(seconds + 1)));
        }
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone_are_no_news() {
        let said = |text: &str| plain(&[text.to_owned()]);
        let before = said("topic a: n3 copies it from n1: 1.20 GiB left, 45.00 MiB/s, about 27 s");
        let after = said("topic a: n3 copies it from n1: 1.10 GiB left, 44.10 MiB/s, about 25 s");
        assert_eq!(before, after);
        assert_ne!(before, said("topic a: n2 copies it from n1: 1.20 GiB left"));
    }

    #[test]
    fn times_are_told_in_the_unit_that_people_would_use() {
        assert_eq!(
            [5, 119, 120, 7_200].map(span),
            ["5 s", "119 s", "2 min", "2 h"]
        );
    }
}
