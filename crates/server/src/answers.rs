//! Where those wait who asked the driver something: producers' streams and requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use kontiki_broker::{StreamId, Ticket};
use kontiki_wire::{Answer, Response, limits::PRODUCER_BATCHES_IN_FLIGHT_MAX};
use tokio::sync::{mpsc, oneshot};

/// Everyone who waits for an answer. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    streams: HashMap<StreamId, mpsc::Sender<Answer>>,
    tickets: HashMap<Ticket, oneshot::Sender<Response>>,
}

/// A producer's stream, as long as this lives.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    id: StreamId,
    received: mpsc::Receiver<Answer>,
    answers: Answers,
}

/// A request, as long as this lives.
#[derive(Debug)]
pub(crate) struct PendingResponse {
    ticket: Ticket,
    received: oneshot::Receiver<Response>,
    answers: Answers,
}

impl Answers {
    /// A new stream. It may have [`PRODUCER_BATCHES_IN_FLIGHT_MAX`] unanswered batches.
    pub(crate) fn open_stream(&self) -> AnswerStream {
        let (sender, received) = mpsc::channel(PRODUCER_BATCHES_IN_FLIGHT_MAX);
        let mut waiting = self.lock();
        waiting.last += 1;
        let id = StreamId(waiting.last);
        waiting.streams.insert(id, sender);
        AnswerStream {
            id,
            received,
            answers: self.clone(),
        }
    }

    /// A new request.
    pub(crate) fn open_ticket(&self) -> PendingResponse {
        let (sender, received) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last += 1;
        let ticket = Ticket(waiting.last);
        waiting.tickets.insert(ticket, sender);
        PendingResponse {
            ticket,
            received,
            answers: self.clone(),
        }
    }

    /// Hands an answer to its stream, if that is still there.
    pub(crate) fn answer(&self, stream: StreamId, answer: Answer) {
        if let Some(sender) = self.lock().streams.get(&stream) {
            let full = matches!(
                sender.try_send(answer),
                Err(mpsc::error::TrySendError::Full(_))
            );
            assert!(!full, "a stream got more answers than it has batches");
        }
    }

    /// Hands a response to whoever asked, if it is still there.
    pub(crate) fn respond(&self, ticket: Ticket, response: Response) {
        if let Some(sender) = self.lock().tickets.remove(&ticket) {
            // An asker that has gone needs no response.
            let _ = sender.send(response);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting
            .lock()
            .expect("nothing panics while holding it")
    }
}

impl AnswerStream {
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    /// Waits for answers and moves all that are there into `into`.
    pub(crate) async fn next(&mut self, into: &mut Vec<Answer>) {
        let count = self
            .received
            .recv_many(into, PRODUCER_BATCHES_IN_FLIGHT_MAX)
            .await;
        assert!(count > 0, "the sender is registered as long as this lives");
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        self.answers.lock().streams.remove(&self.id);
    }
}

impl PendingResponse {
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The response, or `None` if the driver ended without one.
    pub(crate) async fn response(mut self) -> Option<Response> {
        (&mut self.received).await.ok()
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.answers.lock().tickets.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{Acknowledged, Offset};

    use super::*;

    fn acknowledged(sequence: u64) -> Answer {
        Ok(Acknowledged {
            sequence,
            offset: Offset(sequence),
            time: 0,
        })
    }

    #[tokio::test]
    async fn answers_that_wait_come_out_together_and_in_order() {
        let answers = Answers::default();
        let mut one = answers.open_stream();
        let other = answers.open_stream();
        for sequence in 0..3 {
            answers.answer(one.id(), acknowledged(sequence));
        }
        answers.answer(other.id(), acknowledged(9));
        let mut got = Vec::new();
        one.next(&mut got).await;
        assert_eq!(got, (0..3).map(acknowledged).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn askers_that_have_gone_leave_nothing_behind() {
        let answers = Answers::default();
        let stream = answers.open_stream();
        let pending = answers.open_ticket();
        let (id, ticket) = (stream.id(), pending.ticket());
        drop((stream, pending));
        answers.answer(id, acknowledged(0));
        answers.respond(ticket, Response::Done);
        let waiting = answers.lock();
        assert!(waiting.streams.is_empty() && waiting.tickets.is_empty());
    }

    #[tokio::test]
    async fn response_finds_its_request() {
        let answers = Answers::default();
        let (one, other) = (answers.open_ticket(), answers.open_ticket());
        answers.respond(other.ticket(), Response::Done);
        answers.respond(one.ticket(), Response::Offset(Offset(1)));
        assert_eq!(one.response().await, Some(Response::Offset(Offset(1))));
        assert_eq!(other.response().await, Some(Response::Done));
    }
}
