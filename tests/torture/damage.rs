//! Damage at rest: one member is down, one of its files is wrong when it starts again. It may not show
//! or acknowledge anything wrong, it says what it found, and it comes home.

use std::{path::Path, process::Command};

use crate::{
    cluster::{Cluster, kontiki},
    plan::{Plan, Random, say},
    report::Report,
    stage::{SIZE, Stage},
    wounds::{Part, Wound, wound},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;

#[test]
fn a_member_with_a_damaged_file_shows_nothing_wrong_and_comes_home() {
    let Some(mut plan) = Plan::of("damage", 8) else {
        return;
    };
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        // Some segments and some journal files.
        stage.progress(3000);
        for _ in 0..rounds {
            damage_one(&mut stage, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn damage_one(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    stage.heal();
    let victim = random.below(SIZE as u64) as usize;
    let other = (victim + random.within(1..=2) as usize) % SIZE;
    if random.percent(70) {
        stage.cluster.kill(victim);
    } else {
        stage.cluster.stop(victim);
    }
    report.round();
    let folder = stage.cluster.members[victim].data.clone();
    let other = stage.cluster.members[other].data.clone();
    let sound = Copy::of(&folder);
    let (part, what) = loop {
        let (part, how) = (Part::any(random), random.of(&Wound::ALL));
        if let Some(what) = wound(&folder, &other, part, how, random) {
            break (part, what);
        }
    };
    report.fault(part.name());
    stage.cluster.launch(victim, Command::new(kontiki()));
    let started = stage.cluster.ready(victim);
    stage.next_acknowledgement();
    let home = match started {
        Ok(()) => stage.comes_home(victim),
        Err(status) => {
            let said = stage.cluster.said_lately(victim);
            assert_eq!(status.code(), Some(1), "{what}: {status}\n{said}");
            Err(said.lines().last().unwrap_or_default().to_owned())
        }
    };
    if let Err(why) = home {
        assert!(!why.is_empty(), "{what}: it says nothing");
        if part.is_identity() {
            report.fault("for a person to put right");
        } else {
            report.fault("not at home by itself");
            say(format_args!("  NOT AT HOME: {what}: {why}"));
        }
        stage.cluster.end(victim);
        sound.restore(&folder);
        stage.start(&[victim]);
        stage.heal();
    }
    stage.examine(&[victim]);
}

/// A member's folder as it was, to go back to.
struct Copy(std::path::PathBuf);

impl Copy {
    fn of(folder: &Path) -> Self {
        let copy = Self(folder.with_extension("sound"));
        copy.over(folder, &copy.0);
        copy
    }

    fn restore(&self, folder: &Path) {
        self.over(&self.0, folder);
    }

    fn over(&self, from: &Path, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        let mut cp = Command::new("cp");
        cp.args(["-a", "--sparse=always"]).arg(from).arg(to);
        assert!(
            cp.status().expect("cp runs").success(),
            "a folder is copied"
        );
    }
}
