//! Partitions of every shape, and bad lines, on each directed link of its own.

use std::{thread::sleep, time::Instant};

use crate::{
    plan::{Plan, Random, say},
    report::Report,
    router::{End, Router, Weather},
    stage::{SIZE, Scene, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 100;

#[test]
fn partitions_and_bad_lines_lose_nothing_and_pass() {
    let Some(mut plan) = Plan::of("network", 8) else {
        return;
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let hands = crate::load::Hands::new();
        let (router, cluster) = Router::around(SIZE, &hands, &mut plan.random);
        let scene = Scene {
            hands,
            ..Scene::from(cluster)
        };
        let mut stage = Stage::set(scene, &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            trouble(&mut stage, &router, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn trouble(stage: &mut Stage, router: &Router, random: &mut Random, report: &mut Report) {
    report.round();
    let shape = random.below(10);
    let any = random.below(SIZE as u64) as usize;
    let lasts = random.millis(100..=2500);
    let cut = &Weather::CUT;
    match shape {
        0..2 => {
            report.fault("leader alone");
            stage.heal();
            let leader = stage.leader();
            alone(router, leader);
            router.set_both(End::Clients, End::Member(leader), cut);
            let gone = Instant::now();
            let next = stage.load.acknowledged_since(&stage.hands, gone);
            report.outages.push(next - gone);
        }
        2 => {
            report.fault("leader reached by clients only");
            let leader = stage.leader();
            alone(router, leader);
        }
        3 => {
            report.fault("any one alone");
            alone(router, any);
        }
        4 => {
            report.fault("one direction of a link");
            router.set(End::Member(any), End::Member((any + 1) % SIZE), cut.clone());
        }
        5 => {
            report.fault("one heard by nobody");
            for other in (0..SIZE).filter(|other| *other != any) {
                router.set(End::Member(any), End::Member(other), cut.clone());
            }
        }
        6 => {
            report.fault("a bridge");
            let (one, other) = ((any + 1) % SIZE, (any + 2) % SIZE);
            router.set_both(End::Member(one), End::Member(other), cut);
        }
        7 => {
            report.fault("all apart");
            (0..SIZE).for_each(|at| alone(router, at));
        }
        8 => {
            report.fault("flapping");
            for _ in 0..random.within(2..=6) {
                alone(router, any);
                sleep(random.millis(10..=400));
                router.clear();
                sleep(random.millis(10..=200));
            }
        }
        _ => {
            report.fault("bad lines");
            bad_lines(router, random);
        }
    }
    sleep(lasts);
    router.clear();
    stage.next_acknowledgement();
}

/// Cuts a member off from the others, not from clients.
pub(crate) fn alone(router: &Router, at: usize) {
    for other in (0..router.size()).filter(|other| *other != at) {
        router.set_both(End::Member(at), End::Member(other), &Weather::CUT);
    }
}

/// Weather of its own for each direction of each link.
pub(crate) fn bad_lines(router: &Router, random: &mut Random) {
    let ends: Vec<End> = (0..router.size())
        .map(End::Member)
        .chain([End::Clients])
        .collect();
    for from in &ends {
        for to in ends.iter().filter(|to| *to != from) {
            let least = random.below(20);
            let weather = Weather {
                cut: false,
                lost: random.of(&[0, 1, 5, 15]),
                doubled: random.of(&[0, 0, 5, 30]),
                corrupted: random.of(&[0, 0, 1, 5]),
                delay: least..=least + random.of(&[0, 0, 5, 40]),
            };
            router.set(*from, *to, weather);
        }
    }
}
