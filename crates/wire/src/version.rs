//! Versions of all that is said and written. A cluster is at one, which its own group agrees on; a build can do a
//! range of them, and says and writes nothing that the cluster's version does not have.

use std::fmt;

use crate::codec::{Decode, Encode};

/// The versions that a build can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

impl Versions {
    /// Those of this build.
    pub const MINE: Self = Self {
        lowest: 1,
        highest: if cfg!(feature = "next") { 2 } else { 1 },
    };

    /// Whether a build that can do these can be a member of a cluster at that version.
    #[must_use]
    pub fn can_do(self, version: u16) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }

    /// Refuses a version that a build of these cannot do, with what is needed.
    pub fn check(self, version: u16) -> Result<(), String> {
        if self.can_do(version) {
            return Ok(());
        }
        Err(format!(
            "the cluster is at version {version}, and this build can do {self}: install a build that can do \
             version {version}"
        ))
    }

    /// The highest version that builds of both can do; `None` if there is none.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (self.can_do(highest) && other.can_do(highest)).then_some(highest)
    }
}

/// Those of the first release: what nobody has said otherwise of.
impl Default for Versions {
    fn default() -> Self {
        Self {
            lowest: 1,
            highest: 1,
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lowest == self.highest {
            true => write!(f, "version {}", self.lowest),
            false => write!(f, "versions {} to {}", self.lowest, self.highest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(lowest: u16, highest: u16) -> Versions {
        Versions { lowest, highest }
    }

    #[test]
    fn two_builds_meet_at_the_highest_version_that_both_can_do() {
        assert_eq!(versions(1, 2).common(versions(1, 1)), Some(1));
        assert_eq!(versions(1, 3).common(versions(2, 4)), Some(3));
        assert_eq!(versions(2, 2).common(versions(2, 2)), Some(2));
        assert_eq!(versions(1, 1).common(versions(2, 3)), None);
        assert!(Versions::MINE.can_do(Versions::default().highest));
    }
}
