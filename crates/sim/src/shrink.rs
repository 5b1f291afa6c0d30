//! A failure made shorter: fewer faults and less time, as long as the same is found to be wrong. Every
//! attempt is a story of its own, so the way is the same each time.

use crate::{campaign::tell_guarded, faults::Fault, plan::Plan};

/// Stories that are told on the way, at most.
const ATTEMPTS_MAX: u32 = 120;

/// The shortest story that was found in which the same promise is broken, or the same said of it, as in
/// the given one, of which `finding` is what was found.
#[must_use]
pub fn shrink(plan: Plan, finding: &str) -> Plan {
    shrink_by(plan, finding, &|plan| match tell_guarded(plan, false) {
        Ok(told) => told.finding,
        Err(panic) => Some(panic),
    })
}

fn shrink_by(plan: Plan, finding: &str, tell: &dyn Fn(&Plan) -> Option<String>) -> Plan {
    let mut shrinking = Shrinking {
        best: plan,
        kind: kind(finding),
        left: ATTEMPTS_MAX,
        tell,
    };
    shrinking.cut_the_end();
    shrinking.fewer_faults();
    shrinking.cut_the_end();
    shrinking.best
}

/// What a finding is of: the promise or the verdict that it names, or else its words without what is
/// another number in every story.
fn kind(finding: &str) -> String {
    let line = finding.lines().next().unwrap_or_default();
    let mut parts = line.split(": ");
    let is_name = |part: &&str| is_promise(part) || is_verdict(part);
    if let Some(name) = parts.by_ref().take(2).find(is_name) {
        return name.to_owned();
    }
    let words = line.split_whitespace();
    let words = words.filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// `logs_match`.
fn is_promise(part: &str) -> bool {
    let of_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    part.contains('_') && part.chars().all(of_name)
}

/// `C5 durability`.
fn is_verdict(part: &str) -> bool {
    let code = part.split_once(' ').map(|(code, _)| code);
    code.and_then(|code| code.strip_prefix('C'))
        .is_some_and(|number| number.parse::<u8>().is_ok())
}

struct Shrinking<'a> {
    best: Plan,
    /// What is to be found still.
    kind: String,
    left: u32,
    tell: &'a dyn Fn(&Plan) -> Option<String>,
}

impl Shrinking<'_> {
    /// Whether the same is still found; if so this is the best so far.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let fails = (self.tell)(&plan).is_some_and(|finding| kind(&finding) == self.kind);
        if fails {
            self.best = plan;
        }
        fails
    }

    /// Heals as early as possible.
    fn cut_the_end(&mut self) {
        let mut least = 0;
        while self.best.suffers - least > 500_000 && self.left > 0 {
            let suffers = least.midpoint(self.best.suffers);
            if !self.attempt(until(&self.best, suffers)) {
                least = suffers;
            }
        }
    }

    /// Leaves out half of the faults, a quarter, and so on down to single ones.
    fn fewer_faults(&mut self) {
        let mut size = self.best.faults.len().div_ceil(2);
        while size > 0 && self.left > 0 {
            let mut from = 0;
            while from < self.best.faults.len() && self.left > 0 {
                let mut faults: Vec<Fault> = self.best.faults.clone();
                faults.drain(from..(from + size).min(faults.len()));
                let fewer = Plan {
                    faults,
                    ..self.best.clone()
                };
                if !self.attempt(fewer) {
                    from += size;
                }
            }
            size /= 2;
        }
    }
}

/// The same story, healed earlier.
fn until(plan: &Plan, suffers: u64) -> Plan {
    let faults = plan.faults.iter().filter(|fault| fault.at < suffers);
    Plan {
        faults: faults.copied().collect(),
        suffers,
        ..plan.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Choice;

    #[test]
    fn findings_of_one_promise_are_of_one_kind_whatever_their_numbers() {
        let promise =
            "13.116565 s, member 3: leaders_are_voted_for: leads term 5 of group 3 with 1";
        assert_eq!(kind(promise), "leaders_are_voted_for");
        let verdict = "C5 durability: group 4: 3 batches are gone\n    append 7: a";
        assert_eq!(kind(verdict), "C5 durability");
        let late = kind("not within 30 s: all replicas are equal");
        assert_eq!(late, kind("not within 8 s: all replicas are equal"));
        assert_ne!(late, kind("not within 8 s: every group has a leader"));
        assert_eq!(
            kind("n1 stops itself: broken invariant: one vote in a term"),
            kind("n3 stops itself: broken invariant: one vote in a term"),
        );
        assert_ne!(
            kind("it panics: index 3 of 2"),
            kind("it panics: no record")
        );
    }

    #[test]
    fn all_that_is_not_needed_for_the_same_finding_goes_and_another_finding_is_no_success() {
        let plan = Plan::draw(3, Choice::default());
        let needed = plan.faults[plan.faults.len() / 2];
        let tell = |plan: &Plan| {
            let same = plan.faults.contains(&needed) && plan.suffers > needed.at;
            Some(match same {
                true => format!("{} s, member 1: logs_match: a", plan.suffers),
                // As if the end of the story were the cause.
                false => "1 s, member 1: offsets_are_dense: b".to_owned(),
            })
        };
        let short = shrink_by(plan.clone(), "9 s, member 2: logs_match: c", &tell);
        assert_eq!(short.faults, [needed]);
        assert!(short.suffers > needed.at && short.suffers <= needed.at + 1_000_000);
        assert_eq!(short.seed, plan.seed);
    }

    #[test]
    fn a_failure_of_a_real_story_gets_shorter_and_stays_what_it_was() {
        let mistake = crate::planted::Mistake::named("duplicate-placed").expect("it is one");
        let seeds = 1..100;
        let mut failures = seeds.filter_map(|seed| {
            let mut plan = Plan::draw(seed, Choice::default());
            let _planting = mistake.plant(&mut plan);
            let finding = tell_guarded(&plan, false).ok()?.finding?;
            Some((plan, finding))
        });
        let (plan, finding) = failures.next().expect("some story finds it");
        let mut again = plan.clone();
        let _planting = mistake.plant(&mut again);
        let short = shrink(plan.clone(), &finding);
        assert!(short.suffers < plan.suffers && short.faults.len() <= plan.faults.len());
        let told = tell_guarded(&short, false).expect("it does not panic");
        assert_eq!(kind(&told.finding.expect("it still fails")), kind(&finding));
    }
}
