//! How fast this member copies logs to newcomers, or takes one in as a newcomer: as fast as the disk and the
//! network give while its producers are quiet, and while they are not, so that they keep most of what they had.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use kontiki_raft::NodeId;
use kontiki_storage::Storage;
use tokio::time::sleep;
use tracing::debug;

use crate::limits::{
    CATCH_UP_BURST, CATCH_UP_LOOK, CATCH_UP_WAIT_MAX, CROWDED_SHARE, QUIET_BYTES_PER_SECOND,
};

/// What all copying of a member may take together.
pub(crate) struct Budget {
    storage: Storage,
    inner: Mutex<Inner>,
}

struct Inner {
    share: Share,
    looked: Instant,
    appended: u64,
    waited: Option<(ThreadId, Duration)>,
    /// Until when what was taken has used it up.
    files: Instant,
    entries: Lacking,
}

/// Those who lack entries, each with when what it was given has used up what it may have.
#[derive(Default)]
struct Lacking(BTreeMap<NodeId, Instant>);

impl Budget {
    /// At least so many bytes a second, whatever producers do.
    pub(crate) fn new(storage: Storage, least: u64) -> Self {
        let now = Instant::now();
        Self {
            inner: Mutex::new(Inner {
                share: Share::new(least),
                looked: now,
                appended: storage.given_bytes(),
                waited: waited(),
                files: now,
                entries: Lacking::default(),
            }),
            storage,
        }
    }

    /// So much of a log was copied as it lies in files; returns when more may be. Cancel-safe.
    pub(crate) async fn took_file(&self, bytes: u64) {
        let wait = {
            let inner = &mut *self.look();
            let rate = inner.share.files();
            spend(&mut inner.files, Instant::now(), bytes, rate)
        };
        sleep(wait).await;
    }

    /// So many bytes of entries were read from files for one that lacks them; returns when more may be. What is
    /// appended meanwhile can be sent beside it, to each, or it would lack more and more. Cancel-safe.
    pub(crate) async fn took_entries(&self, peer: NodeId, bytes: u64) {
        let wait = {
            let inner = &mut *self.look();
            inner
                .entries
                .take(peer, Instant::now(), bytes, &inner.share)
        };
        sleep(wait).await;
    }

    /// Looks what producers do, if that is due.
    fn look(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = inner.looked.elapsed();
        if passed >= CATCH_UP_LOOK {
            let (appended, waited) = (self.storage.given_bytes(), waited());
            // In a program with more threads than one it may be another's.
            let both = waited.zip(inner.waited);
            let both = both.filter(|(now, before)| now.0 == before.0);
            let load = Load {
                passed,
                appended: appended.saturating_sub(inner.appended),
                waited: both.map(|(now, before)| now.1.saturating_sub(before.1)),
            };
            inner.share.look(load);
            let rate = inner.share.files();
            debug!(rate, appended = inner.share.appended, ?load.waited, "logs are copied");
            inner.looked += passed;
            (inner.appended, inner.waited) = (appended, waited);
        }
        inner
    }
}

impl Lacking {
    /// Takes bytes for one; how long until there is room for more.
    fn take(&mut self, peer: NodeId, now: Instant, bytes: u64, share: &Share) -> Duration {
        let lately = now.checked_sub(CATCH_UP_BURST).unwrap_or(now);
        self.0.retain(|one, until| *one == peer || *until >= lately);
        let mut until = *self.0.entry(peer).or_insert(now);
        let rate = share.entries(self.0.len() as u64);
        let wait = spend(&mut until, now, bytes, rate);
        self.0.insert(peer, until.min(now + CATCH_UP_WAIT_MAX));
        wait.min(CATCH_UP_WAIT_MAX)
    }
}

/// Takes bytes at this rate; how long until there is room for more. What was not taken for a while is there at
/// once, but little of it.
fn spend(until: &mut Instant, now: Instant, bytes: u64, rate: u64) -> Duration {
    let begins = now.checked_sub(CATCH_UP_BURST).unwrap_or(now);
    let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
    *until = (*until).max(begins) + Duration::from_micros(micros);
    until.saturating_duration_since(now)
}

/// What a member had to do in a while.
#[derive(Clone, Copy, Debug)]
struct Load {
    passed: Duration,
    /// Bytes of entries that it was given to write.
    appended: u64,
    /// For how long the thread that decides was ready to go on, and had no processor, if the system tells.
    waited: Option<Duration>,
}

/// Decides how fast to copy.
///
/// While producers are quiet nobody is harmed. While they are not, copying gets faster as long as the thread that
/// decides has a processor whenever it wants one, and slower when it has not, down to what it may always take.
#[derive(Clone, Debug)]
struct Share {
    least: u64,
    rate: u64,
    /// Bytes a second that are appended, as far as the last few looks tell.
    appended: u64,
}

impl Share {
    fn new(least: u64) -> Self {
        Self {
            least,
            rate: least,
            appended: 0,
        }
    }

    /// Bytes a second at which files may be copied.
    fn files(&self) -> u64 {
        self.rate
    }

    /// Bytes a second at which entries may be read for each of so many who lack them.
    fn entries(&self, lacking: u64) -> u64 {
        (self.rate / lacking.max(1)).saturating_add(self.appended / 4 * 5)
    }

    fn look(&mut self, load: Load) {
        let micros = load.passed.as_micros().clamp(1, 1_000_000_000) as u64;
        let lately = load.appended.saturating_mul(1_000_000) / micros;
        // Producers that have stopped are quiet in a second or two, and those that pause are not.
        let weight = (3 * micros).min(1_000_000);
        let (before, lately) = (u128::from(self.appended), u128::from(lately));
        let mixed = before * u128::from(1_000_000 - weight) + lately * u128::from(weight);
        self.appended = u64::try_from(mixed / 1_000_000).unwrap_or(u64::MAX);
        let crowded = load
            .waited
            .is_none_or(|waited| waited > load.passed.mul_f64(CROWDED_SHARE));
        self.rate = match (self.appended < QUIET_BYTES_PER_SECOND, crowded) {
            (true, _) => FASTEST.max(self.least),
            (false, true) => (self.rate / 2).max(self.least),
            (false, false) => (self.rate / 8 * 9).min(FASTEST).max(self.least),
        };
    }
}

/// For how long this thread has been ready to go on and had no processor.
fn waited() -> Option<(ThreadId, Duration)> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = told.split_whitespace().nth(1)?.parse().ok()?;
    Some((thread::current().id(), Duration::from_nanos(nanos)))
}

/// More than any disk or network gives: no bound.
const FASTEST: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 32 << 20;

    /// Tenths of a second with so many bytes appended in each, in so much of which no processor was free.
    fn after(share: &mut Share, tenths: u32, appended: u64, waited: Option<u64>) -> u64 {
        for _ in 0..tenths {
            share.look(Load {
                passed: Duration::from_millis(100),
                appended,
                waited: waited.map(Duration::from_millis),
            });
        }
        share.files()
    }

    #[test]
    fn beside_quiet_producers_nothing_is_held_back_and_beside_busy_ones_the_least_is_left_soon() {
        let mut share = Share::new(LEAST);
        assert_eq!(
            share.files(),
            LEAST,
            "until it is known what there is to do"
        );
        // Whatever copying itself costs: it harms nobody.
        assert_eq!(after(&mut share, 1, 0, Some(90)), FASTEST);
        assert_eq!(after(&mut share, 1, 10 << 10, None), FASTEST);
        assert_eq!(after(&mut share, 20, 8 << 20, Some(40)), LEAST);
        assert_eq!(after(&mut share, 100, 8 << 20, Some(99)), LEAST);
    }

    #[test]
    fn beside_producers_that_leave_room_it_is_taken_by_and_by() {
        let mut share = Share::new(LEAST);
        assert_eq!(after(&mut share, 1, 4 << 20, Some(5)), LEAST / 8 * 9);
        let taken = after(&mut share, 20, 4 << 20, Some(5));
        assert!((8 * LEAST..FASTEST).contains(&taken), "{taken}");
        // Too much of it is given back at once.
        assert_eq!(after(&mut share, 1, 4 << 20, Some(30)), taken / 2);
        assert_eq!(after(&mut share, 200, 4 << 20, Some(0)), FASTEST);
    }

    #[test]
    fn where_the_system_does_not_tell_who_waits_busy_producers_leave_the_least() {
        let mut share = Share::new(LEAST);
        assert_eq!(after(&mut share, 50, 4 << 20, None), LEAST);
        assert_eq!(after(&mut share, 50, 0, None), FASTEST);
    }

    #[test]
    fn a_moment_without_appends_is_no_quiet() {
        let mut share = Share::new(LEAST);
        after(&mut share, 30, 8 << 20, Some(50));
        assert_eq!(after(&mut share, 5, 0, Some(50)), LEAST);
        assert_eq!(
            after(&mut share, 10, 0, Some(50)),
            FASTEST,
            "they have stopped"
        );
    }

    #[test]
    fn entries_for_who_lacks_them_come_faster_than_others_are_appended() {
        let mut share = Share::new(LEAST);
        after(&mut share, 100, 10 << 20, Some(50));
        let appended = 100 << 20;
        assert!(share.entries(1) > appended + LEAST, "{share:?}");
        assert_eq!(share.files(), LEAST);
    }

    #[test]
    fn each_of_several_who_lack_entries_gets_more_than_is_appended() {
        let mut share = Share::new(4 << 20);
        after(&mut share, 100, 1 << 20, None);
        let (appended, begins) = (10 << 20, Instant::now() + Duration::from_secs(60));
        let mut lacking = Lacking::default();
        let mut given = [0_u64; 3];
        let mut next = [begins; 3];
        while let Some((one, at)) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at)
            && at < begins + Duration::from_secs(10)
        {
            let wait = lacking.take(NodeId(one as u64), at, 1 << 20, &share);
            given[one] += 1 << 20;
            next[one] = at + wait;
        }
        assert!(
            given.iter().all(|bytes| *bytes > 10 * appended),
            "{given:?}"
        );
        assert!(
            given.iter().sum::<u64>() < 10 * (3 * appended / 4 * 5 + (8 << 20)),
            "{given:?}"
        );
    }

    #[test]
    fn what_the_least_is_set_to_is_the_least_even_beyond_all_that_there_is() {
        let mut share = Share::new(1 << 40);
        assert_eq!(after(&mut share, 50, 8 << 20, Some(90)), 1 << 40);
        assert_eq!(after(&mut share, 50, 0, Some(0)), 1 << 40);
    }

    #[test]
    fn a_little_is_free_and_more_takes_its_time() {
        let mut until = Instant::now();
        let now = until + Duration::from_secs(60);
        let mut spend = |bytes| spend(&mut until, now, bytes, 10 << 20);
        assert_eq!(spend(1 << 20), Duration::ZERO);
        assert_eq!(spend(10 << 20), Duration::from_secs(1));
        assert_eq!(spend(5 << 20), Duration::from_millis(1_500));
    }
}
