//! What subscribers were given does not fit the log.

use kontiki_raft::Micros;

use super::{always, append_of, batches, siblings};
use crate::checker::tests::chance::Chance;
use crate::{
    checker::Code,
    history::{History, Outcome, Seen, Watermark},
};

/// A subscription of a topic that was not removed, with at least so many deliveries.
fn subscription(history: &History, chance: &mut Chance, least: usize) -> Option<usize> {
    let dumped = |id: usize| {
        let group = history.subscriptions[id].group;
        history.dumps.iter().any(|dump| dump.group == group)
    };
    let fitting = (0..history.subscriptions.len())
        .filter(|id| history.subscriptions[*id].deliveries.len() >= least && dumped(*id));
    let fitting: Vec<usize> = fitting.collect();
    chance.pick(&fitting).copied()
}

#[test]
fn deliveries_out_of_order_are_found() {
    always(Code::Subscription, |history, chance| {
        let id = subscription(history, chance, 2)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let at = chance.below(deliveries.len() as u64 - 1) as usize;
        deliveries.swap(at, at + 1);
        Some(())
    });
}

#[test]
fn a_delivery_left_out_is_found() {
    always(Code::Subscription, |history, chance| {
        let id = subscription(history, chance, 3)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let at = 1 + chance.below(deliveries.len() as u64 - 2) as usize;
        deliveries.remove(at);
        Some(())
    });
}

#[test]
fn the_first_delivery_left_out_is_found() {
    always(Code::Subscription, |history, chance| {
        let id = subscription(history, chance, 2)?;
        history.subscriptions[id].from?;
        history.subscriptions[id].deliveries.remove(0);
        Some(())
    });
}

#[test]
fn a_delivery_given_twice_is_found() {
    always(Code::Subscription, |history, chance| {
        let id = subscription(history, chance, 1)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let at = chance.below(deliveries.len() as u64) as usize;
        deliveries.insert(at, deliveries[at].clone());
        Some(())
    });
}

#[test]
fn a_delivery_of_what_was_not_asked_for_yet_is_found() {
    always(Code::Subscription, |history, chance| {
        let id = subscription(history, chance, 1)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let at = chance.below(deliveries.len() as u64) as usize;
        let Some(Seen::Value(value)) = deliveries[at].piece.records.first().copied() else {
            return None;
        };
        let is_of = |one: &&crate::history::Append| {
            let numbers = one.first.number..one.first.number + one.count;
            one.first.writer == value.writer && numbers.contains(&value.number)
        };
        let asked = history.appends.iter().find(is_of)?.asked;
        deliveries[at].at = Micros(asked.0.checked_sub(1)?);
        // A reading of the end that began later would make it that one's contradiction.
        history.tails.clear();
        Some(())
    });
}

#[test]
fn a_watermark_over_what_was_not_asked_for_yet_is_found() {
    always(Code::Subscription, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let batch = chance.pick(&log)?;
        let asked = history.appends[append_of(history, batch)].asked;
        // A reading of the end that began later would make it that one's contradiction.
        history.tails.clear();
        history.watermarks.push(Watermark {
            group: history.dumps[dump].group,
            at: Micros(asked.0.checked_sub(1)?),
            next: batch.end(),
        });
        Some(())
    });
}

#[test]
fn a_delivery_of_what_is_gone_later_is_found() {
    always(Code::Subscription, |history, chance| {
        let (dump, log) = batches(history, chance)?;
        let last = log.last()?;
        let group = history.dumps[dump].group;
        let given = history.subscriptions.iter().any(|one| {
            let end = one.deliveries.last().map(|delivery| delivery.piece.end());
            one.group == group && end == Some(last.end())
        });
        if !given {
            return None;
        }
        // Nobody was promised it: it may be gone, had it not been shown.
        let append = append_of(history, last);
        history.appends[append].ended = Some((Micros(1_000), Outcome::Unknown));
        history.tails.clear();
        history.watermarks.clear();
        history.again.clear();
        for dump in siblings(history, dump) {
            dump.pieces.pop();
            dump.marks.pop();
            dump.state = None;
        }
        Some(())
    });
}

#[test]
fn a_delivery_of_something_else_is_found() {
    always(Code::Agreement, |history, chance| {
        let id = subscription(history, chance, 2)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let other = deliveries.last()?.piece.records.last().copied()?;
        let first = deliveries.first_mut()?.piece.records.first_mut()?;
        if *first == other {
            return None;
        }
        *first = other;
        Some(())
    });
}

#[test]
fn a_delivery_with_a_byte_changed_is_found() {
    always(Code::Origin, |history, chance| {
        let id = subscription(history, chance, 1)?;
        let deliveries = &mut history.subscriptions[id].deliveries;
        let at = chance.below(deliveries.len() as u64) as usize;
        let record = deliveries[at].piece.records.first_mut()?;
        *record = Seen::Garbled { checksum: 3 };
        Some(())
    });
}

#[test]
fn a_subscription_that_stops_short_of_the_end_is_found() {
    always(Code::Liveness, |history, chance| {
        let id = subscription(history, chance, 2)?;
        if !history.subscriptions[id].open {
            return None;
        }
        history.subscriptions[id].deliveries.pop();
        Some(())
    });
}
