//! What clients were answered does not fit the log.

use kontiki_raft::Micros;

use super::{always, append_of, batches};
use crate::{
    checker::Code,
    history::{AppendId, Outcome, Tail, Watermark},
};

#[test]
fn an_acknowledgement_that_names_another_offset_is_found() {
    always(Code::Agreement, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let append = append_of(history, chance.pick(&log)?);
        match &mut history.appends[append].ended {
            Some((_, Outcome::Acknowledged { offset })) => *offset += 1 + chance.below(3),
            _ => return None,
        }
        Some(())
    });
}

#[test]
fn a_second_acknowledgement_at_another_offset_is_found() {
    always(Code::Session, |history, chance| {
        let (_, log) = batches(history, chance)?;
        let batch = chance.pick(&log)?;
        let append = AppendId(append_of(history, batch));
        history.again.push((append, batch.offset + 1));
        Some(())
    });
}

#[test]
fn an_acknowledgement_after_a_failure_is_found() {
    always(Code::Session, |history, chance| {
        let failed = |id: &usize| {
            let ended = history.appends[*id].ended;
            matches!(ended, Some((_, Outcome::Failed)))
        };
        let failed: Vec<usize> = (0..history.appends.len()).filter(failed).collect();
        let append = AppendId(*chance.pick(&failed)?);
        history.again.push((append, 0));
        Some(())
    });
}

#[test]
fn an_end_that_an_acknowledgement_had_passed_is_stale() {
    always(Code::StaleRead, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let batch = chance.pick(&log)?;
        let append = &history.appends[append_of(history, batch)];
        append.acknowledged()?;
        let (ended, _) = append.ended?;
        history.tails.push(Tail {
            group: history.dumps[dump].group,
            asked: Micros(ended.0 + 1),
            answered: Some((Micros(ended.0 + 2), batch.offset)),
        });
        Some(())
    });
}

#[test]
fn an_end_before_one_that_was_told_is_stale() {
    always(Code::StaleRead, |history, chance| {
        let told: Vec<Tail> = history
            .tails
            .iter()
            .filter(|one| one.answered.is_some())
            .cloned()
            .collect();
        let first = chance.pick(&told)?.clone();
        let (at, next) = first.answered?;
        if next == 0 {
            return None;
        }
        let asked = Micros(at.0 + 1);
        let answered = Some((Micros(at.0 + 2), 0));
        let (_, log) = batches(history, chance)?;
        // Something must stand between the two ends.
        if log.is_empty() || history.dumps.iter().all(|dump| dump.group != first.group) {
            return None;
        }
        history.tails.push(Tail {
            group: first.group,
            asked,
            answered,
        });
        Some(())
    });
}

#[test]
fn an_end_from_the_future_is_found() {
    always(Code::StaleRead, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let batch = chance.pick(&log)?;
        let append = &history.appends[append_of(history, batch)];
        let before = append.asked.0.checked_sub(1)?;
        history.tails.push(Tail {
            group: history.dumps[dump].group,
            asked: Micros(0),
            answered: Some((Micros(before), batch.end())),
        });
        Some(())
    });
}

#[test]
fn an_end_inside_a_batch_is_found() {
    always(Code::Density, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let batch = chance.pick(&log)?;
        if batch.records.len() < 2 {
            return None;
        }
        history.tails.push(Tail {
            group: history.dumps[dump].group,
            asked: Micros(0),
            answered: Some((Micros(u64::MAX), batch.offset + 1)),
        });
        Some(())
    });
}

#[test]
fn an_end_or_a_watermark_beyond_the_log_is_found() {
    always(Code::Durability, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let (group, next) = (history.dumps[dump].group, log.last()?.end() + 1);
        let at = Micros(5);
        if chance.percent(50) {
            history.watermarks.push(Watermark { group, at, next });
        } else {
            history.tails.push(Tail {
                group,
                asked: at,
                answered: Some((at, next)),
            });
        }
        Some(())
    });
}

#[test]
fn an_append_that_never_ends_is_found() {
    always(Code::Liveness, |history, chance| {
        let append = chance.below(history.appends.len().max(1) as u64) as usize;
        history.appends.get_mut(append)?.ended = None;
        Some(())
    });
}

#[test]
fn what_the_teller_found_stuck_is_told() {
    always(Code::Liveness, |history, _| {
        history.stuck.push("no leader after 5 s".to_owned());
        Some(())
    });
}
