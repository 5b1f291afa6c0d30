//! C5, and C13 after an outage: every acknowledged append stands at its offset in the log that was found
//! in the end, and so does everything that anybody was shown.

use std::collections::BTreeMap;

use kontiki_raft::Micros;

use crate::{
    checker::{Code, log::Log, parts::Part, values::Values, violation::Violations},
    history::{Append, History},
};

/// Where in a producer's acknowledged appends its losses lie: each place has causes of its own.
#[derive(Clone, Copy, Default)]
struct Survivors {
    first: usize,
    last: usize,
}

pub(super) fn check(
    history: &History,
    part: &Part,
    log: &Log,
    values: &Values,
    violations: &mut Violations<'_>,
) {
    let Some(end) = log.end.filter(|_| !part.removed) else {
        return;
    };
    let mut survivors: BTreeMap<u32, Survivors> = BTreeMap::new();
    let mut lost = Vec::new();
    for &id in &part.appends {
        let append = &history.appends[id];
        let Some(offset) = append.acknowledged().filter(|offset| *offset >= log.base) else {
            continue;
        };
        match values.start(history, id) {
            None => lost.push((id, offset)),
            Some(start) => {
                let survivors = survivors.entry(append.first.writer).or_insert(Survivors {
                    first: id,
                    last: id,
                });
                survivors.last = id;
                if start != offset {
                    violations.add(Code::Agreement, log.group, &[id], || {
                        format!("acknowledged at {offset}, it stands at {start}")
                    });
                }
            }
        }
    }
    for (id, offset) in lost {
        let append = &history.appends[id];
        let survivors = survivors.get(&append.first.writer);
        let (code, since) = code(history, append);
        violations.report.lost += u64::from(append.count);
        violations.add(code, log.group, &[id], || {
            let place = place(survivors, id);
            format!("acknowledged at {offset} and lost{since}: {place}; the log ends at {end}")
        });
    }
    shown(history, part, log, end, violations);
}

/// Where the loss lies among what its writer still has.
fn place(survivors: Option<&Survivors>, id: usize) -> &'static str {
    match survivors {
        None => "nothing of its writer is left",
        Some(survivors) if id < survivors.first => "of the beginning",
        Some(survivors) if id > survivors.last => "of the end",
        Some(_) => "from the middle",
    }
}

fn code(history: &History, append: &Append) -> (Code, String) {
    let acknowledged = append.ended.map_or(Micros(0), |(at, _)| at);
    match history.outages.iter().find(|at| **at >= acknowledged) {
        None => (Code::Durability, String::new()),
        Some(at) => {
            let seconds = at.0 as f64 / 1e6;
            let since = format!(", power was cut everywhere at {seconds:.6} s");
            (Code::Outage, since)
        }
    }
}

/// What a leader or a watermark counted as committed is there.
fn shown(history: &History, part: &Part, log: &Log, end: u64, violations: &mut Violations<'_>) {
    let tails = part
        .tails
        .iter()
        .filter_map(|id| history.tails[*id].answered);
    let marks = part.watermarks.iter().map(|id| history.watermarks[*id]);
    let all = tails.chain(marks.map(|one| (one.at, one.next)));
    for (at, next) in all.filter(|(_, next)| *next > end) {
        violations.add(Code::Durability, log.group, &[], || {
            let seconds = at.0 as f64 / 1e6;
            format!(
                "at {seconds:.6} s everything below {next} was committed, and the log ends at {end}"
            )
        });
    }
}
