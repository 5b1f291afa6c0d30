//! `kill -9`, under load: of the leader more often than not, of any one, of two, of all.

use std::time::Instant;

use crate::{
    cluster::Cluster,
    plan::{Plan, say},
    report::Report,
    stage::{SIZE, Stage},
};

/// Rounds on one cluster; after that it is examined whole, and the next is born.
const ROUNDS_OF_A_CLUSTER: u32 = 100;
/// Rounds after which everything is examined while the load goes on.
const ROUNDS_BETWEEN_LOOKS: u32 = 25;

#[test]
fn killed_members_lose_nothing_under_load() {
    let Some(mut plan) = Plan::of("kills", 6) else {
        return;
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        stage.progress(200);
        for round in 1..=rounds {
            kill_some(&mut stage, &mut plan, &mut report);
            if round % ROUNDS_BETWEEN_LOOKS == 0 {
                stage.heal();
                stage.examine(&[0, 1, 2]);
            }
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn kill_some(stage: &mut Stage, plan: &mut Plan, report: &mut Report) {
    let random = &mut plan.random;
    let (choice, one, other) = (random.below(100), random.below(3), random.within(1..=2));
    let (one, other) = (one as usize, ((one + other) % 3) as usize);
    std::thread::sleep(random.millis(0..=200));
    report.round();
    let victims = match choice {
        0..60 => {
            stage.heal();
            let leader = stage.leader();
            report.fault("leader killed");
            stage.cluster.kill(leader);
            let killed = Instant::now();
            let next = stage.load.acknowledged_since(&stage.hands, killed);
            report.outages.push(next - killed);
            vec![leader]
        }
        60..75 => {
            report.fault("any one killed");
            stage.cluster.kill(one);
            vec![one]
        }
        75..88 => {
            report.fault("two killed");
            stage.cluster.kill(one);
            stage.cluster.kill(other);
            vec![one, other]
        }
        _ => {
            report.fault("all killed");
            stage.cluster.kill_all();
            vec![0, 1, 2]
        }
    };
    std::thread::sleep(random.millis(0..=100));
    stage.start(&victims);
    stage.next_acknowledgement();
}
