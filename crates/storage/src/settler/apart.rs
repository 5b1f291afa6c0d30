//! What is left where the journal has it, until the file ends and becomes a segment's as it lies: which groups'
//! entries wait for that, for how long, and what becomes of them when it does not come to it.

use std::{cmp::Ordering, sync::Arc};

use kontiki_raft::Index;

use crate::{
    Error,
    group::{Group, Home, Inner},
    layout,
    segment::{self, Apart},
    settler::Settler,
};

/// Bytes of a journal file, above which none of it becomes a segment's: so much is held in memory until then.
const APART_FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes after which it is looked again whether what waits still stays.
const STAYING_STEP_BYTES: u64 = 4 << 20;
/// Bytes that memory lets go of at once.
const HOT_STEP_BYTES: u64 = 1 << 20;

/// Whether these bytes are so much of all that a file with them may well be theirs.
fn is_nearly_all(bytes: u64, all: u64) -> bool {
    bytes >= all / 4 * 3
}

impl Settler {
    /// Whether what waits of a group is left where the journal has it, until the file ends and becomes a
    /// segment's: then most of it is not written a second time. So it is while nearly all of the file is its.
    pub(super) fn stays(&mut self, group: &Arc<Group>) -> bool {
        let end = self.node.journal_end();
        let inner = group.lock();
        let journal_file_bytes = self.node.settings.journal_file_bytes;
        let is_its = |home: Home| match home.file.cmp(&end.file) {
            // It has ended, and this thread is about to hear so.
            Ordering::Less => is_nearly_all(home.bytes, journal_file_bytes),
            // What it began with decides little.
            Ordering::Equal => is_nearly_all(home.bytes + journal_file_bytes / 16, end.at),
            // It has just begun.
            Ordering::Greater => true,
        };
        let stays = inner.unwritten_home().is_some_and(is_its) && self.may_stay(&inner);
        drop(inner);
        if stays {
            self.leave(group);
        }
        stays
    }

    fn may_stay(&self, inner: &Inner) -> bool {
        let settings = &self.node.settings;
        let (bytes, entries) = (inner.waiting_bytes(), inner.placed().0 - inner.written().0);
        self.has_links
            && entries > 0
            && !inner.is_removed()
            && !inner.is_closed()
            && settings.journal_file_bytes <= APART_FILE_BYTES_MAX
            && bytes <= 2 * settings.journal_file_bytes
            && bytes >= entries.saturating_mul(settings.apart_bytes_min)
    }

    /// Leaves what waits of a group for now.
    fn leave(&mut self, group: &Arc<Group>) {
        let step = STAYING_STEP_BYTES.min(self.node.settings.journal_file_bytes / 16);
        group.lock().stay(step);
        self.staying.insert(group.id, Arc::clone(group));
        self.shrink();
    }

    /// Has segments made of what the journal files that have ended hold of a group: of a file that is nearly all its,
    /// as it lies. Whether something is left that is waited for: what was on its way when the file ended.
    pub(super) fn leave_ended_files(&mut self, group: &Arc<Group>) -> Result<bool, Error> {
        let newest = self.files.back().copied().unwrap_or_default();
        let journal_file_bytes = self.node.settings.journal_file_bytes;
        loop {
            let inner = group.lock();
            if inner.is_removed() || inner.is_closed() {
                return Ok(false);
            }
            let Some(home) = inner.unwritten_home().filter(|home| home.file < newest) else {
                return Ok(false);
            };
            let is_its = is_nearly_all(home.bytes, journal_file_bytes);
            let ready = inner.ready_upto(home.last, self.node.durable_end());
            let may_stay = self.may_stay(&inner);
            let waits = ready.is_none() && is_its && home.file + 1 == newest && may_stay;
            let written = inner.written();
            drop(inner);
            if waits {
                self.leave(group);
                return Ok(true);
            }
            let is_worth = |(bytes, entries): (u64, u64)| {
                is_nearly_all(bytes, journal_file_bytes)
                    && bytes >= entries.saturating_mul(self.node.settings.apart_bytes_min)
            };
            if !(self.has_links && ready.is_some_and(is_worth) && self.set_apart(group, home)?) {
                // What follows may become a segment as it lies.
                let upto = if may_stay { home.last } else { u64::MAX };
                self.settle(group, 1, Index(upto))?;
            }
            if group.lock().written() == written {
                return Ok(false);
            }
        }
    }

    /// Makes a segment of a journal file that has ended, as it lies; all that it has of the group is ready. False if
    /// that cannot be.
    fn set_apart(&mut self, group: &Arc<Group>, home: Home) -> Result<bool, Error> {
        let id = group.id;
        let mut inner = group.lock();
        let last = Index(home.last);
        let Some(bodies_at) = inner.bodies_in(home.file, last) else {
            // No place is told beyond 4 GiB of a file, and of none that was written before the group was opened.
            return Ok(false);
        };
        let run = inner.run(self.node.durable_end(), last, u64::MAX);
        assert_eq!(run.entries.len(), bodies_at.len(), "all of it is ready");
        let entries: Vec<_> = run.entries.into_iter().zip(bodies_at).collect();
        let (before, base_offset) = inner.segments_end();
        let is_first = before == inner.base().0;
        let has_tail = inner.drop_empty_tail();
        drop(inner);
        if is_first {
            self.node.disk.make_dir(&layout::group_dir(id))?;
        }
        if has_tail {
            self.seal(group)?;
        } else if let Some(unsynced) = self.unsynced.get_mut(&id) {
            unsynced.file = None;
        }
        // So that what was written before is durable with it.
        self.sync_segments()?;
        let apart = Apart {
            group: id,
            before,
            base_offset,
            entries: &entries,
            bodies: &layout::journal_path(home.file),
        };
        let Some(extent) = segment::set_apart(&*self.node.disk, &apart)? else {
            tracing::info!("files have but one name here: everything is written twice");
            self.has_links = false;
            return Ok(false);
        };
        let mut inner = group.lock();
        inner.set_apart(extent, run.bytes);
        inner.keep();
        drop(inner);
        self.staying.remove(&id);
        self.node.take_unsettled(run.bytes);
        self.unkept_bytes += run.bytes;
        let mut bytes = 0;
        for (placed, _) in &entries {
            let upto = placed.entry.id.index;
            bytes += placed.entry.body.len() as u64;
            if bytes >= HOT_STEP_BYTES || upto == last {
                let bytes = std::mem::take(&mut bytes);
                self.hot.push(Arc::clone(group), upto, bytes);
            }
        }
        self.shrink();
        self.keep_checkpoints()?;
        Ok(true)
    }
}
