//! A cluster grows from one member to three and to five and shrinks to three again, while it carries half of
//! what it can: how long each change keeps producers waiting.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kontiki_client::{Client, ProducerConfig, Record, Ticket, Topic, TopicName, TopicSettings};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::{
    cluster::{Cluster, Member, PATIENCE, address, ports},
    growth::{AUTHORITIES, Newcomer, Operator},
    load::Hands,
    plan::{Plan, say},
};

/// Members that keep the topic, as far as there are so many.
const REPLICAS: u8 = 5;
/// Members there ever are.
const PLACES: usize = 5;
const RECORD_BYTES: usize = 100;
/// Records that wait for somebody to hear what became of them.
const TICKETS_MAX: usize = 4096;
/// For how long as much goes in as can, to see what half of it is.
const PEAK_FOR: Duration = Duration::from_millis(800);
/// The longest time without an acknowledgement: where nobody dies, and where the leader does. Those who develop
/// have busy machines and slow builds.
const GAPS_MAX: [Duration; 2] = match cfg!(debug_assertions) {
    true => [Duration::from_secs(3), Duration::from_secs(8)],
    false => [Duration::from_millis(200), Duration::from_millis(1500)],
};

/// The longest time that a newcomer may copy what there is and comes.
const COPYING_MAX: Duration = Duration::from_secs(180);

#[test]
fn from_one_member_to_five_and_back_to_three_no_append_fails_and_none_waits_for_long() {
    let Some(plan) = Plan::of("sizes", 1) else {
        return;
    };
    for _ in 0..plan.rounds {
        let mut place = Place::founded();
        for size in [3, 5] {
            let flow = place.half_of_peak();
            while place.cluster.members.len() < size {
                place.grows(&flow);
            }
            place.dry_up(flow);
        }
        let flow = place.half_of_peak();
        place.loses_its_leader(&flow, true);
        place.loses_its_leader(&flow, false);
        place.dry_up(flow);
    }
}

/// A cluster, a topic, and who works with both.
struct Place {
    client: Client,
    cluster: Cluster,
    operator: Operator,
    topic: TopicName,
    addresses: Vec<(SocketAddr, SocketAddr)>,
    hands: Hands,
}

/// Records that go in, and what is heard of them.
struct Flow {
    heard: Arc<Mutex<Heard>>,
    per_second: u64,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Heard {
    acknowledged: u64,
    failed: u64,
    /// When the latest acknowledgement came, and the longest time since it that there was none.
    latest: Instant,
    longest: Duration,
}

impl Place {
    /// One member, and a topic.
    fn founded() -> Self {
        let at = address();
        let ports = ports(at, PLACES * 2);
        let addresses = ports.chunks(2);
        let addresses = addresses.map(|two| ((at, two[0]).into(), (at, two[1]).into()));
        let addresses: Vec<(SocketAddr, SocketAddr)> = addresses.collect();
        let dir = tempfile::tempdir().expect("a folder");
        let first = newcomer(0, dir.path().join("cluster/n1"), &addresses);
        let mut cluster = Cluster::born_alone(dir, first);
        fs::write(cluster.members[0].data.join("kontiki.toml"), AUTHORITIES).expect("a folder");
        cluster.serve(0);
        let hands = Hands::new();
        let topic: TopicName = "orders".parse().expect("a name");
        let client = hands.wait(async {
            let client = cluster.client().await;
            let settings = TopicSettings { replicas: REPLICAS };
            let made = client.admin().ensure_topic(&topic, settings).await;
            made.expect("a topic");
            client
        });
        Self {
            client,
            operator: Operator::of(&cluster),
            cluster,
            topic,
            addresses,
            hands,
        }
    }

    /// Sees how much goes in, and lets half of that.
    fn half_of_peak(&self) -> Flow {
        let flow = self.flow(u64::MAX);
        std::thread::sleep(PEAK_FOR);
        let peak = flow.heard().acknowledged;
        self.dry_up(flow);
        let peak = peak as f64 / PEAK_FOR.as_secs_f64();
        self.flow((peak / 2.0) as u64 + 1)
    }

    fn flow(&self, per_second: u64) -> Flow {
        let heard = Arc::new(Mutex::new(Heard {
            acknowledged: 0,
            failed: 0,
            latest: Instant::now(),
            longest: Duration::ZERO,
        }));
        let stop = watch::Sender::new(false);
        let topic = self.client.topic(&self.topic).expect("a name");
        let pour = pour(topic, per_second, heard.clone(), stop.subscribe());
        Flow {
            heard,
            per_second,
            task: self.hands.handle.spawn(pour),
            stop,
        }
    }

    fn dry_up(&self, flow: Flow) {
        flow.stop.send_replace(true);
        let ended = async { tokio::time::timeout(PATIENCE, flow.task).await };
        let ended = self.hands.wait(ended).expect("a flow ends");
        ended.expect("it ends well");
    }

    fn grows(&mut self, flow: &Flow) {
        let place = self.cluster.members.len();
        let data = self
            .cluster
            .dir
            .path()
            .join(format!("cluster/n{}", place + 1));
        let newcomer = newcomer(place, data, &self.addresses);
        let what = format!("{} joins", newcomer.name);
        self.change(&what, flow, GAPS_MAX[0], |place, operator| {
            operator.join(&newcomer, &[]);
            fs::write(newcomer.data.join("kontiki.toml"), AUTHORITIES).expect("a folder");
            let at = place.members.len();
            place.members.push(Member::from(newcomer));
            place.serve(at);
        });
    }

    /// The leader of the topic is removed: as it serves, or because it has died.
    fn loses_its_leader(&mut self, flow: &Flow, alive: bool) {
        let leader = self.cluster.leader(&self.client, &self.topic);
        let leader = self.hands.wait(leader);
        let name = self.cluster.members[leader].name.clone();
        let (what, gap_max) = match alive {
            true => (format!("{name}, which leads, is removed"), GAPS_MAX[0]),
            false => (
                format!("{name}, which leads, dies and is removed"),
                GAPS_MAX[1],
            ),
        };
        self.change(&what, flow, gap_max, |cluster, operator| {
            if !alive {
                cluster.kill(leader);
            }
            let none = format!("no member {name}");
            operator.insist(&["member", "remove", &name, "--force"], Some(&none));
            if alive {
                assert_eq!(cluster.wait(leader).code(), Some(1));
            }
            cluster.members.remove(leader);
        });
    }

    /// Makes a change, waits until everybody who is to keep the topic does, and says what it was like.
    fn change(
        &mut self,
        what: &str,
        flow: &Flow,
        gap_max: Duration,
        change: impl FnOnce(&mut Cluster, &Operator),
    ) {
        let before = self.cluster.members.len();
        flow.heard().begin();
        let begun = Instant::now();
        change(&mut self.cluster, &self.operator);
        self.settles();
        let took = begun.elapsed();
        let (failed, gap) = flow.heard().end();
        say(format_args!(
            "sizes: {what}: {before} -> {} members in {:.2} s at {} records/s: {failed} failed, {:.3} s the longest \
             time without an acknowledgement",
            self.cluster.members.len(),
            took.as_secs_f64(),
            flow.per_second,
            gap.as_secs_f64(),
        ));
        assert_eq!(failed, 0, "appends failed: {what}");
        assert!(gap <= gap_max, "{what}: {gap:?} without an acknowledgement");
    }

    /// Waits until all keep the topic; as long as a newcomer copies it, which at half of the peak a busy machine's
    /// disk, shared by all of them, may give it no faster than more comes.
    fn settles(&self) {
        let mut late = Instant::now() + PATIENCE;
        let latest = Instant::now() + COPYING_MAX;
        let mut due: Vec<&str> = self.cluster.members.iter().map(|one| &*one.name).collect();
        due.sort_unstable();
        loop {
            let status = self.hands.wait(self.client.admin().status());
            if let Ok(status) = &status {
                let topic = &status.topics[0];
                let mut keep: Vec<&str> = topic.replicas.iter().map(|one| &*one.name).collect();
                keep.sort_unstable();
                let names = status.members.iter().filter(|one| one.voter).count();
                if topic.wanted.is_empty() && keep == due && names == due.len() {
                    return;
                }
                let mut speeds = topic.replicas.iter().map(|one| one.bytes_per_second);
                if speeds.any(|speed| speed > 0) {
                    late = latest.min(Instant::now() + PATIENCE);
                }
            }
            assert!(Instant::now() < late, "it does not settle: {status:?}");
        }
    }
}

fn newcomer(
    place: usize,
    data: std::path::PathBuf,
    addresses: &[(SocketAddr, SocketAddr)],
) -> Newcomer {
    let (clients, peers) = addresses[place];
    Newcomer {
        name: format!("n{}", place + 1),
        data,
        clients,
        peers,
        options: Vec::new(),
    }
}

/// Puts so many records a second in, and hears what becomes of each, in their order.
async fn pour(
    topic: Topic,
    per_second: u64,
    heard: Arc<Mutex<Heard>>,
    stopped: watch::Receiver<bool>,
) {
    let config = ProducerConfig::new().delivery_timeout(Duration::from_secs(30));
    let producer = topic.producer_with(config).expect("a producer");
    let (tickets, mut waiting) = mpsc::channel::<Ticket>(TICKETS_MAX);
    let of = |heard: &Arc<Mutex<Heard>>| heard.clone();
    let (told, failed) = (of(&heard), of(&heard));
    let hear = async move {
        while let Some(ticket) = waiting.recv().await {
            let fate = ticket.await;
            lock(&told).hears(fate.is_ok());
        }
    };
    let submit = async move {
        let begun = Instant::now();
        let mut sent = 0u64;
        while !*stopped.borrow() {
            let due = begun + Duration::from_secs_f64(sent as f64 / per_second as f64);
            let early = due.saturating_duration_since(Instant::now());
            if early > Duration::from_millis(1) {
                sleep(early).await;
            }
            sent += 1;
            match producer.submit(Record::new(vec![7; RECORD_BYTES])).await {
                Ok(ticket) => tickets.send(ticket).await.expect("somebody hears"),
                Err(_) => lock(&failed).hears(false),
            }
        }
        drop(tickets);
        // What failed was heard record by record.
        let _ = producer.close().await;
    };
    tokio::join!(hear, submit);
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().expect("no panic elsewhere")
}

impl Flow {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }
}

impl Heard {
    fn hears(&mut self, is_acknowledgement: bool) {
        if !is_acknowledgement {
            self.failed += 1;
            return;
        }
        let now = Instant::now();
        self.acknowledged += 1;
        self.longest = self.longest.max(now - self.latest);
        self.latest = now;
    }

    fn begin(&mut self) {
        self.longest = Duration::ZERO;
    }

    /// How many failed, ever, and the longest wait since the beginning.
    fn end(&mut self) -> (u64, Duration) {
        (self.failed, self.longest.max(self.latest.elapsed()))
    }
}
