//! Topics are there when they were made, gone when they were removed, and the same for everybody: a
//! lost one is C5, one that nobody made or that was removed C1, differing lists C11, and a group with
//! two names C2.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Micros;
use kontiki_wire::{GroupId, TopicName};

use crate::{
    checker::{Code, parts::removed, violation::Violations},
    history::{History, Order, Ordered},
};

pub(super) fn check(history: &History, violations: &mut Violations<'_>) {
    let mut names: BTreeMap<GroupId, &TopicName> = BTreeMap::new();
    for order in &history.orders {
        if let Some(group) = group(order) {
            let first = *names.entry(group).or_insert(&order.name);
            if *first != order.name {
                violations.add(Code::Agreement, group, &[], || {
                    format!("it is topic {first}, and topic {}", order.name)
                });
            }
        }
    }
    let Some(first) = history.catalogues.first() else {
        return;
    };
    let topics = |listed: &[(TopicName, GroupId)]| listed.iter().cloned().collect::<BTreeSet<_>>();
    let there = topics(&first.topics);
    for other in &history.catalogues[1..] {
        let listed = topics(&other.topics);
        if let Some((name, group)) = there.symmetric_difference(&listed).next() {
            violations.add(Code::Replicas, *group, &[], || {
                format!(
                    "{} and {} do not both list topic {name}",
                    first.holder, other.holder
                )
            });
        }
    }
    let removed = removed(history);
    for (group, name) in &names {
        let listed = there.contains(&((*name).clone(), *group));
        if !listed && !removed.contains(group) {
            violations.add(Code::Durability, *group, &[], || {
                format!("topic {name} was made, never removed, and is gone")
            });
        }
    }
    for (name, group) in &there {
        if let Some(what) = phantom(history, name, *group) {
            violations.add(Code::Origin, *group, &[], || {
                format!("topic {name} is there, {what}")
            });
        }
    }
}

/// Why a listed topic cannot be there, if it cannot.
fn phantom(history: &History, name: &TopicName, listed: GroupId) -> Option<&'static str> {
    let orders = || history.orders.iter().filter(|one| one.name == *name);
    let may_have_made =
        |one: &&Order| !one.removes && !matches!(one.ended, Some((_, Ordered::Failed)));
    if !orders().any(|one| may_have_made(&one)) {
        return Some("which nobody made");
    }
    // Known to be there at a moment, and removed by an order that began after it: gone.
    let known = orders().filter(|one| group(one) == Some(listed));
    let known = known.filter_map(|one| one.ended.map(|(at, _)| at)).min()?;
    let gone = orders().any(|one| {
        let done = matches!(one.ended, Some((_, Ordered::Removed)));
        done && one.asked > Micros(known.0)
    });
    gone.then_some("which was removed")
}

/// The group that an order's end names.
fn group(order: &Order) -> Option<GroupId> {
    match order.ended {
        Some((_, Ordered::Made(group) | Ordered::Existed(group))) => Some(group),
        _ => None,
    }
}
