//! The log itself is wrong, in all replicas alike.

use kontiki_raft::Micros;

use super::{NEVER_WRITTEN, always, append_of, batches, pieces, siblings};
use crate::{
    checker::Code,
    history::{History, Outcome, Piece, Seen},
};

/// Nobody was shown anything from this offset on.
fn forget(history: &mut History, dump: usize, from: u64) {
    let group = history.dumps[dump].group;
    history.tails.retain(|tail| tail.group != group);
    history.watermarks.retain(|one| one.group != group);
    history.again.clear();
    let subscriptions = history.subscriptions.iter_mut();
    for one in subscriptions.filter(|one| one.group == group) {
        let shown = one.deliveries.iter().position(|one| one.piece.end() > from);
        one.deliveries.truncate(shown.unwrap_or(usize::MAX));
        one.open = false;
    }
    let dumps = history.dumps.iter_mut();
    for one in dumps.filter(|one| !one.complete && one.group == group) {
        one.pieces.retain(|piece| piece.end() <= from);
        one.marks.truncate(one.pieces.len());
    }
}

/// Acknowledged batches by their place in the log.
fn acknowledged(history: &History, log: &[Piece]) -> Vec<usize> {
    let is_acknowledged = |at: &usize| {
        history.appends[append_of(history, &log[*at])]
            .acknowledged()
            .is_some()
    };
    (0..log.len()).filter(is_acknowledged).collect()
}

#[test]
fn an_acknowledged_batch_that_is_nowhere_is_lost() {
    always(Code::Durability, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = *chance.pick(&acknowledged(history, &log))?;
        forget(history, dump, 0);
        history.outages.clear();
        for dump in siblings(history, dump) {
            dump.pieces.remove(at);
        }
        Some(())
    });
}

#[test]
fn a_lost_end_is_found() {
    always(Code::Durability, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = *chance.pick(&acknowledged(history, &log))?;
        forget(history, dump, log[at].offset);
        history.outages.clear();
        for dump in siblings(history, dump) {
            dump.pieces.truncate(at);
            dump.marks.truncate(at);
            dump.state = None;
        }
        Some(())
    });
}

#[test]
fn a_lost_beginning_is_found() {
    always(Code::Durability, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = *chance.pick(&acknowledged(history, &log))?;
        forget(history, dump, 0);
        history.outages.clear();
        for dump in siblings(history, dump) {
            dump.pieces.drain(..=at);
        }
        Some(())
    });
}

#[test]
fn a_middle_lost_and_closed_up_is_found() {
    always(Code::Durability, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = *chance.pick(&acknowledged(history, &log))?;
        forget(history, dump, 0);
        history.outages.clear();
        for dump in siblings(history, dump) {
            let gone = dump.pieces.remove(at);
            for piece in &mut dump.pieces[at..] {
                piece.offset -= gone.records.len() as u64;
            }
        }
        Some(())
    });
}

#[test]
fn what_an_outage_took_is_told_apart() {
    always(Code::Outage, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = *chance.pick(&acknowledged(history, &log))?;
        let append = append_of(history, &log[at]);
        let (ended, _) = history.appends[append].ended?;
        history.outages.push(Micros(ended.0 + 1));
        forget(history, dump, log[at].offset);
        for dump in siblings(history, dump) {
            dump.pieces.truncate(at);
            dump.marks.truncate(at);
            dump.state = None;
        }
        Some(())
    });
}

#[test]
fn a_batch_that_stands_twice_is_found() {
    always(Code::Uniqueness, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let again = chance.pick(&log)?;
        for dump in siblings(history, dump) {
            let offset = dump.pieces.last()?.end();
            dump.pieces.push(Piece {
                offset,
                ..again.clone()
            });
        }
        Some(())
    });
}

#[test]
fn an_offset_left_out_is_found() {
    always(Code::Density, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let at = chance.below(log.len() as u64) as usize;
        for dump in siblings(history, dump) {
            for piece in &mut dump.pieces[at..] {
                piece.offset += 1;
            }
        }
        Some(())
    });
}

#[test]
fn half_a_batch_is_found() {
    always(Code::Density, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let last = log.last().filter(|last| last.records.len() > 1)?;
        let first = chance.percent(50);
        if first && last.offset != 0 {
            return None;
        }
        for dump in siblings(history, dump) {
            let last = dump.pieces.last_mut()?;
            if first {
                last.records.remove(0);
            } else {
                last.records.pop();
            }
        }
        Some(())
    });
}

#[test]
fn the_records_of_a_batch_in_another_order_are_found() {
    always(Code::Density, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let many: Vec<_> = log.iter().filter(|one| one.records.len() > 1).collect();
        let spoiled = (*chance.pick(&many)?).clone();
        for piece in pieces(history) {
            if piece.records == spoiled.records {
                piece.records.swap(0, 1);
            }
        }
        Some(())
    });
}

#[test]
fn a_value_nobody_wrote_is_found() {
    always(Code::Origin, |history, chance| {
        let (dump, _) = batches(history, chance)?;
        for dump in siblings(history, dump) {
            let offset = dump.pieces.last()?.end();
            dump.pieces.push(Piece {
                offset,
                stamp: None,
                records: vec![NEVER_WRITTEN.into()],
            });
        }
        Some(())
    });
}

#[test]
fn a_value_of_another_topic_is_found() {
    always(Code::Origin, |history, chance| {
        let (dump, _) = batches(history, chance)?;
        let group = history.dumps[dump].group;
        let others: Vec<_> = history
            .appends
            .iter()
            .filter(|one| one.group != group)
            .collect();
        let other = chance.pick(&others)?.first;
        for dump in siblings(history, dump) {
            let offset = dump.pieces.last()?.end();
            dump.pieces.push(Piece {
                offset,
                stamp: None,
                records: vec![other.into()],
            });
        }
        Some(())
    });
}

#[test]
fn a_failed_append_that_stands_all_the_same_is_found() {
    always(Code::Origin, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let append = append_of(history, chance.pick(&log)?);
        let (at, _) = history.appends[append].ended?;
        history.appends[append].ended = Some((at, Outcome::Failed));
        Some(())
    });
}

#[test]
fn two_batches_in_the_order_that_their_times_forbid_are_found() {
    always(Code::RealTime, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let ordered = |at: &usize| {
            let (one, other) = (&log[*at], &log[at + 1]);
            let first = &history.appends[append_of(history, one)];
            let second = &history.appends[append_of(history, other)];
            one.records.len() == other.records.len()
                && first.acknowledged().is_some()
                && first.ended.is_some_and(|(ended, _)| ended < second.asked)
        };
        let places: Vec<usize> = (0..log.len() - 1).filter(ordered).collect();
        let at = *chance.pick(&places)?;
        forget(history, dump, 0);
        for (place, other) in [(at, at + 1), (at + 1, at)] {
            let append = append_of(history, &log[place]);
            if let Some((_, Outcome::Acknowledged { offset })) = &mut history.appends[append].ended
            {
                *offset = log[other].offset;
            }
        }
        for dump in siblings(history, dump) {
            dump.pieces.swap(at, at + 1);
            let offset = dump.pieces[at + 1].offset;
            dump.pieces[at + 1].offset = dump.pieces[at].offset;
            dump.pieces[at].offset = offset;
        }
        Some(())
    });
}

#[test]
fn a_writer_s_batches_out_of_its_order_are_found() {
    always(Code::Session, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let of_one = |at: &usize| {
            let (one, other) = (&log[*at], &log[at + 1]);
            let writer = |piece: &Piece| match piece.records[0] {
                Seen::Value(value) => value.writer,
                Seen::Garbled { .. } => u32::MAX,
            };
            one.records.len() == other.records.len() && writer(one) == writer(other)
        };
        let places: Vec<usize> = (0..log.len() - 1).filter(of_one).collect();
        let at = *chance.pick(&places)?;
        let (one, other) = (log[at].records.clone(), log[at + 1].records.clone());
        for piece in pieces(history) {
            if piece.records == one {
                piece.records.clone_from(&other);
            } else if piece.records == other {
                piece.records.clone_from(&one);
            }
        }
        Some(())
    });
}

#[test]
fn a_batch_of_an_epoch_that_was_over_is_found() {
    always(Code::Session, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let stamps = log.iter().filter_map(|piece| piece.stamp);
        let later: Vec<_> = stamps.collect();
        let one = *chance.pick(&later)?;
        // The others of this producer are of a later epoch from now on.
        let first = later.iter().find(|stamp| stamp.producer == one.producer)?;
        if *first == one {
            return None;
        }
        for piece in pieces(history) {
            if let Some(stamp) = &mut piece.stamp
                && stamp.producer == one.producer
                && *stamp != one
            {
                stamp.epoch += 10;
            }
        }
        Some(())
    });
}

#[test]
fn a_sequence_left_out_or_given_twice_is_found() {
    always(Code::Session, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let stamp = chance.pick(&log)?.stamp?;
        let more = chance.percent(50);
        if !more && stamp.sequence == 0 {
            return None;
        }
        for piece in pieces(history) {
            if piece.stamp == Some(stamp)
                && let Some(stamp) = &mut piece.stamp
            {
                let sequence = stamp.sequence;
                stamp.sequence = if more { sequence + 1 } else { sequence - 1 };
            }
        }
        Some(())
    });
}
