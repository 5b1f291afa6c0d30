//! What storage says unasked.

use crate::Error;

/// What storage tells the driver, from its own threads.
#[derive(Debug)]
pub enum Event {
    /// All writes up to and including this one are durable.
    Persisted {
        /// [`kontiki_broker::Writes::seq`].
        upto: u64,
    },
    /// A write or sync failed: storage is poisoned.
    Failed(Error),
}
