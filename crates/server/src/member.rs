//! `member.toml`: who a member is and with whom its cluster was born. Written at its birth; after that only
//! `started` and `again` change, once, and `epoch`, when a recovery makes the member a cluster of its own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use kontiki_raft::{Incarnation, NodeId, NodeRef};
use kontiki_wire::{ClusterId, ClusterState, Epoch, MemberInfo, Versions, limits::MEMBERS_MAX};
use serde::{Deserialize, Serialize};

use crate::error::StartError;

/// What `member.toml` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member's name, one of `members`.
    pub name: String,
    /// Whether an append to an unknown topic makes it.
    pub auto_create: bool,
    /// Whether this member ever started: from then on an empty data directory is a lost one.
    pub started: bool,
    /// The life of the cluster that it is a member in.
    pub epoch: Epoch,
    /// The version that the cluster was born at.
    pub version: u16,
    /// All members at the cluster's birth, by ascending id. The cluster's own log is read from there.
    pub members: Vec<MemberInfo>,
    /// How this member came, if it was none of them.
    pub joined: Option<Joined>,
}

/// How a member came to a cluster that was there already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The member itself.
    pub me: MemberInfo,
    /// All members when it came, by ascending id, itself included: who is reached before anything of the
    /// log is here that says who is a member.
    pub known: Vec<MemberInfo>,
    /// Whether it had been let in before it heard of it, and has not started since: what it may have lost nobody
    /// knows, and it may be nothing.
    pub again: bool,
}

impl MemberFile {
    /// That of a member with which its cluster is born now.
    pub(crate) fn born(
        cluster: ClusterId,
        name: &str,
        members: Vec<MemberInfo>,
        auto_create: bool,
    ) -> Self {
        Self {
            cluster,
            name: name.to_owned(),
            auto_create,
            started: false,
            epoch: Epoch::FIRST,
            version: Versions::MINE.highest,
            members,
            joined: None,
        }
    }

    /// Reads the one in a member's directory.
    pub fn load(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join(MEMBER_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StartError::NotAMember {
                    dir: dir.to_owned(),
                    what: format!("it has no {MEMBER_FILE}"),
                });
            }
            Err(source) => {
                return Err(StartError::Io {
                    doing: "cannot read",
                    path,
                    source,
                });
            }
        };
        Self::parse(&text).map_err(|what| StartError::Config { path, what })
    }

    /// This member.
    #[must_use]
    pub fn me(&self) -> &MemberInfo {
        if let Some(joined) = &self.joined {
            return &joined.me;
        }
        self.members
            .iter()
            .find(|member| member.name == self.name)
            .expect("checked when it was read")
    }

    /// It has started, and what it keeps is its own; whether that is news.
    pub(crate) fn begin(&mut self) -> bool {
        let again = self.joined.as_mut().map(|joined| &mut joined.again);
        let was_let_in_twice = again.is_some_and(std::mem::take);
        !std::mem::replace(&mut self.started, true) || was_let_in_twice
    }

    /// The state of the cluster's own group before its first entry: the same whatever build reads the file, for
    /// every member's log begins with it.
    #[must_use]
    pub fn birth_state(&self) -> ClusterState {
        let versions = Versions {
            lowest: self.version,
            highest: self.version,
        };
        let founders = self.members.iter().cloned();
        ClusterState {
            members: founders
                .map(|founder| MemberInfo {
                    versions,
                    ..founder
                })
                .collect(),
            next_group: 1,
            auto_create: self.auto_create,
            version: self.version,
            ..ClusterState::default()
        }
    }

    /// Writes it so that after a crash there is either the old one or the new one.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        write_durably(dir, MEMBER_FILE, self.to_text().as_bytes())
    }

    fn to_text(&self) -> String {
        let text = Text {
            cluster_id: self.cluster.to_string(),
            name: self.name.clone(),
            auto_create: self.auto_create,
            started: self.started,
            version: self.version,
            epoch: (self.epoch != Epoch::FIRST).then(|| TextEpoch {
                number: self.epoch.number,
                mark: format!("{:016x}", self.epoch.mark),
            }),
            members: self.members.iter().map(TextMember::from_info).collect(),
            joined: self.joined.as_ref().map(|joined| TextJoined {
                me: TextMember::from_info(&joined.me),
                known: joined.known.iter().map(TextMember::from_info).collect(),
                again: joined.again,
            }),
        };
        let body = toml::to_string(&text).expect("strings, numbers and booleans only");
        let text = format!("# Written at the birth of the cluster. Not to be edited.\n{body}");
        let sum = crc32c::crc32c(text.as_bytes());
        format!("{text}{CHECKSUM}{sum:08x}\n")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let sealed = text.rsplit_once(CHECKSUM).is_some_and(|(above, sum)| {
            sum == format!("{:08x}\n", crc32c::crc32c(above.as_bytes()))
        });
        if !sealed {
            return Err(
                "its last line is not the checksum of what is above: it is damaged or was edited, and \
                 only a copy of it says who this member is"
                    .to_owned(),
            );
        }
        let plain = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        let text: Text = toml::from_str(text).map_err(plain)?;
        let members = infos(text.members)?;
        let joined = match text.joined {
            None => None,
            Some(joined) => Some(Joined {
                me: joined.me.into_info()?,
                known: infos(joined.known)?,
                again: joined.again,
            }),
        };
        let named = match &joined {
            Some(joined) => joined.me.name == text.name && joined.known.contains(&joined.me),
            None => members.iter().any(|member| member.name == text.name),
        };
        if !named {
            return Err(format!("{:?} is not among the members", text.name));
        }
        Ok(Self {
            cluster: text.cluster_id.parse()?,
            name: text.name,
            auto_create: text.auto_create,
            started: text.started,
            epoch: text.epoch.map_or(Ok(Epoch::FIRST), TextEpoch::into_epoch)?,
            version: text.version,
            members,
            joined,
        })
    }
}

fn infos(members: Vec<TextMember>) -> Result<Vec<MemberInfo>, String> {
    let members = members.into_iter().map(TextMember::into_info);
    let members = members.collect::<Result<Vec<_>, _>>()?;
    if members.len() > MEMBERS_MAX {
        return Err(format!("more than {MEMBERS_MAX} members"));
    }
    if !members.is_sorted_by(|a, b| a.id < b.id) {
        return Err("the members' ids do not ascend".to_owned());
    }
    Ok(members)
}

/// A member as Raft knows it.
#[must_use]
pub(crate) fn node_ref(member: &MemberInfo) -> NodeRef {
    NodeRef {
        id: NodeId(member.id),
        incarnation: Incarnation(member.incarnation),
    }
}

/// The incarnation of a member that was let in with a key of this fingerprint: whoever bears its name
/// later has another.
#[must_use]
pub(crate) fn mark_of(key_fingerprint: [u8; 32]) -> u64 {
    let first = key_fingerprint.first_chunk().expect("it has 32 bytes");
    u64::from_le_bytes(*first).max(1)
}

/// Replaces `dir/name` so that after a crash there is either the old content or the new.
pub(crate) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(name))?;
    sync(dir)
}

/// Makes what was made, renamed or removed in a directory outlast a crash.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    cluster_id: String,
    name: String,
    auto_create: bool,
    #[serde(default)]
    started: bool,
    version: u16,
    epoch: Option<TextEpoch>,
    members: Vec<TextMember>,
    joined: Option<TextJoined>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextEpoch {
    number: u64,
    mark: String,
}

impl TextEpoch {
    fn into_epoch(self) -> Result<Epoch, String> {
        let mark = u64::from_str_radix(&self.mark, 16);
        let mark = mark.map_err(|_| {
            let digits = &self.mark;
            format!("an epoch's mark is 16 hexadecimal digits, not {digits:?}")
        })?;
        let number = self.number;
        Ok(Epoch { number, mark })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextJoined {
    me: TextMember,
    known: Vec<TextMember>,
    #[serde(default)]
    again: bool,
}

/// TOML's integers are signed, an incarnation is any 64 bits: it is written in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextMember {
    id: u32,
    incarnation: String,
    name: String,
    address: String,
    peer_address: String,
    #[serde(default)]
    signs: bool,
}

impl TextMember {
    fn from_info(member: &MemberInfo) -> Self {
        Self {
            id: u32::try_from(member.id).expect("ids are given from 1 up"),
            incarnation: format!("{:016x}", member.incarnation),
            name: member.name.clone(),
            address: member.address.clone(),
            peer_address: member.peer_address.clone(),
            signs: member.signs,
        }
    }

    fn into_info(self) -> Result<MemberInfo, String> {
        let incarnation = u64::from_str_radix(&self.incarnation, 16).map_err(|_| {
            format!(
                "an incarnation is 16 hexadecimal digits, not {:?}",
                self.incarnation
            )
        })?;
        Ok(MemberInfo {
            id: u64::from(self.id),
            incarnation,
            name: self.name,
            address: self.address,
            peer_address: self.peer_address,
            signs: self.signs,
            ..MemberInfo::default()
        })
    }
}

/// The name of the file.
pub(crate) const MEMBER_FILE: &str = "member.toml";
/// What its last line says before eight hexadecimal digits, CRC-32C. A file cut short between two members
/// would otherwise be a sound one of a smaller cluster, whose majority is smaller too.
const CHECKSUM: &str = "# Checksum of all above: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> MemberFile {
        let member = |id: u64| MemberInfo {
            id,
            incarnation: u64::MAX - id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:7400"),
            peer_address: format!("10.0.0.{id}:7401"),
            ..MemberInfo::default()
        };
        MemberFile {
            cluster: ClusterId(7),
            name: "n2".to_owned(),
            auto_create: true,
            started: false,
            epoch: Epoch::FIRST,
            version: 1,
            members: vec![member(1), member(2)],
            joined: None,
        }
    }

    #[test]
    fn a_mark_is_the_keys_and_never_none() {
        let (one, mut other) = ([7; 32], [7; 32]);
        other[0] = 8;
        assert_eq!(mark_of(one), mark_of(one));
        assert_ne!(mark_of(one), mark_of(other));
        assert_ne!(mark_of([0; 32]), 0);
    }

    /// One of a name that a founder had.
    fn joiner() -> MemberFile {
        let me = MemberInfo {
            id: 7,
            ..file().members[1].clone()
        };
        let signer = MemberInfo {
            signs: true,
            ..file().members[0].clone()
        };
        MemberFile {
            joined: Some(Joined {
                known: vec![signer, me.clone()],
                me,
                again: false,
            }),
            ..file()
        }
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut member = file();
        member.save(dir.path()).unwrap();
        assert_eq!(MemberFile::load(dir.path()).unwrap(), member);
        member.started = true;
        member.epoch = Epoch {
            number: 3,
            mark: u64::MAX,
        };
        member.save(dir.path()).unwrap();
        assert_eq!(MemberFile::load(dir.path()).unwrap(), member);
        assert_eq!(member.me().id, 2);
    }

    #[test]
    fn that_somebody_was_let_in_twice_is_known_until_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let mut member = joiner();
        member.started = true;
        member.joined.as_mut().unwrap().again = true;
        member.save(dir.path()).unwrap();
        let mut loaded = MemberFile::load(dir.path()).unwrap();
        assert_eq!(loaded, member);
        assert!(loaded.begin() && !loaded.begin());
        assert!(loaded.started && !loaded.joined.unwrap().again);
        let mut founder = file();
        assert!(founder.begin() && !founder.begin());
    }

    #[test]
    fn who_came_later_is_itself_and_not_the_founder_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let member = joiner();
        member.save(dir.path()).unwrap();
        let loaded = MemberFile::load(dir.path()).unwrap();
        assert_eq!(loaded, member);
        assert_eq!(loaded.me().id, 7);
        assert_eq!(loaded.birth_state().members, file().members);
        let mut astray = joiner();
        astray.joined.as_mut().unwrap().known.pop();
        let refused = MemberFile::parse(&astray.to_text()).unwrap_err();
        assert!(refused.contains("is not among the members"), "{refused}");
    }

    #[test]
    fn directory_without_a_member_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let refused = MemberFile::load(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains("no member.toml") && refused.contains("kontiki init"),
            "{refused}"
        );
    }

    #[test]
    fn file_whose_member_is_not_among_the_members_is_refused() {
        let mut member = file();
        member.name = "n3".to_owned();
        let refused = MemberFile::parse(&member.to_text()).unwrap_err();
        assert!(refused.contains("\"n3\" is not among"), "{refused}");
    }

    #[test]
    fn file_that_is_not_whole_to_the_byte_is_refused() {
        let text = file().to_text();
        let refuses = |text: &str| {
            let refused = MemberFile::parse(text).unwrap_err();
            assert!(refused.contains("damaged or was edited"), "{refused}");
        };
        for end in 0..text.len() {
            refuses(&text[..end]);
            let mut bytes = text.clone().into_bytes();
            bytes[end] ^= 1;
            refuses(std::str::from_utf8(&bytes).unwrap());
        }
        refuses(&format!("{text}\n"));
    }
}
