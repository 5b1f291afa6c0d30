//! The version that the cluster is at: replicated, and moved only when every member can do the next one and an
//! operator says so. What a feature may say or write it asks of [`Cluster::is_at`].

use kontiki_raft::Micros;
use kontiki_wire::{ClusterCommand, Refusal, Versions};

use crate::{
    broker::Broker,
    chores::Chore,
    cluster::{Change, Cluster, unfit},
    input::Now,
};

impl Cluster {
    /// Whether everybody reads what came with this version: only then it may be said or written.
    #[must_use]
    pub(crate) fn is_at(&self, version: u16) -> bool {
        self.state.version >= version
    }

    /// A member has said what its build can do.
    pub(crate) fn state_versions(&mut self, id: u64, versions: Versions) -> Change {
        let mut members = self.state.members.iter_mut();
        match members.find(|member| member.id == id) {
            Some(member) => {
                member.versions = versions;
                Change::Member(member.clone())
            }
            None => Change::Void(self.no_such_member(&id.to_string())),
        }
    }

    /// The cluster comes to a version, if it is a later one that every member can do.
    pub(crate) fn finalize(&mut self, version: u16) -> Result<Change, String> {
        if self.is_at(version) {
            return Ok(Change::Version(self.state.version));
        }
        if let Err(why) = self.all_can_do(version) {
            return Ok(unfit(why));
        }
        if !Versions::MINE.can_do(version) {
            return Err(format!(
                "the cluster is at version {version} from here on, and this build can do {}: start \
                 this member with a build that can do it",
                Versions::MINE
            ));
        }
        self.state.version = version;
        Ok(Change::Version(version))
    }

    /// The version that the cluster could come to next, or why it cannot.
    pub(crate) fn next_version(&self) -> Result<u16, String> {
        let highest = || self.state.members.iter().map(|one| one.versions.highest);
        let now = self.state.version;
        let later = |version: &u16| *version > now;
        if let Some(next) = highest().min().filter(later) {
            return self.all_can_do(next).map(|()| next);
        }
        // Nobody is left out by a version that some can do: those are named who cannot.
        match highest().max().filter(later) {
            Some(ahead) => self.all_can_do(ahead).map(|()| ahead),
            None => Err(format!(
                "the cluster is at version {now}, and no member runs a build that can do a later one"
            )),
        }
    }

    fn all_can_do(&self, version: u16) -> Result<(), String> {
        let members = self.state.members.iter();
        let old = members.filter(|member| !member.versions.can_do(version));
        let old: Vec<String> = old
            .map(|member| format!("{} ({})", member.name, member.versions))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        Err(format!(
            "not every member runs a build that can do version {version}: {}; start those with a newer \
             build first",
            old.join(", ")
        ))
    }
}

impl Broker {
    /// Sees to it that the cluster knows what this node's build can do.
    pub(crate) fn check_versions(&mut self, now: Now) {
        let known = self.cluster.member(self.settings.me.id.0);
        let known = known.map(|member| member.versions);
        if known.unwrap_or_default() != Versions::MINE {
            self.soon(now, Chore::StateVersions);
        }
    }

    /// Says what this node's build can do, again and again until the cluster's state shows it.
    pub(crate) fn tell_versions(&mut self, now: Now) {
        let id = self.settings.me.id.0;
        let known = self.cluster.member(id).map(|member| member.versions);
        if known == Some(Versions::MINE) {
            return;
        }
        if known.is_some() {
            let command = ClusterCommand::StateVersions {
                member: id,
                versions: Versions::MINE,
            };
            self.hand_over(now, command);
        }
        self.later(now, Chore::StateVersions, TELL_AGAIN);
    }

    /// What an operator asks for when all members run a newer build.
    pub(crate) fn finalizing(&self) -> Result<ClusterCommand, Refusal> {
        let next = self.cluster.next_version();
        let version = next.map_err(|why| Refusal::Unfit { why })?;
        Ok(ClusterCommand::Finalize { version })
    }
}

/// What the cluster does not know yet it is told again after this.
const TELL_AGAIN: Micros = Micros(1_000_000);

#[cfg(test)]
mod tests {
    use kontiki_wire::{ClusterState, Member};

    use super::*;

    fn cluster(highest: &[u16]) -> Cluster {
        let member = |(id, highest): (u64, &u16)| Member {
            id,
            name: format!("n{id}"),
            versions: Versions {
                lowest: 1,
                highest: *highest,
            },
            ..Member::default()
        };
        let birth = ClusterState {
            members: (1..).zip(highest).map(member).collect(),
            ..ClusterState::default()
        };
        Cluster::restore(birth, None).unwrap()
    }

    #[test]
    fn the_version_moves_only_when_every_member_can_do_the_next() {
        let none = cluster(&[1, 1]);
        assert!(none.next_version().unwrap_err().contains("no member runs"));
        let mut mixed = cluster(&[2, 1, 2]);
        let why = mixed.next_version().unwrap_err();
        assert!(why.contains("version 2: n2 (version 1); start"), "{why}");
        let refused = mixed.finalize(2).unwrap();
        assert!(matches!(refused, Change::Void(_)), "{refused:?}");
        assert!(!mixed.is_at(2));
        let versions = Versions {
            lowest: 1,
            highest: 2,
        };
        mixed.state_versions(2, versions);
        assert_eq!(mixed.next_version(), Ok(2));
        assert_eq!(cluster(&[2, 2, 3]).next_version(), Ok(2));
        let gone = mixed.state_versions(9, versions);
        assert!(matches!(gone, Change::Void(_)), "{gone:?}");
    }

    #[test]
    fn a_build_that_cannot_do_the_clusters_version_says_which_is_needed() {
        let later = Versions::MINE.highest + 1;
        assert!(cluster(&[later]).finalize(later).is_err());
        let why = Versions::MINE.check(later).unwrap_err();
        assert!(
            why.contains(&format!("this build can do {}", Versions::MINE)),
            "{why}"
        );
        assert!(
            why.contains(&format!("install a build that can do version {later}")),
            "{why}"
        );
        let ahead = ClusterState {
            version: later,
            ..ClusterState::default()
        };
        assert!(Cluster::restore(ahead, None).is_err());
    }
}
