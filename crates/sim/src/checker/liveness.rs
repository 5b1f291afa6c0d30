//! C15: what the teller found stuck, and, in a story that was healed and given time, everything that
//! has no end.

use crate::{
    checker::{Code, violation::Violations},
    history::History,
};

pub(super) fn check(history: &History, violations: &mut Violations<'_>) {
    for what in &history.stuck {
        violations.add(Code::Liveness, None, &[], || what.clone());
    }
    if !history.settled {
        return;
    }
    for (id, append) in history.appends.iter().enumerate() {
        if append.ended.is_none() {
            violations.add(Code::Liveness, append.group, &[id], || {
                "it never ended".to_owned()
            });
        }
    }
    for order in history.orders.iter().filter(|one| one.ended.is_none()) {
        violations.add(Code::Liveness, None, &[], || {
            let what = if order.removes { "remove" } else { "make" };
            format!("the order to {what} topic {} never ended", order.name)
        });
    }
}
