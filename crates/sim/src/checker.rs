//! Whether a totally ordered log can have made a history: exact, and as cheap as sorting it.
//!
//! Every acknowledged append names its offset, so the order is given and nothing has to be searched for.
//! All sources (replicas' stores, deliveries, acknowledgements) are laid over one log for each topic;
//! whatever does not fit is a violation, and so is whatever real time contradicts. A history without
//! violations is one that some log, in some order allowed by its times, could have made.
//!
//! Without a complete dump, what clients saw is all that is known, and losses cannot be told.

mod batches;
mod durability;
mod liveness;
mod log;
mod order;
mod outage;
mod parts;
mod replicas;
mod report;
mod sessions;
mod subscriptions;
mod topics;
mod values;
mod violation;

use crate::history::History;

use log::Log;
use parts::Parts;
use values::Values;
use violation::Violations;

pub use report::Report;
pub use violation::{Code, Violation};

/// What is to be said of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What is wrong, the first few of each kind; empty if nothing is.
    pub violations: Vec<Violation>,
    /// The figures.
    pub report: Report,
}

/// Checks a history.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let mut violations = Violations::new(history);
    let mut values = Values::of(history);
    for (group, part) in Parts::of(history).groups() {
        let log = Log::lay(history, group, part, &mut values, &mut violations);
        batches::check(history, part, &log, &values, &mut violations);
        durability::check(history, part, &log, &values, &mut violations);
        order::check(history, part, &log, &values, &mut violations);
        subscriptions::check(history, part, &log, &mut violations);
        sessions::check(history, part, &log, &values, &mut violations);
        replicas::check(history, part, &log, &mut violations);
    }
    topics::check(history, &mut violations);
    liveness::check(history, &mut violations);
    let (violations, mut report) = violations.end();
    report.longest_write_outage = outage::longest(history);
    Verdict { violations, report }
}

#[cfg(test)]
mod tests;
