//! Members in network namespaces of their own, between them a bridge, and what only a kernel does to a
//! network: a port that goes down, ports that do not see each other, a route into nothing, packets that
//! are suddenly too large, a line that is slow.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread::sleep,
};

use crate::{
    cluster::{Cluster, kontiki},
    plan::{Plan, Random, may_touch_the_machine, not_run, say},
    report::Report,
    stage::{SIZE, Scene, Stage, run},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 100;
const KIND: &str = "namespaces";

#[test]
fn what_a_kernel_does_to_a_network_loses_nothing_and_passes() {
    let Some(mut plan) = Plan::of(KIND, 5) else {
        return;
    };
    if !may_touch_the_machine(KIND) {
        return;
    }
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let network = match Network::new() {
            Ok(network) => network,
            Err(why) => return not_run(KIND, &why),
        };
        let addresses = (0..SIZE).map(|at| {
            let ip = network.address(at);
            (SocketAddr::from((ip, 7400)), SocketAddr::from((ip, 7401)))
        });
        let cluster = Cluster::born_at(&addresses.collect::<Vec<_>>(), &[]);
        let programs = (0..SIZE).map(|at| network.program(at)).collect();
        let scene = Scene {
            programs,
            ..Scene::from(cluster)
        };
        let mut stage = Stage::set(scene, &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            trouble(&mut stage, &network, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn trouble(stage: &mut Stage, network: &Network, random: &mut Random, report: &mut Report) {
    report.round();
    let any = random.below(SIZE as u64) as usize;
    let other = (any + 1) % SIZE;
    let victim = if random.percent(50) {
        stage.leader()
    } else {
        any
    };
    let lasts = random.millis(100..=2500);
    let (member, port) = (network.member(victim), format!("port{victim}"));
    let bridge = network.bridge();
    // What is done, and what undoes it.
    let (fault, done, undone) = match random.below(5) {
        0 => (
            "a port down",
            vec![format!("-n {bridge} link set {port} down")],
            vec![format!("-n {bridge} link set {port} up")],
        ),
        1 => {
            let isolated = |how: &str| {
                let port =
                    |at| format!("-n {bridge} link set port{at} type bridge_slave isolated {how}");
                vec![port(any), port(other)]
            };
            ("two ports apart", isolated("on"), isolated("off"))
        }
        2 => {
            let address = network.address((victim + 1) % SIZE);
            let route = |how: &str| vec![format!("-n {member} route {how} blackhole {address}/32")];
            ("a route into nothing", route("add"), route("del"))
        }
        3 => {
            let mtu = |bytes: u32| vec![format!("-n {member} link set line mtu {bytes}")];
            ("packets too large", mtu(1000), mtu(1500))
        }
        _ => {
            let address = network.address(victim);
            let route = |how: &str| {
                (0..SIZE)
                    .filter(|at| *at != victim)
                    .map(|at| {
                        format!(
                            "-n {} route {how} blackhole {address}/32",
                            network.member(at)
                        )
                    })
                    .collect()
            };
            ("one heard, not spoken to", route("add"), route("del"))
        }
    };
    report.fault(fault);
    for words in &done {
        ip(words).expect("it was made for this");
    }
    sleep(lasts);
    for words in &undone {
        ip(words).expect("it was made for this");
    }
    stage.next_acknowledgement();
}

/// Namespaces `kt<process>-0` to `-2` for members and `-b` for the bridge; clients are where the test is.
struct Network {
    name: String,
    subnet: [u8; 3],
}

impl Network {
    fn new() -> Result<Self, String> {
        let process = std::process::id();
        let network = Self {
            name: format!("kt{process}"),
            subnet: [10, (process % 199) as u8 + 50, (process / 199 % 250) as u8],
        };
        let bridge = network.bridge();
        ip(&format!("netns add {bridge}"))?;
        ip(&format!("-n {bridge} link add bridge type bridge"))?;
        ip(&format!("-n {bridge} link set bridge up"))?;
        for at in 0..SIZE {
            let member = network.member(at);
            ip(&format!("netns add {member}"))?;
            ip(&format!(
                "link add line netns {member} type veth peer name port{at} netns {bridge}"
            ))?;
            network.join(&format!("-n {member}"), "line", &format!("port{at}"), at)?;
        }
        let line = network.clients_line();
        ip(&format!(
            "link add {line} type veth peer name clients netns {bridge}"
        ))?;
        network.join("", &line, "clients", SIZE)?;
        Ok(network)
    }

    /// Connects a line, of whoever `who` names, to the bridge.
    fn join(&self, who: &str, line: &str, port: &str, at: usize) -> Result<(), String> {
        let (bridge, address) = (self.bridge(), self.address(at));
        ip(&format!("{who} address add {address}/24 dev {line}"))?;
        ip(&format!("{who} link set {line} up"))?;
        ip(&format!("-n {bridge} link set {port} master bridge"))?;
        ip(&format!("-n {bridge} link set {port} up"))
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, at as u8 + 1)
    }

    fn bridge(&self) -> String {
        format!("{}-b", self.name)
    }

    fn member(&self, at: usize) -> String {
        format!("{}-{at}", self.name)
    }

    fn clients_line(&self) -> String {
        format!("{}-c", self.name)
    }

    /// What runs the binary in a member's namespace.
    fn program(&self, at: usize) -> Vec<String> {
        let words = ["ip", "netns", "exec", &self.member(at)];
        let binary = kontiki().to_str().expect("a path in words");
        words
            .iter()
            .copied()
            .chain([binary])
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let spaces = (0..SIZE).map(|at| self.member(at)).chain([self.bridge()]);
        for space in spaces {
            if let Err(why) = ip(&format!("netns del {space}")) {
                say(format_args!("left behind: {why}"));
            }
        }
    }
}

/// `ip`, with these words.
fn ip(words: &str) -> Result<(), String> {
    run(Command::new("ip").args(words.split_whitespace())).map(|_| ())
}
