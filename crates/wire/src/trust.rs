//! What the cluster agrees on about certificates: which are good no more, and what its members show.

use crate::{
    codec::{Decode, Encode},
    limits::{
        MEMBERS_MAX, NAME_BYTES_MAX, PAPERS_ROOTS_MAX, REVOKED_MAX, SERIAL_BYTES_MAX,
        TEXT_BYTES_MAX,
    },
    malformed::Malformed,
    role::Role,
    scan::within,
};

/// The part of the cluster's state that is about certificates.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Trust {
    /// What is good no more, oldest first.
    pub revoked: Vec<Revocation>,
    /// What members show, by ascending number; of one that has said nothing yet there is nothing.
    pub papers: Vec<Papers>,
}

/// Certificates that are good no more, although they have not expired.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Revocation {
    /// Whose.
    pub whom: Whom,
    /// Since when, in microseconds since the Unix epoch.
    pub at: u64,
    /// From when on they have expired anyway, in microseconds since the Unix epoch.
    pub until: u64,
}

/// Whose certificates are meant.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum Whom {
    /// The one with this serial number, in hexadecimal.
    Serial(String),
    /// All that this name was given until then: one that becomes valid later is good.
    Name {
        /// In this role; in any that a client has if there is none.
        role: Option<Role>,
        /// The name.
        name: String,
    },
    /// All for a key of this mark: that of a member that is one no more.
    Key(u64),
}

/// The certificate that a member shows, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Papers {
    /// The member's number.
    pub member: u64,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// The mark of its key.
    pub mark: u64,
    /// From when it is good, in seconds since the Unix epoch.
    pub not_before: u64,
    /// Until when it is good, in seconds since the Unix epoch.
    pub not_after: u64,
    /// SHA-256 of the authority that has signed it.
    pub signed_by: [u8; 32],
    /// SHA-256 of every authority whose nodes and clients the member lets in.
    pub trusts: Vec<[u8; 32]>,
    /// Why it could not be renewed, if it is time and it could not.
    pub trouble: Option<String>,
}

impl Trust {
    /// What a member shows.
    #[must_use]
    pub fn papers_of(&self, member: u64) -> Option<&Papers> {
        let at = self
            .papers
            .binary_search_by_key(&member, |one| one.member)
            .ok()?;
        Some(&self.papers[at])
    }

    /// Refuses lists that are longer than a cluster could make them.
    pub fn check(&self) -> Result<(), Malformed> {
        let revoked = self.revoked.len() as u64;
        within("the number of revocations", revoked, REVOKED_MAX)?;
        let papers = self.papers.len() as u64;
        within("the number of members", papers, MEMBERS_MAX)?;
        self.revoked.iter().try_for_each(|one| one.whom.check())?;
        self.papers.iter().try_for_each(Papers::check)
    }
}

impl Whom {
    /// Refuses what names nobody.
    pub fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Serial(serial) => is_serial(serial),
            Self::Name { name, .. } => {
                within("the length of a name", name.len() as u64, NAME_BYTES_MAX)?;
                Ok(())
            }
            Self::Key(_) => Ok(()),
        }
    }
}

impl Papers {
    /// Refuses what no certificate says.
    pub fn check(&self) -> Result<(), Malformed> {
        is_serial(&self.serial)?;
        let roots = self.trusts.len() as u64;
        within("the number of authorities", roots, PAPERS_ROOTS_MAX)?;
        let trouble = self.trouble.as_ref().map_or(0, String::len);
        within("the length of a text", trouble as u64, TEXT_BYTES_MAX)?;
        Ok(())
    }
}

fn is_serial(serial: &str) -> Result<(), Malformed> {
    within(
        "the length of a serial number",
        serial.len() as u64,
        2 * SERIAL_BYTES_MAX,
    )?;
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match !serial.is_empty() && serial.bytes().all(digits) {
        true => Ok(()),
        false => Err(Malformed::Inconsistent {
            what: "a serial number is hexadecimal digits, small ones",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_serial_and_what_is_too_long_is_refused() {
        let serial = |text: &str| Whom::Serial(text.to_owned()).check();
        assert_eq!(serial("0123456789abcdef"), Ok(()));
        for wrong in ["", "0G", "AB", &"a".repeat(2 * SERIAL_BYTES_MAX + 1)] {
            assert!(serial(wrong).is_err(), "{wrong}");
        }
        let named = |name: String| Whom::Name { role: None, name }.check();
        assert_eq!(named("n".repeat(NAME_BYTES_MAX)), Ok(()));
        assert!(named("n".repeat(NAME_BYTES_MAX + 1)).is_err());
        let papers = Papers {
            serial: "ab".to_owned(),
            ..Papers::default()
        };
        assert_eq!(papers.check(), Ok(()));
        let refused = |change: fn(&mut Papers)| {
            let mut papers = papers.clone();
            change(&mut papers);
            assert!(papers.check().is_err());
        };
        refused(|papers| papers.serial.clear());
        refused(|papers| papers.trusts = vec![[0; 32]; PAPERS_ROOTS_MAX + 1]);
        refused(|papers| papers.trouble = Some("t".repeat(TEXT_BYTES_MAX + 1)));
    }
}
