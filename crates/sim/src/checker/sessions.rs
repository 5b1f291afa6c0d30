//! C10: a producer's records stand in its order, each once, whatever was sent again; and every
//! acknowledgement of an append names the same place.

use std::collections::BTreeMap;

use kontiki_wire::ProducerId;

use crate::{
    checker::{Code, log::Log, parts::Part, values::Values, violation::Violations},
    history::{Append, History, Outcome, Seen},
};

pub(super) fn check(
    history: &History,
    part: &Part,
    log: &Log,
    values: &Values,
    violations: &mut Violations<'_>,
) {
    writers(log, values, violations);
    headers(log, violations);
    for &(append, offset) in &history.again {
        let id = append.0;
        if history.appends[id].group == log.group && !part.appends.is_empty() {
            again(history, id, offset, log, values, violations);
        }
    }
}

/// A writer's values stand in the order of their numbers.
fn writers(log: &Log, values: &Values, violations: &mut Violations<'_>) {
    let mut last: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for (offset, seen) in log.standing() {
        let Seen::Value(value) = seen else { continue };
        let here = (value.number, offset);
        let Some((number, place)) = last.insert(value.writer, here) else {
            continue;
        };
        if value.number > number {
            continue;
        }
        violations.report.reordered += 1;
        let appends: Vec<usize> = values.append(value).into_iter().collect();
        violations.add(Code::Session, log.group, &appends, || {
            format!(
                "{value} stands at {offset}, behind w{}.{number} at {place}",
                value.writer
            )
        });
    }
}

/// Epochs rise, and within one, sequences follow each other from 0.
fn headers(log: &Log, violations: &mut Violations<'_>) {
    let mut known: BTreeMap<ProducerId, (u32, u64)> = BTreeMap::new();
    let whole = log.end.is_some();
    for (offset, stamp, count) in &log.stamps {
        let end = stamp.sequence.saturating_add(u64::from(*count));
        let before = known.insert(stamp.producer, (stamp.epoch, end));
        let follows = match before {
            // Below, something was trimmed, or was not seen.
            None if log.base > 0 || !whole => true,
            None => stamp.sequence == 0,
            Some((epoch, _)) if stamp.epoch < epoch => false,
            Some((epoch, _)) if stamp.epoch > epoch => !whole || stamp.sequence == 0,
            Some((_, next)) if whole => stamp.sequence == next,
            Some((_, next)) => stamp.sequence >= next,
        };
        if follows {
            continue;
        }
        violations.add(Code::Session, log.group, &[], || {
            format!(
                "producer {:032x} has at {offset} epoch {} and sequence {}, after (epoch, next \
                 sequence) {before:?}",
                stamp.producer.0, stamp.epoch, stamp.sequence
            )
        });
    }
}

/// Another acknowledgement of an append.
fn again(
    history: &History,
    id: usize,
    offset: u64,
    log: &Log,
    values: &Values,
    violations: &mut Violations<'_>,
) {
    let append: &Append = &history.appends[id];
    if let Some((_, Outcome::Failed)) = append.ended {
        violations.add(Code::Session, log.group, &[id], || {
            format!("acknowledged at {offset} after it had failed for certain")
        });
        return;
    }
    let first = append.acknowledged().or_else(|| values.start(history, id));
    if first.is_some_and(|first| first != offset) {
        violations.add(Code::Session, log.group, &[id], || {
            format!("acknowledged again, at {offset}")
        });
    }
}
