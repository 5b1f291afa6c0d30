//! C8: what a subscriber is given is the log itself, from where it asked on, in order and without a gap,
//! and nothing of it ever goes away. That its content is the log's is C2.

use crate::{
    checker::{Code, log::Log, parts::Part, violation::Violations},
    history::{History, Subscription},
};

pub(super) fn check(history: &History, part: &Part, log: &Log, violations: &mut Violations<'_>) {
    for &id in &part.subscriptions {
        let subscription = &history.subscriptions[id];
        let next = follows(id, subscription, log, violations);
        let Some(end) = log.end.filter(|_| !part.removed) else {
            continue;
        };
        if next.is_some_and(|next| next > end) {
            violations.add(Code::Subscription, log.group, &[], || {
                format!(
                    "subscription {id} was given records up to {next:?}, and the log ends at {end}"
                )
            });
        }
        let has_all = next.or(subscription.from).is_none_or(|next| next >= end);
        if history.settled && subscription.open && !has_all {
            violations.add(Code::Liveness, log.group, &[], || {
                format!("subscription {id} has come to {next:?}, and the log ends at {end}")
            });
        }
    }
}

/// Whether each delivery follows the one before it; the offset after the last.
fn follows(
    id: usize,
    subscription: &Subscription,
    log: &Log,
    violations: &mut Violations<'_>,
) -> Option<u64> {
    let mut next = None;
    for delivery in &subscription.deliveries {
        let piece = &delivery.piece;
        let due = match (next, subscription.from) {
            (Some(next), _) => piece.offset == next,
            // A batch is given whole, where it is given as one.
            (None, Some(from)) => {
                let whole = piece.stamp.is_some() && piece.offset < from && from < piece.end();
                piece.offset == from || whole
            }
            (None, None) => true,
        };
        if !due {
            let due = next.or(subscription.from);
            violations.add(Code::Subscription, log.group, &[], || {
                let (from, to) = (piece.offset, piece.end());
                format!("subscription {id} was given {from} to {to} where {due:?} was due")
            });
        }
        next = Some(piece.end());
    }
    next
}
