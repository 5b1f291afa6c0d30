//! How fast this member copies logs to newcomers, or takes one in as a newcomer: as fast as the disk and the
//! network give while its producers are quiet, and while they are not, so that they keep most of what they had.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kontiki_raft::NodeId;
use kontiki_storage::Storage;
use tokio::time::sleep;
use tracing::debug;

use crate::limits::{
    CATCH_UP_ALONE, CATCH_UP_BESIDE, CATCH_UP_BURST, CATCH_UP_LOOK, CATCH_UP_TRIES,
    CATCH_UP_WAIT_MAX, KEPT_PER_CENT, QUIET_BYTES_PER_SECOND,
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
    copied: u64,
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
                copied: 0,
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
            inner.copied += bytes;
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
            inner.copied += bytes;
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
            let appended = self.storage.given_bytes();
            let load = Load {
                passed,
                appended: appended.saturating_sub(inner.appended),
                copied: inner.copied,
            };
            inner.share.look(load);
            let share = &inner.share;
            debug!(
                rate = share.files(),
                appended = share.appended,
                alone = share.alone,
                "logs are copied"
            );
            inner.looked += passed;
            (inner.appended, inner.copied) = (appended, 0);
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

/// What a member did in a while.
#[derive(Clone, Copy, Debug)]
struct Load {
    passed: Duration,
    /// Bytes of entries that it was given to write.
    appended: u64,
    /// Bytes that were copied.
    copied: u64,
}

impl Load {
    const NOTHING: Self = Self {
        passed: Duration::ZERO,
        appended: 0,
        copied: 0,
    };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.appended = self.appended.saturating_add(other.appended);
        self.copied = self.copied.saturating_add(other.copied);
    }

    fn per_second(&self, bytes: u64) -> u64 {
        let micros = self.passed.as_micros().clamp(1, 1_000_000_000);
        u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// Decides how fast to copy.
///
/// While producers are quiet nobody is harmed. While they are not, it is tried out: now and then only the
/// least is copied for a moment, which tells what producers append when they have the machine nearly for
/// themselves; and in between copying gets faster as long as they keep most of that, and slower when not.
#[derive(Clone, Debug)]
struct Share {
    least: u64,
    /// Bytes a second at which is copied beside producers.
    rate: u64,
    /// Bytes a second that are appended, as far as the last few looks tell.
    appended: u64,
    /// Bytes a second that were appended while little was copied, the last few times.
    alone: u64,
    /// How often a rate was too much: after the second time those after it are tried with care.
    too_much: u32,
    /// How often it is still to be tried before producers are left alone again.
    tries: u32,
    /// The first look after a try shows what it leaves behind.
    settles: bool,
    /// What this moment, or this try, has shown so far.
    shown: Load,
}

impl Share {
    fn new(least: u64) -> Self {
        Self {
            least,
            rate: least,
            appended: 0,
            alone: 0,
            too_much: 0,
            tries: 0,
            settles: true,
            shown: Load::NOTHING,
        }
    }

    /// Bytes a second at which files may be copied.
    fn files(&self) -> u64 {
        if self.tries == 0 && !self.is_quiet() {
            return self.least;
        }
        self.rate
    }

    /// Bytes a second at which entries may be read for each of so many who lack them.
    fn entries(&self, lacking: u64) -> u64 {
        (self.files() / lacking.max(1)).saturating_add(self.appended / 4 * 5)
    }

    fn is_quiet(&self) -> bool {
        self.rate >= FASTEST
    }

    fn look(&mut self, load: Load) {
        let lately = load.per_second(load.appended);
        // Producers that have stopped are quiet in a second or two, and those that pause are not.
        let weight = (3 * load.passed.as_micros()).min(1_000_000);
        let (before, lately) = (u128::from(self.appended), u128::from(lately));
        let mixed = before * (1_000_000 - weight) + lately * weight;
        self.appended = u64::try_from(mixed / 1_000_000).unwrap_or(u64::MAX);
        if self.appended < QUIET_BYTES_PER_SECOND {
            self.rate = FASTEST.max(self.least);
            self.leave_alone();
            (self.alone, self.too_much) = (0, 0);
        } else if self.is_quiet() || load.passed >= 2 * CATCH_UP_ALONE {
            // What was going on while nothing was copied for long says nothing of now.
            self.rate = self.rate.min(self.least.saturating_mul(2));
            self.leave_alone();
        } else if self.tries == 0 && self.settles {
            // What was copied before is still being written.
            self.settles = false;
        } else {
            self.shown.add(load);
            self.conclude();
        }
    }

    fn leave_alone(&mut self) {
        (self.tries, self.settles) = (0, true);
        self.shown = Load::NOTHING;
    }

    /// Draws conclusions once this moment, or this try, is over.
    fn conclude(&mut self) {
        let shown = self.shown;
        let appended = shown.per_second(shown.appended);
        if self.tries == 0 {
            if shown.passed < CATCH_UP_ALONE {
                return;
            }
            // Producers that have paused for a moment are believed later than those that append more.
            self.alone = appended.max(self.alone / 4 * 3 + appended / 4);
            self.tries = CATCH_UP_TRIES;
        } else {
            if shown.passed < CATCH_UP_BESIDE {
                return;
            }
            // What is not taken up shows nothing.
            let taken = shown.per_second(shown.copied);
            self.rate = if appended >= self.alone / 100 * KEPT_PER_CENT {
                let more = self.rate / 8 * if self.too_much < 2 { 12 } else { 9 };
                more.min(taken.saturating_mul(2).max(self.rate))
            } else {
                self.too_much = self.too_much.saturating_add(1);
                self.rate.min(taken.saturating_mul(2)) / 4 * 3
            };
            self.rate = self.rate.min(FASTEST - 1).max(self.least);
            self.tries -= 1;
            self.settles = true;
        }
        self.shown = Load::NOTHING;
    }
}

/// More than any disk or network gives: no bound.
const FASTEST: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 32 << 20;

    /// Producers beside whom is copied, for so many seconds, in tenths: what they append of what they offer
    /// if copying a byte takes a third of what appending one takes. Both in bytes a second, over the last half.
    fn beside(share: &mut Share, seconds: u32, offered: u64, together: u64) -> (u64, u64) {
        let (mut appended, mut copied) = (0, 0);
        let tenths = 10 * seconds;
        for tenth in 0..tenths {
            // A disk gives no more than this.
            let copies = share.files().min(200 << 20);
            let appends = offered.min(together.saturating_sub(copies / 3));
            share.look(Load {
                passed: Duration::from_millis(100),
                appended: appends / 10,
                copied: copies / 10,
            });
            if tenth >= tenths / 2 {
                appended += appends / 10;
                copied += copies / 10;
            }
        }
        let half = u64::from(seconds.div_ceil(2));
        (appended / half, copied / half)
    }

    /// Tenths of a second with so many bytes appended in each, whatever is copied.
    fn after(share: &mut Share, tenths: u32, appended: u64) -> u64 {
        for _ in 0..tenths {
            share.look(Load {
                passed: Duration::from_millis(100),
                appended,
                copied: share.files() / 10,
            });
        }
        share.files()
    }

    #[test]
    fn beside_quiet_producers_nothing_is_held_back_and_busy_ones_are_left_alone_at_once() {
        let mut share = Share::new(LEAST);
        assert_eq!(
            share.files(),
            LEAST,
            "until it is known what there is to do"
        );
        assert_eq!(after(&mut share, 1, 0), FASTEST);
        assert_eq!(after(&mut share, 1, 10 << 10), FASTEST);
        assert_eq!(after(&mut share, 1, 8 << 20), LEAST);
    }

    #[test]
    fn producers_at_full_throttle_keep_four_fifths_and_the_rest_is_taken() {
        let mut share = Share::new(16 << 20);
        let (appended, copied) = beside(&mut share, 60, u64::MAX, 100 << 20);
        assert!(appended > 80 << 20, "{appended}");
        assert!(copied > 30 << 20, "{copied}");
    }

    #[test]
    fn producers_that_leave_half_of_the_machine_keep_all_and_the_disk_is_used_up() {
        let mut share = Share::new(16 << 20);
        let (appended, copied) = beside(&mut share, 20, 30 << 20, 100 << 20);
        assert_eq!(appended >> 20, 30);
        assert!(copied > 160 << 20, "{copied}");
        // They want more: they get it within seconds.
        let (appended, copied) = beside(&mut share, 20, u64::MAX, 100 << 20);
        assert!(appended > 80 << 20, "{appended}");
        assert!(copied > 30 << 20, "{copied}");
    }

    #[test]
    fn whatever_producers_lose_the_least_is_copied() {
        let mut share = Share::new(LEAST);
        let (appended, copied) = beside(&mut share, 30, u64::MAX, 20 << 20);
        assert!(appended > 7 << 20, "{appended}");
        assert!((LEAST..40 << 20).contains(&copied), "{copied}");
    }

    #[test]
    fn a_moment_without_appends_is_no_quiet() {
        let mut share = Share::new(LEAST);
        after(&mut share, 30, 8 << 20);
        assert!(after(&mut share, 5, 0) < FASTEST);
        assert_eq!(after(&mut share, 10, 0), FASTEST, "they have stopped");
    }

    #[test]
    fn producers_of_long_ago_are_no_measure() {
        let mut share = Share::new(LEAST);
        after(&mut share, 30, 8 << 20);
        share.look(Load {
            passed: Duration::from_secs(3600),
            appended: 3600 << 20,
            copied: 0,
        });
        assert_eq!(share.files(), LEAST);
    }

    #[test]
    fn entries_for_who_lacks_them_come_faster_than_others_are_appended() {
        let mut share = Share::new(LEAST);
        after(&mut share, 100, 10 << 20);
        let appended = 100 << 20;
        assert!(share.entries(1) > appended + LEAST, "{share:?}");
    }

    #[test]
    fn each_of_several_who_lack_entries_gets_more_than_is_appended() {
        let mut share = Share::new(4 << 20);
        after(&mut share, 99, 1 << 20);
        share.leave_alone();
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
        assert_eq!(after(&mut share, 50, 8 << 20), 1 << 40);
        assert_eq!(after(&mut share, 50, 0), 1 << 40);
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
