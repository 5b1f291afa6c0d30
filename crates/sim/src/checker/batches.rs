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
        let Some(start) = values.start(history, id) else {
            continue;
        };
        let missing = |place: &Option<u64>| place.is_none();
        let scattered = (start..)
            .zip(&places)
            .any(|(due, place)| place.is_some_and(|place| place != due));
        // Without a complete dump, what was not seen may be there all the same.
        let torn = log.end.is_some() && start >= log.base && places.iter().any(missing);
        if torn || scattered {
            violations.add(Code::Density, log.group, &[id], || {
                format!("its records stand at {places:?}")
            });
        }
    }
}
