//! The fate of a submitted record.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
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

/// Resolves when the submitted record is acknowledged, or has failed. Dropping it changes nothing
/// for the record.
#[derive(Debug)]
#[must_use = "a ticket says whether the record was appended; use `flush` to wait for all at once"]
pub struct Ticket {}

impl Future for Ticket {
    type Output = Result<Appended, AppendError>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        unreachable!("skeleton")
    }
}
