//! What happened, as a number that two runs of one seed must agree on, and as lines for people.

use std::collections::VecDeque;

/// The trace of a story.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<VecDeque<String>>,
}

/// The last lines that are kept.
const LINES_MAX: usize = 200_000;

impl Trace {
    /// One that keeps lines, or only counts.
    pub(crate) fn new(keeps_lines: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: keeps_lines.then(VecDeque::new),
        }
    }

    /// Takes something that happened into the number.
    pub(crate) fn note(&mut self, at: u64, what: u64, more: u64) {
        self.events += 1;
        for part in [at, what, more] {
            self.hash = (self.hash ^ part).wrapping_mul(0x9fb2_1c65_1e98_df25);
            self.hash ^= self.hash >> 29;
        }
    }

    /// Tells something in words, if anybody listens.
    pub(crate) fn tell(&mut self, at: u64, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(format!("{:>12.6} {}", at as f64 / 1e6, line()));
    }

    /// Equal for two runs of the same story, and for hardly any two others.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What happened, in words; the last lines if there were very many.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().map(String::as_str)
    }
}
