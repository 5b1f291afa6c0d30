//! Hunts for bytes that break a target, on a stable compiler and with nothing installed.
//!
//! Every target gets its share of `FUZZ_SECONDS` (of a few seconds, unless it is set). Under
//! `.ci/instrumented` an input that reaches something new is kept and changed further; without it only
//! the seeds are. What breaks a target is made smaller and printed. `FUZZ_SEED` hunts the same way again,
//! `FUZZ_TARGET` on one target only, `FUZZ_INPUT` gives it one input, in hexadecimal.

#![allow(clippy::unwrap_used, reason = "a test")]

mod coverage;
mod held;
mod mutation;

use std::{
    env,
    fmt::Write,
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
};

use kontiki_fuzz::{TARGETS, Target};

use crate::{coverage::Coverage, held::most_held, mutation::Random};

/// What all targets together get unless it is said.
const SECONDS: f64 = 3.0;
/// Longest input that is made. The largest seed, a file of a journal, has 4 KiB.
const INPUT_BYTES_MAX: usize = 8 << 10;
/// No input may take longer.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
/// Attempts to make an input that breaks a target smaller.
const SMALLER_TRIES: usize = 2_000;

#[test]
fn no_bytes_bring_a_reader_down_or_make_it_hold_more_than_they_are_worth() {
    let only = env::var("FUZZ_TARGET").ok();
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|target| only.as_deref().is_none_or(|name| name == target.name))
        .collect();
    assert!(!chosen.is_empty(), "FUZZ_TARGET names no target");
    // What a target panics with is printed once, at the end.
    panic::set_hook(Box::new(|_| {}));
    let mut broken = String::new();
    if let Ok(input) = env::var("FUZZ_INPUT") {
        let input = bytes(&input);
        for target in &chosen {
            judge(&mut broken, target, attempt(target, &input), &input);
        }
    } else {
        let seconds = number("FUZZ_SECONDS").unwrap_or(SECONDS);
        let seed = number("FUZZ_SEED")
            .map_or_else(|| u64::from(getrandom::u32().unwrap()), |seed| seed as u64);
        println!(
            "FUZZ_SEED={seed}, {seconds} seconds, coverage: {}",
            Coverage::is_counted()
        );
        let share = Duration::from_secs_f64(seconds / chosen.len() as f64);
        for target in &chosen {
            let mut hunt = Hunt::new(target, seed);
            let found = hunt.run(share);
            println!("{hunt}");
            if let Some((input, why)) = found {
                judge(&mut broken, target, Err(why), &input);
            }
        }
    }
    let _ = panic::take_hook();
    assert!(broken.is_empty(), "{broken}");
}

fn judge(broken: &mut String, target: &Target, outcome: Result<usize, String>, input: &[u8]) {
    if let Err(why) = outcome {
        let name = target.name;
        let hex = hexadecimal(input);
        writeln!(
            broken,
            "\n{name}: {why}\nFUZZ_TARGET={name} FUZZ_INPUT={hex}"
        )
        .unwrap();
    }
}

fn number(name: &str) -> Option<f64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

/// Gives the target these bytes: the most that it held, or what was wrong.
fn attempt(target: &Target, input: &[u8]) -> Result<usize, String> {
    let before = Instant::now();
    let run = AssertUnwindSafe(|| (target.run)(input));
    let (outcome, held) = most_held(|| panic::catch_unwind(run));
    let took = before.elapsed();
    outcome.map_err(|what| {
        let text = what.downcast_ref::<String>().cloned();
        text.or_else(|| what.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic".to_owned())
    })?;
    let (each, besides) = target.held_max;
    if held > each * input.len() + besides {
        return Err(format!("{held} bytes held for {}", input.len()));
    }
    if took > INPUT_TIME_MAX {
        return Err(format!("took {took:?}"));
    }
    Ok(held)
}

/// One target's hunt.
struct Hunt<'a> {
    target: &'a Target,
    random: Random,
    coverage: Coverage,
    /// Inputs that each reached something that those before did not.
    corpus: Vec<Vec<u8>>,
    runs: u64,
    held: usize,
}

impl<'a> Hunt<'a> {
    fn new(target: &'a Target, seed: u64) -> Self {
        Self {
            target,
            random: Random::new(seed),
            coverage: Coverage::default(),
            corpus: Vec::new(),
            runs: 0,
            held: 0,
        }
    }

    /// Until the time is over, or something breaks the target: that, made smaller.
    fn run(&mut self, time: Duration) -> Option<(Vec<u8>, String)> {
        // What is made once, at the first use, is nobody's to answer for.
        (self.target.run)(&[]);
        for seed in (self.target.seeds)() {
            if let Err(why) = self.give(seed.clone(), true) {
                return Some((seed, why));
            }
        }
        let end = Instant::now() + time;
        while Instant::now() < end {
            let base = self.random.pick(&self.corpus).cloned().unwrap_or_default();
            let other = self.random.pick(&self.corpus).cloned().unwrap_or_default();
            let mut input = mutation::changed(&mut self.random, base, &other);
            input.truncate(INPUT_BYTES_MAX);
            if let Err(why) = self.give(input.clone(), false) {
                return Some((self.smaller(input), why));
            }
        }
        None
    }

    fn give(&mut self, input: Vec<u8>, keep: bool) -> Result<(), String> {
        self.runs += 1;
        self.coverage.begin();
        let outcome = attempt(self.target, &input);
        let new = self.coverage.has_grown();
        self.held = self.held.max(outcome?);
        if new || keep {
            self.corpus.push(input);
        }
        Ok(())
    }

    /// Leaves away what is not needed to break it.
    fn smaller(&self, mut input: Vec<u8>) -> Vec<u8> {
        let mut piece = input.len() / 2;
        for _ in 0..SMALLER_TRIES {
            if piece == 0 {
                break;
            }
            let starts = (0..input.len()).step_by(piece);
            let shorter = starts
                .map(|from| {
                    let mut shorter = input.clone();
                    shorter.drain(from..(from + piece).min(input.len()));
                    shorter
                })
                .find(|shorter| attempt(self.target, shorter).is_err());
            match shorter {
                Some(shorter) => input = shorter,
                None => piece /= 2,
            }
        }
        input
    }
}

impl std::fmt::Display for Hunt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:14} {:>9} inputs, {:>5} kept, {:>6} places reached, at most {:>8} bytes held",
            self.target.name,
            self.runs,
            self.corpus.len(),
            self.coverage.reached(),
            self.held
        )
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn bytes(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let pairs = pairs.map(|two| std::str::from_utf8(two).unwrap());
    pairs
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}
