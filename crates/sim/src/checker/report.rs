//! The figures of a history, or of many together: the line that every run ends with.

use std::fmt;

use kontiki_raft::Micros;

use crate::history::{History, Outcome};

/// What was attempted, how it ended, and what is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Appends asked for: acknowledged, failed and unknown together.
    pub attempted: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Certainly not done.
    pub failed: u64,
    /// Of unknown fate.
    pub unknown: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Linearizable readings of a topic's end that were answered.
    pub tails: u64,
    /// Deliveries to subscribers.
    pub deliveries: u64,
    /// Records acknowledged and not there.
    pub lost: u64,
    /// Records that stand more than once.
    pub doubled: u64,
    /// Records that nobody wrote, or that certainly were not appended.
    pub phantom: u64,
    /// Records that are not in the order that their times or their producer gave them.
    pub reordered: u64,
    /// Records whose bytes were changed.
    pub wrong_bytes: u64,
    /// Readings of a topic's end that were not the end.
    pub stale_reads: u64,
    /// All contradictions, those above among them.
    pub violations: u64,
    /// The longest time for which somebody waited for an acknowledgement and nobody got one.
    pub longest_write_outage: Micros,
}

impl Report {
    pub(super) fn of(history: &History) -> Self {
        let mut report = Self {
            attempted: history.appends.len() as u64,
            ..Self::default()
        };
        for append in &history.appends {
            match append.ended {
                Some((_, Outcome::Acknowledged { .. })) => {
                    report.acknowledged += 1;
                    report.records += u64::from(append.count);
                }
                Some((_, Outcome::Failed)) => report.failed += 1,
                Some((_, Outcome::Unknown)) | None => report.unknown += 1,
            }
        }
        let answered = history.tails.iter().filter(|one| one.answered.is_some());
        report.tails = answered.count() as u64;
        let deliveries = history.subscriptions.iter().map(|one| one.deliveries.len());
        report.deliveries = deliveries.sum::<usize>() as u64;
        report
    }

    /// Adds the figures of another history.
    pub fn merge(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.records += other.records;
        self.tails += other.tails;
        self.deliveries += other.deliveries;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.phantom += other.phantom;
        self.reordered += other.reordered;
        self.wrong_bytes += other.wrong_bytes;
        self.stale_reads += other.stale_reads;
        self.violations += other.violations;
        self.longest_write_outage = self.longest_write_outage.max(other.longest_write_outage);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "attempted {} = acknowledged {} + failed {} + unknown {}; lost {}; doubled {}; \
             phantom {}; reordered {}; wrong bytes {}; stale reads {}; violations {}; longest \
             write outage {:.3} s",
            self.attempted,
            self.acknowledged,
            self.failed,
            self.unknown,
            self.lost,
            self.doubled,
            self.phantom,
            self.reordered,
            self.wrong_bytes,
            self.stale_reads,
            self.violations,
            self.longest_write_outage.0 as f64 / 1e6
        )
    }
}
