//! A cluster with honest clients at work, and what must hold while somebody attacks it.

use std::{
    env, fs, panic,
    thread::{self, JoinHandle},
    time::Duration,
};

use kontiki_client::{Client, GroupId, TopicName};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Mutex, MutexGuard, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    cluster::{Cluster, PATIENCE},
    effort,
    honest::Honest,
    stranger::{Papers, Stranger},
};

/// The most that a member's process may hold in any round, in MiB.
pub(crate) const MEMORY_MAX: u64 = 320;

/// Honest records that are acknowledged before the calm is measured.
const SETTLED_RECORDS: u64 = 2_000;
/// How long the calm is measured at least and at most.
const CALM: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];
/// How long the members may take to hear that the attackers are gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// One siege at a time: each is measured.
static ALONE: Mutex<()> = Mutex::const_new(());

pub(crate) struct Siege {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) topic: TopicName,
    /// The honest topic's group, who leads it, and in which term when a round begins.
    pub(crate) group: GroupId,
    pub(crate) leader: usize,
    pub(crate) term: u64,
    strangers: Vec<Stranger>,
    honest: Honest,
    home: Home,
    attackers: Option<Runtime>,
    _alone: MutexGuard<'static, ()>,
}

/// What is measured over a time.
struct Measure {
    since: Instant,
    records: u64,
    members: Duration,
    attackers: Duration,
}

/// Three members, honest clients at work, and then one attack after the other.
pub(crate) fn besieged(rounds: impl FnOnce(&mut Siege) + Send) {
    // The thread's priority stays lowered.
    let ended = thread::scope(|scope| {
        let attackers = scope.spawn(|| {
            let mut siege = Siege::start();
            rounds(&mut siege);
            siege.end();
        });
        attackers.join()
    });
    if let Err(failure) = ended {
        panic::resume_unwind(failure);
    }
}

impl Siege {
    fn start() -> Self {
        let alone = ALONE.blocking_lock();
        let cluster = Cluster::start_on_first_use(3);
        let home = Home::start();
        let topic: TopicName = "honest".parse().unwrap();
        let attacked: TopicName = "attacked".parse().unwrap();
        let (client, group, leader, honest) = home.handle.block_on(async {
            let client = cluster.client().await;
            let admin = client.admin();
            for topic in [&topic, &attacked] {
                admin.ensure_topic(topic, Default::default()).await.unwrap();
            }
            let leader = cluster.leader(&client, &topic).await;
            let group = admin.describe_topic(&topic).await.unwrap().group;
            let honest = Honest::start(&cluster, &topic).await;
            (client, group, leader, honest)
        });
        // Whatever was started until now keeps its own priority.
        let nice = i32::try_from(setting("HOSTILE_NICE", 5)).unwrap();
        rustix::process::nice(nice).expect("it may be lowered");
        let attackers = Builder::new_current_thread().enable_all().build().unwrap();
        Self {
            cluster,
            client,
            topic,
            group,
            leader,
            term: 0,
            strangers: Vec::new(),
            honest,
            home,
            attackers: Some(attackers),
            _alone: alone,
        }
    }

    /// Somebody who dials, as long as the round lasts.
    pub(crate) fn stranger(&mut self, papers: &Papers, alpn: &[u8]) -> Stranger {
        self.tuned_stranger(papers, alpn, |_| {})
    }

    /// One whose connections take as little as they are told to.
    pub(crate) fn tuned_stranger(
        &mut self,
        papers: &Papers,
        alpn: &[u8],
        tune: impl FnOnce(&mut quinn::TransportConfig),
    ) -> Stranger {
        let stranger = Stranger::tuned(papers, alpn, tune);
        self.strangers.push(stranger.clone());
        stranger
    }

    /// Does what an attack needs, before it is measured.
    pub(crate) fn prepare<T>(&mut self, preparation: impl AsyncFnOnce(&mut Self) -> T) -> T {
        let attackers = self.attackers.take().expect("one thing at a time");
        let prepared = attackers.block_on(preparation(self));
        self.attackers = Some(attackers);
        prepared
    }

    /// Measures the calm and then an attack, and holds that to what must hold: `share` of the calm
    /// throughput at least. What an attack does it does again; a machine that was away for as long as an
    /// election takes is not away twice. So there is a second try, but not for a death or for memory.
    pub(crate) fn withstands(
        &mut self,
        what: &str,
        share: f64,
        mut attack: impl AsyncFnMut(&mut Self),
    ) {
        let only = env::var("HOSTILE_ONLY").unwrap_or_default();
        if !what.contains(&only) {
            return;
        }
        if let Err(why) = self.attacked(what, share, &mut attack) {
            println!("{what}, again: {why}");
            let again = self.attacked(what, share, &mut attack);
            again.unwrap_or_else(|why| panic!("{what}, twice: {why}"));
        }
    }

    fn attacked(
        &mut self,
        what: &str,
        share: f64,
        mut attack: impl AsyncFnMut(&mut Self),
    ) -> Result<(), String> {
        self.ask(self.honest.settle(SETTLED_RECORDS));
        self.leader = self.ask(self.cluster.leader(&self.client, &self.topic));
        self.term = self.term_now();
        for at in 0..3 {
            // The most that was held is counted anew; where it cannot be, it is that of all rounds.
            let _ = fs::write(format!("/proc/{}/clear_refs", self.cluster.pid(at)), "5");
        }
        let before = self.measure();
        let [least, most] = CALM;
        self.prepare(async |_| sleep(flood_time().clamp(least, most)).await);
        let calm = self.measure().since(&before);

        let before = self.measure();
        self.prepare(async |siege| attack(siege).await);
        let during = self.measure().since(&before);
        let held: Vec<_> = (0..3).map(|at| self.memory(at)).collect();
        let elections = self.term_now() - self.term;
        self.leave();
        println!(
            "{what}: {:.1} s, honest {:.0} of {:.0} records a second, {:.0} %; members took {:.1} us a \
             record, {:.1} in the calm ({:.0} %), attackers {:.0} % of a core; held at most {held:?} \
             MiB; elections: {elections}",
            during.seconds,
            during.rate,
            calm.rate,
            100.0 * during.rate / calm.rate,
            during.cost,
            calm.cost,
            100.0 * calm.cost / during.cost,
            100.0 * during.attackers,
        );
        for (at, held) in held.into_iter().enumerate() {
            let said = || self.cluster.said(at);
            assert!(self.is_alive(at), "member {at} died:\n{}", said());
            assert!(held <= MEMORY_MAX, "member {at} held {held} MiB");
        }
        if elections > 0 {
            return Err(format!("{elections} elections were caused"));
        }
        if during.rate < share * calm.rate {
            return Err(format!(
                "{:.0} of {:.0} honest records a second, {share} of them was to be held",
                during.rate, calm.rate
            ));
        }
        Ok(())
    }

    /// Ends the honest clients when all is read, and holds that to what was appended.
    fn end(mut self) {
        let records = self.home.handle.block_on(self.honest.stop());
        println!("{records} honest records, each where it belongs");
    }

    /// Ends all connections of a round.
    fn leave(&mut self) {
        let strangers = std::mem::take(&mut self.strangers);
        self.prepare(async |_| {
            let left = async {
                for stranger in &strangers {
                    stranger.leave().await;
                }
            };
            // Whoever was never let in need not say farewell.
            let _ = timeout(FAREWELL, left).await;
        });
    }

    pub(crate) fn ask<T>(&self, asked: impl Future<Output = T>) -> T {
        let answer = async { timeout(PATIENCE, asked).await };
        let answer = self.home.handle.block_on(answer);
        answer.expect("an honest question is answered in time")
    }

    fn term_now(&self) -> u64 {
        let status = self.ask(self.client.admin().status()).unwrap();
        let mut topics = status.topics.iter();
        let honest = topics.find(|topic| topic.name == self.topic.to_string());
        honest.unwrap().term
    }

    fn measure(&self) -> Measure {
        let members = (0..3).map(|at| effort::of_process(self.cluster.pid(at)));
        Measure {
            since: Instant::now(),
            records: self.honest.acknowledged(),
            members: members.sum(),
            attackers: effort::of_this_thread(),
        }
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

    /// The most that a member's process held in this round, in MiB; 0 where the system does not say.
    fn memory(&self, at: usize) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.pid(at)));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) / 1024
    }
}

/// What came of a time.
struct Measured {
    seconds: f64,
    /// Honest records a second.
    rate: f64,
    /// Microseconds of the members' processors for each of them.
    cost: f64,
    /// Cores that the attackers had.
    attackers: f64,
}

impl Measure {
    fn since(&self, before: &Self) -> Measured {
        let seconds = (self.since - before.since).as_secs_f64();
        let records = (self.records - before.records) as f64;
        let micros = (self.members - before.members).as_secs_f64() * 1e6;
        Measured {
            seconds,
            rate: records / seconds,
            cost: micros / records,
            attackers: (self.attackers - before.attackers).as_secs_f64() / seconds,
        }
    }
}

/// A runtime on a thread of its own, where the honest side lives.
struct Home {
    handle: Handle,
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Home {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (over, is_over) = oneshot::channel();
        let thread = thread::spawn(move || {
            // However its owner ends.
            let _ = runtime.block_on(is_over);
        });
        Self {
            handle,
            over: Some(over),
            thread: Some(thread),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // What failed there has failed its siege.
            let _ = thread.join();
        }
    }
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
