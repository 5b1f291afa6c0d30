//! SIGSTOP and SIGCONT: members that sleep through elections, wake, and must know that time has passed.

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    plan::{Deck, Plan, Random, say},
    report::Report,
    stage::{SIZE, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 100;

#[derive(Clone, Copy)]
enum Sleepers {
    Leader,
    AnyOne,
    Two,
    All,
}

const DECK: [Sleepers; 6] = [
    Sleepers::Leader,
    Sleepers::Leader,
    Sleepers::Leader,
    Sleepers::AnyOne,
    Sleepers::Two,
    Sleepers::All,
];

#[test]
fn members_that_sleep_and_wake_acknowledge_and_show_nothing_stale() {
    let Some(mut plan) = Plan::of("pauses", 6) else {
        return;
    };
    let mut report = Report::new(&plan);
    let mut deck = Deck::of(&DECK);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            let sleepers = deck.draw(&mut plan.random);
            pause_some(&mut stage, sleepers, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn pause_some(stage: &mut Stage, sleepers: Sleepers, random: &mut Random, report: &mut Report) {
    let any = random.below(SIZE as u64) as usize;
    let sleepers = match sleepers {
        Sleepers::Leader => {
            report.fault("leader asleep");
            vec![stage.leader()]
        }
        Sleepers::AnyOne => {
            report.fault("any one asleep");
            vec![any]
        }
        Sleepers::Two => {
            report.fault("two asleep");
            vec![any, (any + 1) % SIZE]
        }
        Sleepers::All => {
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
