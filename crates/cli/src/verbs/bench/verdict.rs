//! What a bench's numbers mean, for a person: bars, and a sentence.

use std::time::Duration;

use crate::output::{Paint, Thousands};

/// A silence of this length is one that people notice.
const STALL: Duration = Duration::from_millis(1_000);
/// How much longer than the median the slowest hundredth may take and still be called even.
const EVEN: u64 = 10;
/// The shortest bar stands for this, and each further character for so much more.
const BAR_FROM_US: f64 = 10.0;
const BAR_CHARS_PER_TENFOLD: f64 = 8.0;

/// What a load came to, as far as it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) records: u64,
    pub(crate) failed: u64,
    /// Acknowledged, and not there when it was read.
    pub(crate) missing: u64,
    /// There, with other bytes, doubled or out of order.
    pub(crate) altered: bool,
    /// How long after each other records were due, if not as soon as they go.
    pub(crate) pace: Duration,
    pub(crate) longest_gap: Duration,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// One sentence, and how good the news is.
pub(crate) fn verdict(judged: &Judged) -> (Paint, String) {
    let &Judged {
        records,
        failed,
        missing,
        altered,
        pace,
        longest_gap,
        p50_us,
        p99_us,
    } = judged;
    if missing > 0 {
        let text = format!("{} acknowledged records are not there", Thousands(missing));
        return (Paint::Bad, text);
    }
    if altered {
        return (Paint::Bad, "not all is what was appended".to_owned());
    }
    if failed > 0 {
        let text = format!("{} records were not acknowledged", Thousands(failed));
        return (Paint::Bad, text);
    }
    if records == 0 {
        return (
            Paint::Bad,
            "nothing was acknowledged while it was measured".to_owned(),
        );
    }
    if longest_gap >= STALL + pace {
        let text = format!(
            "all were acknowledged, but for {} ms none was",
            Thousands(longest_gap.as_millis() as u64)
        );
        return (Paint::Warn, text);
    }
    let times = p99_us / p50_us.max(1);
    if times >= EVEN {
        let text = format!(
            "all were acknowledged, one in a hundred after {times} times what half of them took: \
             something else wants the disk or the processors, or more is in flight than they take"
        );
        return (Paint::Warn, text);
    }
    (Paint::Good, "all were acknowledged, evenly".to_owned())
}

/// A bar for a latency: each tenfold is eight characters more.
pub(crate) fn bar(micros: u64) -> String {
    let tenfolds = (micros.max(1) as f64 / BAR_FROM_US).log10().max(0.0);
    "█".repeat(1 + (tenfolds * BAR_CHARS_PER_TENFOLD).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Judged = Judged {
        records: 1_000,
        failed: 0,
        missing: 0,
        altered: false,
        pace: Duration::ZERO,
        longest_gap: Duration::from_millis(20),
        p50_us: 500,
        p99_us: 2_000,
    };

    #[test]
    fn the_worst_news_is_what_is_said() {
        assert_eq!(verdict(&SOUND).0, Paint::Good);
        let uneven = Judged {
            p99_us: 9_000,
            ..SOUND
        };
        let (paint, text) = verdict(&uneven);
        assert_eq!(paint, Paint::Warn);
        assert!(text.contains("18 times"), "{text}");
        let stalled = Judged {
            longest_gap: Duration::from_millis(1_200),
            ..uneven
        };
        assert!(verdict(&stalled).1.contains("1,200 ms"));
        let failed = Judged {
            failed: 3,
            ..stalled
        };
        assert_eq!(verdict(&failed).0, Paint::Bad);
        let altered = Judged {
            altered: true,
            ..failed
        };
        assert!(verdict(&altered).1.contains("what was appended"));
        let lost = Judged {
            missing: 2,
            ..altered
        };
        assert!(verdict(&lost).1.contains("2 acknowledged"));
        let slow = Judged {
            pace: Duration::from_secs(1),
            longest_gap: Duration::from_millis(1_200),
            ..SOUND
        };
        assert_eq!(verdict(&slow).0, Paint::Good);
        let silent = Judged {
            records: 0,
            ..SOUND
        };
        assert_eq!(verdict(&silent).0, Paint::Bad);
    }

    #[test]
    fn a_bar_grows_with_the_latency_and_stays_on_a_terminal() {
        let lengths = [0, 10, 100, 1_000, 100_000, 3_600_000_000];
        let lengths = lengths.map(|micros| bar(micros).chars().count());
        assert_eq!(lengths, [1, 1, 9, 17, 33, 69]);
    }
}
