//! Where the code has been: the counters that `-C instrument-coverage`, which stable compilers have,
//! puts into it. Built without `.ci/instrumented` there are none, and nothing is ever new.

#![cfg_attr(
    instrumented,
    allow(
        unsafe_code,
        reason = "the counters are the profiler's, in its section of memory"
    )
)]

/// Which counters have been how high, in powers of two.
#[derive(Default)]
pub(crate) struct Coverage {
    /// One bit for each power of two that a counter has shown.
    seen: Vec<u64>,
    /// Counters that have moved at all, in ascending order: few of all there are. Only these are looked
    /// at after most inputs.
    moved: Vec<usize>,
    looks: u64,
}

/// Every so many looks take in all counters, for those that have never moved.
const WHOLE_LOOK_EVERY: u64 = 64;

impl Coverage {
    pub(crate) fn is_counted() -> bool {
        !counters().is_empty()
    }

    /// How many counters have moved.
    pub(crate) fn reached(&self) -> usize {
        self.moved.len()
    }

    /// Sets back what was counted.
    pub(crate) fn begin(&mut self) {
        let counters = counters();
        if self.is_whole_look() {
            counters.fill(0);
            return;
        }
        for at in &self.moved {
            counters[*at] = 0;
        }
    }

    /// Whether a counter showed a power of two for the first time.
    pub(crate) fn has_grown(&mut self) -> bool {
        let counters = counters();
        self.seen.resize(counters.len(), 0);
        let mut grown = false;
        if self.is_whole_look() {
            for (at, count) in counters.iter().enumerate().filter(|(_, count)| **count > 0) {
                if self.seen[at] == 0 {
                    self.moved.push(at);
                }
                grown |= note(&mut self.seen[at], *count);
            }
        } else {
            for at in &self.moved {
                grown |= note(&mut self.seen[*at], counters[*at]);
            }
        }
        self.looks += 1;
        grown
    }

    fn is_whole_look(&self) -> bool {
        self.looks < WHOLE_LOOK_EVERY || self.looks.is_multiple_of(WHOLE_LOOK_EVERY)
    }
}

fn note(seen: &mut u64, count: u64) -> bool {
    let power = 1u64.unbounded_shl(u64::BITS - count.leading_zeros()) >> 1;
    let new = count > 0 && *seen & power == 0;
    if new {
        *seen |= power;
    }
    new
}

#[cfg(not(instrumented))]
fn counters() -> &'static mut [u64] {
    &mut []
}

#[cfg(instrumented)]
fn counters() -> &'static mut [u64] {
    unsafe extern "C" {
        fn __llvm_profile_begin_counters() -> *mut u64;
        fn __llvm_profile_end_counters() -> *mut u64;
    }
    // SAFETY: the profiler's runtime, linked in by the same flag, says where its section of counters
    // begins and ends. They are aligned numbers of 64 bits, counted up without synchronisation; the one
    // test of this program looks at them while nobody else runs.
    unsafe {
        let begin = __llvm_profile_begin_counters();
        let end = __llvm_profile_end_counters();
        let count = end.offset_from_unsigned(begin);
        std::slice::from_raw_parts_mut(begin, count)
    }
}
