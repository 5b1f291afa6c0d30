//! A cluster with honest clients at work, and what must hold while somebody attacks it.

use std::{env, fs, time::Duration};

use kontiki_client::{Client, GroupId, TopicName};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use crate::{cluster::Cluster, honest::Honest};

/// The most that a member's process may ever hold, in MiB.
pub(crate) const MEMORY_MAX: u64 = 320;

/// How long the calm is measured, and how long honest clients get to settle.
const CALM: Duration = Duration::from_secs(1);
const SETTLED: Duration = Duration::from_millis(300);

/// One siege at a time: each is measured.
static ALONE: Mutex<()> = Mutex::const_new(());

pub(crate) struct Siege {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) topic: TopicName,
    /// The honest topic's group, who leads it, and in which term when the attack begins.
    pub(crate) group: GroupId,
    pub(crate) leader: usize,
    pub(crate) term: u64,
    honest: Honest,
    _alone: MutexGuard<'static, ()>,
}

impl Siege {
    /// Three members, a topic, honest clients at work.
    pub(crate) async fn start() -> Self {
        let alone = ALONE.lock().await;
        let cluster = Cluster::start_on_first_use(3);
        let client = cluster.client().await;
        let topic: TopicName = "honest".parse().unwrap();
        let admin = client.admin();
        admin
            .ensure_topic(&topic, Default::default())
            .await
            .unwrap();
        let attacked: TopicName = "attacked".parse().unwrap();
        admin
            .ensure_topic(&attacked, Default::default())
            .await
            .unwrap();
        let leader = cluster.leader(&client, &topic).await;
        let group = admin.describe_topic(&topic).await.unwrap().group;
        let honest = Honest::start(&cluster, &topic).await;
        Self {
            cluster,
            client,
            topic,
            group,
            leader,
            term: 0,
            honest,
            _alone: alone,
        }
    }

    /// Measures the calm and then an attack, and holds that to what must hold: `share` of the calm
    /// throughput at least.
    pub(crate) async fn withstands<T>(
        mut self,
        what: &str,
        share: f64,
        attack: impl AsyncFnOnce(&mut Self) -> T,
    ) -> T {
        sleep(SETTLED).await;
        self.leader = self.cluster.leader(&self.client, &self.topic).await;
        self.term = self.term_now().await;
        let (before, since) = (self.honest.acknowledged(), Instant::now());
        sleep(CALM).await;
        let calm = rate(self.honest.acknowledged() - before, since);
        let (before, since) = (self.honest.acknowledged(), Instant::now());
        let done = attack(&mut self).await;
        let during = rate(self.honest.acknowledged() - before, since);
        let took = since.elapsed();
        let term = self.term_now().await;
        let memory: Vec<_> = (0..3).map(|at| self.memory(at)).collect();
        let acknowledged = self.honest.stop().await;
        println!(
            "{what}: {took:.1?}, honest {during:.0} of {:.0} records a second, {:.0} %; \
             {acknowledged} records checked; members held at most {memory:?} MiB; elections: {}",
            calm,
            100.0 * during / calm,
            term - self.term,
        );
        for (at, memory) in memory.into_iter().enumerate() {
            assert!(
                self.is_alive(at),
                "member {at} died:\n{}",
                self.cluster.said(at)
            );
            assert!(memory <= MEMORY_MAX, "member {at} held {memory} MiB");
        }
        assert_eq!(term, self.term, "an election was caused");
        assert!(
            during >= share * calm,
            "{during:.0} of {:.0} honest records a second, {share} of them was to be held",
            calm
        );
        done
    }

    async fn term_now(&self) -> u64 {
        let status = self.client.admin().status().await.unwrap();
        let mut topics = status.topics.iter();
        topics
            .find(|topic| topic.name == self.topic.to_string())
            .unwrap()
            .term
    }

    fn is_alive(&self, at: usize) -> bool {
        // A dead child that nobody has waited for is still there, as a zombie.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.cluster.pid(at)));
        let stat = stat.unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    }

    /// The most that a member's process ever held, in MiB; 0 where the system does not say.
    pub(crate) fn memory(&self, at: usize) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.pid(at)));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) / 1024
    }
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// A number from the environment.
pub(crate) fn setting(name: &str, usual: u64) -> u64 {
    let Ok(text) = env::var(name) else {
        return usual;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
}

/// How long a flood goes on.
pub(crate) fn flood_time() -> Duration {
    Duration::from_secs(setting("HOSTILE_SECONDS", 1))
}
