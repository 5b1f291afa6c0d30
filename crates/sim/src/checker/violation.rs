//! What is wrong with a history, as data that a person can read.

use std::fmt;

use kontiki_wire::GroupId;

use crate::{
    checker::Report,
    history::{Append, AppendId, History, Outcome},
};

/// Which promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// C1: something stands that nobody wrote, or that certainly was not appended; bytes changed.
    Origin,
    /// C2: an offset means two things.
    Agreement,
    /// C3: a value stands twice.
    Uniqueness,
    /// C4: an offset is missing, or a batch is not whole.
    Density,
    /// C5: something acknowledged is not there.
    Durability,
    /// C6: what was acknowledged before something else was asked for stands behind it.
    RealTime,
    /// C7: a leader told an end that was not the end.
    StaleRead,
    /// C8: a subscriber was given what it should not have been, or not what it should.
    Subscription,
    /// C10: a producer's batches are out of its order, or acknowledged at two places.
    Session,
    /// C11: replicas differ.
    Replicas,
    /// C13: something acknowledged is not there since all members lost power at once.
    Outage,
    /// C15: something did not come to its end in the time it was given.
    Liveness,
}

/// One contradiction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise.
    pub code: Code,
    /// The topic, if it is one topic's.
    pub group: Option<GroupId>,
    /// What contradicts what.
    pub what: String,
    /// The appends that take part.
    pub appends: Vec<AppendId>,
    /// The same appends, as the history has them.
    pub told: Vec<Append>,
}

/// Of each kind so many are kept; the others are counted.
const KEPT_OF_EACH_MAX: usize = 16;

/// Gathers violations.
pub(super) struct Violations<'a> {
    history: &'a History,
    found: Vec<Violation>,
    pub(super) report: Report,
}

impl<'a> Violations<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        Self {
            history,
            found: Vec::new(),
            report: Report::of(history),
        }
    }

    /// Adds one; its words are found only if it is kept.
    pub(super) fn add(
        &mut self,
        code: Code,
        group: impl Into<Option<GroupId>>,
        appends: &[usize],
        what: impl FnOnce() -> String,
    ) {
        self.report.violations += 1;
        let of_its_kind = self.found.iter().filter(|one| one.code == code).count();
        if of_its_kind >= KEPT_OF_EACH_MAX {
            return;
        }
        let told = appends.iter().map(|id| self.history.appends[*id].clone());
        self.found.push(Violation {
            code,
            group: group.into(),
            what: what(),
            appends: appends.iter().copied().map(AppendId).collect(),
            told: told.collect(),
        });
    }

    pub(super) fn end(mut self) -> (Vec<Violation>, Report) {
        self.found.sort_by_key(|one| one.code);
        (self.found, self.report)
    }
}

impl Code {
    /// Its short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Origin => "C1 origin",
            Self::Agreement => "C2 agreement",
            Self::Uniqueness => "C3 uniqueness",
            Self::Density => "C4 density",
            Self::Durability => "C5 durability",
            Self::RealTime => "C6 real time",
            Self::StaleRead => "C7 stale read",
            Self::Subscription => "C8 subscription",
            Self::Session => "C10 session",
            Self::Replicas => "C11 replicas",
            Self::Outage => "C13 outage",
            Self::Liveness => "C15 liveness",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code.name())?;
        if let Some(group) = self.group {
            write!(f, "group {group}: ")?;
        }
        f.write_str(&self.what)?;
        for (id, append) in self.appends.iter().zip(&self.told) {
            write!(f, "\n    append {}: {}", id.0, Told(append))?;
        }
        Ok(())
    }
}

/// An append in words.
struct Told<'a>(&'a Append);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: kontiki_raft::Micros| at.0 as f64 / 1e6;
        let Append {
            first,
            count,
            asked,
            ended,
            ..
        } = self.0;
        write!(f, "{first}")?;
        if *count > 1 {
            write!(f, "..={}", u64::from(first.number) + u64::from(*count) - 1)?;
        }
        write!(f, ", asked for at {:.6} s, ", seconds(*asked))?;
        match ended {
            None => f.write_str("without an end"),
            Some((at, Outcome::Acknowledged { offset })) => {
                write!(f, "acknowledged at {:.6} s, offset {offset}", seconds(*at))
            }
            Some((at, Outcome::Failed)) => write!(f, "failed at {:.6} s", seconds(*at)),
            Some((at, Outcome::Unknown)) => write!(f, "unknown at {:.6} s", seconds(*at)),
        }
    }
}
