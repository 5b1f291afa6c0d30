//! Appends records to one topic, in order, exactly once.

use kontiki_wire::{Record, TopicName};

use crate::{
    error::AppendError,
    ticket::{Appended, Ticket},
};

/// Appends records to one topic, in the order they are submitted, exactly once. Clones share one
/// buffer, one order and one stream.
#[derive(Clone, Debug)]
pub struct Producer {}

impl Producer {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        unreachable!("skeleton")
    }

    /// Appends a record and waits until a majority has it on disk. Dropping the future leaves the
    /// record on its way, if it had entered the buffer.
    pub async fn append(&self, record: Record) -> Result<Appended, AppendError> {
        self.submit(record).await?.await
    }

    /// Puts a record into the buffer, waiting for room if it is full; the ticket resolves when the
    /// record is acknowledged. A dropped future has submitted nothing.
    pub async fn submit(&self, _record: Record) -> Result<Ticket, AppendError> {
        unreachable!("skeleton")
    }

    /// As [`submit`](Self::submit), but fails at once with [`AppendError::BufferFull`] instead of
    /// waiting.
    pub fn try_submit(&self, _record: Record) -> Result<Ticket, AppendError> {
        unreachable!("skeleton")
    }

    /// Waits until everything submitted before is acknowledged or has failed, and returns the first
    /// failure since the last flush.
    pub async fn flush(&self) -> Result<(), AppendError> {
        unreachable!("skeleton")
    }

    /// Flushes, and ends the producer for all its clones: what is submitted later is refused.
    pub async fn close(&self) -> Result<(), AppendError> {
        unreachable!("skeleton")
    }
}
