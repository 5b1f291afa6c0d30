//! Since when somebody owes an answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// However slow the answers were of late: after this, one that does not come is suspicious.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// For how long a slow answer counts.
const LATELY: Duration = Duration::from_secs(2);

/// Tells when an answer that is owed does not come.
///
/// While answers take long, because the member has much to do, they are waited for longer: twice as long as the
/// slowest of late. To look for another member whenever one is slow would give all of them more to do.
pub(crate) struct Vigil {
    silence_max: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    owed_since: Option<Instant>,
    /// How long the slowest answer of late took, and when it came.
    slowest: Option<(Duration, Instant)>,
}

impl State {
    fn heard(&mut self) {
        let Some(since) = self.owed_since else {
            return;
        };
        let took = since.elapsed();
        if self.slowest_of_late() <= took {
            self.slowest = Some((took, Instant::now()));
        }
    }

    fn slowest_of_late(&self) -> Duration {
        let slowest = self.slowest.filter(|(_, at)| at.elapsed() <= LATELY);
        slowest.map_or(Duration::ZERO, |(took, _)| took)
    }
}

impl Vigil {
    pub(crate) fn new(silence_max: Duration) -> Self {
        Self {
            silence_max,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// An answer is owed from now on, if none was before.
    pub(crate) fn expect(&self) {
        let mut state = self.lock();
        if state.owed_since.is_none() {
            state.owed_since = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    /// An answer has come; more may be owed.
    pub(crate) fn heard(&self, owed: bool) {
        let mut state = self.lock();
        let was_silent = state
            .owed_since
            .is_some_and(|since| since.elapsed() >= self.patience(&state));
        state.heard();
        state.owed_since = owed.then(Instant::now);
        // Otherwise [`Vigil::silent`] finds out by itself when it is due: no wake-up for each answer.
        if was_silent || !owed {
            self.changed.notify_one();
        }
    }

    /// Nothing is owed any more, though no answer has come. Whoever owes the next may be another one.
    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
        self.changed.notify_one();
    }

    /// Resolves when something has begun to be owed, when nothing is owed any more, and when a
    /// silence has ended; whoever waits for [`Vigil::silent`] is to begin anew.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Resolves when an answer has been owed for too long.
    pub(crate) async fn silent(&self) {
        self.owed(|state| self.patience(state)).await;
    }

    /// Resolves when an answer has been owed for so long.
    pub(crate) async fn owed_for(&self, time: Duration) {
        self.owed(|_| time).await;
    }

    fn patience(&self, state: &State) -> Duration {
        (2 * state.slowest_of_late()).clamp(self.silence_max, PATIENCE_MAX)
    }

    async fn owed(&self, time: impl Fn(&State) -> Duration) {
        loop {
            let due = {
                let state = self.lock();
                state.owed_since.map(|since| since + time(&state))
            };
            let Some(due) = due else {
                return std::future::pending().await;
            };
            if due <= Instant::now() {
                return;
            }
            // It may be due sooner than it seems: a slow answer counts for a while only.
            sleep_until(due.min(Instant::now() + self.silence_max)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        vigil.forget();
        vigil.expect();
        advance(SHORT / 2).await;
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
    async fn who_answers_slowly_is_waited_for_longer_until_answers_are_quick_again() {
        pause();
        let vigil = Vigil::new(SILENCE);
        let answer_after = async |time: Duration| {
            vigil.expect();
            advance(time).await;
            vigil.heard(false);
        };
        answer_after(2 * SILENCE).await;
        vigil.expect();
        assert!(!is_silent_within(&vigil, 3 * SILENCE).await, "slow so far");
        assert!(is_silent_within(&vigil, 2 * SILENCE).await, "slower yet");
        answer_after(100 * SILENCE).await;
        vigil.expect();
        assert!(
            is_silent_within(&vigil, PATIENCE_MAX).await,
            "patience ends"
        );
        vigil.heard(false);
        advance(LATELY).await;
        answer_after(Duration::from_millis(1)).await;
        vigil.expect();
        assert!(is_silent_within(&vigil, SILENCE).await, "quick again");
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
