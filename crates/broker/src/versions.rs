//! The version that the cluster is at: replicated, and moved only when every member can do the next one and an
//! operator says so. What a feature may say or write it asks of [`Cluster::is_at`].

use kontiki_raft::{Entry, Micros, NodeId};
use kontiki_wire::{ClusterCommand, Refusal, Versions};

use crate::{
    broker::Broker,
    chores::Chore,
    cluster::{Change, Cluster, check_not_ahead, unfit},
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
        check_not_ahead(self.build, version)?;
        self.state.version = version;
        Ok(Change::Version(version))
    }

    /// Whether this node's build can do what the cluster is at after these entries, the rest of what there is here
    /// of its log. What is behind both it may go through: who joins reads the log from the cluster's birth. Who is
    /// on no list there was let in later, when its build could.
    pub(crate) fn check_build(&self, me: NodeId, rest: &[Entry]) -> Result<(), String> {
        if self.build.can_do(self.state.version) {
            return Ok(());
        }
        let mut here = self.clone();
        let applied = self.applied().index;
        for entry in rest.iter().filter(|one| one.id.index > applied) {
            // What cannot be read stops the node when it is applied.
            if here.apply(entry).is_err() {
                break;
            }
        }
        let (build, version) = (self.build, here.state.version);
        if build.can_do(version) || here.member(me.0).is_none() {
            return Ok(());
        }
        let lowest = build.lowest;
        Err(format!(
            "as far as this member has heard, the cluster is at version {version}, and this build can do {build}: \
             start it with a build that can do version {version} until the cluster is at version {lowest} \
             (`kontiki cluster finalize`) and this member has heard of that"
        ))
    }

    /// The version that the cluster could come to next, which is the one that it is at if no member can do a later
    /// one; or why it cannot.
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
            None => Ok(now),
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

    /// What an operator asks for when all members run a newer build; asked for again, it changes nothing.
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
    use kontiki_raft::{Index, Kind, LogId, Term};
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
        let mut none = cluster(&[1, 1]);
        assert_eq!(none.next_version(), Ok(1));
        assert_eq!(none.finalize(1), Ok(Change::Version(1)));
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

    #[test]
    fn a_build_that_cannot_do_the_first_version_goes_through_it_to_the_one_that_it_can() {
        let later = Versions {
            lowest: 2,
            highest: 2,
        };
        let entry = |index: u64, command: &ClusterCommand| Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Command,
            time: Micros(0),
            checksum: 0,
            body: kontiki_wire::encode(command).into(),
        };
        let states = |member| ClusterCommand::StateVersions {
            member,
            versions: Versions {
                lowest: 1,
                highest: 2,
            },
        };
        let story = [
            states(1),
            states(2),
            ClusterCommand::Finalize { version: 2 },
        ];
        let story: Vec<Entry> = (1..).zip(&story).map(|(at, it)| entry(at, it)).collect();
        let birth = cluster(&[1, 1]).state().clone();
        let restored = |checkpoint| Cluster::restored_by(later, birth.clone(), checkpoint).unwrap();

        // Who joins has nothing yet, and is on no list there.
        let mut joins = restored(None);
        assert_eq!(joins.check_build(NodeId(7), &[]), Ok(()));
        for entry in &story {
            joins.apply(entry).unwrap();
        }
        assert!(joins.is_at(2));
        // A state on the disk that is older than the log there.
        let mut older = restored(None);
        older.apply(&story[0]).unwrap();
        let checkpoint = older.checkpoint();
        for rest in [&story[..], &story[1..]] {
            let started = restored(Some(&checkpoint));
            assert_eq!(started.check_build(NodeId(1), rest), Ok(()));
        }
        // The cluster was never brought to it, as far as can be seen.
        let why = older.check_build(NodeId(1), &story[1..2]).unwrap_err();
        assert!(why.contains("the cluster is at version 1"), "{why}");
        assert!(why.contains("until the cluster is at version 2"), "{why}");
    }
}
