//! Counts the connections of each identity, so that nobody takes the places of all.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::Identity;

/// The connections that are open, by whose they are. As long as there are connections at most.
pub(crate) struct Seats {
    /// How many one identity may have.
    each_max: usize,
    taken: Mutex<HashMap<Identity, usize>>,
}

/// One connection's seat, given back when this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    identity: Identity,
}

impl Seats {
    pub(crate) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self {
            each_max,
            taken: Mutex::default(),
        })
    }

    /// A seat, or the sentence that says why there is none.
    pub(crate) fn take(self: &Arc<Self>, identity: &Identity) -> Result<Seat, String> {
        let mut taken = self.taken();
        let of_it = taken.entry(identity.clone()).or_default();
        if *of_it >= self.each_max {
            return Err(format!(
                "{identity} has {of_it} connections here, as many as one identity may"
            ));
        }
        *of_it += 1;
        Ok(Seat {
            seats: Arc::clone(self),
            identity: identity.clone(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Identity, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.seats.taken().entry(self.identity.clone()) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::ClusterId;

    use super::*;
    use crate::Role;

    #[test]
    fn each_identity_has_its_own_seats_and_none_is_remembered_when_all_are_given_back() {
        let seats = Seats::new(2);
        let one = Identity::new(ClusterId(1), Role::Producer, "one").unwrap();
        let other = Identity::new(ClusterId(1), Role::Consumer, "one").unwrap();
        let (first, second) = (seats.take(&one).unwrap(), seats.take(&one).unwrap());
        let refused = seats.take(&one).err().unwrap();
        assert!(
            refused.contains("producer/one has 2 connections"),
            "{refused}"
        );
        let third = seats.take(&other).unwrap();
        drop(first);
        let fourth = seats.take(&one).unwrap();
        drop((second, third, fourth));
        assert!(seats.taken().is_empty());
    }
}
