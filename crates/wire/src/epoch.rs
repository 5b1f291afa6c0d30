//! Which life of a cluster this is. A cluster whose majority is lost for good is made anew from what one member
//! has left: under another epoch, so that nobody of the life before has a say in it.

use std::fmt;

use crate::{
    codec::{Decode, Encode},
    limits::{LOST_LISTED_MAX, MEMBERS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, TOPIC_NAME_BYTES_MAX},
    malformed::Malformed,
    scan::within,
};

/// One life of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode)]
pub struct Epoch {
    /// How often the cluster was recovered.
    pub number: u64,
    /// Drawn at that recovery: two members of one cluster that were each recovered, apart from one another,
    /// are two clusters.
    pub mark: u64,
}

impl Epoch {
    /// The life that a cluster is born to.
    pub const FIRST: Self = Self { number: 0, mark: 0 };
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        match *self == Self::FIRST {
            true => Ok(()),
            false => write!(f, " ({:016x})", self.mark),
        }
    }
}

/// What was done when a cluster was recovered from what one member had left.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Recovery {
    /// The life that began with it.
    pub epoch: Epoch,
    /// When, by the clock of who did it: microseconds since the Unix epoch.
    pub at: u64,
    /// Who did it, as far as the machine knows.
    pub by: String,
    /// The member that went on, by name.
    pub survivor: String,
    /// The members that were given up, by name.
    pub given_up: Vec<String>,
    /// Topics that went on.
    pub kept: u64,
    /// Topics of which the survivor had nothing, and which are gone.
    pub lost: u64,
    /// The first few of those, by name.
    pub lost_topics: Vec<String>,
}

impl Recovery {
    /// Refuses names and lists that are longer than any can be.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let text = |text: &String, max| within("the length of a text", text.len() as u64, max);
        text(&self.by, TEXT_BYTES_MAX)?;
        text(&self.survivor, NAME_BYTES_MAX)?;
        let members = self.given_up.len() as u64;
        within("the number of members", members, MEMBERS_MAX)?;
        let topics = self.lost_topics.len() as u64;
        within("the number of lost topics", topics, LOST_LISTED_MAX)?;
        for name in &self.given_up {
            text(name, NAME_BYTES_MAX)?;
        }
        for name in &self.lost_topics {
            text(name, TOPIC_NAME_BYTES_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_life_has_a_number_alone() {
        assert_eq!(Epoch::FIRST.to_string(), "0");
        let again = Epoch {
            number: 2,
            mark: 0xab,
        };
        assert_eq!(again.to_string(), "2 (00000000000000ab)");
    }
}
