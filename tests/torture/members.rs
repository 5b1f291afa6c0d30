//! Members join, leave, are replaced, drain and come back, one change after the other, under load, while
//! others die, sleep, stop or are cut off. Every change ends, or says why it does not.

use std::{
    collections::BTreeSet,
    fs,
    panic::resume_unwind,
    process::Command,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use kontiki_client::ClusterStatus;
use rustix::process::Signal;

use crate::{
    cluster::{Cluster, Member, PATIENCE, kontiki},
    growth::{AUTHORITIES, Newcomer, Operator},
    load::Hands,
    network::{alone, bad_lines},
    plan::{Deck, Plan, Random, say},
    report::Report,
    router::Router,
    stage::{SETTINGS, Scene, Stage},
};

/// Changes to one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;
/// Changes after which everything is examined while the load goes on.
const ROUNDS_BETWEEN_LOOKS: u32 = 10;
/// Members there are at most, and room for one who comes before another goes.
const MOST: usize = 5;
const PLACES: usize = MOST + 2;
/// Members that are to keep the topic, unless it is edited.
const REPLICAS: usize = 3;
/// How soon all is to be as it should after a change.
const SETTLED_WITHIN: Duration = PATIENCE.saturating_mul(2);

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Join,
    Remove,
    RemoveLeader,
    RemoveDead,
    RemoveDeadLeader,
    Replace,
    ReplaceDead,
    /// One joins while another is removed.
    Swap,
    /// A dead one's name goes to a newcomer, and then the dead one comes back.
    Return,
    /// One is away while another joins.
    Absence,
    /// Its topics go elsewhere, and may come again.
    Drain,
    /// So does its vote.
    Demote,
    Edit,
}

const CHANGES: [Change; 14] = [
    Change::Join,
    Change::Join,
    Change::Remove,
    Change::RemoveLeader,
    Change::RemoveDead,
    Change::RemoveDeadLeader,
    Change::Replace,
    Change::ReplaceDead,
    Change::Swap,
    Change::Return,
    Change::Absence,
    Change::Drain,
    Change::Demote,
    Change::Edit,
];

/// What happens meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    None,
    Kill,
    KillLeader,
    Sleep,
    LeaderSleeps,
    Stop,
    Alone,
    LeaderAlone,
    BadLines,
}

const BLOWS: [Blow; 10] = [
    Blow::None,
    Blow::None,
    Blow::Kill,
    Blow::KillLeader,
    Blow::Sleep,
    Blow::LeaderSleeps,
    Blow::Stop,
    Blow::Alone,
    Blow::LeaderAlone,
    Blow::BadLines,
];

/// What ends a blow.
enum Relief {
    None,
    Start(usize),
    Wake(usize),
    ClearSky,
}

#[test]
fn members_come_and_go_under_faults_and_nothing_is_lost() {
    let Some(mut plan) = Plan::of("members", 3) else {
        return;
    };
    let mut report = Report::new(&plan);
    let (mut changes, mut blows) = (Deck::of(&CHANGES), Deck::of(&BLOWS));
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut town = Town::founded(plan.random.branch());
        for round in 1..=rounds {
            let change = changes.draw(&mut plan.random);
            let blow = blows.draw(&mut plan.random);
            report.round();
            let changed = town.change(change, blow);
            report.fault(format!("{changed:?}"));
            report.fault(format!("{blow:?} meanwhile"));
            town.settles();
            if round % ROUNDS_BETWEEN_LOOKS == 0 {
                town.stage.examine(&town.keepers());
            }
        }
        let keepers = town.keepers();
        town.stage.finish_with(&keepers, &mut report);
    }
    say(format_args!("{report}"));
}

/// The cluster, who is in it, and what it has been through.
struct Town {
    stage: Stage,
    router: Router,
    operator: Operator,
    random: Random,
    /// How many members there have been.
    admitted: usize,
    /// Who kept the topic once and is to keep it no more.
    former: BTreeSet<String>,
    /// Who keeps it.
    keeping: BTreeSet<String>,
}

impl Town {
    /// Three members, of whom two joined the first under load.
    fn founded(mut random: Random) -> Self {
        let hands = Hands::new();
        let router = Router::new(PLACES, &hands, &mut random);
        let dir = tempfile::Builder::new().prefix("kontiki-").tempdir();
        let dir = dir.expect("a folder");
        let (clients, peers) = router.known(0);
        let first = Newcomer {
            name: "n1".to_owned(),
            data: dir.path().join("cluster/n1"),
            clients,
            peers,
            options: router.options(0),
        };
        let cluster = Cluster::born_alone(dir, first);
        let operator = Operator::of(&cluster);
        let scene = Scene {
            hands,
            settings: format!("{SETTINGS}{AUTHORITIES}"),
            ..Scene::from(cluster)
        };
        let mut town = Self {
            stage: Stage::set(scene, &mut random),
            router,
            operator,
            random,
            admitted: 1,
            former: BTreeSet::new(),
            keeping: BTreeSet::new(),
        };
        town.stage.progress(100);
        for _ in 0..2 {
            town.join(None, Blow::None);
        }
        town.settles();
        town
    }

    /// Makes a change while something else happens, or another one if there are too many or too few for it.
    fn change(&mut self, change: Change, blow: Blow) -> Change {
        let size = self.members().len();
        let grows = matches!(change, Change::Join | Change::Replace | Change::Swap);
        if grows && size == MOST {
            return self.change(Change::Remove, blow);
        }
        let victim = match change {
            Change::RemoveLeader | Change::RemoveDeadLeader => self.stage.leader(),
            _ => self.any(),
        };
        let dead = matches!(
            change,
            Change::RemoveDead
                | Change::RemoveDeadLeader
                | Change::ReplaceDead
                | Change::Return
                | Change::Absence
        );
        if change != Change::Join && !self.can_spare(victim, dead) {
            return self.change(Change::Join, blow);
        }
        match change {
            Change::Join => self.join(None, blow),
            Change::Remove | Change::RemoveLeader => self.remove(victim, None, blow),
            Change::RemoveDead | Change::RemoveDeadLeader => {
                self.stage.cluster.kill(victim);
                self.remove(victim, None, blow);
            }
            Change::Replace => self.replace(victim, blow),
            Change::ReplaceDead => {
                self.stage.cluster.kill(victim);
                self.replace(victim, blow);
            }
            Change::Swap => self.swap(victim, blow),
            Change::Return => self.come_back(victim, blow),
            Change::Absence => self.miss_a_change(victim, blow),
            Change::Drain => self.step_back(victim, ["node drain --force", "node undrain"], blow),
            Change::Demote => {
                self.step_back(victim, ["member demote --force", "member promote"], blow)
            }
            Change::Edit => self.edit(blow),
        }
        change
    }

    /// Whether the others can go on without it: at once, if it is dead.
    fn can_spare(&self, at: usize, dead: bool) -> bool {
        let members = self.members();
        let left = |of: usize, it_is_one: bool| {
            let after = of - usize::from(it_is_one);
            after > 0 && (!dead || after * 2 > of)
        };
        let name = &self.members()[at].name;
        left(members.len(), true) && left(self.keeping.len(), self.keeping.contains(name))
    }

    fn join(&mut self, name: Option<String>, blow: Blow) {
        let newcomer = self.newcomer(name);
        let cuts = match self.random.percent(30) {
            true => vec![self.random.millis(0..=200), self.random.millis(0..=200)],
            false => Vec::new(),
        };
        let joining = newcomer.clone();
        self.meanwhile(blow, None, move |operator| operator.join(&joining, &cuts));
        self.begin(newcomer);
    }

    /// Starts one who has joined; what it has to catch up with may be interrupted.
    fn begin(&mut self, newcomer: Newcomer) {
        let settings = format!("{SETTINGS}{AUTHORITIES}");
        fs::write(newcomer.data.join("kontiki.toml"), settings).expect("a member's folder");
        let at = self.members().len();
        self.stage.cluster.members.push(newcomer.into());
        self.stage.start(&[at]);
        if self.random.percent(30) {
            sleep(self.random.millis(0..=500));
            self.stage.cluster.kill(at);
            self.stage.start(&[at]);
        }
    }

    fn remove(&mut self, at: usize, by: Option<String>, blow: Blow) {
        let words = self.removal(at, by, self.members().len());
        self.meanwhile(blow, Some(at), move |operator| words.insist(operator));
        self.part(at);
    }

    fn replace(&mut self, at: usize, blow: Blow) {
        self.join(None, Blow::None);
        let by = self.members().last().expect("one has joined").name.clone();
        self.remove(at, Some(by), blow);
    }

    fn swap(&mut self, at: usize, blow: Blow) {
        let newcomer = self.newcomer(None);
        let words = self.removal(at, None, self.members().len() + 1);
        let joining = newcomer.clone();
        let operator = self.operator.clone();
        let removes = thread::spawn(move || words.insist(&operator));
        self.meanwhile(blow, Some(at), move |operator| operator.join(&joining, &[]));
        // The removal may have to wait until it runs.
        self.begin(newcomer);
        removes.join().unwrap_or_else(|panic| resume_unwind(panic));
        self.part(at);
    }

    /// The old disk comes back when its name is another's.
    fn come_back(&mut self, at: usize, blow: Blow) {
        let name = self.members()[at].name.clone();
        self.stage.cluster.kill(at);
        let words = self.removal(at, None, self.members().len());
        self.meanwhile(blow, Some(at), move |operator| words.insist(operator));
        // It keeps its place: whoever comes now gets another.
        self.join(Some(name), Blow::None);
        self.part(at);
    }

    fn miss_a_change(&mut self, at: usize, blow: Blow) {
        self.stage.cluster.kill(at);
        self.join(None, blow);
        self.stage.start(&[at]);
    }

    /// A member keeps nothing for a moment.
    fn step_back(&mut self, at: usize, verbs: [&'static str; 2], blow: Blow) {
        let name = self.members()[at].name.clone();
        let insist = |operator: &Operator, verb: &str, name: &str| {
            let words: Vec<&str> = verb.split(' ').chain([name]).collect();
            operator.insist(&words, None);
        };
        let [back, again] = verbs;
        let who = name.clone();
        self.meanwhile(blow, None, move |operator| insist(operator, back, &who));
        insist(&self.operator, again, &name);
    }

    fn edit(&mut self, blow: Blow) {
        self.meanwhile(blow, None, move |operator| {
            for replicas in ["4", "3"] {
                let words = ["topic", "edit", "orders", "--replicas", replicas];
                operator.insist(&words, None);
            }
        });
    }

    /// Whoever was removed is told so, alive or as soon as it is back, and ends for good.
    fn part(&mut self, at: usize) {
        let cluster = &mut self.stage.cluster;
        let mut ended = None;
        if !cluster.is_up(at) {
            cluster.launch(at, Command::new(kontiki()));
            // It may end before it says that it serves.
            ended = cluster.ready(at).err();
        }
        let ended = ended.unwrap_or_else(|| cluster.wait(at));
        let said = cluster.said_lately(at);
        assert_eq!(ended.code(), Some(1), "a former member goes on:\n{said}");
        assert!(said.contains("counts no more"), "{said}");
        let gone = self.stage.cluster.members.remove(at);
        fs::remove_dir_all(gone.data).expect("a folder that nobody uses");
        self.former.remove(&gone.name);
        self.keeping.remove(&gone.name);
    }

    /// How somebody is to be removed from among so many.
    fn removal(&self, at: usize, by: Option<String>, among: usize) -> Removal {
        let name = self.members()[at].name.clone();
        // Where there are to be fewer members than copies that is meant. The authorities are in nobody's folder, though
        // the cluster believes so of the one it began with.
        let force = by.is_none() && among <= REPLICAS || name == "n1";
        Removal { name, by, force }
    }

    fn members(&self) -> &[Member] {
        &self.stage.cluster.members
    }

    /// Any member; rather one that keeps nothing any more.
    fn any(&mut self) -> usize {
        let idle = self.members().iter().enumerate();
        let idle = idle.filter(|(_, one)| self.former.contains(&one.name));
        let idle: Vec<usize> = idle.map(|(at, _)| at).collect();
        if !idle.is_empty() && self.random.percent(60) {
            return self.random.of(&idle);
        }
        let size = self.members().len() as u64;
        self.random.below(size) as usize
    }

    /// A member to be, in a place and under a name that are free.
    fn newcomer(&mut self, name: Option<String>) -> Newcomer {
        self.admitted += 1;
        let place = |place: &usize| {
            let address = self.router.known(*place).0;
            self.members().iter().all(|one| one.address != address)
        };
        let place = (0..PLACES).find(place).expect("a place that is free");
        let names = (1..=PLACES).map(|nth| format!("n{nth}"));
        let names = names.filter(|name| self.members().iter().all(|one| one.name != *name));
        let names: Vec<String> = names.collect();
        let name = name.unwrap_or_else(|| self.random.of(&names));
        let (clients, peers) = self.router.known(place);
        Newcomer {
            data: self
                .stage
                .cluster
                .folder()
                .join(format!("{name}-{}", self.admitted)),
            name,
            clients,
            peers,
            options: self.router.options(place),
        }
    }

    /// Works while something happens to somebody, but not to `spared`.
    fn meanwhile(
        &mut self,
        blow: Blow,
        spared: Option<usize>,
        work: impl FnOnce(&Operator) + Send + 'static,
    ) {
        let operator = self.operator.clone();
        let works = thread::spawn(move || work(&operator));
        sleep(self.random.millis(0..=500));
        let relief = self.strike(blow, spared);
        sleep(self.random.millis(50..=1500));
        match relief {
            Relief::None => {}
            Relief::Start(at) => self.stage.start(&[at]),
            Relief::Wake(at) => self.stage.cluster.signal(at, Signal::CONT),
            Relief::ClearSky => self.router.clear(),
        }
        works.join().unwrap_or_else(|panic| resume_unwind(panic));
    }

    fn strike(&mut self, blow: Blow, spared: Option<usize>) -> Relief {
        let victim = match blow {
            Blow::None => return Relief::None,
            Blow::BadLines => {
                bad_lines(&self.router, &mut self.random);
                return Relief::ClearSky;
            }
            Blow::KillLeader | Blow::LeaderSleeps | Blow::LeaderAlone => self.stage.leader(),
            _ => self.any(),
        };
        if spared == Some(victim) || !self.stage.cluster.is_up(victim) {
            return Relief::None;
        }
        match blow {
            Blow::Kill | Blow::KillLeader => {
                self.stage.cluster.kill(victim);
                Relief::Start(victim)
            }
            Blow::Stop => {
                self.stage.cluster.stop(victim);
                Relief::Start(victim)
            }
            Blow::Sleep | Blow::LeaderSleeps => {
                self.stage.cluster.signal(victim, Signal::STOP);
                Relief::Wake(victim)
            }
            Blow::None | Blow::BadLines | Blow::Alone | Blow::LeaderAlone => {
                let address = self.members()[victim].address;
                let place = (0..PLACES).find(|place| self.router.known(*place).0 == address);
                alone(&self.router, place.expect("it has a place"));
                Relief::ClearSky
            }
        }
    }

    /// Waits until the cluster is made of those who are to be in it, and the topic kept by as many as can be.
    fn settles(&mut self) {
        self.stage.next_acknowledgement();
        let late = Instant::now() + SETTLED_WITHIN;
        let status = loop {
            let why = match self.stage.hands.wait(self.stage.client.admin().status()) {
                Ok(status) => match self.unsettled(&status) {
                    None => break status,
                    Some(why) => why,
                },
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < late, "it does not settle: {why}");
        };
        let keeping = status.topics[0].replicas.iter().map(|one| one.name.clone());
        let keeping: BTreeSet<String> = keeping.collect();
        self.former
            .extend(self.keeping.difference(&keeping).cloned());
        self.former.retain(|name| !keeping.contains(name));
        self.keeping = keeping;
    }

    /// What is not as it is to be.
    fn unsettled(&self, status: &ClusterStatus) -> Option<String> {
        if !status.healthy {
            return Some(status.reasons.join("; "));
        }
        let names: BTreeSet<&str> = status.members.iter().map(|one| &*one.name).collect();
        let due: BTreeSet<&str> = self.members().iter().map(|one| &*one.name).collect();
        if names != due {
            return Some(format!("the members are {names:?}, and are to be {due:?}"));
        }
        if let Some(idle) = status.members.iter().find(|one| !one.voter) {
            return Some(format!("{} does not vote: {:?}", idle.name, status.placing));
        }
        let topic = &status.topics[0];
        if !topic.wanted.is_empty() {
            return Some(format!("the topic moves: {:?}", topic.waits));
        }
        let kept = topic.replicas.len();
        let enough = kept == due.len().min(REPLICAS);
        (!enough).then(|| format!("{kept} keep the topic: {:?}", status.placing))
    }

    /// Who has the whole topic.
    fn keepers(&self) -> Vec<usize> {
        let keep = |at: &usize| self.keeping.contains(&self.members()[*at].name);
        (0..self.members().len()).filter(keep).collect()
    }
}

/// What an operator says to be rid of a member.
struct Removal {
    name: String,
    by: Option<String>,
    force: bool,
}

impl Removal {
    fn insist(self, operator: &Operator) {
        let name = &*self.name;
        let mut words = match &self.by {
            Some(by) => vec!["member", "replace", name, "--with", by],
            None => vec!["member", "remove", name],
        };
        if self.force {
            words.push("--force");
        }
        operator.insist(&words, Some(&format!("no member {name}")));
    }
}
