//! A failure made shorter: fewer faults and less time, as long as something is still found. Every
//! attempt is a story of its own, so the way is the same each time.

use crate::{campaign::tell_guarded, faults::Fault, plan::Plan};

/// Stories that are told on the way, at most.
const ATTEMPTS_MAX: u32 = 120;

struct Shrinking {
    best: Plan,
    left: u32,
}

/// The shortest story that was found in which something still goes wrong; the given one is such.
#[must_use]
pub fn shrink(plan: Plan) -> Plan {
    let mut shrinking = Shrinking {
        best: plan,
        left: ATTEMPTS_MAX,
    };
    shrinking.cut_the_end();
    shrinking.fewer_faults();
    shrinking.cut_the_end();
    shrinking.best
}

impl Shrinking {
    /// Whether something is still found; when it is, and when it was.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let fails = match tell_guarded(&plan, false) {
            Ok(told) => told.finding.is_some(),
            Err(_) => true,
        };
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
