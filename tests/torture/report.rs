//! What a run of torture did and found: the lines that it ends with.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use kontiki_sim::checker;

use crate::plan::{Plan, say};

/// A long run says how far it is.
const ROUNDS_BETWEEN_LINES: u32 = 50;

/// Counted while it goes on.
pub(crate) struct Report {
    began: Instant,
    kind: &'static str,
    seed: u64,
    rounds: u32,
    faults: BTreeMap<String, u32>,
    /// From the death of the leader to the next acknowledgement.
    pub(crate) outages: Vec<Duration>,
    /// From the start of damaged members until they were as good as the others.
    pub(crate) returns: Vec<Duration>,
    /// Of all histories.
    pub(crate) figures: checker::Report,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            began: Instant::now(),
            kind: plan.kind,
            seed: plan.seed,
            rounds: 0,
            faults: BTreeMap::new(),
            outages: Vec::new(),
            returns: Vec::new(),
            figures: checker::Report::default(),
        }
    }

    pub(crate) fn round(&mut self) {
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_BETWEEN_LINES) {
            say(format_args!(
                "torture {}: {} rounds in {:.1} s",
                self.kind,
                self.rounds,
                self.began.elapsed().as_secs_f64()
            ));
        }
    }

    pub(crate) fn fault(&mut self, kind: impl Into<String>) {
        *self.faults.entry(kind.into()).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "torture {}: seed {}, {} rounds in {:.1} s",
            self.kind,
            self.seed,
            self.rounds,
            self.began.elapsed().as_secs_f64()
        )?;
        let faults = self.faults.iter();
        let faults: Vec<_> = faults.map(|(kind, n)| format!("{kind} {n}")).collect();
        writeln!(f, "  {}", faults.join(", "))?;
        write!(f, "  {}", self.figures)?;
        for (what, times) in [
            (
                "the leader's end to the next acknowledgement",
                &self.outages,
            ),
            ("start of damaged members to all being well", &self.returns),
        ] {
            if times.is_empty() {
                continue;
            }
            let at = |percent| percentile(times, percent).as_secs_f64();
            write!(
                f,
                "\n  {what}, {} times: p50 {:.3} s, p99 {:.3} s, longest {:.3} s",
                times.len(),
                at(50),
                at(99),
                at(100)
            )?;
        }
        Ok(())
    }
}

/// The smallest that so many in a hundred do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}

#[test]
fn percentiles_are_of_the_times_there_were() {
    let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
    assert_eq!(percentile(&times, 50), Duration::from_millis(100));
    assert_eq!(percentile(&times, 99), Duration::from_millis(198));
    assert_eq!(percentile(&times, 100), Duration::from_millis(200));
    assert_eq!(percentile(&times[..1], 50), Duration::from_millis(200));
}
