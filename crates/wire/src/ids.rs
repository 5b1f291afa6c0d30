//! Names and numbers of the product.

use std::{fmt, str::FromStr};

use crate::{
    codec::{Decode, Encode, decode_as_text},
    limits::TOPIC_NAME_BYTES_MAX,
    parse_error::ParseError,
};

/// A Raft group: 0 is the cluster's own, every topic has one of its own, never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The cluster's own group.
    pub const CLUSTER: Self = Self(0);
}

/// A record's position in its topic: dense, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct Offset(pub u64);

/// The end of what subscribers may read: every offset below it is committed.
pub type Watermark = Offset;

/// A producer, drawn at random by the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct ProducerId(pub u128);

/// A cluster, drawn at random at its birth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct ClusterId(pub u128);

/// A topic's name: 1 to 128 bytes of `a-z A-Z 0-9 . _ - /`, starting with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode)]
pub struct TopicName(String);

decode_as_text!(TopicName);

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display!(GroupId, Offset, TopicName);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A plus is none, though Rust would take it.
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        id.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            ParseError::new(format!(
                "a cluster id is 32 hexadecimal digits, not {shown:?}"
            ))
        })
    }
}

impl TopicName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if text.is_empty() || text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(ParseError::new(format!(
                "a topic's name has 1 to {} characters, this one has {}",
                TOPIC_NAME_BYTES_MAX,
                text.len()
            )));
        }
        if !text.chars().all(fits) || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(ParseError::new(format!(
                "a topic's name is made of a-z A-Z 0-9 . _ - / and starts with a letter or digit, not {:?}",
                text
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_read_as_it_is_written() {
        let id = ClusterId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string().parse(), Ok(id));
        let digits = "0".repeat(31);
        for text in ["", &digits, &format!("+{digits}"), &format!("{digits}g")] {
            let refused = text.parse::<ClusterId>().unwrap_err().to_string();
            assert!(refused.contains("32 hexadecimal digits"), "{refused}");
        }
        let long = "0".repeat(5_000).parse::<ClusterId>().unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }
}
