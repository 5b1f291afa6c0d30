//! Tokens: what admits a new member, or a new client, once.

use std::{fmt, str::FromStr};

use crate::{
    codec::{Decode, Encode},
    limits::{NAME_BYTES_MAX, TOKEN_LIFE_SECONDS_MAX, TOKEN_TOPICS_MAX, TOPIC_NAME_BYTES_MAX},
    malformed::Malformed,
    parse_error::ParseError,
    pattern::TopicPattern,
    role::Role,
    scan::within,
};

/// A token's number, drawn at random by whoever asks for it to be made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct TokenId(pub u64);

/// A token, as the cluster's own group knows it: of its secret only the hash.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Token {
    /// Its number.
    pub id: TokenId,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What its bearer becomes.
    pub role: Role,
    /// To which topics that is confined, by pattern; to none if empty.
    pub topics: Vec<String>,
    /// When it was made, in microseconds since the Unix epoch.
    pub issued_at: u64,
    /// From when on it admits nobody, in microseconds since the Unix epoch.
    pub expires_at: u64,
    /// By whom it was spent, if it was: it admits nobody else.
    pub spent: Option<Spent>,
    /// Whether it was revoked: it is kept until it would have expired, so that nobody makes it anew.
    pub revoked: bool,
}

/// Who spent a token.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Spent {
    /// The name that it bears now.
    pub name: String,
    /// What tells it from another of that name: a member's incarnation, a client's own choice.
    pub mark: u64,
}

/// What somebody asks a token to be.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TokenSpec {
    /// Its number, drawn at random: who asks again for the same gets the same.
    pub id: TokenId,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What its bearer becomes.
    pub role: Role,
    /// To which topics that is confined, by pattern; to none if empty.
    pub topics: Vec<String>,
    /// For how long it admits somebody.
    pub life_seconds: u64,
}

/// A token, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TokenInfo {
    /// Its number.
    pub id: TokenId,
    /// What its bearer becomes.
    pub role: Role,
    /// To which topics that is confined, by pattern; to none if empty.
    pub topics: Vec<String>,
    /// When it was made, in microseconds since the Unix epoch.
    pub issued_at: u64,
    /// From when on it admits nobody, in microseconds since the Unix epoch.
    pub expires_at: u64,
    /// The name of who spent it, if somebody did.
    pub spent: Option<String>,
}

impl Token {
    /// The token without its hash.
    #[must_use]
    pub fn info(&self) -> TokenInfo {
        TokenInfo {
            id: self.id,
            role: self.role,
            topics: self.topics.clone(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            spent: self.spent.as_ref().map(|spent| spent.name.clone()),
        }
    }
}

impl TokenSpec {
    /// Refuses what no token can be.
    pub fn check(&self) -> Result<(), Malformed> {
        check_topics(&self.topics)?;
        let life_max = usize::try_from(TOKEN_LIFE_SECONDS_MAX).unwrap_or(usize::MAX);
        within("the seconds of a token's life", self.life_seconds, life_max)?;
        Ok(())
    }
}

impl TokenInfo {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        check_topics(&self.topics)?;
        let name = self.spent.as_ref().map_or(0, String::len);
        within("the length of a name", name as u64, NAME_BYTES_MAX)?;
        Ok(())
    }
}

fn check_topics(topics: &[String]) -> Result<(), Malformed> {
    let count = topics.len() as u64;
    within("the number of a token's topics", count, TOKEN_TOPICS_MAX)?;
    for pattern in topics {
        let bytes = pattern.len() as u64;
        within("the length of a pattern", bytes, TOPIC_NAME_BYTES_MAX)?;
        if pattern.parse::<TopicPattern>().is_err() {
            return Err(Malformed::Inconsistent {
                what: "a pattern of topics that matches none",
            });
        }
    }
    Ok(())
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TokenId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(32).collect();
            ParseError::new(format!(
                "a token's number is 16 hexadecimal digits, not {shown:?}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TokenSpec {
        TokenSpec {
            id: TokenId(7),
            hash: [1; 32],
            role: Role::Node,
            topics: Vec::new(),
            life_seconds: 3600,
        }
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        let id = TokenId(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "+0000000000000ab",
            "ab",
            "00000000000000abc",
            "é000000000000ab",
        ] {
            assert!(text.parse::<TokenId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_that_lives_too_long_or_has_too_many_topics_is_refused() {
        assert_eq!(spec().check(), Ok(()));
        let refused = |change: fn(&mut TokenSpec)| {
            let mut spec = spec();
            change(&mut spec);
            assert!(spec.check().is_err());
        };
        refused(|spec| spec.life_seconds = TOKEN_LIFE_SECONDS_MAX + 1);
        refused(|spec| spec.topics = vec![String::new(); TOKEN_TOPICS_MAX + 1]);
        refused(|spec| spec.topics = vec!["t".repeat(TOPIC_NAME_BYTES_MAX + 1)]);
    }
}
