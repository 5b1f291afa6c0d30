//! Frames that wait for clients to take them, within a bound over all clients.
//!
//! A client that does not read holds one frame on each of its streams, and with enough streams it would
//! hold all of a member's memory. When there is too much, whoever has waited longest is given up: its
//! stream ends, and a subscription goes on from where it is, here or elsewhere. A client that reads never
//! waits long.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, MutexGuard},
    task::Poll,
};

use bytes::Bytes;
use kontiki_transport::{Error, FrameWriter};
use tokio::sync::oneshot;
use tracing::debug;

/// All frames that wait.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Bytes of all that waits; what several wait for counts once, as it is held once.
    bytes: usize,
    /// How many wait for the same bytes, by where those lie.
    shared: HashMap<usize, usize>,
    /// Who waits, by when it began.
    waiters: BTreeMap<u64, Waiter>,
    begun: u64,
}

#[derive(Debug)]
struct Waiter {
    place: usize,
    bytes: usize,
    /// Tells it that it is given up.
    _give_up: oneshot::Sender<()>,
}

/// One that waits, until this is dropped.
struct Wait<'a> {
    unsent: &'a Unsent,
    number: u64,
    /// Ends when it is given up.
    given_up: oneshot::Receiver<()>,
}

impl Unsent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            waiting: Mutex::default(),
        }
    }

    /// Writes a frame, however long its reader takes, unless there is too much that waits longer.
    pub(crate) async fn write(&self, writer: &mut FrameWriter, frame: Bytes) -> Result<(), Error> {
        let (place, bytes) = (frame.as_ptr().addr(), frame.len());
        let mut write = pin!(writer.write(frame));
        let at_once = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
        if let Poll::Ready(written) = at_once {
            return written;
        }
        let mut wait = self.wait(place, bytes);
        tokio::select! {
            biased;
            written = write => written,
            _ = &mut wait.given_up => {
                debug!(bytes, "a stream that nobody reads is given up");
                Err(Error::Lost("nobody reads the stream".to_owned()))
            }
        }
    }

    fn wait(&self, place: usize, bytes: usize) -> Wait<'_> {
        let (give_up, given_up) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.begun += 1;
        let number = waiting.begun;
        let waiters = waiting.shared.entry(place).or_default();
        *waiters += 1;
        if *waiters == 1 {
            waiting.bytes += bytes;
        }
        let waiter = Waiter {
            place,
            bytes,
            _give_up: give_up,
        };
        waiting.waiters.insert(number, waiter);
        while waiting.bytes > self.bytes_max
            && let Some((&longest, _)) = waiting.waiters.first_key_value()
        {
            waiting.leave(longest);
        }
        Wait {
            unsent: self,
            number,
            given_up,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting
            .lock()
            .expect("nothing panics while holding it")
    }
}

impl Waiting {
    /// Lets one go, and with it what tells it that it waits.
    fn leave(&mut self, number: u64) {
        let Some(waiter) = self.waiters.remove(&number) else {
            return;
        };
        if let Entry::Occupied(mut waiters) = self.shared.entry(waiter.place) {
            *waiters.get_mut() -= 1;
            if *waiters.get() == 0 {
                waiters.remove();
                self.bytes -= waiter.bytes;
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.unsent.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_waiting_are_given_up_until_the_others_fit() {
        let unsent = Unsent::new(100);
        let mut first = unsent.wait(1, 40);
        let mut second = unsent.wait(2, 40);
        assert!(first.given_up.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let mut third = unsent.wait(3, 100);
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(first.given_up.try_recv(), closed);
        assert_eq!(second.given_up.try_recv(), closed);
        assert_ne!(third.given_up.try_recv(), closed);
        drop((first, second));
        assert_eq!(unsent.lock().bytes, 100);
        drop(third);
        let waiting = unsent.lock();
        assert!(waiting.bytes == 0 && waiting.waiters.is_empty() && waiting.shared.is_empty());
    }

    #[test]
    fn what_many_wait_for_counts_once() {
        let unsent = Unsent::new(100);
        let mut waits: Vec<_> = (0..1000).map(|_| unsent.wait(7, 100)).collect();
        let empty = Err(oneshot::error::TryRecvError::Empty);
        assert!(
            waits
                .iter_mut()
                .all(|wait| wait.given_up.try_recv() == empty)
        );
        waits.truncate(1);
        assert_eq!(unsent.lock().bytes, 100);
        waits.clear();
        assert_eq!(unsent.lock().bytes, 0);
    }

    #[test]
    fn frame_larger_than_all_that_may_wait_is_given_up_itself() {
        let unsent = Unsent::new(100);
        let mut wait = unsent.wait(1, 101);
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(wait.given_up.try_recv(), closed);
        assert_eq!(unsent.lock().bytes, 0);
    }
}
