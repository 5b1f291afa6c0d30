//! What of the segments the system's page cache may keep. Fresh pages are dear, most of all in a virtual
//! machine whose host takes back what is free: a log that leaves all it writes in the cache spends more
//! on pages than on everything else. So the latest stay, and the pages of those before are used again.

use std::{collections::VecDeque, ops::Range};

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{disk::Disk, segment};

/// Stretches that are remembered at most; small ones count for little.
const STRETCHES_MAX: usize = 4096;
/// Bytes of one of them: so much is forgotten at a time.
const STRETCH_BYTES_MAX: u64 = 4 << 20;

/// What was written to segments and the cache may have, oldest first.
#[derive(Default)]
pub(crate) struct Cached {
    stretches: VecDeque<Stretch>,
    bytes: u64,
}

struct Stretch {
    group: GroupId,
    /// The first index of its segment.
    segment: Index,
    bytes: Range<u64>,
}

impl Cached {
    /// These bytes of a segment were written.
    pub(crate) fn push(&mut self, group: GroupId, segment: Index, bytes: Range<u64>) {
        self.bytes += bytes.end - bytes.start;
        if let Some(last) = self.stretches.back_mut()
            && (last.group, last.segment, last.bytes.end) == (group, segment, bytes.start)
            && bytes.end - last.bytes.start <= STRETCH_BYTES_MAX
        {
            last.bytes.end = bytes.end;
            return;
        }
        self.stretches.push_back(Stretch {
            group,
            segment,
            bytes,
        });
    }

    /// Lets go of the oldest until at most so many are left. All of them must be durable: the cache keeps
    /// what is not.
    pub(crate) fn shrink_to(&mut self, disk: &dyn Disk, bytes_max: u64) {
        while (self.bytes > bytes_max || self.stretches.len() > STRETCHES_MAX)
            && let Some(stretch) = self.stretches.pop_front()
        {
            let Stretch {
                group,
                segment,
                bytes,
            } = stretch;
            self.bytes -= bytes.end - bytes.start;
            segment::uncache(disk, group, segment, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_latest_stay_and_no_more_than_a_bound() {
        let disk = SimDisk::seeded(1);
        let mut cached = Cached::default();
        for piece in 0..100 {
            cached.push(GroupId(7), Index(1), piece * MIB..(piece + 1) * MIB);
            cached.shrink_to(&disk, 10 * MIB);
        }
        assert!(cached.bytes <= 10 * MIB);
        let last = cached.stretches.back().map(|last| last.bytes.end);
        assert_eq!(last, Some(100 * MIB));
        let kept = cached.stretches.iter().map(|kept| kept.bytes.clone());
        assert_eq!(
            kept.map(|kept| kept.end - kept.start).sum::<u64>(),
            cached.bytes
        );
    }

    #[test]
    fn thousands_of_topics_with_little_each_are_bounded_too() {
        let disk = SimDisk::seeded(1);
        let mut cached = Cached::default();
        for group in 0..3 * STRETCHES_MAX as u64 {
            cached.push(GroupId(group), Index(1), 64..128);
        }
        cached.shrink_to(&disk, MIB);
        assert_eq!(cached.stretches.len(), STRETCHES_MAX);
    }

    #[test]
    fn what_follows_is_joined_and_what_does_not_is_kept_apart() {
        let mut cached = Cached::default();
        cached.push(GroupId(7), Index(1), 64..100);
        cached.push(GroupId(7), Index(1), 100..200);
        cached.push(GroupId(7), Index(9), 200..300);
        cached.push(GroupId(8), Index(9), 300..400);
        assert_eq!(cached.stretches.len(), 3);
        assert_eq!(cached.bytes, 336);
    }
}
