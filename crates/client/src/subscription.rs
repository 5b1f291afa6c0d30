//! Reads a topic: history, then live, without a gap.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use kontiki_wire::{From, Offset, Record, TopicName, Until};

use crate::error::SubscribeError;

/// A subscription to be; `.await` begins it.
#[derive(Debug)]
#[must_use = "await it to begin"]
pub struct SubscribeBuilder {
    _topic: TopicName,
    _from: From,
    until: Until,
}

impl SubscribeBuilder {
    pub(crate) fn new(topic: TopicName, from: From) -> Self {
        Self {
            _topic: topic,
            _from: from,
            until: Until::Forever,
        }
    }

    /// Where it ends; never by default.
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }
}

impl IntoFuture for SubscribeBuilder {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;
    /// Fixes where it begins and ends. When this is done, every record committed later than where it
    /// begins will be delivered, whatever happens to members in between.
    fn into_future(self) -> Self::IntoFuture {
        unreachable!("skeleton")
    }
}

/// A record at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// Its place in the topic.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub timestamp: u64,
    /// The record; it shares the bytes of its batch.
    pub record: Record,
}

/// Records that were appended together, in order of their offsets.
#[derive(Debug)]
pub struct DeliveredRecords {}

impl DeliveredRecords {
    /// The offset of the first record.
    #[must_use]
    pub fn offset(&self) -> Offset {
        unreachable!("skeleton")
    }

    /// How many records are left in it.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it is never handed out empty")]
    pub fn len(&self) -> usize {
        unreachable!("skeleton")
    }

    /// The leader's clock when they were appended, microseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        unreachable!("skeleton")
    }

    /// Bytes of the batch they came in.
    #[must_use]
    pub fn bytes(&self) -> usize {
        unreachable!("skeleton")
    }
}

impl Iterator for DeliveredRecords {
    type Item = Result<Delivered, SubscribeError>;
    fn next(&mut self) -> Option<Self::Item> {
        unreachable!("skeleton")
    }
}

/// The records of a topic, in order, without a gap, over changes of leader and losses of members.
///
/// It moves only while it is polled: the QUIC stream's window is the read-ahead, and a reader that
/// does not poll stops the member that serves it. After a retryable error, polling on goes on;
/// after another one it ends.
#[derive(Debug)]
pub struct Subscription {}

impl Subscription {
    /// The next records that were appended together, or `None` at the end. Faster than record by
    /// record. Cancel-safe. Mixes with the `Stream`: it goes on where that stopped.
    pub async fn next_batch(&mut self) -> Result<Option<DeliveredRecords>, SubscribeError> {
        unreachable!("skeleton")
    }

    /// The offset of the next record to be handed out, once it is known: from the beginning, except
    /// with [`From::Earliest`] before anything has arrived.
    #[must_use]
    pub fn position(&self) -> Option<Offset> {
        unreachable!("skeleton")
    }

    /// Whether everything has been handed out that was committed when the member last spoke.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        unreachable!("skeleton")
    }

    /// Resolves when [`is_caught_up`](Self::is_caught_up) becomes true. Does not borrow: go on
    /// polling the subscription meanwhile, without that nothing moves.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        std::future::pending()
    }
}

impl Stream for Subscription {
    type Item = Result<Delivered, SubscribeError>;
    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        unreachable!("skeleton")
    }
}
