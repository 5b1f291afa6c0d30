//! Members of a cluster, as its own group, its clients and its peers know them.

use std::fmt;

use kontiki_raft::{Incarnation, NodeId, NodeRef};

use crate::{
    codec::{Decode, Encode},
    version::Versions,
};

/// A member, as clients and peers find it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct MemberInfo {
    /// Its number.
    pub id: u64,
    /// The birth mark of its disk.
    pub incarnation: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it, `host:port`.
    pub address: String,
    /// Where peers reach it, `host:port`.
    pub peer_address: String,
    /// Whether it was born with the cluster's authorities, and so can sign certificates.
    pub signs: bool,
    /// What the cluster is to do with it.
    pub standing: Standing,
    /// What its build can do, as it has said itself.
    pub versions: Versions,
}

impl MemberInfo {
    /// The member as Raft knows it.
    #[must_use]
    pub fn node(&self) -> NodeRef {
        NodeRef {
            id: NodeId(self.id),
            incarnation: Incarnation(self.incarnation),
        }
    }
}

/// What the cluster is to do with a member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub enum Standing {
    /// It keeps topics.
    #[default]
    Active,
    /// Its topics are moved to others, and it stays a member.
    Draining,
    /// Its topics are moved to others, and then it is a member no more.
    Leaving,
    /// Its topics are moved to others, and it stays a member that copies the cluster's own log and votes
    /// nowhere.
    Demoted,
}

impl Standing {
    /// Whether it is to stay a member and to vote where it keeps anything.
    #[must_use]
    pub fn votes(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }

    /// The standing as people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Demoted => "demoted",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A member and the birth mark of the disk it is meant with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct MemberRef {
    /// Its number.
    pub id: u64,
    /// The birth mark of its disk.
    pub incarnation: u64,
}

impl From<NodeRef> for MemberRef {
    fn from(node: NodeRef) -> Self {
        Self {
            id: node.id.0,
            incarnation: node.incarnation.0,
        }
    }
}

impl From<MemberRef> for NodeRef {
    fn from(member: MemberRef) -> Self {
        Self {
            id: NodeId(member.id),
            incarnation: Incarnation(member.incarnation),
        }
    }
}
