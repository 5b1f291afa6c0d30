//! Appends records to one topic, in order, exactly once.

use std::{fmt, sync::Arc};

use kontiki_wire::{Record, TopicName};
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::{
    buffer::Buffer,
    error::AppendError,
    options::ProducerConfig,
    routing::Routing,
    sender::Sender,
    ticket::{Appended, Ticket},
};

/// Appends records to one topic, in the order they are submitted, exactly once. Clones share one
/// buffer, one order and one stream.
///
/// Records are sent as soon as the leader takes them; while earlier ones are on their way, later ones
/// gather into larger batches. Whatever happens to members and connections in between, a record is
/// appended at most once, and records that are appended are in the order they were submitted in.
///
/// When a record fails as [`AppendError::Ambiguous`], so do those submitted after it that may have
/// been appended behind it; the others go on.
///
/// Dropping the last clone does not lose what was submitted: it is still sent, until
/// [`delivery_timeout`](ProducerConfig::delivery_timeout) is over, and what fails then is reported in
/// a `tracing` warning. That needs the runtime to live on: use [`close`](Self::close) at the end of a
/// program.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<ProducerHandle>,
}

struct ProducerHandle {
    topic: TopicName,
    buffer: Arc<Buffer>,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.buffer.end();
    }
}

impl Producer {
    pub(crate) fn spawn(
        topic: TopicName,
        config: ProducerConfig,
        routing: Arc<Routing>,
        client: &str,
        runtime: &Handle,
    ) -> Self {
        let buffer = Arc::new(Buffer::new(config));
        let sender = Sender::new(topic.clone(), Arc::clone(&buffer), routing);
        let span = tracing::info_span!("producer", client);
        runtime.spawn(sender.run().instrument(span));
        Self {
            handle: Arc::new(ProducerHandle { topic, buffer }),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.handle.topic
    }

    /// Appends a record and waits until a majority has it on disk. Dropping the future leaves the
    /// record on its way, if it had entered the buffer.
    pub async fn append(&self, record: Record) -> Result<Appended, AppendError> {
        self.submit(record).await?.await
    }

    /// Puts a record into the buffer, waiting for room if it is full; the ticket resolves when the
    /// record is acknowledged. A future that is dropped before it is done has submitted nothing.
    pub async fn submit(&self, record: Record) -> Result<Ticket, AppendError> {
        self.handle.buffer.submit(record).await
    }

    /// As [`submit`](Self::submit), but fails at once with [`AppendError::BufferFull`] instead of
    /// waiting.
    pub fn try_submit(&self, record: Record) -> Result<Ticket, AppendError> {
        self.handle.buffer.try_submit(record)
    }

    /// Waits until everything submitted before is acknowledged or has failed, and returns the first
    /// failure since the last flush. Takes no longer than the records' deadlines.
    pub async fn flush(&self) -> Result<(), AppendError> {
        self.handle.buffer.flush().await
    }

    /// Flushes, and ends the producer for all its clones: what is submitted later is refused.
    pub async fn close(&self) -> Result<(), AppendError> {
        self.handle.buffer.end();
        self.handle.buffer.flush().await
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({})", self.handle.topic)
    }
}
