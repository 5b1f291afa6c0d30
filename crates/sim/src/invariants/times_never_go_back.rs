//! The time of an entry is never earlier than that of the entry before it, whatever the clocks do.

use std::collections::BTreeMap;

use kontiki_raft::{Index, NodeRef};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Promise, Sighting};

/// The last entry that each member wrote in each group: its index and time.
#[derive(Default)]
pub(super) struct TimesNeverGoBack(BTreeMap<(NodeRef, GroupId), (Index, u64)>);

impl Promise for TimesNeverGoBack {
    fn observe(&mut self, seen: Sighting<'_>, _before: &Ledger) -> Result<(), String> {
        for one in seen.writes() {
            let last = self.0.entry((seen.member, one.group)).or_default();
            for entry in &one.persist.append {
                let (index, time) = (entry.id.index, entry.time.0);
                // After a cut or a restart, what stands before is another entry than the last written.
                if last.0.next() == index && time < last.1 {
                    return Err(format!(
                        "entry {} of group {} is of {time}, the one before it of {}",
                        entry.id, one.group, last.1
                    ));
                }
                *last = (index, time);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn an_entry_older_than_the_one_before_it_is_found() {
        let mut trial = Trial::<TimesNeverGoBack>::default();
        trial.writes_at(1, 1, &[(1, 50), (2, 50), (3, 60)]).unwrap();
        trial.writes_at(1, 2, &[(4, 59)]).unwrap_err();
    }

    #[test]
    fn what_replaces_an_entry_may_be_older_than_it() {
        let mut trial = Trial::<TimesNeverGoBack>::default();
        trial.writes_at(1, 1, &[(1, 50), (2, 70)]).unwrap();
        trial.writes_at(1, 2, &[(2, 60)]).unwrap();
    }
}
