//! An entry that was applied once is the same, at the same offset, whoever applies it and in whatever
//! life (§5.4.3).

use kontiki_broker::Effect;

use crate::invariants::{Ledger, Observation, Promise, Sighting, ledger::Committed};

/// Compares with what is known.
#[derive(Default)]
pub(super) struct CommittedNeverChanges;

impl Promise for CommittedNeverChanges {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        let Observation::Does {
            effect: Effect::Applied { group, placed, .. },
        } = seen.what
        else {
            return Ok(());
        };
        for one in placed {
            let here = before.applied(seen.member, *group, one);
            let known = before.committed_at(*group, one.index);
            let (Some(here), Some(known)) = (here, known) else {
                continue;
            };
            if !same(&here, known) {
                return Err(format!(
                    "entry {} of group {group} is applied as {here:?}, and was as {known:?}",
                    one.index
                ));
            }
        }
        Ok(())
    }
}

fn same(one: &Committed, other: &Committed) -> bool {
    let content = match (one.held.checksum, other.held.checksum) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    content
        && one.held.term == other.held.term
        && (one.offset, one.count) == (other.offset, other.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn another_entry_at_a_committed_place_is_found() {
        let mut trial = Trial::<CommittedNeverChanges>::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.writes(2, 1, &[(1, 2)]).unwrap();
        trial.applies(1, &[1]).unwrap();
        trial.applies(2, &[1]).unwrap_err();
    }

    #[test]
    fn other_content_at_a_committed_place_is_found() {
        let mut trial = Trial::<CommittedNeverChanges>::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.writes_other(2, 1, &[(1, 1)]).unwrap();
        trial.applies(1, &[1]).unwrap();
        trial.applies(2, &[1]).unwrap_err();
    }

    #[test]
    fn another_offset_for_the_same_entry_is_found() {
        let mut trial = Trial::<CommittedNeverChanges>::default();
        trial.writes(1, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.places(1, &[(1, 0, 2), (2, 2, 1)]).unwrap();
        trial.starts(1, 2, &[(1, 1)]).unwrap();
        trial.places(1, &[(1, 0, 2), (2, 1, 1)]).unwrap_err();
    }
}
