//! SIGSTOP and SIGCONT: members that sleep through elections, wake, and must know that time has passed.

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    plan::{Plan, say},
    report::Report,
    stage::{SIZE, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 100;

#[test]
fn members_that_sleep_and_wake_acknowledge_and_show_nothing_stale() {
    let Some(mut plan) = Plan::of("pauses", 5) else {
        return;
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            pause_some(&mut stage, &mut plan, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn pause_some(stage: &mut Stage, plan: &mut Plan, report: &mut Report) {
    let random = &mut plan.random;
    let (choice, any) = (random.below(100), random.below(SIZE as u64) as usize);
    let sleepers = match choice {
        0..50 => {
            report.fault("leader asleep");
            vec![stage.leader()]
        }
        50..70 => {
            report.fault("any one asleep");
            vec![any]
        }
        70..85 => {
            report.fault("two asleep");
            vec![any, (any + 1) % SIZE]
        }
        _ => {
            report.fault("all asleep");
            vec![0, 1, 2]
        }
    };
    report.round();
    for at in &sleepers {
        stage.cluster.signal(*at, Signal::STOP);
    }
    // From less than a missed beat to far beyond an election, and beyond a connection's patience.
    let long = random.percent(10);
    std::thread::sleep(random.millis(if long { 3000..=12_000 } else { 20..=1500 }));
    for at in &sleepers {
        stage.cluster.signal(*at, Signal::CONT);
    }
    stage.next_acknowledgement();
    std::thread::sleep(random.millis(0..=300));
}
