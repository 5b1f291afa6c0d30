//! C11: all replicas hold the same entries, have the same state at the same position, and in the end
//! reach equally far. That their records are the same is C2 and part of the laying out.

use std::collections::BTreeMap;

use kontiki_raft::{Index, LogId};

use crate::{
    checker::{Code, log::Log, parts::Part, violation::Violations},
    history::{Dump, History, Holder, Mark, Piece},
};

pub(super) fn check(history: &History, part: &Part, log: &Log, violations: &mut Violations<'_>) {
    let dumps = || part.dumps.iter().map(|id| &history.dumps[*id]);
    marks(dumps(), log, violations);
    states(dumps(), log, violations);
    let Some(end) = log.end else { return };
    for dump in dumps() {
        let reach = dump.pieces.last().map_or(dump.first, Piece::end);
        let wrong = match dump.complete {
            true => reach != end,
            false => reach > end && !part.removed,
        };
        if wrong {
            violations.add(Code::Replicas, log.group, &[], || {
                let (holder, at) = (dump.holder, dump.at.0 as f64 / 1e6);
                format!(
                    "{holder} held records up to {reach} at {at:.6} s, and the log ends at {end}"
                )
            });
        }
    }
}

/// Entries with the same index are the same, and follow each other.
fn marks<'a>(dumps: impl Iterator<Item = &'a Dump>, log: &Log, violations: &mut Violations<'_>) {
    let mut known: BTreeMap<Index, (Mark, Holder)> = BTreeMap::new();
    let mut last: Option<(Holder, Option<LogId>)> = None;
    for dump in dumps {
        for mark in &dump.marks {
            let (first, holder) = *known.entry(mark.id.index).or_insert((*mark, dump.holder));
            if first != *mark {
                violations.add(Code::Replicas, log.group, &[], || {
                    format!("{} holds {mark:?}, and {holder} {first:?}", dump.holder)
                });
            }
        }
        for two in dump.marks.windows(2) {
            if two[1].id.index != two[0].id.index.next() || two[1].id.term < two[0].id.term {
                violations.add(Code::Replicas, log.group, &[], || {
                    let (one, other) = (two[0].id, two[1].id);
                    format!("{} holds entry {other} after entry {one}", dump.holder)
                });
            }
        }
        let end = dump.marks.last().map(|mark| mark.id);
        if !dump.complete || end.is_none() {
            continue;
        }
        if let Some((holder, other)) = last.filter(|(_, other)| *other != end) {
            violations.add(Code::Replicas, log.group, &[], || {
                format!(
                    "{} holds entries up to {end:?}, and {holder} up to {other:?}",
                    dump.holder
                )
            });
        }
        last = Some((dump.holder, end));
    }
}

fn states<'a>(dumps: impl Iterator<Item = &'a Dump>, log: &Log, violations: &mut Violations<'_>) {
    let mut known: BTreeMap<Index, (LogId, u64, Holder)> = BTreeMap::new();
    for dump in dumps {
        let Some((at, state)) = dump.state else {
            continue;
        };
        let first = *known.entry(at.index).or_insert((at, state, dump.holder));
        if (first.0, first.1) != (at, state) {
            violations.add(Code::Replicas, log.group, &[], || {
                format!(
                    "the state of {} at entry {at} is another than that of {} at entry {}",
                    dump.holder, first.2, first.0
                )
            });
        }
    }
}
