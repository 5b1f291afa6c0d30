//! Two logs that hold an entry with the same index and term are equal up to it (§5.3): such entries
//! have the same content, and follow entries of the same term.

use std::collections::BTreeMap;

use kontiki_raft::{Entry, LogId, Term};
use kontiki_wire::GroupId;

use crate::invariants::{Ledger, Promise, Sighting};

/// What stands at each position in any log.
#[derive(Default)]
pub(super) struct LogsMatch(BTreeMap<GroupId, Known>);

/// One group. At nearly every index only one entry was ever seen.
#[derive(Default)]
struct Known {
    /// By index, the origin first.
    first: Vec<Content>,
    others: BTreeMap<LogId, Content>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Content {
    term: Term,
    before: Term,
    checksum: u32,
    time: u64,
}

impl Promise for LogsMatch {
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String> {
        // What the ledger does not know yet: the ends of a group's earlier writes in the same drain.
        let mut ends: Vec<(GroupId, LogId)> = Vec::new();
        for one in seen.writes() {
            let Some(first) = one.persist.append.first() else {
                continue;
            };
            let prev = first.id.index.prev();
            let ended = ends.iter().rfind(|(group, _)| *group == one.group);
            let follows = match ended {
                Some((_, end)) => Some(*end).filter(|end| end.index == prev),
                None if prev == LogId::ORIGIN.index => Some(LogId::ORIGIN),
                None => before
                    .replica(seen.member, one.group)
                    .and_then(|replica| replica.id(prev)),
            };
            let Some(mut follows) = follows else { continue };
            let group = self.0.entry(one.group).or_default();
            for entry in &one.persist.append {
                group
                    .enter(entry, follows.term)
                    .map_err(|what| format!("in group {}, {what}", one.group))?;
                follows = entry.id;
            }
            ends.push((one.group, follows));
        }
        Ok(())
    }
}

impl Known {
    fn enter(&mut self, entry: &Entry, before: Term) -> Result<(), String> {
        let content = Content {
            term: entry.id.term,
            before,
            checksum: entry.checksum,
            time: entry.time.0,
        };
        let at = usize::try_from(entry.id.index.0).unwrap_or(usize::MAX);
        if self.first.is_empty() {
            self.first.push(Content::default());
        }
        if at == self.first.len() {
            self.first.push(content);
            return Ok(());
        }
        let Some(first) = self.first.get(at) else {
            return Ok(());
        };
        let known = match first.term == content.term {
            true => *first,
            false => *self.others.entry(entry.id).or_insert(content),
        };
        if known == content {
            return Ok(());
        }
        let id = entry.id;
        Err(format!(
            "entry {id} is {content:?}, and elsewhere {known:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::trial::Trial;

    #[test]
    fn entries_of_one_position_and_two_contents_are_found() {
        let mut trial = Trial::<LogsMatch>::default();
        trial.writes(1, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.writes(2, 1, &[(1, 1), (2, 1)]).unwrap();
        trial.writes_other(3, 1, &[(1, 1)]).unwrap_err();
    }

    #[test]
    fn entries_of_one_position_that_follow_different_ones_are_found() {
        let mut trial = Trial::<LogsMatch>::default();
        trial.writes(1, 1, &[(1, 1), (2, 3)]).unwrap();
        trial.writes(2, 1, &[(1, 2)]).unwrap();
        trial.writes(2, 2, &[(2, 3)]).unwrap_err();
    }

    #[test]
    fn another_term_at_the_same_place_is_another_entry() {
        let mut trial = Trial::<LogsMatch>::default();
        trial.writes(1, 1, &[(1, 1)]).unwrap();
        trial.writes_other(2, 1, &[(1, 2)]).unwrap();
    }
}
