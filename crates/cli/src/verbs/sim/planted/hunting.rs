//! Looks for planted mistakes, and tells of each as soon as it is found.

use std::{
    panic,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use kontiki_sim::planted::{CATALOGUE, Hunt, Hunted, Mistake};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    output::{Output, Paint},
};

/// What one may take of a processor.
const CPU_MAX: Duration = Duration::from_secs(600);
/// Letters of a finding that are shown; JSON has all.
const FINDING_MAX: usize = 96;

#[derive(Serialize)]
struct Shown {
    name: &'static str,
    what: &'static str,
    known: Option<&'static str>,
    place: &'static str,
    takes: &'static str,
    found: bool,
    seed: Option<u64>,
    simulated_seconds: f64,
    cpu_seconds: f64,
    stories: u64,
    finding: Option<String>,
}

pub(crate) fn hunt(only: Option<&str>, output: Output) -> Result<Exit, Failure> {
    let mistakes: Vec<&'static Mistake> = match only {
        None => CATALOGUE.iter().collect(),
        Some(name) => vec![Mistake::named(name).ok_or_else(|| unknown(name))?],
    };
    // What a mistake comes to is told with it.
    panic::set_hook(Box::new(|_| {}));
    let how = Hunt {
        first: 1,
        cpu_max: CPU_MAX,
        threads: thread::available_parallelism().map_or(1, usize::from),
    };
    let all = Mutex::new((0, Ok(())));
    kontiki_sim::planted::hunt(&mistakes, how, |hunted| {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += usize::from(hunted.found.is_some());
        let shown = Shown::of(hunted);
        let said = output.say(&shown, |output| shown.text(output));
        if all.1.is_ok() {
            all.1 = said;
        }
    });
    let _ = panic::take_hook();
    let (found, said) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    said?;
    output.note(format_args!("{found} of {} found", mistakes.len()));
    Ok(if found == mistakes.len() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn unknown(name: &str) -> Failure {
    let names: Vec<_> = CATALOGUE.iter().map(|mistake| mistake.name).collect();
    Failure::usage(format!("no mistake is called {name}"))
        .advise(format!("there are {}", names.join(", ")))
}

impl Shown {
    fn of(hunted: Hunted) -> Self {
        let it = hunted.mistake;
        Self {
            name: it.name,
            what: it.what,
            known: it.known,
            place: it.place,
            takes: it.takes,
            found: hunted.found.is_some(),
            seed: hunted.found.as_ref().map(|found| found.seed),
            simulated_seconds: hunted.simulated as f64 / 1e6,
            cpu_seconds: hunted.cpu.as_secs_f64(),
            stories: hunted.stories,
            finding: hunted.found.map(|found| found.what),
        }
    }

    fn text(&self, output: Output) -> String {
        let time = format!(
            "{:>8.1} s simulated {:>7.2} s of a processor",
            self.simulated_seconds, self.cpu_seconds
        );
        let name = format!("{:34}", self.name);
        let (Some(seed), Some(finding)) = (self.seed, &self.finding) else {
            let missed = format!("not found in {} stories", self.stories);
            return format!("{name} {time}  {}", output.paint(Paint::Bad, &missed));
        };
        let line = finding.lines().next().unwrap_or_default();
        let finding: String = line.chars().take(FINDING_MAX).collect();
        format!("{name} {time}  seed {seed:<4} {finding}")
    }
}
