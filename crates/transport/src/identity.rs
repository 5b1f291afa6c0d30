//! Who a certificate says one is: exactly one SAN URI, `kontiki://<cluster-id>/<role>/<name>`.
//!
//! There is one spelling for each identity: what parses prints back as the very same bytes, so that
//! comparing identities and comparing texts can never disagree.

use std::{fmt, str::FromStr};

use kontiki_wire::{ClusterId, ParseError, Role, limits::NAME_BYTES_MAX};

/// What comes before the cluster's id.
const SCHEME: &str = "kontiki://";

/// Digits of a cluster's id.
const CLUSTER_DIGITS: usize = 32;

/// A certificate's one name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What it may be.
    pub role: Role,
    /// Its name, unique in its role: 1 to 64 bytes of `a-z 0-9 - _ .`, starting with a letter or
    /// digit, without `..`.
    pub name: String,
}

impl Identity {
    /// An identity whose name keeps the rules.
    pub fn new(cluster: ClusterId, role: Role, name: &str) -> Result<Self, String> {
        Ok(Self {
            cluster,
            role,
            name: checked_name(name)?.to_owned(),
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(format!(
                "an identity reads kontiki://<cluster-id>/<role>/<name>, not {}",
                Quoted(text)
            ));
        };
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!(
                "an identity has three parts after kontiki://, not {} as in {}",
                rest.split('/').count(),
                Quoted(text)
            ));
        };
        Self::new(checked_cluster(cluster)?, role.parse::<Role>()?, name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::read(text).map_err(ParseError::new)
    }
}

fn checked_cluster(text: &str) -> Result<ClusterId, String> {
    let digits = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != CLUSTER_DIGITS || !text.bytes().all(digits) {
        return Err(format!(
            "a cluster id is {CLUSTER_DIGITS} lower-case hexadecimal digits, not {}",
            Quoted(text)
        ));
    }
    Ok(text.parse::<ClusterId>()?)
}

fn checked_name(name: &str) -> Result<&str, String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "a name has 1 to {NAME_BYTES_MAX} bytes, not {}",
            name.len()
        ));
    }
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let any = |b: u8| first(b) || matches!(b, b'-' | b'_' | b'.');
    if !name.bytes().all(any) || !name.as_bytes().first().copied().is_some_and(first) {
        return Err(format!(
            "a name is made of a-z 0-9 - _ . and starts with a letter or digit, not {}",
            Quoted(name)
        ));
    }
    if name.contains("..") {
        return Err(format!(
            "a name has no two dots in a row, as {} has",
            Quoted(name)
        ));
    }
    Ok(name)
}

/// Foreign text in a sentence: escaped, and no longer than a person reads.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 96;
        let shown: String = self.0.chars().take(SHOWN).collect();
        write!(f, "{:?}", shown)?;
        if shown.len() < self.0.len() {
            write!(f, " and {} bytes more", self.0.len() - shown.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_identity_prints_as_it_is_read() {
        for role in Role::ALL {
            let text = format!("kontiki://{CLUSTER}/{role}/n-1_a.b");
            let identity: Identity = text.parse().expect("well formed");
            assert_eq!(identity.role, role);
            assert_eq!(identity.name, "n-1_a.b");
            assert_eq!(identity.to_string(), text);
        }
    }

    #[test]
    fn whatever_is_not_the_one_spelling_is_refused_with_a_sentence() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let huge = format!("kontiki://{CLUSTER}/node/{}", "a".repeat(2_049));
        let with = |rest: &str| format!("kontiki://{CLUSTER}/{rest}");
        let table = [
            ("empty", String::new()),
            ("another scheme", format!("spiffe://{CLUSTER}/node/n1")),
            (
                "an upper-case scheme",
                format!("KONTIKI://{CLUSTER}/node/n1"),
            ),
            ("one slash", format!("kontiki:/{CLUSTER}/node/n1")),
            ("no cluster", "kontiki:///node/n1".to_owned()),
            ("a short cluster", "kontiki://0123/node/n1".to_owned()),
            (
                "a signed cluster",
                format!("kontiki://+{}/node/n1", &CLUSTER[1..]),
            ),
            (
                "an upper-case cluster",
                format!("kontiki://{}/node/n1", CLUSTER.to_uppercase()),
            ),
            ("a port", format!("kontiki://{CLUSTER}:1/node/n1")),
            ("a user", format!("kontiki://a@{CLUSTER}/node/n1")),
            ("no role", with("/n1")),
            ("an unknown role", with("admin/n1")),
            ("an upper-case role", with("Node/n1")),
            ("no name", with("node/")),
            ("no name and no slash", with("node")),
            ("a part too many", with("node/n1/x")),
            ("a slash too many", with("node/n1/")),
            ("an empty part", with("node//n1")),
            ("an upper-case name", with("node/N1")),
            ("a parent", with("node/..")),
            ("a parent inside", with("node/a..b")),
            ("a dot first", with("node/.a")),
            ("a hyphen first", with("node/-a")),
            ("an escape", with("node/a%2fb")),
            ("a query", with("node/a?b")),
            ("a fragment", with("node/a#b")),
            ("a space", with("node/a b")),
            ("a NUL", with("node/a\0b")),
            ("a line feed", with("node/a\n")),
            ("another script", with("node/\u{430}")),
            ("a name too long", with(&format!("node/{long}"))),
            ("an identity far too long", huge),
        ];
        for (what, text) in table {
            let refused = text.parse::<Identity>();
            let sentence = refused.expect_err(what).to_string();
            assert!(sentence.len() < 300, "{what}: {sentence}");
            assert!(!sentence.contains(['\n', '\0']), "{what}: {sentence:?}");
        }
        with("node/a")
            .parse::<Identity>()
            .expect("the pattern itself is good");
    }

    proptest! {
        #[test]
        fn what_parses_prints_back_as_the_same_bytes(text in "(kontiki://)?[0-9a-fA-F/]{0,40}(/node/|/operator/|/)?[a-zA-Z0-9._%/-]{0,70}") {
            if let Ok(identity) = text.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<Identity>();
            let _ = format!("kontiki://{CLUSTER}/node/{text}").parse::<Identity>();
        }

        #[test]
        fn every_well_formed_identity_parses(cluster in any::<u128>(), name in "[a-z0-9][a-z0-9_-]{0,63}") {
            let identity = Identity::new(ClusterId(cluster), Role::Producer, &name).expect("well formed");
            prop_assert_eq!(identity.to_string().parse::<Identity>(), Ok(identity));
        }
    }
}
