//! Mistakes that other logs have shipped, each as a story of its own: what led to them is done on
//! purpose, under load, and everything that every story is held against must hold. Each story makes
//! sure that what it is about did come about.

mod catching_up;
mod disks;
mod leaders;
mod topics;

use kontiki_sim::{Script, Told};

/// Each scenario is told from so many seeds.
const SEEDS: u64 = 3;

/// Tells a scenario of three members.
fn scenario(what: impl Fn(&mut Script)) {
    of(3, what);
}

/// Tells a scenario of so many members.
fn of(members: usize, what: impl Fn(&mut Script)) {
    for seed in 0..SEEDS {
        let mut script = Script::begin(seed, members);
        what(&mut script);
        let Told {
            finding, report, ..
        } = script.end();
        assert_eq!(finding, None, "seed {seed}");
        assert!(report.acknowledged > 10, "seed {seed}: {report}");
    }
}
