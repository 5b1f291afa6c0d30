//! The fate of submitted records. Records of one batch share one fate: a ticket is a place in it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use kontiki_wire::Offset;

use crate::error::AppendError;

/// A record is on the disks of a majority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its place in the topic.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub timestamp: u64,
}

/// Where a whole batch went, or why it did not.
pub type Outcome = Result<Appended, AppendError>;

/// What becomes of one batch.
#[derive(Default)]
pub struct BatchFate {
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Vec<Waker>>,
}

impl BatchFate {
    /// Decides it, once; `Appended` is the first record's.
    ///
    /// # Panics
    /// If it was decided before: a batch whose tickets were told one thing must not become another.
    pub fn decide(&self, outcome: Outcome) {
        assert!(self.outcome.set(outcome).is_ok(), "a fate decided twice");
        let waiting = std::mem::take(&mut *self.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    /// The ticket of the record at this position of the batch.
    pub fn ticket(self: &Arc<Self>, position: u32) -> Ticket {
        Ticket {
            fate: Arc::clone(self),
            position,
            waits_at: None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        // A list of wakers is whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when the submitted record is acknowledged, or has failed. Dropping it changes nothing
/// for the record.
#[must_use = "a ticket says whether the record was appended; use `flush` to wait for all at once"]
pub struct Ticket {
    fate: Arc<BatchFate>,
    position: u32,
    /// Its place in the fate's list, so that polling again replaces its waker and adds none: the list
    /// is never longer than the batch.
    waits_at: Option<u32>,
}

impl Ticket {
    /// The outcome, if it is known already.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Appended, AppendError>> {
        self.fate.outcome.get().map(|outcome| {
            outcome.clone().map(|first| Appended {
                offset: Offset(first.offset.0 + u64::from(self.position)),
                timestamp: first.timestamp,
            })
        })
    }
}

impl Future for Ticket {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        let mut waiting = self.fate.lock();
        // It may have been decided just before the list was locked: then nobody will wake again.
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        let waits_at = match self.waits_at {
            Some(at) => {
                waiting[at as usize].clone_from(context.waker());
                at
            }
            None => {
                waiting.push(context.waker().clone());
                waiting.len() as u32 - 1
            }
        };
        drop(waiting);
        self.waits_at = Some(waits_at);
        Poll::Pending
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome() {
            Some(outcome) => write!(f, "Ticket({outcome:?})"),
            None => f.write_str("Ticket(waiting)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(ticket: &mut Ticket, woken: &Arc<Woken>) -> Poll<Outcome> {
        let waker = Arc::clone(woken).into();
        Pin::new(ticket).poll(&mut Context::from_waker(&waker))
    }

    fn appended(offset: u64) -> Appended {
        Appended {
            offset: Offset(offset),
            timestamp: 7,
        }
    }

    #[test]
    fn every_ticket_of_a_batch_is_woken_once_and_gets_its_own_offset() {
        let fate = Arc::new(BatchFate::default());
        let woken: Vec<_> = (0..3).map(|_| Arc::new(Woken::default())).collect();
        let mut tickets: Vec<_> = (0..3).map(|position| fate.ticket(position)).collect();
        for (ticket, woken) in tickets.iter_mut().zip(&woken) {
            assert!(poll(ticket, woken).is_pending());
        }
        fate.decide(Ok(appended(40)));
        for (position, (ticket, woken)) in tickets.iter_mut().zip(&woken).enumerate() {
            assert_eq!(woken.0.load(Ordering::Relaxed), 1);
            let Poll::Ready(Ok(outcome)) = poll(ticket, woken) else {
                panic!("not appended");
            };
            assert_eq!(outcome, appended(40 + position as u64));
        }
    }

    #[test]
    fn polling_again_replaces_the_waker() {
        let fate = Arc::new(BatchFate::default());
        let mut ticket = fate.ticket(0);
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        for _ in 0..100 {
            assert!(poll(&mut ticket, &first).is_pending());
        }
        assert!(poll(&mut ticket, &second).is_pending());
        assert_eq!(fate.lock().len(), 1);
        fate.decide(Err(AppendError::Closed));
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn ticket_taken_after_the_decision_is_ready_at_once() {
        let fate = Arc::new(BatchFate::default());
        fate.decide(Ok(appended(1)));
        let woken = Arc::new(Woken::default());
        assert!(poll(&mut fate.ticket(2), &woken).is_ready());
    }

    #[test]
    fn dropping_a_waiting_ticket_leaves_the_others_waiting() {
        let fate = Arc::new(BatchFate::default());
        let woken = Arc::new(Woken::default());
        let (mut dropped, mut kept) = (fate.ticket(0), fate.ticket(1));
        assert!(poll(&mut dropped, &woken).is_pending());
        assert!(poll(&mut kept, &woken).is_pending());
        drop(dropped);
        fate.decide(Ok(appended(5)));
        assert!(matches!(poll(&mut kept, &woken), Poll::Ready(Ok(_))));
    }

    #[test]
    #[should_panic(expected = "a fate decided twice")]
    fn fate_is_decided_once() {
        let fate = BatchFate::default();
        fate.decide(Err(AppendError::Closed));
        fate.decide(Ok(appended(1)));
    }
}
