//! Since when somebody owes an answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Tells when an answer that is owed does not come.
pub(crate) struct Vigil {
    silence_max: Duration,
    owed_since: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Vigil {
    pub(crate) fn new(silence_max: Duration) -> Self {
        Self {
            silence_max,
            owed_since: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// An answer is owed from now on, if none was before.
    pub(crate) fn expect(&self) {
        let mut owed_since = self.lock();
        if owed_since.is_none() {
            *owed_since = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    /// An answer has come; more may be owed.
    pub(crate) fn heard(&self, owed: bool) {
        let mut owed_since = self.lock();
        let was_silent = owed_since.is_some_and(|since| since.elapsed() >= self.silence_max);
        *owed_since = owed.then(Instant::now);
        // Otherwise [`Vigil::silent`] finds out by itself when it is due: no wake-up for each answer.
        if was_silent || !owed {
            self.changed.notify_one();
        }
    }

    /// Resolves when something has begun to be owed, when nothing is owed any more, and when a
    /// silence has ended; whoever waits for [`Vigil::silent`] is to begin anew.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Resolves when an answer has been owed for too long.
    pub(crate) async fn silent(&self) {
        self.owed_for(self.silence_max).await;
    }

    /// Resolves when an answer has been owed for so long.
    pub(crate) async fn owed_for(&self, time: Duration) {
        loop {
            let owed_since = *self.lock();
            let Some(due) = owed_since.map(|since| since + time) else {
                return std::future::pending().await;
            };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.owed_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause, timeout};

    use super::*;

    const SILENCE: Duration = Duration::from_millis(150);
    const SHORT: Duration = Duration::from_millis(100);

    async fn is_silent_within(vigil: &Vigil, time: Duration) -> bool {
        timeout(time, vigil.silent()).await.is_ok()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn silence_counts_from_the_first_that_is_owed_or_the_last_that_was_heard() {
        pause();
        let vigil = Vigil::new(SILENCE);
        assert!(
            !is_silent_within(&vigil, 10 * SILENCE).await,
            "nothing owed"
        );
        vigil.expect();
        advance(SHORT).await;
        vigil.expect();
        assert!(is_silent_within(&vigil, SHORT).await, "owed for too long");
        vigil.heard(true);
        assert!(!is_silent_within(&vigil, SHORT).await, "heard just now");
        assert!(is_silent_within(&vigil, SHORT).await, "owed again");
        vigil.heard(false);
        assert!(
            !is_silent_within(&vigil, 10 * SILENCE).await,
            "all answered"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn end_of_a_silence_is_told_and_an_answer_in_time_is_not() {
        pause();
        let vigil = Vigil::new(SILENCE);
        let told = async || timeout(SHORT, vigil.changed()).await.is_ok();
        vigil.expect();
        assert!(told().await, "something is owed");
        vigil.heard(true);
        assert!(!told().await, "an answer in time");
        advance(SILENCE).await;
        vigil.heard(true);
        assert!(told().await, "the silence is over");
    }
}
