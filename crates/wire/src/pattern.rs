//! Patterns of topics' names: to what somebody is confined.

use std::{fmt, str::FromStr};

use crate::{ids::TopicName, limits::TOPIC_NAME_BYTES_MAX, parse_error::ParseError};

/// A pattern of topics' names. `*` stands for any characters, none included, `?` for one, and everything
/// else for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Whether a topic is one of those.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        let (pattern, name) = (self.0.as_bytes(), topic.as_str().as_bytes());
        let (mut at, mut next) = (0, 0);
        // Where the last star stands, and what of the name it has taken.
        let mut star = None;
        while next < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, next));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[next] => {
                    at += 1;
                    next += 1;
                }
                _ => {
                    let Some((star_at, taken)) = star else {
                        return false;
                    };
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    next = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TopicPattern {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fits =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '*' | '?');
        if text.is_empty() || text.len() > TOPIC_NAME_BYTES_MAX || !text.chars().all(fits) {
            let shown: String = text.chars().take(64).collect();
            return Err(ParseError::new(format!(
                "a pattern of topics is 1 to {TOPIC_NAME_BYTES_MAX} of the characters of a topic's name, `*` for \
                 any of them and `?` for one, not {shown:?}"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        let pattern: TopicPattern = pattern.parse().unwrap();
        pattern.matches(&topic.parse().unwrap())
    }

    #[test]
    fn a_pattern_matches_what_it_stands_for_and_nothing_else() {
        for (pattern, topic, does) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "A", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*", "logs/eu", true),
            ("logs/*", "logs/eu/1", true),
            ("logs/*", "logs", false),
            ("logs-?", "logs-1", true),
            ("logs-?", "logs-", false),
            ("logs-?", "logs-12", false),
            ("*-eu-*", "logs-eu-1", true),
            ("*-eu-*", "logs-eu", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "acb", false),
            ("**", "x", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(matches(pattern, topic), does, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_none_costs_much() {
        for wrong in ["", "a b", "ä", "[a]", "{a,b}", "!a", &"a".repeat(129)] {
            assert!(wrong.parse::<TopicPattern>().is_err(), "{wrong}");
        }
        let begun = Instant::now();
        let pattern = "a*".repeat(63) + "b";
        for _ in 0..100 {
            assert!(!matches(&pattern, &"a".repeat(128)));
        }
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
