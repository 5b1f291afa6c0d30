//! C4: the records of an append stand side by side, in their order, and all of them or none.

use crate::{
    checker::{Code, log::Log, parts::Part, values::Values, violation::Violations},
    history::History,
};

pub(super) fn check(
    history: &History,
    part: &Part,
    log: &Log,
    values: &Values,
    violations: &mut Violations<'_>,
) {
    for &id in &part.appends {
        if history.appends[id].count < 2 {
            continue;
        }
        let places = values.places(history, id);
        let Some(seen) = places.iter().position(Option::is_some) else {
            continue;
        };
        let start = places[seen].and_then(|place| place.checked_sub(seen as u64));
        let scattered = start.is_none_or(|start| {
            let due = (start..).zip(&places);
            due.into_iter()
                .any(|(due, place)| place.is_some_and(|place| place != due))
        });
        // Without a complete dump, what was not seen may be there all the same; so may what lies below
        // the base.
        let known = log.end.is_some() && start.is_some_and(|start| start >= log.base);
        let torn = known && places.iter().any(Option::is_none);
        if torn || scattered {
            violations.add(Code::Density, log.group, &[id], || {
                format!("its records stand at {places:?}")
            });
        }
    }
}
