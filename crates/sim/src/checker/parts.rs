//! A history by topic.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use crate::history::{History, Ordered};

/// What of a history is about one topic: places in the history's lists.
#[derive(Clone, Default, Debug)]
pub(super) struct Part {
    pub(super) appends: Vec<usize>,
    pub(super) tails: Vec<usize>,
    pub(super) subscriptions: Vec<usize>,
    pub(super) watermarks: Vec<usize>,
    /// The complete ones first.
    pub(super) dumps: Vec<usize>,
    /// Somebody may have removed it: then nothing need be there any more.
    pub(super) removed: bool,
}

/// All topics.
#[derive(Clone, Default, Debug)]
pub(super) struct Parts(BTreeMap<GroupId, Part>);

impl Parts {
    pub(super) fn of(history: &History) -> Self {
        let mut parts: BTreeMap<GroupId, Part> = BTreeMap::new();
        for (id, one) in history.appends.iter().enumerate() {
            parts.entry(one.group).or_default().appends.push(id);
        }
        for (id, one) in history.tails.iter().enumerate() {
            parts.entry(one.group).or_default().tails.push(id);
        }
        for (id, one) in history.subscriptions.iter().enumerate() {
            parts.entry(one.group).or_default().subscriptions.push(id);
        }
        for (id, one) in history.watermarks.iter().enumerate() {
            parts.entry(one.group).or_default().watermarks.push(id);
        }
        for (id, one) in history.dumps.iter().enumerate() {
            parts.entry(one.group).or_default().dumps.push(id);
        }
        for part in parts.values_mut() {
            part.dumps.sort_by_key(|id| !history.dumps[*id].complete);
        }
        for group in removed(history) {
            parts.entry(group).or_default().removed = true;
        }
        Self(parts)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, &Part)> {
        self.0.iter().map(|(group, part)| (*group, part))
    }
}

/// The topics that somebody may have removed: orders to remove a name, which did not fail, meet every
/// topic of that name that was not made after they had ended.
pub(super) fn removed(history: &History) -> BTreeSet<GroupId> {
    let mut removed = BTreeSet::new();
    for removal in history.orders.iter().filter(|one| one.removes) {
        let end = match removal.ended {
            Some((_, Ordered::Failed)) => continue,
            Some((at, Ordered::Removed)) => at,
            _ => Micros(u64::MAX),
        };
        for made in history.orders.iter().filter(|one| one.name == removal.name) {
            if let Some((_, Ordered::Made(group) | Ordered::Existed(group))) = made.ended
                && made.asked <= end
            {
                removed.insert(group);
            }
        }
    }
    removed
}
