//! Wall clocks that jump, each member's its own, under libfaketime: order and durability do not depend
//! on them.

use std::path::PathBuf;

use crate::{
    cluster::{Cluster, kontiki},
    plan::{Plan, Random, not_run, say},
    report::Report,
    stage::{SIZE, Scene, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;
/// Names the library where it is at none of its usual places.
const VARIABLE: &str = "LIBFAKETIME";
const KIND: &str = "clocks";

#[test]
fn jumping_clocks_change_nothing() {
    let Some(mut plan) = Plan::of(KIND, 3) else {
        return;
    };
    let Some(library) = library() else {
        return not_run(
            KIND,
            "there is no libfaketime; install it, or name its libfaketimeMT.so.1 in LIBFAKETIME",
        );
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let cluster = Cluster::born(SIZE);
        let clocks: Vec<_> = (0..SIZE).map(|at| Clock::beside(&cluster, at)).collect();
        let programs = clocks.iter().map(|clock| clock.program(&library)).collect();
        let scene = Scene {
            programs,
            ..Scene::from(cluster)
        };
        let mut stage = Stage::set(scene, &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            jump(&mut stage, &clocks, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

/// Within what the certificates are valid for, which is all that a wall clock decides.
fn jump(stage: &mut Stage, clocks: &[Clock], random: &mut Random, report: &mut Report) {
    report.round();
    let (victim, fault) = if random.percent(50) {
        (stage.leader(), "the leader's clock")
    } else {
        (random.below(SIZE as u64) as usize, "any one's clock")
    };
    report.fault(fault);
    let seconds = match random.below(3) {
        0 => -(random.within(1..=240) as i64),
        1 => random.within(1..=3600) as i64,
        _ => random.within(3600..=20 * 24 * 3600) as i64,
    };
    clocks[victim].set(seconds);
    if random.percent(30) {
        stage.cluster.kill(victim);
        stage.start(&[victim]);
    }
    stage.progress(200);
}

/// A member's clock: a file that says how wrong it is.
struct Clock(PathBuf);

impl Clock {
    fn beside(cluster: &Cluster, at: usize) -> Self {
        let clock = Self(cluster.folder().join(format!("clock-{at}")));
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        std::fs::write(&self.0, format!("{seconds:+}\n")).expect("a file beside the cluster");
    }

    fn program(&self, library: &str) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            kontiki().to_str().expect("a path in words").to_owned(),
        ]
    }
}

fn library() -> Option<String> {
    let named = std::env::var(VARIABLE).ok();
    let usual = ["x86_64", "aarch64"]
        .map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let mut places = named.into_iter().chain(usual);
    places.find(|place| std::path::Path::new(place).exists())
}
