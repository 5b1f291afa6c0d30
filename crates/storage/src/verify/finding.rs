//! What a walk over a data directory finds, and how it is gathered.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_raft::{Entry, Index, LogId};
use kontiki_wire::{GroupId, Offset};

/// Findings that are listed one by one; those after them are counted.
const FINDINGS_MAX: usize = 1_000;

/// What becomes of a finding when its member starts next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// It is cut off: nothing of it had been acknowledged.
    Cut,
    /// It is made again from what is sound in this directory.
    Rebuilt,
    /// The entries are fetched from another member, at the start or when somebody first reads them.
    Mended,
    /// The member's replicas copy from their leaders, and do not vote before they are whole again.
    Rejoins,
    /// Nothing needs it.
    Ignored,
    /// The start does not see it.
    Unseen,
    /// The member does not start.
    Refused,
}

/// One thing that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Whether something is damaged; else it is what a crash leaves behind, or what is left over.
    pub damage: bool,
    /// The file or directory.
    pub path: PathBuf,
    /// The byte where it begins.
    pub at: Option<u64>,
    /// What is wrong, such as "the header's checksum does not match".
    pub what: String,
    /// The group that it belongs to.
    pub group: Option<GroupId>,
    /// The first and the last entry that it concerns.
    pub entries: Option<(Index, Index)>,
    /// The offsets of their records: the first, and the one after the last.
    pub offsets: Option<(Offset, Offset)>,
    /// What becomes of it.
    pub outlook: Outlook,
}

impl Finding {
    pub(crate) fn damage(path: &Path, what: impl Into<String>, outlook: Outlook) -> Self {
        Self {
            damage: true,
            path: path.to_owned(),
            at: None,
            what: what.into(),
            group: None,
            entries: None,
            offsets: None,
            outlook,
        }
    }

    pub(crate) fn remark(path: &Path, what: impl Into<String>, outlook: Outlook) -> Self {
        Self {
            damage: false,
            ..Self::damage(path, what, outlook)
        }
    }

    pub(crate) fn at(self, at: u64) -> Self {
        Self {
            at: Some(at),
            ..self
        }
    }

    pub(crate) fn of(self, group: GroupId) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    pub(crate) fn entries(self, first: Index, last: Index) -> Self {
        Self {
            entries: Some((first, last)),
            ..self
        }
    }

    /// With the offsets from `first` to before `end`, if there are any between.
    pub(crate) fn offsets(self, first: Option<Offset>, end: Option<Offset>) -> Self {
        let both = first.zip(end).filter(|(first, end)| first < end);
        Self {
            offsets: both,
            ..self
        }
    }

    /// Whether `next` only goes on with what this one tells of.
    fn goes_on(&self, next: &Self) -> bool {
        let follows = match (self.entries, next.entries) {
            (Some((_, last)), Some((first, _))) => last.next() == first,
            _ => false,
        };
        follows
            && (self.damage, self.outlook) == (next.damage, next.outlook)
            && self.path == next.path
    }
}

/// One group's segments, as the walk found them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedGroup {
    /// Which.
    pub group: GroupId,
    /// Its segments.
    pub segments: u64,
    /// Sound entries in them.
    pub entries: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// The last entry of the group, wherever it is.
    pub last: Index,
}

/// A data directory that was walked.
#[derive(Debug, Default)]
pub struct Verified {
    /// Files that were looked at.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The groups there are.
    pub groups: Vec<VerifiedGroup>,
    /// What was found, in the order of the walk.
    pub findings: Vec<Finding>,
    /// Findings of damage that are not listed, because there are too many.
    pub unlisted: u64,
    /// The latest checkpoint of the cluster's own group: it has the topics' names.
    pub cluster: Option<(LogId, Bytes)>,
    /// Its entries after that, as far as they are sound and contiguous.
    pub commands: Vec<Entry>,
    /// Bytes of those that segments had.
    pub(crate) commands_bytes: usize,
}

impl Verified {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.unlisted == 0 && !self.findings.iter().any(|finding| finding.damage)
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if let Some(last) = self.findings.last_mut()
            && last.goes_on(&finding)
        {
            last.entries = last.entries.zip(finding.entries).map(|(a, b)| (a.0, b.1));
            last.offsets = match (last.offsets, finding.offsets) {
                (Some(a), Some(b)) => Some((a.0, b.1)),
                (one, other) => one.or(other),
            };
        } else if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.unlisted += u64::from(finding.damage);
        }
    }
}
