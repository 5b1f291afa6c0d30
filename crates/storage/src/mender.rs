//! Mends: takes in what peers have of what is missing, and writes each segment anew as soon as it has
//! all of its entries. What it decides about is one group's damaged segments; what it does, it does on
//! the thread that writes segments.

use std::{collections::VecDeque, sync::Arc};

use kontiki_raft::Index;
use kontiki_wire::PlacedEntry;

use crate::{
    Error,
    disk::Disk,
    group::Group,
    node::Node,
    segment::{self, Broken, Neighbours, Range, Rewritten},
};

/// One group's damaged segments, in order.
pub(crate) struct Mender {
    pub(crate) group: Arc<Group>,
    broken: VecDeque<Broken>,
}

/// What came of taking something in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// What is still missing.
    pub(crate) missing: Vec<Range>,
    /// Why what there was did not fit together: it is missing again.
    pub(crate) refused: Option<String>,
}

impl Mender {
    pub(crate) fn new(group: Arc<Group>, broken: Vec<Broken>) -> Self {
        Self {
            group,
            broken: broken.into(),
        }
    }

    /// One more segment is damaged.
    pub(crate) fn add(&mut self, broken: Broken) {
        let at = self
            .broken
            .partition_point(|known| known.first < broken.first);
        self.broken.insert(at, broken);
    }

    /// What nobody has given yet.
    pub(crate) fn missing(&self) -> Vec<Range> {
        self.broken.iter().flat_map(Broken::missing).collect()
    }

    /// Takes in entries and writes what is complete.
    pub(crate) fn take(&mut self, node: &Node, entries: &[PlacedEntry]) -> Result<Taken, Error> {
        let disk = &*node.disk;
        let sound: Vec<PlacedEntry> = entries
            .iter()
            .filter(|placed| crc32c::crc32c(&placed.entry.body) == placed.entry.checksum)
            .cloned()
            .collect();
        for stretch in sound.chunk_by(follows) {
            for broken in &mut self.broken {
                broken.fetch(disk, stretch)?;
            }
        }
        let refused = self.write(node)?;
        Ok(Taken {
            missing: self.missing(),
            refused,
        })
    }

    /// Writes the segments that are complete, in order; says why if one does not fit.
    fn write(&mut self, node: &Node) -> Result<Option<String>, Error> {
        let disk = &*node.disk;
        let mut refused = None;
        while let Some(broken) = self.broken.front_mut() {
            let part = part(broken, node.settings.segment_bytes);
            if part.is_none() && !broken.is_whole() {
                break;
            }
            let last = part.unwrap_or(broken.last);
            match rewrite(disk, &self.group, broken, last)? {
                Ok(extent) => {
                    node.recent.forget(self.group.id);
                    self.group.lock().mended(extent);
                    if last < broken.last {
                        broken.go_on_after(disk, last)?;
                        self.group.lock().close(broken);
                    } else {
                        broken.discard(disk)?;
                        self.broken.pop_front();
                    }
                }
                Err(why) => {
                    broken.start_over(disk)?;
                    self.group.lock().close(broken);
                    refused = Some(why);
                    break;
                }
            }
        }
        Ok(refused)
    }
}

fn follows(one: &PlacedEntry, next: &PlacedEntry) -> bool {
    one.entry.id.index.next() == next.entry.id.index
}

/// The end of the first segment to be made of a stretch for which nothing tells where segments ended.
fn part(broken: &Broken, segment_bytes: u64) -> Option<Index> {
    let full = broken.unbounded && broken.fetched_bytes() >= segment_bytes;
    let last = full.then(|| broken.fetched_from_first()).flatten()?;
    (last < broken.last).then_some(last)
}

fn rewrite(
    disk: &dyn Disk,
    group: &Group,
    broken: &mut Broken,
    last: Index,
) -> Result<Result<segment::Extent, String>, Error> {
    let inner = group.lock();
    let Some(before) = inner.before(broken.first) else {
        return Ok(Err(format!(
            "nothing is known of what is before entry {}",
            broken.first
        )));
    };
    let known = inner.extent(broken.first);
    drop(inner);
    let (whole_last, whole_sealed) = (broken.last, broken.sealed);
    if last < whole_last {
        (broken.last, broken.sealed) = (last, true);
    }
    let neighbours = Neighbours::of(disk, broken, before, known)?;
    let rewritten = segment::rewrite(disk, broken, &neighbours);
    (broken.last, broken.sealed) = (whole_last, whole_sealed);
    Ok(match rewritten? {
        Rewritten::Whole(extent) => Ok(extent),
        Rewritten::Contradiction(why) => Err(format!("{}, and {why}", broken.damage)),
    })
}
