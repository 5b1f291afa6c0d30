//! What a start finds, and what a broker makes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::GroupBoot;
use kontiki_raft::{Boot, Entry, Hard, Index, LogId, Membership, NodeRef, Term};
use kontiki_wire::GroupId;

/// What the disk held.
#[derive(Debug)]
pub struct Recovered {
    /// Every group that has anything on disk.
    pub groups: Vec<RecoveredGroup>,
    /// Damage below what was known durable in the journal, one sentence each, found at this start or at
    /// an earlier one: whatever is recovering is so because of that. A group that is not among `groups`
    /// may have been among them; if it is the cluster's own, it has to be started as one that forgot.
    /// A torn tail is not damage.
    pub damage: Vec<String>,
    /// What was cut off as a torn tail, for the log; `None` after a clean stop.
    pub torn: Option<String>,
}

/// One group as the disk held it. The fields are those of [`kontiki_raft::Boot`]. If anything is missing,
/// `terms`, `configs` and `tail` tell nothing, and the checkpoint could not be held against the log.
#[derive(Debug)]
pub struct RecoveredGroup {
    /// Which.
    pub group: GroupId,
    /// Term, vote and standing: recovering from when the journal was found damaged until it has rejoined.
    pub hard: Hard,
    /// Entries up to it are gone.
    pub base: LogId,
    /// Runs of terms after `base`, to the end of the log.
    pub terms: Vec<(Index, Term)>,
    /// Configuration entries after `base` and before `tail`, by index.
    pub configs: BTreeMap<Index, Membership>,
    /// The end of the log.
    pub last: Index,
    /// Known committed.
    pub commit: Index,
    /// The latest checkpoint that the log reaches.
    pub checkpoint: Option<(LogId, Bytes)>,
    /// Every entry after the checkpoint, and the one that it ends with.
    pub tail: Vec<Entry>,
    /// Committed entries that were here and are not readable any more, ascending, both ends included.
    /// Until they are [`crate::Storage::mend`]ed, the group cannot be started.
    pub missing: Vec<(Index, Index)>,
    /// What was found damaged, one sentence each, for people.
    pub damage: Vec<String>,
}

impl Recovered {
    /// What the broker of member `me` starts from. The cluster's own group is born if the disk has
    /// nothing of it: as a new one if the disk was never `begun`, and as one that forgot if it may have
    /// been there.
    #[must_use]
    pub fn into_boots(self, me: NodeRef, begun: bool) -> Vec<GroupBoot> {
        let forgot = !self.damage.is_empty();
        let groups = self.groups.into_iter();
        let mut boots: Vec<_> = groups.map(|group| group.into_boot(me)).collect();
        if !boots.iter().any(|boot| boot.group == GroupId::CLUSTER) {
            let mut own = RecoveredGroup::born(GroupId::CLUSTER).into_boot(me);
            own.boot.forgot = forgot;
            own.boot.fresh = boots.is_empty() && !forgot && !begun;
            boots.push(own);
        }
        boots
    }
}

impl RecoveredGroup {
    /// One of which there is nothing yet.
    fn born(group: GroupId) -> Self {
        Self {
            group,
            hard: Hard::default(),
            base: LogId::ORIGIN,
            terms: Vec::new(),
            configs: BTreeMap::new(),
            last: Index(0),
            commit: Index(0),
            checkpoint: None,
            tail: Vec::new(),
            missing: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// The group as the broker of member `me` takes it.
    #[must_use]
    pub fn into_boot(self, me: NodeRef) -> GroupBoot {
        let checkpoint = self.checkpoint.as_ref();
        let applied = checkpoint.map_or(Index(0), |(at, _)| at.index);
        GroupBoot {
            group: self.group,
            boot: Boot {
                me,
                fresh: false,
                // What was forgotten is in its standing.
                forgot: false,
                hard: self.hard,
                base: self.base,
                // While the log begins at its origin, the broker knows with whom a group is born.
                base_config: (Index(0), Membership::default()),
                terms: self.terms,
                configs: self.configs,
                last: self.last,
                commit: self.commit.max(applied),
                applied,
                tail: self.tail,
            },
            checkpoint: self.checkpoint,
            missing: self.missing,
            damage: self.damage.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_own_group_is_new_only_on_a_disk_that_was_never_begun() {
        for (begun, forgot, fresh) in [
            (false, false, true),
            (true, false, false),
            (true, true, false),
        ] {
            let recovered = Recovered {
                groups: Vec::new(),
                damage: forgot
                    .then(|| "it is gone".to_owned())
                    .into_iter()
                    .collect(),
                torn: None,
            };
            let boots = recovered.into_boots(NodeRef::default(), begun);
            let [own] = &boots[..] else {
                panic!("{boots:?}")
            };
            assert_eq!(own.group, GroupId::CLUSTER);
            assert_eq!((own.boot.fresh, own.boot.forgot), (fresh, forgot));
        }
    }
}
