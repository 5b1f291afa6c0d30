//! `kill -9`, under load: of the leader more often than not, of any one, of two, of all.

use std::time::Instant;

use crate::{
    cluster::Cluster,
    plan::{Deck, Plan, Random, say},
    report::Report,
    stage::{SIZE, Stage},
};

/// Rounds on one cluster; after that it is examined whole, and the next is born.
const ROUNDS_OF_A_CLUSTER: u32 = 100;
/// Rounds after which everything is examined while the load goes on.
const ROUNDS_BETWEEN_LOOKS: u32 = 25;

#[derive(Clone, Copy)]
enum Victims {
    Leader,
    AnyOne,
    Two,
    All,
}

const DECK: [Victims; 6] = [
    Victims::Leader,
    Victims::Leader,
    Victims::Leader,
    Victims::AnyOne,
    Victims::Two,
    Victims::All,
];

#[test]
fn killed_members_lose_nothing_under_load() {
    let Some(mut plan) = Plan::of("kills", 6) else {
        return;
    };
    let mut report = Report::new(&plan);
    let mut deck = Deck::of(&DECK);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        stage.progress(200);
        for round in 1..=rounds {
            let victims = deck.draw(&mut plan.random);
            kill_some(&mut stage, victims, &mut plan.random, &mut report);
            if round % ROUNDS_BETWEEN_LOOKS == 0 {
                stage.heal();
                stage.examine(&[0, 1, 2]);
            }
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn kill_some(stage: &mut Stage, victims: Victims, random: &mut Random, report: &mut Report) {
    let one = random.below(SIZE as u64) as usize;
    let other = (one + random.within(1..=2) as usize) % SIZE;
    std::thread::sleep(random.millis(0..=200));
    report.round();
    let victims = match victims {
        Victims::Leader => {
            stage.heal();
            let leader = stage.leader();
            report.fault("leader killed");
            let killed = Instant::now();
            stage.cluster.kill(leader);
            let next = stage.load.acknowledged_since(&stage.hands, Instant::now());
            report.outages.push(next - killed);
            vec![leader]
        }
        Victims::AnyOne => {
            report.fault("any one killed");
            stage.cluster.kill(one);
            vec![one]
        }
        Victims::Two => {
            report.fault("two killed");
            stage.cluster.kill(one);
            stage.cluster.kill(other);
            vec![one, other]
        }
        Victims::All => {
            report.fault("all killed");
            stage.cluster.kill_all();
            vec![0, 1, 2]
        }
    };
    std::thread::sleep(random.millis(0..=100));
    stage.start(&victims);
    stage.next_acknowledgement();
}
