//! What the bearer of a certificate or of a token may be.

use std::{fmt, str::FromStr};

use crate::{
    codec::{Decode, Encode},
    parse_error::ParseError,
};

/// What the bearer of a certificate may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
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

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Node, Self::Producer, Self::Consumer, Self::Operator];

    /// The role as it is written in an identity.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        const SHOWN: usize = 96;
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            ParseError::new(format!(
                "a role is node, producer, consumer or operator, not {shown:?}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_is_written_and_in_no_other_way() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for text in ["", "Node", "node ", "admin", &"n".repeat(5_000)] {
            let refused = text.parse::<Role>().unwrap_err().to_string();
            assert!(refused.len() < 200, "{refused}");
        }
    }
}
