//! Tells how far something is that takes its time: on a terminal with a bar that is drawn anew, elsewhere with a
//! line now and then.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output::{Output, take_bar, underline_with};

/// How often it is told of what goes on as before, but for the numbers.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Tells of it until it is dropped.
pub(crate) struct Teller {
    output: Output,
    bar: Option<ProgressBar>,
    /// The most bytes that were left.
    most: u64,
    told: Vec<String>,
    told_at: Instant,
}

impl Teller {
    pub(crate) fn new(output: Output) -> Self {
        let bar = output.progress().then(|| {
            let bar = ProgressBar::new(0).with_style(style("{msg}"));
            underline_with(bar.clone());
            bar
        });
        Self {
            output,
            bar,
            most: 0,
            told: Vec::new(),
            told_at: Instant::now(),
        }
    }

    /// So many bytes are left, as far as that is known, and this is to be said.
    pub(crate) fn tell(&mut self, left: u64, said: Vec<String>) {
        if let Some(bar) = &self.bar {
            if self.most == 0 && left > 0 {
                // Before, there was nothing to be measured.
                bar.reset_elapsed();
                bar.set_style(style(WITH_BYTES));
            }
            self.most = self.most.max(left);
            bar.set_length(self.most);
            bar.set_position(self.most - left);
            bar.set_message(said.join("\n"));
            self.told = said;
            return;
        }
        let news = plain(&said) != plain(&self.told);
        if news || (said != self.told && self.told_at.elapsed() >= TELL_EVERY) {
            said.iter().for_each(|why| self.output.note(why));
            self.told_at = Instant::now();
            self.told = said;
        }
    }

    /// What was said last.
    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(bar) = take_bar() {
            bar.finish_and_clear();
        }
    }
}

/// How many bytes are left, and, if it is known, at which speed they come, and for how long.
pub(crate) fn bytes_left_words(bytes: u64, speed: Option<u64>) -> String {
    let mut text = format!("{} left", HumanBytes(bytes));
    let Some(speed) = speed else {
        return text;
    };
    match bytes.checked_div(speed) {
        None => text.push_str(", and none arrives at the moment"),
        Some(seconds) => {
            let speed = HumanBytes(speed);
            text.push_str(&format!(", {speed}/s, about {}", span(seconds + 1)));
        }
    }
    text
}

/// A time in the unit that people would use.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

/// What is said, whatever the numbers: those change each time.
fn plain(sentences: &[String]) -> Vec<String> {
    let letters = |sentence: &String| {
        let words = sentence.split_whitespace();
        let words = words.filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
        words.collect::<Vec<_>>().join(" ")
    };
    sentences.iter().map(letters).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

const WITH_BYTES: &str =
    "{bar:24} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left\n{msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone_are_no_news() {
        let said = |text: &str| plain(&[text.to_owned()]);
        let before = said("topic a: n3 copies it from n1: 1.20 GiB left, 45.00 MiB/s, about 27 s");
        let after = said("topic a: n3 copies it from n1: 1.10 GiB left, 44.10 MiB/s, about 25 s");
        assert_eq!(before, after);
        assert_ne!(before, said("topic a: n2 copies it from n1: 1.20 GiB left"));
    }

    #[test]
    fn times_are_told_in_the_unit_that_people_would_use() {
        assert_eq!(
            [5, 119, 120, 7_200].map(span),
            ["5 s", "119 s", "2 min", "2 h"]
        );
    }

    #[test]
    fn what_is_left_is_told_with_speed_and_end_or_that_nothing_comes() {
        let left = bytes_left_words(3 << 20, Some(1 << 20));
        assert_eq!(left, "3.00 MiB left, 1.00 MiB/s, about 4 s");
        let stuck = bytes_left_words(3 << 20, Some(0));
        assert_eq!(stuck, "3.00 MiB left, and none arrives at the moment");
    }
}
