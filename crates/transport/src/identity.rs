//! Who a certificate says one is: exactly one SAN URI, `kontiki://<cluster-id>/<role>/<name>`.

use std::{fmt, str::FromStr};

use kontiki_wire::ClusterId;

/// What the bearer of a certificate may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A member of the cluster.
    Node,
    /// May append.
    Producer,
    /// May read.
    Consumer,
    /// May do everything a client can.
    Operator,
}

/// A certificate's one name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What it may be.
    pub role: Role,
    /// Its name, unique in its role.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unreachable!("skeleton")
    }
}

impl FromStr for Identity {
    type Err = String;
    fn from_str(_text: &str) -> Result<Self, String> {
        unreachable!("skeleton")
    }
}
