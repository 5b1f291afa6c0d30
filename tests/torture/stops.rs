//! Members that are asked to stop: they hand over what they lead first, so that no append fails.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    load::Style,
    plan::{Plan, Random, say},
    report::Report,
    stage::{SIZE, Scene, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 100;
/// Nobody is in such a hurry that a busy machine makes his append fail.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(30); 2];

#[test]
fn members_that_are_asked_to_stop_fail_no_append() {
    let Some(mut plan) = Plan::of("stops", 3) else {
        return;
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let scene = Scene {
            style: Style {
                timeouts: &TIMEOUTS,
                ..Style::default()
            },
            ..Scene::from(Cluster::born(SIZE))
        };
        let mut stage = Stage::set(scene, &mut plan.random);
        stage.progress(200);
        for _ in 0..rounds {
            stop_one(&mut stage, &mut plan.random, &mut report);
        }
        let figures = stage.finish(&mut report);
        assert_eq!((figures.failed, figures.unknown), (0, 0), "{figures}");
    }
    say(format_args!("{report}"));
}

fn stop_one(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    stage.heal();
    report.round();
    let victim = if random.percent(70) {
        report.fault("leader stopped");
        stage.leader()
    } else {
        report.fault("any one stopped");
        random.below(SIZE as u64) as usize
    };
    stage.cluster.signal(victim, Signal::TERM);
    let status = stage.cluster.wait(victim);
    assert!(status.success(), "it does not end well: {status}");
    stage.next_acknowledgement();
    stage.start(&[victim]);
    stage.next_acknowledgement();
}
