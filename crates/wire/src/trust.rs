//! What the cluster agrees on about certificates: which are good no more, what its members show, and which
//! authorities take the place of others.

use crate::{
    codec::{Decode, Encode},
    limits::{
        AUTHORITY_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, PAPERS_ROOTS_MAX, REVOKED_MAX,
        SERIAL_BYTES_MAX, TEXT_BYTES_MAX,
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
    /// The authorities that take the place of others, or did the last time that any were replaced.
    pub rotation: Option<Rotation>,
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

/// Authorities that take the place of others, while the cluster serves. A stage is entered once, and by an
/// operator's word.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Rotation {
    /// How far it is.
    pub stage: RotationStage,
    /// The new ones.
    pub to: Successors,
}

/// How far the replacing of authorities is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum RotationStage {
    /// Members believe the new ones beside the old, and the old ones sign.
    Trusting,
    /// The new ones sign, and both are believed.
    Signing,
    /// The old ones are believed no more.
    Finished,
    /// The new ones are believed no more: they were given up before a member showed anything that they had signed.
    Abandoned,
}

/// One authority that takes the place of another.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Handover {
    /// SHA-256 of the old one's certificate.
    pub old: [u8; 32],
    /// SHA-256 of the new one's certificate.
    pub new: [u8; 32],
    /// The new one's certificate, which it has signed itself.
    pub authority: Vec<u8>,
    /// The old one's word for it: a certificate for the name and the key of the new one, which the old one has
    /// signed. Whoever believes the old one needs nobody else's word.
    pub voucher: Vec<u8>,
}

/// The authorities to come, each with the word of the one that it replaces.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Successors {
    /// Who signs members' certificates.
    pub nodes: Handover,
    /// Who signs clients' certificates.
    pub clients: Handover,
}

/// What an operator asks to be done about the replacing of authorities.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Rotate {
    /// Believe these beside those that they are to replace.
    Begin(Box<Successors>),
    /// Have the new ones sign, as soon as all members believe them.
    Sign,
    /// Believe the old ones no more, as soon as all members show certificates of the new ones.
    Finish {
        /// Whether to do so though members show old ones still, which are shut out then.
        force: bool,
    },
    /// Give the new ones up, as long as no member shows what they have signed.
    Abandon,
}

/// What every client is told about authorities that take the place of others, once the new ones sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Turnover {
    /// SHA-256 of the authority of the members that is replaced.
    pub old: [u8; 32],
    /// SHA-256 of the one that takes its place.
    pub new: [u8; 32],
    /// Whether the old one is believed no more.
    pub finished: bool,
}

impl Trust {
    /// What clients are told of the replacing of authorities.
    #[must_use]
    pub fn turnover(&self) -> Option<Turnover> {
        let rotation = self.rotation.as_ref()?;
        rotation.is_signing().then_some(Turnover {
            old: rotation.to.nodes.old,
            new: rotation.to.nodes.new,
            finished: rotation.stage == RotationStage::Finished,
        })
    }

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
        self.papers.iter().try_for_each(Papers::check)?;
        let rotation = self.rotation.as_ref();
        rotation.map_or(Ok(()), |rotation| rotation.to.check())
    }
}

impl Rotation {
    /// Whether the new ones sign.
    #[must_use]
    pub fn is_signing(&self) -> bool {
        matches!(self.stage, RotationStage::Signing | RotationStage::Finished)
    }

    /// Whether it is neither finished nor given up.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self.stage, RotationStage::Trusting | RotationStage::Signing)
    }
}

impl Handover {
    /// Refuses what no authority is.
    pub fn check(&self) -> Result<(), Malformed> {
        for certificate in [&self.authority, &self.voucher] {
            let bytes = certificate.len() as u64;
            within("the length of a certificate", bytes, AUTHORITY_BYTES_MAX)?;
        }
        match self.old == self.new {
            true => Err(Malformed::Inconsistent {
                what: "an authority does not take its own place",
            }),
            false => Ok(()),
        }
    }
}

impl Successors {
    /// Refuses what no authority is.
    pub fn check(&self) -> Result<(), Malformed> {
        self.nodes.check()?;
        self.clients.check()
    }
}

impl Rotate {
    /// Refuses what no authority is.
    pub fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Begin(successors) => successors.check(),
            Self::Sign | Self::Finish { .. } | Self::Abandon => Ok(()),
        }
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
    #[test]
    fn an_authority_takes_the_place_of_another_and_is_no_longer_than_one_can_be() {
        let handover = |old, bytes| Handover {
            old: [old; 32],
            new: [1; 32],
            authority: vec![0; bytes],
            voucher: vec![0; bytes],
        };
        assert_eq!(handover(0, AUTHORITY_BYTES_MAX).check(), Ok(()));
        assert!(handover(1, 1).check().is_err());
        let long = handover(0, AUTHORITY_BYTES_MAX + 1);
        assert!(long.check().is_err());
        let begin = Rotate::Begin(Box::new(Successors {
            nodes: handover(0, 1),
            clients: long,
        }));
        assert!(begin.check().is_err());
    }
}
