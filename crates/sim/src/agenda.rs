//! What is going to happen, and when: in the order of time, and at one time in the order of planning.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Everything that is going to happen.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    points: BinaryHeap<Point<T>>,
    planned: u64,
}

#[derive(Debug)]
struct Point<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            points: BinaryHeap::new(),
            planned: 0,
        }
    }
}

impl<T> Agenda<T> {
    /// Plans something.
    pub(crate) fn plan(&mut self, at: u64, what: T) {
        self.planned += 1;
        let number = self.planned;
        self.points.push(Point { at, number, what });
    }

    /// The next thing, if it is to happen by then, and when it is.
    pub(crate) fn next_by(&mut self, end: u64) -> Option<(u64, T)> {
        if self.points.peek()?.at > end {
            return None;
        }
        let point = self.points.pop()?;
        Some((point.at, point.what))
    }
}

impl<T> Ord for Point<T> {
    /// The greatest comes first out of the heap: the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Point<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Point<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Point<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_first_for_one_time_happens_first() {
        let mut agenda = Agenda::default();
        for (at, what) in [(5, 'c'), (3, 'a'), (5, 'd'), (4, 'b'), (9, 'e')] {
            agenda.plan(at, what);
        }
        let happened: Vec<_> = std::iter::from_fn(|| agenda.next_by(8)).collect();
        assert_eq!(happened, [(3, 'a'), (4, 'b'), (5, 'c'), (5, 'd')]);
        assert_eq!(agenda.next_by(9), Some((9, 'e')));
    }
}
