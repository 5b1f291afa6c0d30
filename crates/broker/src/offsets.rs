//! Turns an index of the log into an offset of the topic and bytes of it, well enough for a status.

use std::collections::VecDeque;

use kontiki_raft::Index;
use kontiki_wire::Offset;

/// Where the records of applied entries end: exact for the latest entries, ever coarser before.
#[derive(Clone, Debug)]
pub(crate) struct Offsets {
    /// Ascending in all three. Never empty.
    points: VecDeque<Point>,
}

/// After applying this index, the next offset is this one, and the entries until then have so many bytes.
#[derive(Clone, Copy, Debug)]
struct Point {
    index: Index,
    next: Offset,
    bytes: u64,
}

impl Offsets {
    /// Starts from what is applied.
    pub(crate) fn new(index: Index, next: Offset, bytes: u64) -> Self {
        Self {
            points: VecDeque::from([Point { index, next, bytes }]),
        }
    }

    /// `index` has been applied and `next` is the next offset now.
    pub(crate) fn push(&mut self, index: Index, next: Offset, bytes: u64) {
        if self.points.len() == POINTS_MAX {
            self.thin();
        }
        self.points.push_back(Point { index, next, bytes });
    }

    /// An offset below which all records are in the entries up to `index`: exact where there is a
    /// point, rounded down between two, and `None` before the first.
    pub(crate) fn at(&self, index: Index) -> Option<Offset> {
        let after = self.points.partition_point(|point| point.index <= index);
        Some(self.points[after.checked_sub(1)?].next)
    }

    /// About how many bytes the entries up to `index` have: exact where there is a point, and between two as
    /// if all entries there were of one size.
    pub(crate) fn bytes_at(&self, index: Index) -> u64 {
        let after = self.points.partition_point(|point| point.index <= index);
        let (from, bytes) = match after.checked_sub(1) {
            Some(before) => (self.points[before].index, self.points[before].bytes),
            None => (Index(0), 0),
        };
        let Some(next) = self.points.get(after) else {
            return bytes;
        };
        let (part, whole) = (index.0 - from.0, next.index.0 - from.0);
        let between = u128::from(next.bytes - bytes) * u128::from(part) / u128::from(whole.max(1));
        bytes + u64::try_from(between).expect("a part of what is a u64")
    }

    /// Drops every other point of the older half, so that each is dropped at most once and what is
    /// left reaches back ever further with ever less precision.
    fn thin(&mut self) {
        let mut at = 0;
        self.points.retain(|_| {
            at += 1;
            at > POINTS_MAX / 2 || at % 2 == 1
        });
    }
}

const POINTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points_are_exact_and_others_round_down() {
        let mut offsets = Offsets::new(Index(10), Offset(100), 1000);
        offsets.push(Index(11), Offset(105), 1100);
        offsets.push(Index(14), Offset(200), 1700);
        assert_eq!(offsets.at(Index(9)), None);
        assert_eq!(offsets.at(Index(10)), Some(Offset(100)));
        assert_eq!(offsets.at(Index(11)), Some(Offset(105)));
        assert_eq!(offsets.at(Index(13)), Some(Offset(105)));
        assert_eq!(offsets.at(Index(99)), Some(Offset(200)));
        let bytes = [0, 5, 10, 11, 12, 14, 99].map(|at| offsets.bytes_at(Index(at)));
        assert_eq!(bytes, [0, 500, 1000, 1100, 1300, 1700, 1700]);
    }

    #[test]
    fn many_points_stay_bounded_and_never_promise_too_much() {
        let mut offsets = Offsets::new(Index(0), Offset(0), 0);
        for index in 1..=100_000 {
            offsets.push(Index(index), Offset(index * 3), index * 7);
            assert!(offsets.points.len() <= POINTS_MAX);
        }
        for index in (0..=100_000).step_by(17) {
            let found = offsets.at(Index(index)).unwrap();
            assert!(found <= Offset(index * 3), "{index}: {found}");
            assert_eq!(offsets.bytes_at(Index(index)), index * 7);
        }
        let latest = 100_000 - POINTS_MAX as u64 / 4;
        assert_eq!(offsets.at(Index(latest)), Some(Offset(latest * 3)));
        assert_eq!(offsets.at(Index(0)), Some(Offset(0)));
    }
}
