//! A subscriber that reads from whichever member is up, and expects every record once and in order.

use kontiki_broker::{Cursor, Extent, Step};
use kontiki_wire::{From, GroupId, Offset, Subscribe, Until};

use crate::{oracle::Oracle, world::Node};

/// One subscriber of one topic, from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) group: GroupId,
    /// The member and the life of it that the cursor is of.
    at: Option<(usize, u64)>,
    cursor: Option<Cursor>,
    /// What was delivered ends here.
    pub(crate) next: Offset,
    turns: usize,
}

impl Subscriber {
    pub(crate) fn new(group: GroupId) -> Self {
        Self {
            group,
            at: None,
            cursor: None,
            next: Offset(0),
            turns: 0,
        }
    }

    /// Reads once, if its member is up; now and then moves to another.
    pub(crate) fn poll(&mut self, nodes: &[Node], oracle: &Oracle) {
        self.turns += 1;
        let number = self.turns / 16 % nodes.len();
        let node = &nodes[number];
        let Some(watermark) = node.watermarks.get(&self.group) else {
            return;
        };
        let extent = Extent {
            first: Offset(0),
            watermark: Offset(*watermark),
        };
        let mut cursor = match self.cursor {
            Some(cursor) if self.at == Some((number, node.life)) => cursor,
            _ => self.open(extent),
        };
        match cursor.step(extent, 0) {
            Step::Wait { until: None } => {}
            Step::Read { from, until, .. } => {
                let mut batches = node.read(self.group, from, until);
                cursor.take(&mut batches).unwrap();
                for batch in &batches {
                    oracle.delivered(self.group, batch);
                }
                assert!(cursor.position() > self.next && cursor.position() <= until);
                self.next = cursor.position();
            }
            other => panic!("a subscriber without an end is told {other:?}"),
        }
        self.at = Some((number, node.life));
        self.cursor = Some(cursor);
    }

    /// Goes on where it was, at a member that may know less than it has seen.
    fn open(&self, extent: Extent) -> Cursor {
        let subscribe = Subscribe {
            topic: "t".parse().unwrap(),
            group: Some(self.group),
            epoch: None,
            from: From::Offset(self.next),
            until: Until::Forever,
        };
        Cursor::open(&subscribe, extent, None).unwrap()
    }
}
