//! One replica is another than the others.

use super::{NEVER_WRITTEN, always, batches};
use crate::checker::tests::chance::Chance;
use crate::{
    checker::Code,
    history::{History, Holder, Seen},
};

/// A complete dump of a member with at least so many batches.
fn replica(history: &History, chance: &mut Chance, least: usize) -> Option<usize> {
    let (dump, log) = batches(history, chance)?;
    let is_member = matches!(history.dumps[dump].holder, Holder::Member(_));
    (is_member && log.len() >= least).then_some(dump)
}

#[test]
fn another_record_in_one_replica_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 2)?;
        let pieces = &mut history.dumps[dump].pieces;
        let at = chance.below(pieces.len() as u64 - 1) as usize;
        if pieces[at].records.len() != pieces[at + 1].records.len() {
            return None;
        }
        let other = pieces[at].records.clone();
        pieces[at].records = std::mem::replace(&mut pieces[at + 1].records, other);
        Some(())
    });
}

#[test]
fn a_byte_changed_in_one_replica_is_found() {
    always(Code::Origin, |history, chance| {
        let dump = replica(history, chance, 1)?;
        let pieces = &mut history.dumps[dump].pieces;
        let at = chance.below(pieces.len() as u64) as usize;
        *pieces[at].records.first_mut()? = Seen::Garbled { checksum: 9 };
        Some(())
    });
}

#[test]
fn a_value_nobody_wrote_in_one_replica_is_found() {
    always(Code::Origin, |history, chance| {
        let dump = replica(history, chance, 1)?;
        let pieces = &mut history.dumps[dump].pieces;
        let at = chance.below(pieces.len() as u64) as usize;
        *pieces[at].records.first_mut()? = NEVER_WRITTEN.into();
        Some(())
    });
}

#[test]
fn a_replica_that_ends_early_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 1)?;
        history.dumps[dump].pieces.pop();
        Some(())
    });
}

#[test]
fn a_hole_in_one_replica_is_found() {
    always(Code::Density, |history, chance| {
        let dump = replica(history, chance, 2)?;
        let pieces = &mut history.dumps[dump].pieces;
        let at = chance.below(pieces.len() as u64 - 1) as usize;
        pieces.remove(at);
        Some(())
    });
}

#[test]
fn another_entry_in_one_replica_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 1)?;
        let marks = &mut history.dumps[dump].marks;
        let at = chance.below(marks.len() as u64) as usize;
        if chance.percent(50) {
            marks[at].checksum += 1;
        } else {
            marks[at].id.term.0 += 1;
        }
        Some(())
    });
}

#[test]
fn an_entry_missing_in_one_replica_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 2)?;
        let marks = &mut history.dumps[dump].marks;
        // What is before the first may have been trimmed.
        let at = 1 + chance.below(marks.len() as u64 - 1) as usize;
        marks.remove(at);
        Some(())
    });
}

#[test]
fn another_state_at_the_same_position_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 1)?;
        history.dumps[dump].state.as_mut()?.1 += 1;
        Some(())
    });
}

#[test]
fn a_replica_that_held_more_than_there_is_is_found() {
    always(Code::Replicas, |history, chance| {
        let dump = replica(history, chance, 1)?;
        let mut earlier = history.dumps[dump].clone();
        earlier.complete = false;
        let group = earlier.group;
        history.dumps.push(earlier);
        for dump in &mut history.dumps {
            if dump.complete && dump.group == group {
                dump.pieces.pop();
                dump.marks.pop();
                dump.state = None;
            }
        }
        Some(())
    });
}
