//! Counts what this thread allocates and, in an instrumented build, how often our own code was where.
#![expect(
    unsafe_code,
    reason = "an allocator cannot be written without, nor the profiler's counters be read"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What something took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    /// Calls of the allocator for memory.
    pub(crate) allocations: u64,
    /// Bytes asked for.
    pub(crate) bytes: u64,
    /// Pieces of our own code that ran, each as often as it did.
    pub(crate) steps: Option<u64>,
}

/// Does something twice and counts the second time.
pub(crate) fn of(mut work: impl FnMut()) -> Work {
    work();
    let steps = steps();
    let (allocations, bytes) = ALLOCATED.get();
    work();
    let (allocations_after, bytes_after) = ALLOCATED.get();
    Work {
        allocations: allocations_after - allocations,
        bytes: bytes_after - bytes,
        steps: self::steps()
            .zip(steps)
            .map(|(after, before)| after - before),
    }
}

thread_local! {
    static ALLOCATED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize) {
    // A thread that is ending has nothing to count.
    let _ = ALLOCATED.try_with(|allocated| {
        let (calls, before) = allocated.get();
        allocated.set((calls + 1, before + bytes as u64));
    });
}

// SAFETY: everything is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: what the caller promises is what is promised here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises is what is promised here.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: what the caller promises is what is promised here.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[cfg(not(instrumented))]
fn steps() -> Option<u64> {
    None
}

/// All threads' counts; tests of this program that need them run alone.
#[cfg(instrumented)]
fn steps() -> Option<u64> {
    unsafe extern "C" {
        fn __llvm_profile_begin_counters() -> *const u64;
        fn __llvm_profile_end_counters() -> *const u64;
    }
    // SAFETY: the profiler's runtime, linked in by the same flag, says where its section of counters
    // begins and ends: aligned numbers of 64 bits, counted up without synchronisation.
    unsafe {
        let begin = __llvm_profile_begin_counters();
        let count = __llvm_profile_end_counters().offset_from_unsigned(begin);
        let counters = (0..count).map(|at| begin.add(at).read_volatile());
        Some(counters.fold(0, u64::wrapping_add))
    }
}
