//! One producer under load: a closed loop of so many in flight, or a steady rate.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use kontiki_client::{Producer, Record, Ticket};
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout_at},
};

use crate::verbs::bench::{
    outcome::{Gaps, Outcome, Window},
    payload::{Payloads, Stamp},
};

/// How long acknowledgements may still come after the end before the run is given up.
pub(crate) const GRACE: Duration = Duration::from_secs(35);

/// One producer.
pub(crate) struct Worker {
    producer: Producer,
    payloads: Payloads,
    stamp: Stamp,
    in_flight: usize,
    window: Window,
    waiting: VecDeque<Waiting>,
    outcome: Outcome,
    gaps: Gaps,
}

/// A record that has no answer yet; kept in order.
struct Waiting {
    sequence: u64,
    /// When it was due or submitted.
    due: Instant,
    ticket: Ticket,
}

impl Worker {
    /// One whose payloads say that they are from this producer of this run.
    pub(crate) fn new(
        producer: Producer,
        (run, number): (u64, u32),
        size: usize,
        in_flight: usize,
        window: Window,
        gaps: Gaps,
    ) -> Self {
        Self {
            producer,
            payloads: Payloads::new(size),
            stamp: Stamp {
                producer: number,
                run,
                sequence: 0,
                sent: Duration::ZERO,
            },
            in_flight,
            window,
            waiting: VecDeque::with_capacity(in_flight),
            outcome: Outcome::new(),
            gaps,
        }
    }

    /// Appends to the end of the window, at `pace` if there is one, and waits for what is on its way.
    pub(crate) async fn run(mut self, pace: Option<mpsc::Receiver<Instant>>) -> Outcome {
        match pace {
            Some(pace) => self.paced(pace).await,
            None => self.closed_loop().await,
        }
        let late = self.late();
        while !self.waiting.is_empty() {
            if timeout_at(late.into(), self.answers()).await.is_err() {
                let (producer, outcome) = (self.stamp.producer, &mut self.outcome);
                let open = self.waiting.iter();
                open.for_each(|waiting| outcome.fail((producer, waiting.sequence)));
                break;
            }
        }
        self.outcome
    }

    async fn closed_loop(&mut self) {
        let mut now = Instant::now();
        while now < self.window.until {
            while self.waiting.len() < self.in_flight {
                now = Instant::now();
                if !self.submit(now).await {
                    return;
                }
            }
            if timeout_at(self.window.until.into(), self.answers())
                .await
                .is_err()
            {
                return;
            }
            now = Instant::now();
        }
    }

    /// When the run is given up.
    fn late(&self) -> Instant {
        self.window.until + GRACE
    }

    async fn paced(&mut self, mut pace: mpsc::Receiver<Instant>) {
        let mut late = pin!(sleep_until(self.late().into()));
        loop {
            tokio::select! {
                biased;
                () = &mut late => {
                    // What waits for those before it was due, and was never sent.
                    pace.close();
                    while pace.try_recv().is_ok() {
                        self.outcome.failed += 1;
                    }
                    return;
                }
                due = pace.recv(), if self.waiting.len() < self.in_flight => match due {
                    Some(due) => if !self.submit(due).await {
                        return;
                    },
                    None => return,
                },
                () = answers(self.stamp.producer, &mut self.waiting, &mut self.outcome, &self.gaps, self.window), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// Whether it makes sense to go on.
    async fn submit(&mut self, due: Instant) -> bool {
        self.stamp.sent = due.saturating_duration_since(self.window.start);
        let value = self.payloads.make(self.stamp);
        let (producer, sequence) = (self.stamp.producer, self.stamp.sequence);
        self.stamp.sequence += 1;
        let record = Record {
            value,
            ..Record::default()
        };
        match self.producer.submit(record).await {
            Ok(ticket) => {
                self.waiting.push_back(Waiting {
                    sequence,
                    due,
                    ticket,
                });
                true
            }
            Err(error) => {
                self.outcome.fail((producer, sequence));
                let go_on = error.is_retryable();
                self.outcome.failure = Some(error);
                go_on
            }
        }
    }

    async fn answers(&mut self) {
        answers(
            self.stamp.producer,
            &mut self.waiting,
            &mut self.outcome,
            &self.gaps,
            self.window,
        )
        .await;
    }
}

/// Waits for the answer to the oldest waiting record, and takes all that have come. Cancel-safe.
async fn answers(
    producer: u32,
    waiting: &mut VecDeque<Waiting>,
    outcome: &mut Outcome,
    gaps: &Gaps,
    window: Window,
) {
    poll_fn(|context| {
        let acknowledged = outcome.acknowledged;
        let mut now = None;
        while let Some(oldest) = waiting.front_mut() {
            let Poll::Ready(answer) = Pin::new(&mut oldest.ticket).poll(context) else {
                break;
            };
            let (sequence, due) = (oldest.sequence, oldest.due);
            waiting.pop_front();
            let now = *now.get_or_insert_with(Instant::now);
            outcome.count((producer, sequence), answer, due, now, window);
        }
        let Some(now) = now else {
            return Poll::Pending;
        };
        if outcome.acknowledged > acknowledged {
            gaps.acknowledged(now);
        }
        Poll::Ready(())
    })
    .await;
}
