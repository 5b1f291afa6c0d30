//! Processor time, as the system counts it; none where it does not.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// What a process has used.
pub(crate) fn of_process(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name, with whatever is in it.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(USER_TIME).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * TICK_MILLIS)
}

/// What the calling thread has used.
pub(crate) fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it does not run backwards")
}

/// Where user time is among the fields after the name; system time follows.
const USER_TIME: usize = 11;
/// What Linux counts in.
const TICK_MILLIS: u64 = 10;
