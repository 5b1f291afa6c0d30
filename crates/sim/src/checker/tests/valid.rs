//! What a correct log made is never flagged.

use super::{chance::Chance, cluster};
use crate::checker::check;

#[test]
fn valid_histories_are_never_flagged() {
    let (mut acknowledged, mut failed, mut unknown, mut tails, mut deliveries) = (0, 0, 0, 0, 0);
    for seed in 0..20_000 {
        let mut chance = Chance::new(seed);
        let steps = 1 + chance.below(120);
        let history = cluster::history(&mut chance, steps);
        let verdict = check(&history);
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {:#?}\n{history:#?}",
            verdict.violations
        );
        let report = verdict.report;
        assert_eq!(
            report.attempted,
            report.acknowledged + report.failed + report.unknown
        );
        acknowledged += report.acknowledged;
        failed += report.failed;
        unknown += report.unknown;
        tails += report.tails;
        deliveries += report.deliveries;
    }
    assert!(acknowledged > 50_000, "{acknowledged}");
    assert!(failed > 5_000 && unknown > 10_000, "{failed} {unknown}");
    assert!(tails > 4_000 && deliveries > 50_000, "{tails} {deliveries}");
}

#[test]
fn without_dumps_valid_histories_are_not_flagged_either() {
    for seed in 0..5_000 {
        let mut chance = Chance::new(seed);
        let steps = 1 + chance.below(120);
        let mut history = cluster::history(&mut chance, steps);
        history.dumps.retain(|dump| !dump.complete);
        let verdict = check(&history);
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {:#?}\n{history:#?}",
            verdict.violations
        );
    }
}

#[test]
fn a_long_history_takes_about_as_long_as_reading_it() {
    let mut chance = Chance::new(1);
    let history = cluster::history(&mut chance, 200_000);
    let verdict = check(&history);
    assert_eq!(verdict.violations, []);
    assert!(verdict.report.records > 20_000, "{}", verdict.report);
}
