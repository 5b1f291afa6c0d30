//! A member's data directory: whose it is, in which life of the cluster, and how storage opens it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kontiki_wire::Epoch;

use crate::{
    config::Config,
    error::StartError,
    member::{MemberFile, sync, write_durably},
};

/// The data directory, and whose it is.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    /// What its owner's file is to say.
    owner: String,
    owned: bool,
    /// Whether a recovery has made the member one of a later epoch, and nothing here says so yet.
    pub(crate) is_behind: bool,
}

impl DataDir {
    /// Makes it if it is to be. It must not be another's.
    pub(crate) fn of(dir: &Path, member: &MemberFile) -> Result<Self, StartError> {
        let data = dir.join(DATA);
        if !data.is_dir() {
            fs::create_dir_all(&data).map_err(failed("cannot make", &data))?;
            // What is promised from within it is to be there after a power cut.
            sync(dir).map_err(failed("cannot sync", dir))?;
        }
        Self::found(dir, member)
    }

    /// As it is, if it is there at all.
    pub(crate) fn found(dir: &Path, member: &MemberFile) -> Result<Self, StartError> {
        let data = dir.join(DATA);
        let path = data.join(OWNER);
        let me = owner_of(member);
        let (owned, is_behind) = match fs::read_to_string(&path) {
            Ok(owner) if owner == me => (true, false),
            Ok(owner) if is_earlier(&owner, member) => (false, true),
            Ok(owner) => {
                return Err(StartError::Foreign {
                    dir: data,
                    owner: owner.trim_end().to_owned(),
                    me: me.trim_end().to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (false, false),
            Err(source) => return Err(failed("cannot read", &path)(source)),
        };
        Ok(Self {
            path: data,
            owner: me,
            owned,
            is_behind,
        })
    }

    /// How storage opens it, in a member that has started before or not.
    pub(crate) fn settings(&self, config: &Config, begun: bool) -> kontiki_storage::Settings {
        kontiki_storage::Settings {
            journal_file_bytes: config.storage.journal_file_bytes,
            segment_bytes: config.storage.segment_bytes,
            hot_bytes_max: config.storage.hot_bytes_max,
            cached_bytes_max: config.storage.cached_bytes_max,
            begun,
            lost: self.lost(begun),
            ..Default::default()
        }
    }

    /// What storage is to take for lost, in a member that has started before.
    fn lost(&self, started: bool) -> Option<String> {
        (started && !self.owned && !self.is_behind)
            .then(|| format!("{} was lost since the last start", self.path.display()))
    }

    /// From now on it is this member's: storage has taken down what was lost.
    pub(crate) fn claim(&self) -> Result<(), StartError> {
        if self.owned {
            return Ok(());
        }
        let written = write_durably(&self.path, OWNER, self.owner.as_bytes());
        written.map_err(failed("cannot write", &self.path.join(OWNER)))
    }
}

/// What a member writes into its data directory, so that it is nobody else's, and of no other life of the
/// cluster.
pub(crate) fn owner_of(member: &MemberFile) -> String {
    let whose = whose(member);
    match member.epoch == Epoch::FIRST {
        true => format!("{whose}\n"),
        false => format!("{whose}{IN_EPOCH}{}\n", member.epoch),
    }
}

fn whose(member: &MemberFile) -> String {
    format!(
        "{} in incarnation {:016x} of cluster {}",
        member.name,
        member.me().incarnation,
        member.cluster
    )
}

/// Whether an owner's file is this member's, in an earlier epoch.
fn is_earlier(owner: &str, member: &MemberFile) -> bool {
    let Some(rest) = owner.trim_end().strip_prefix(&whose(member)) else {
        return false;
    };
    let number = match rest.strip_prefix(IN_EPOCH) {
        Some(epoch) => epoch
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok()),
        None => rest.is_empty().then_some(0_u64),
    };
    number.is_some_and(|number| number < member.epoch.number)
}

const IN_EPOCH: &str = ", in epoch ";
/// The data directory, in the member's own.
pub(crate) const DATA: &str = "data";
/// Whose the data directory is.
pub(crate) const OWNER: &str = "owner";

pub(crate) fn failed(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StartError + use<> {
    let path = path.to_owned();
    move |source| StartError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{ClusterId, MemberInfo};

    use super::*;

    fn member(started: bool) -> MemberFile {
        MemberFile {
            cluster: ClusterId(7),
            name: "n1".to_owned(),
            auto_create: false,
            started,
            epoch: Epoch::FIRST,
            version: 1,
            members: vec![MemberInfo {
                id: 1,
                incarnation: 5,
                name: "n1".to_owned(),
                address: "n1.example:7400".to_owned(),
                peer_address: "10.0.0.1:7401".to_owned(),
                ..MemberInfo::default()
            }],
            joined: None,
        }
    }

    #[test]
    fn data_directory_is_its_first_members_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::of(dir.path(), &member(false))
            .unwrap()
            .claim()
            .unwrap();
        assert!(DataDir::of(dir.path(), &member(true)).unwrap().owned);
        let mut replaced = member(true);
        replaced.members[0].incarnation = 6;
        let refused = DataDir::of(dir.path(), &replaced).err().unwrap();
        assert!(matches!(refused, StartError::Foreign { .. }), "{refused}");
    }

    #[test]
    fn data_without_an_owner_was_lost_unless_nothing_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::of(dir.path(), &member(true)).unwrap();
        assert_eq!(data.lost(false), None);
        let lost = data.lost(true).unwrap();
        assert!(
            lost.ends_with("data was lost since the last start"),
            "{lost}"
        );
        data.claim().unwrap();
        let data = DataDir::of(dir.path(), &member(true)).unwrap();
        assert_eq!(data.lost(true), None, "what was lost is storage's to keep");
    }

    #[test]
    fn data_of_an_earlier_epoch_is_behind_and_of_a_later_one_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let in_epoch = |number, mark| MemberFile {
            epoch: Epoch { number, mark },
            ..member(true)
        };
        for (before, now, behind) in [
            ((0, 0), (1, 5), Some(true)),
            ((1, 5), (1, 5), Some(false)),
            ((1, 5), (2, 6), Some(true)),
            ((2, 6), (2, 7), None),
            ((2, 6), (0, 0), None),
        ] {
            let owner = owner_of(&in_epoch(before.0, before.1));
            fs::create_dir_all(dir.path().join(DATA)).unwrap();
            fs::write(dir.path().join(DATA).join(OWNER), owner).unwrap();
            let found = DataDir::found(dir.path(), &in_epoch(now.0, now.1));
            let is_behind = found.as_ref().ok().map(|found| found.is_behind);
            assert_eq!(is_behind, behind, "{before:?} {now:?}");
            assert!(found.is_err() || found.unwrap().lost(true).is_none());
        }
    }
}
