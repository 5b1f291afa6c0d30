//! Gives a group's log to a peer that has none of it, as it lies in sealed segments: their bytes, one frame
//! after the other, read in large pieces and in order. Who takes them verifies them.

use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::Index;

use crate::{
    Error,
    disk::File,
    group::Group,
    layout,
    node::Node,
    segment::{self, Extent, Target},
};

/// Bytes of a read that looks for where to begin.
const LOOK_BYTES: usize = 64 << 10;

/// A log on its way to a peer.
#[derive(Debug)]
pub struct Shipment {
    node: Arc<Node>,
    group: Arc<Group>,
    /// The entry that is next, where a segment is to be opened.
    next: Index,
    open: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: Box<dyn File>,
    extent: Extent,
    at: u64,
}

impl Shipment {
    pub(crate) fn new(node: Arc<Node>, group: Arc<Group>, first: Index) -> Self {
        Self {
            node,
            group,
            next: first,
            open: None,
        }
    }

    /// The next bytes, at most so many; none after the last sealed segment that there is by now, or before
    /// one that is damaged. May block on the disk.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Error> {
        let opened = match self.open.take() {
            Some(opened) => opened,
            None => match self.begin()? {
                Some(opened) => opened,
                None => return Ok(None),
            },
        };
        let Opened { file, extent, at } = opened;
        let left = usize::try_from(extent.end - at).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(bytes_max.max(1))];
        let read = file.read_at(at, &mut bytes)?;
        bytes.truncate(read);
        if read == 0 {
            return Err(Error::Damaged {
                path: self
                    .node
                    .disk
                    .full_path(&layout::segment_path(self.group.id, extent.first)),
                at,
                what: "the file ends inside an entry".to_owned(),
            });
        }
        let upto = at + read as u64;
        // Nobody who reads the log here is to wait for the disk because of this.
        file.uncache(at..upto);
        if upto < extent.end {
            let at = upto;
            self.open = Some(Opened { file, extent, at });
        } else {
            self.next = extent.last.index.next();
        }
        Ok(Some(Bytes::from(bytes)))
    }

    /// Opens the segment that has the next entry, where that begins.
    fn begin(&self) -> Result<Option<Opened>, Error> {
        if self.group.lock().stocked(self.next).last < self.next {
            return Ok(None);
        }
        let target = Target::Index(self.next);
        let found = self.group.locate(target).filter(|segment| segment.sealed);
        let Some(segment) = found.filter(|segment| segment.extent.first <= self.next) else {
            return Ok(None);
        };
        let (disk, extent) = (&*self.node.disk, segment.extent);
        let mut at = layout::segment::HEADER_BYTES as u64;
        if self.next > extent.first {
            let mut frames = segment.frames(disk, &self.node.recent, target, LOOK_BYTES)?;
            at = loop {
                match frames.next()? {
                    Some(found) if found.header.id.index == self.next => break found.position,
                    Some(_) => {}
                    None => return Ok(None),
                }
            };
        }
        let file = segment::open_to_read(disk, &layout::segment_path(self.group.id, extent.first))?;
        Ok(Some(Opened { file, extent, at }))
    }
}
