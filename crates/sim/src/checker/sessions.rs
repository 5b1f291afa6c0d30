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

/// What is known of a producer at an offset.
#[derive(Clone, Copy, Debug)]
struct Known {
    epoch: u32,
    next: u64,
    /// Whatever it has behind this offset is seen.
    whole: bool,
}

/// Epochs rise, and within one, sequences follow each other from 0.
fn headers(log: &Log, violations: &mut Violations<'_>) {
    let mut known: BTreeMap<ProducerId, Known> = BTreeMap::new();
    for (offset, stamp, count) in &log.stamps {
        let here = Known {
            epoch: stamp.epoch,
            next: stamp.sequence.saturating_add(u64::from(*count)),
            // Without a complete dump, and below its base, not every batch is seen.
            whole: log.end.is_some() && *offset >= log.base,
        };
        let before = known.insert(stamp.producer, here);
        let follows = match before {
            None => stamp.sequence == 0 || log.base > 0 || !here.whole,
            Some(before) if stamp.epoch < before.epoch => false,
            Some(before) if stamp.epoch > before.epoch => stamp.sequence == 0 || !before.whole,
            Some(before) if before.whole => stamp.sequence == before.next,
            Some(before) => stamp.sequence >= before.next,
        };
        if follows {
            continue;
        }
        violations.add(Code::Session, log.group, &[], || {
            let (producer, epoch, sequence) = (stamp.producer.0, stamp.epoch, stamp.sequence);
            format!(
                "producer {producer:032x} has at {offset} epoch {epoch} and sequence {sequence}, \
                 after {before:?}"
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
