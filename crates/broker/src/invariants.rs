//! What must hold whatever happens, checked always and apart from the code that makes it so. What is
//! broken is said in a sentence, and the node stops.

use std::collections::BTreeSet;

use kontiki_raft::Index;
use kontiki_wire::{Offset, Watermark};

use crate::{effect::Placed, input::Ticket};

/// The order of one group as it leaves the decider: entries contiguous, offsets dense, the watermark
/// never moving back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    applied: Index,
    watermark: Watermark,
}

impl Order {
    /// Starts from a checkpoint.
    pub(crate) fn new(applied: Index, watermark: Watermark) -> Self {
        Self { applied, watermark }
    }

    /// The next entry may only be the one after the last.
    pub(crate) fn placed(&mut self, placed: &Placed) -> Result<(), String> {
        if placed.index != self.applied.next() {
            return Err(format!(
                "entry {} is applied after entry {}",
                placed.index, self.applied
            ));
        }
        if placed.offset != self.watermark {
            return Err(format!(
                "entry {} is placed at offset {}, the next is {}",
                placed.index, placed.offset, self.watermark
            ));
        }
        let Some(end) = placed.offset.0.checked_add(u64::from(placed.count)) else {
            return Err(format!("offsets run out at entry {}", placed.index));
        };
        self.applied = placed.index;
        self.watermark = Offset(end);
        Ok(())
    }

    /// What is told to subscribers is what was placed.
    pub(crate) fn raised(&self, watermark: Watermark) -> Result<(), String> {
        if watermark == self.watermark {
            return Ok(());
        }
        Err(format!(
            "the watermark is said to be {watermark}, the records placed end at {}",
            self.watermark
        ))
    }
}

/// Counts what was taken and what was answered: at any time the difference is what waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ledger {
    taken: u64,
    answered: u64,
}

impl Ledger {
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    pub(crate) fn answer(&mut self) {
        self.answered += 1;
    }

    /// Exactly what was taken and not answered waits.
    pub(crate) fn balance(&self, waiting: usize) -> Result<(), String> {
        if self.taken.checked_sub(self.answered) == u64::try_from(waiting).ok() {
            return Ok(());
        }
        Err(format!(
            "{} appends were taken and {} answered, but {waiting} wait",
            self.taken, self.answered
        ))
    }
}

/// The requests that wait for their response.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenTickets {
    open: BTreeSet<Ticket>,
}

impl OpenTickets {
    /// A ticket is given out once.
    pub(crate) fn open(&mut self, ticket: Ticket) -> Result<(), String> {
        if self.open.insert(ticket) {
            return Ok(());
        }
        Err(format!("ticket {} was given out twice", ticket.0))
    }

    /// A ticket is answered once.
    pub(crate) fn close(&mut self, ticket: Ticket) -> Result<(), String> {
        if self.open.remove(&ticket) {
            return Ok(());
        }
        Err(format!("ticket {} is answered twice", ticket.0))
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// Exactly the open ones wait.
    pub(crate) fn balance(&self, waiting: usize) -> Result<(), String> {
        if self.open.len() == waiting {
            return Ok(());
        }
        Err(format!(
            "{} requests are open, but {waiting} wait",
            self.open.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(index: u64, offset: u64, count: u32) -> Placed {
        Placed {
            index: Index(index),
            offset: Offset(offset),
            count,
        }
    }

    #[test]
    fn skipped_or_repeated_entry_breaks_the_order() {
        let order = Order::new(Index(4), Offset(10));
        assert!(order.clone().placed(&placed(6, 10, 1)).is_err());
        assert!(order.clone().placed(&placed(4, 10, 1)).is_err());
        assert!(order.clone().placed(&placed(5, 10, 1)).is_ok());
    }

    #[test]
    fn hole_or_overlap_in_offsets_breaks_the_order() {
        let mut order = Order::new(Index(0), Offset(0));
        order.placed(&placed(1, 0, 3)).unwrap();
        order.placed(&placed(2, 3, 0)).unwrap();
        assert!(order.clone().placed(&placed(3, 4, 1)).is_err());
        assert!(order.clone().placed(&placed(3, 2, 1)).is_err());
        order.placed(&placed(3, 3, 1)).unwrap();
        assert!(order.raised(Offset(4)).is_ok());
        assert!(order.raised(Offset(3)).is_err());
        assert!(order.raised(Offset(5)).is_err());
    }

    #[test]
    fn lost_and_doubled_answers_unbalance_the_ledger() {
        let mut ledger = Ledger::default();
        ledger.take();
        ledger.take();
        assert!(ledger.balance(2).is_ok());
        ledger.answer();
        assert!(ledger.balance(2).is_err());
        assert!(ledger.balance(1).is_ok());
        assert!(ledger.balance(0).is_err());
        ledger.answer();
        ledger.answer();
        assert!(ledger.balance(0).is_err());
    }

    #[test]
    fn ticket_opens_and_closes_once() {
        let mut tickets = OpenTickets::default();
        tickets.open(Ticket(1)).unwrap();
        assert!(tickets.open(Ticket(1)).is_err());
        tickets.close(Ticket(1)).unwrap();
        assert!(tickets.close(Ticket(1)).is_err());
    }
}
