//! From files to a broker: who this member is, whether its disk is its own, and what that disk held.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kontiki_broker::GroupBoot;
use kontiki_raft::{Boot, Hard, Index, LogId, Membership, NodeRef};
use kontiki_storage::{Recovered, RecoveredGroup};
use kontiki_transport::{Credentials, Identity, Role};
use kontiki_wire::GroupId;

use crate::{
    error::StartError,
    member::{MemberFile, node_ref, write_durably},
};

/// Reads the certificates of the member in `dir` and checks that they are this member's.
pub(crate) fn credentials(dir: &Path, member: &MemberFile) -> Result<Credentials, StartError> {
    let certs = dir.join("certs");
    let read = |name: &str| {
        let path = certs.join(name);
        fs::read_to_string(&path).map_err(|source| StartError::Io {
            doing: "cannot read",
            path,
            source,
        })
    };
    let credentials = Credentials::from_pem(
        &read("node.pem")?,
        &read("node.key")?,
        &read("node-ca.pem")?,
        &read("client-ca.pem")?,
    )
    .map_err(|error| StartError::Certificate {
        path: certs.clone(),
        what: error.to_string(),
    })?;
    let mine = Identity {
        cluster: member.cluster,
        role: Role::Node,
        name: member.name.clone(),
    };
    if *credentials.identity() != mine {
        return Err(StartError::Certificate {
            path: certs.join("node.pem"),
            what: format!(
                "the certificate is {}'s; this member needs one for {mine}",
                credentials.identity()
            ),
        });
    }
    Ok(credentials)
}

/// The data directory, made if it is to be. Says why it is not to be trusted, if it was lost: a member
/// that has forgotten what it promised must not vote.
pub(crate) fn data_dir(
    dir: &Path,
    member: &MemberFile,
) -> Result<(PathBuf, Option<String>), StartError> {
    let data = dir.join("data");
    let failed = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Io {
            doing,
            path,
            source,
        }
    };
    fs::create_dir_all(&data).map_err(failed("cannot make", &data))?;
    let path = data.join(OWNER);
    let me = format!(
        "{} in incarnation {:016x} of cluster {}\n",
        member.name,
        member.me().incarnation,
        member.cluster
    );
    match fs::read_to_string(&path) {
        Ok(owner) if owner == me => Ok((data, None)),
        Ok(owner) => Err(StartError::Foreign {
            dir: data,
            owner: owner.trim_end().to_owned(),
            me: me.trim_end().to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let lost = member.started.then(|| {
                "the data directory was lost since this member first started: replace the member"
                    .to_owned()
            });
            if lost.is_none() {
                write_durably(&data, OWNER, me.as_bytes())
                    .map_err(failed("cannot write", &path))?;
            }
            Ok((data, lost))
        }
        Err(source) => Err(failed("cannot read", &path)(source)),
    }
}

/// What the broker starts from. The cluster's own group is born if the disk has nothing of it.
pub(crate) fn groups(member: &MemberFile, recovered: Recovered, sound: bool) -> Vec<GroupBoot> {
    let me = node_ref(member.me());
    let mut groups: Vec<_> = recovered
        .groups
        .into_iter()
        .map(|group| from_disk(me, group, sound))
        .collect();
    if !groups.iter().any(|boot| boot.group == GroupId::CLUSTER) {
        let group = RecoveredGroup {
            group: GroupId::CLUSTER,
            hard: Hard::default(),
            base: LogId::ORIGIN,
            terms: Vec::new(),
            configs: Default::default(),
            last: Index(0),
            commit: Index(0),
            checkpoint: None,
            tail: Vec::new(),
        };
        let mut boot = from_disk(me, group, sound);
        boot.boot.fresh = groups.is_empty() && sound && !member.started;
        groups.push(boot);
    }
    groups
}

fn from_disk(me: NodeRef, group: RecoveredGroup, sound: bool) -> GroupBoot {
    let applied = group
        .checkpoint
        .as_ref()
        .map_or(Index(0), |(at, _)| at.index);
    GroupBoot {
        group: group.group,
        boot: Boot {
            me,
            fresh: false,
            sound,
            hard: group.hard,
            base: group.base,
            // While the log begins at its origin, the broker knows with whom a group is born.
            base_config: (Index(0), Membership::default()),
            terms: group.terms,
            configs: group.configs,
            last: group.last,
            commit: group.commit.max(applied),
            applied,
            tail: group.tail,
        },
        checkpoint: group.checkpoint,
    }
}

/// Whose the data directory is; written before anything else is.
const OWNER: &str = "owner";
