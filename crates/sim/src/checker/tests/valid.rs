//! What a correct log made is never flagged.

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use super::{chance::Chance, cluster};
use crate::{
    checker::{Code, check},
    history::{History, Outcome, Piece},
};

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
fn what_was_trimmed_is_not_lost() {
    let mut trimmed = 0;
    for seed in 0..5_000 {
        let mut chance = Chance::new(seed);
        let steps = 1 + chance.below(120);
        let mut history = cluster::history(&mut chance, steps);
        let group = GroupId(1 + chance.below(2));
        let keep = chance.below(10) as usize;
        for dump in history.dumps.iter_mut().filter(|one| one.group == group) {
            let gone = dump.pieces.len().saturating_sub(keep);
            dump.pieces.drain(..gone);
            dump.marks.drain(..gone.min(dump.marks.len()));
            dump.first = dump.pieces.first().map_or(0, |first| first.offset);
            trimmed += gone;
        }
        history
            .dumps
            .retain(|dump| dump.complete && !dump.pieces.is_empty());
        let verdict = check(&history);
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {:#?}\n{history:#?}",
            verdict.violations
        );
    }
    assert!(trimmed > 10_000, "{trimmed}");
}

#[test]
fn offsets_at_the_end_of_all_numbers_are_judged_like_others() {
    let mut history = History::default();
    let writer = history.writer();
    let (append, first) = history.append(Micros(1), GroupId(1), writer, 2);
    let offset = u64::MAX;
    history.append_ended(Micros(2), append, Outcome::Acknowledged { offset });
    history.watermark(Micros(3), GroupId(1), offset);
    let subscription = history.subscribe(GroupId(1), Some(offset));
    let piece = Piece {
        offset,
        stamp: None,
        records: vec![first.into(), first.into()],
    };
    history.delivered(Micros(3), subscription, piece);
    let verdict = check(&history);
    assert!(
        verdict
            .violations
            .iter()
            .all(|one| one.code == Code::Density)
    );
    assert!(!verdict.violations.is_empty());
}

#[test]
fn a_long_history_takes_about_as_long_as_reading_it() {
    let mut chance = Chance::new(1);
    let history = cluster::history(&mut chance, 200_000);
    let verdict = check(&history);
    assert_eq!(verdict.violations, []);
    assert!(verdict.report.records > 20_000, "{}", verdict.report);
}
