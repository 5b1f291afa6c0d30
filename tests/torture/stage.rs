//! A cluster under load, and what is asked of it between two blows and at the end.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use kontiki_client::{Client, TopicName};
use kontiki_sim::{
    checker,
    history::{Dump, Holder},
};
use kontiki_wire::GroupId;

use crate::{
    cluster::{Cluster, PATIENCE, kontiki},
    load::{Hands, Load, Style},
    plan::Random,
    replica::{Examiner, Held},
    report::Report,
};

/// Files so small that there are many of them within seconds.
pub(crate) const SETTINGS: &str =
    "[storage]\njournal_file_bytes = 1048576\nsegment_bytes = 1048576\n";
/// How many members a cluster has here.
pub(crate) const SIZE: usize = 3;

/// What a stage is set with.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) hands: Hands,
    /// What each member is started with, if that is not the bare binary: words that run it.
    pub(crate) programs: Vec<Vec<String>>,
    /// What every member's `kontiki.toml` says.
    pub(crate) settings: String,
    pub(crate) style: Style,
}

impl From<Cluster> for Scene {
    /// A cluster that was born and not started.
    fn from(cluster: Cluster) -> Self {
        Self {
            cluster,
            hands: Hands::new(),
            programs: Vec::new(),
            settings: SETTINGS.to_owned(),
            style: Style::default(),
        }
    }
}

/// The cluster, its load, and who looks at both. Dropped in this order.
pub(crate) struct Stage {
    pub(crate) load: Load,
    examiner: Examiner,
    pub(crate) client: Client,
    pub(crate) topic: TopicName,
    group: GroupId,
    pub(crate) cluster: Cluster,
    programs: Vec<Vec<String>>,
    pub(crate) hands: Hands,
}

impl Stage {
    /// Starts the cluster and its load.
    pub(crate) fn set(scene: impl Into<Scene>, random: &mut Random) -> Self {
        let Scene {
            mut cluster,
            hands,
            programs,
            settings,
            style,
        } = scene.into();
        for at in 0..cluster.members.len() {
            let file = cluster.members[at].data.join("kontiki.toml");
            std::fs::write(file, &settings).expect("a member's folder");
            cluster.launch(at, command(programs.get(at)));
        }
        for at in 0..cluster.members.len() {
            cluster.ready(at).expect("a new member serves");
        }
        let topic: TopicName = "orders".parse().expect("a name");
        let (client, group, examiner) = hands.wait(async {
            let client = cluster.client().await;
            let admin = client.admin();
            let made = admin.ensure_topic(&topic, Default::default()).await;
            let group = made.expect("a topic").group;
            let examiner = Examiner::new(&cluster.folder(), topic.clone(), group);
            (client, group, examiner)
        });
        let load = Load::start(&hands, &client, &topic, group, style, random);
        Self {
            load,
            examiner,
            client,
            topic,
            group,
            cluster,
            programs,
            hands,
        }
    }

    /// Who leads the topic, among those who are up.
    pub(crate) fn leader(&self) -> usize {
        let leader = self.cluster.leader(&self.client, &self.topic);
        self.hands.wait(leader)
    }

    /// Starts members and waits until they serve.
    pub(crate) fn start(&mut self, members: &[usize]) {
        for at in members {
            self.cluster.launch(*at, command(self.programs.get(*at)));
        }
        for at in members {
            if let Err(status) = self.cluster.ready(*at) {
                let said = self.cluster.said_lately(*at);
                panic!("member {at} does not start again ({status}):\n{said}");
            }
        }
    }

    /// Waits until something appended from now on is acknowledged; says how long that took.
    pub(crate) fn next_acknowledgement(&self) -> Duration {
        let now = Instant::now();
        self.load.acknowledged_since(&self.hands, now) - now
    }

    /// Waits until so many more were acknowledged.
    pub(crate) fn progress(&self, more: u64) {
        let goal = self.load.acknowledged() + more;
        while self.load.acknowledged() < goal {
            self.next_acknowledgement();
        }
    }

    /// Waits until every member is up, sound, and has what the others have.
    pub(crate) fn heal(&mut self) {
        let healed = self.heals_by(Instant::now() + PATIENCE);
        healed.unwrap_or_else(|why| panic!("it does not heal: {why}"));
    }

    /// The same, or why it has not come to that by then.
    pub(crate) fn heals_by(&mut self, deadline: Instant) -> Result<(), String> {
        loop {
            let status = self.hands.wait(self.client.admin().status());
            let why = match status {
                Ok(status) if status.healthy => return Ok(()),
                Ok(status) => status.reasons.join("; "),
                Err(error) => error.to_string(),
            };
            for at in 0..self.cluster.members.len() {
                if self.cluster.is_up(at)
                    && let Some(status) = self.cluster.ends_within(at, Duration::ZERO)
                {
                    let said = self.cluster.said_lately(at);
                    return Err(format!("member {at} ended ({status}):\n{said}"));
                }
            }
            if Instant::now() > deadline {
                return Err(why);
            }
        }
    }

    /// Has every member read all of its own log, and mend it, until it is sound and the same everywhere,
    /// or says what is not by then. What no subscriber reads is read here too.
    pub(crate) fn verifies_by(&self, deadline: Instant) -> Result<(), String> {
        loop {
            let verified = self.hands.wait(self.client.admin().verify(|_, _| {}));
            let why = match verified {
                Ok(found) if found.sound => return Ok(()),
                Ok(found) => {
                    let wrong = found.replicas.into_iter().filter(|one| !one.is_sound());
                    format!("{:?}", wrong.collect::<Vec<_>>())
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(why);
            }
        }
    }

    /// Reads all that these members have, and compares it with all that was told so far, and byte for
    /// byte with each other.
    pub(crate) fn examine(&self, members: &[usize]) {
        let end = end_of(&self.hands, &self.client, &self.topic);
        self.judge(members, end, false);
    }

    /// Ends the load, waits until all is well, and compares what everybody has with all that was told,
    /// and with what is on the disks.
    pub(crate) fn finish(self, report: &mut Report) -> checker::Report {
        let everybody: Vec<usize> = (0..self.cluster.members.len()).collect();
        self.finish_with(&everybody, report)
    }

    /// The same, where only these have the topic.
    pub(crate) fn finish_with(mut self, keepers: &[usize], report: &mut Report) -> checker::Report {
        self.heal();
        let (hands, client, topic) = (&self.hands, &self.client, &self.topic);
        let end = self.load.end(hands, || end_of(hands, client, topic));
        self.load.told.history().settled = true;
        let figures = self.judge(keepers, end, true);
        report.figures.merge(&figures);
        let verified = self.verifies_by(Instant::now() + PATIENCE);
        verified.unwrap_or_else(|why| panic!("what members have is not sound: {why}"));
        for at in 0..self.cluster.members.len() {
            self.cluster.stop(at);
            let mut verify = Command::new(kontiki());
            verify.arg("verify").arg("--data");
            verify.arg(&self.cluster.members[at].data);
            let found = run(&mut verify);
            found.unwrap_or_else(|why| panic!("what member {at} leaves is not sound: {why}"));
        }
        figures
    }

    fn judge(&self, members: &[usize], end: u64, complete: bool) -> checker::Report {
        let mut dumps = Vec::new();
        let mut first: Option<Held> = None;
        for at in members {
            let held = self.all_of(*at, end);
            let first = first.get_or_insert_with(|| held.clone());
            if let Some(offset) = held.differs(first) {
                let (one, other) = (members[0], at);
                panic!("members {one} and {other} have other bytes from offset {offset} on");
            }
            dumps.push(Dump {
                holder: Holder::Member(*at as u64 + 1),
                group: self.group,
                at: self.load.told.now(),
                complete,
                first: 0,
                pieces: held.pieces,
                marks: Vec::new(),
                state: None,
            });
        }
        let mut history = self.load.told.history();
        history.dumps = dumps;
        let verdict = checker::check(&history);
        drop(history);
        let violations: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
        assert!(
            violations.is_empty(),
            "{}\n{}",
            verdict.report,
            violations.join("\n")
        );
        verdict.report
    }

    /// All that a member has up to `end`, which it is to reach.
    fn all_of(&self, at: usize, end: u64) -> Held {
        let member = &self.cluster.members[at];
        let start = Instant::now();
        loop {
            let read = self.examiner.read(&member.name, member.address, end);
            let read = async { tokio::time::timeout(PATIENCE, read).await };
            let why = match self.hands.wait(read) {
                Ok(Ok(held)) => return held,
                Ok(Err(why)) => why,
                Err(_) => "it takes too long".to_owned(),
            };
            // What it finds damaged on the way, it fetches from the others first.
            let name = &member.name;
            assert!(
                start.elapsed() < PATIENCE,
                "{name} does not show all it has: {why}"
            );
        }
    }
}

/// These words as a command, or the bare binary.
fn command(words: Option<&Vec<String>>) -> Command {
    let Some((program, arguments)) = words.and_then(|words| words.split_first()) else {
        return Command::new(kontiki());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// What a command wrote, or what it was and what it complained of.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {said}{}", complaint.trim_end()))
}

/// Where a topic ends, as its leader knows it.
fn end_of(hands: &Hands, client: &Client, topic: &TopicName) -> u64 {
    let admin = client.admin();
    let start = Instant::now();
    loop {
        match hands.wait(admin.describe_topic(topic)) {
            Ok(info) => return info.next.0,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    }
}

impl Cluster {
    /// Where everything of it is.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }
}
