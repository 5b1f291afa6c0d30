//! What people read.

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use crate::{
    checker::{Code, Report, check},
    history::{Dump, History, Holder, Outcome},
};

fn lost() -> History {
    let mut history = History::default();
    let group = GroupId(3);
    let writer = history.writer();
    let (append, _) = history.append(Micros(1_500_000), group, writer, 2);
    history.append_ended(
        Micros(1_750_000),
        append,
        Outcome::Acknowledged { offset: 0 },
    );
    history.dumps.push(Dump {
        holder: Holder::Client,
        group,
        at: Micros(2_000_000),
        complete: true,
        first: 0,
        pieces: Vec::new(),
        marks: Vec::new(),
        state: None,
    });
    history
}

#[test]
fn a_violation_says_what_contradicts_what_and_who_took_part() {
    let verdict = check(&lost());
    let [violation] = &verdict.violations[..] else {
        panic!("{:?}", verdict.violations)
    };
    assert_eq!(violation.code, Code::Durability);
    assert_eq!(
        violation.to_string(),
        "C5 durability: group 3: acknowledged at 0 and lost: nothing of its writer is left; the log \
         ends at 0\n    append 0: w0.0..=1, asked for at 1.500000 s, acknowledged at 1.750000 s, \
         offset 0"
    );
}

#[test]
fn a_report_is_one_line_and_reports_add_up() {
    let mut report = check(&lost()).report;
    report.merge(&report.clone());
    assert_eq!(
        report.to_string(),
        "attempted 2 = acknowledged 2 + failed 0 + unknown 0; lost 4; doubled 0; phantom 0; \
         reordered 0; wrong bytes 0; stale reads 0; violations 2; longest write outage 0.250 s"
    );
    let mut alone = Report::default();
    alone.merge(&report);
    assert_eq!(alone, report);
}

#[test]
fn of_each_kind_a_few_violations_are_kept_and_all_are_counted() {
    let mut history = lost();
    let group = GroupId(3);
    for more in 1..1_000 {
        let writer = history.writer();
        let (append, _) = history.append(Micros(1), group, writer, 1);
        let outcome = Outcome::Acknowledged { offset: more };
        history.append_ended(Micros(9_000_000), append, outcome);
    }
    let verdict = check(&history);
    assert_eq!(verdict.report.violations, 1_000);
    assert_eq!(verdict.report.lost, 1_001);
    assert!(verdict.violations.len() < 20);
}
