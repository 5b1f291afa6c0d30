//! The one thread that writes segments: it moves committed entries out of the journal, keeps
//! checkpoints, and sees to it that the journal always has a file to go on in.

mod apart;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use kontiki_raft::Index;
use kontiki_wire::{GroupId, PlacedEntry};

use crate::{
    Error, Event,
    adoption::{self, Whole},
    cached::Cached,
    command::{Command, Task},
    disk::File,
    group::{Group, Run},
    journal::prepare,
    layout,
    mender::Mender,
    node::Node,
    planted::{Planted, plants},
    recover,
    segment::{self, Broken, Expected},
    state::{Checkpoint, State},
};

/// Bytes of one write to a segment, at most.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// Journal files that are kept to be used again.
const SPARES_MAX: usize = 2;
/// Bytes of segments after which they are synced. The journal's own syncs wait behind what the disk is given
/// here at once, which is why it is little, no more than one run: with eight times as much an append's p99 doubles.
const SYNC_BYTES: u64 = 1 << 20;
/// Bytes of entries that are held of a group whose segments were mended, beside those that serve.
const REOPENED_BYTES_MAX: u64 = 16 << 20;
/// Bytes of segments synced after which checkpoints are kept: they cost a sync of their own.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// Groups with files that are open until they are synced.
const UNSYNCED_MAX: usize = 64;
/// How long nothing comes before what stays is written: until then the journal file may end.
const STAYING_MAX: Duration = Duration::from_secs(5);
/// When to look again whether removals may go on.
const RETRY_AFTER: Duration = Duration::from_millis(50);

pub(crate) struct Settler {
    node: Arc<Node>,
    state: State,
    commands: Sender<Command>,
    /// Groups whose segments are not synced.
    unsynced: BTreeMap<GroupId, Unsynced>,
    /// Checkpoints that wait for their segments; the latest of each group.
    checkpoints: BTreeMap<GroupId, Checkpoint>,
    /// Removals that wait for the cluster's checkpoint.
    removals: Vec<GroupId>,
    hot: Hot,
    cached: Cached,
    /// Bytes of segments that are not synced.
    unsynced_bytes: u64,
    /// Bytes of them that were since checkpoints were kept.
    unkept_bytes: u64,
    /// Journal files that are in use or may be.
    files: VecDeque<u32>,
    /// Journal files that are free.
    spares: Vec<u32>,
    first_needed: u32,
    /// Groups with damaged segments.
    menders: BTreeMap<GroupId, Mender>,
    /// Groups of which something stays where the journal has it.
    staying: BTreeMap<GroupId, Arc<Group>>,
    /// Whether a file can have more than one name here, as far as is known.
    has_links: bool,
}

/// What was hidden behind damage is found in the next round.
const ROUNDS_MAX: usize = 4;

fn unfit(group: GroupId, why: &str) -> Error {
    Error::Unfit(format!("group {group} was mended, but {why}"))
}

struct Unsynced {
    group: Arc<Group>,
    /// Whether a segment was begun.
    new_name: bool,
    /// The one that is written, if it was since the last sync.
    file: Option<Box<dyn File>>,
}

/// What segments keep and memory still has, oldest first.
#[derive(Default)]
struct Hot {
    runs: VecDeque<(Arc<Group>, Index, u64)>,
    bytes: u64,
}

impl Settler {
    /// `files` are the journal files there are, the newest of them the one that is written; those
    /// before it are free.
    pub(crate) fn new(
        node: Arc<Node>,
        state: State,
        commands: Sender<Command>,
        mut files: Vec<u32>,
        broken: Vec<(Arc<Group>, Vec<Broken>)>,
    ) -> Self {
        let mender = |(group, broken): (Arc<Group>, _)| (group.id, Mender::new(group, broken));
        let newest = files.pop().unwrap_or_default();
        Self {
            node,
            state,
            commands,
            unsynced: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            removals: Vec::new(),
            hot: Hot::default(),
            cached: Cached::default(),
            unsynced_bytes: 0,
            unkept_bytes: 0,
            files: VecDeque::from([newest]),
            spares: files,
            first_needed: newest,
            menders: broken.into_iter().map(mender).collect(),
            staying: BTreeMap::new(),
            has_links: true,
        }
    }

    /// Runs until it is told to end.
    pub(crate) fn run(mut self, tasks: &Receiver<Task>) {
        let _alarm = self.node.alarm();
        loop {
            let task = if !self.removals.is_empty() {
                tasks.recv_timeout(RETRY_AFTER)
            } else if !self.staying.is_empty() {
                tasks.recv_timeout(STAYING_MAX)
            } else {
                tasks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match task {
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Task::Close(answer)) => {
                    // Nobody may wait for the answer any more; then nobody needs it.
                    let _ = answer.send(self.close());
                    break;
                }
                Ok(task) => self.turn(task),
                Err(RecvTimeoutError::Timeout) => self.look_again(),
            }
        }
        self.node.end_settling();
    }

    /// Does one thing.
    pub(crate) fn turn(&mut self, task: Task) {
        self.guarded(|settler| settler.perform(task));
    }

    /// Does what was put off, as far as it can be done now.
    pub(crate) fn look_again(&mut self) {
        self.guarded(Self::settle_removals);
        self.guarded(Self::settle_what_stays);
    }

    /// Nothing has come for a while: the end of the journal file may be far away.
    fn settle_what_stays(&mut self) -> Result<(), Error> {
        if !self.removals.is_empty() {
            return Ok(());
        }
        for (_, group) in std::mem::take(&mut self.staying) {
            self.settle(&group, 1, Index(u64::MAX))?;
        }
        Ok(())
    }

    /// Does something unless an earlier write failed; its own failure poisons.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) {
        if self.node.is_poisoned() {
            return;
        }
        if let Err(error) = work(self) {
            self.node.poison(error);
        }
    }

    fn perform(&mut self, task: Task) -> Result<(), Error> {
        match task {
            Task::Settle(group) => {
                if self.leave_ended_files(&group)? || self.stays(&group) {
                    return Ok(());
                }
                self.settle(&group, self.node.settings.settle_bytes_min, Index(u64::MAX))
            }
            Task::Checkpoint { group, at, state } => {
                self.checkpoints.insert(group, (at, state));
                Ok(())
            }
            Task::Examine(group, segment) => self.examine(&group, segment),
            Task::Mend { group, entries } => self.mend(group, &entries),
            Task::Prepare(number) => self.prepare(number),
            Task::Turned(number) => self.turned(number),
            Task::Unused(number) => {
                self.spares.push(number);
                Ok(())
            }
            Task::Freed(first_needed) => self.recycle(first_needed),
            Task::Remove(group) => {
                self.removals.push(group);
                self.settle_removals()
            }
            Task::Recovered => recover::remove_damaged(&*self.node.disk),
            Task::Removed(group) => self.removed(group),
            Task::Adopt {
                group,
                whole,
                forgot,
            } => {
                self.command(Command::Adopt(whole.standing(group, forgot), whole));
                Ok(())
            }
            Task::Adopted(group, whole) => self.adopted(&group, whole),
            Task::Forgo(group) => adoption::forgo(&*self.node.disk, group),
            Task::Close(_) | Task::Stop => unreachable!("the caller keeps them"),
        }
    }

    /// Moves what is placed and durable of one group, up to `upto`, to its segments, as long as at least
    /// `bytes_min` wait: what comes while a run is written is left to grow into the next one.
    fn settle(&mut self, group: &Arc<Group>, bytes_min: u64, upto: Index) -> Result<(), Error> {
        self.staying.remove(&group.id);
        loop {
            let mut inner = group.lock();
            if inner.is_removed() || inner.is_closed() || !inner.awaits(bytes_min) {
                return Ok(());
            }
            let segment_bytes = self.node.settings.segment_bytes;
            let tail = inner
                .tail()
                .map(|(extent, marks)| (*extent, marks.last().copied()));
            let room = tail.map_or(segment_bytes, |(extent, _)| {
                segment_bytes.saturating_sub(extent.end)
            });
            let bytes_max = room.clamp(1, RUN_BYTES_MAX);
            let run = inner.run(self.node.durable_end(), upto, bytes_max);
            if run.entries.is_empty() {
                return Ok(());
            }
            let (last, end_offset) = inner.segments_end();
            let is_first = last == inner.base().0;
            drop(inner);
            match tail {
                Some((extent, mark)) if room > 0 => self.write(group, extent, mark, run)?,
                tail => {
                    if tail.is_some() {
                        self.seal(group)?;
                    }
                    let disk = &*self.node.disk;
                    if is_first {
                        disk.make_dir(&layout::group_dir(group.id))?;
                    }
                    let first = last.index.next();
                    let begun = segment::begin(disk, group.id, first, last.term, end_offset)?;
                    let (extent, file) = begun;
                    group.lock().begun(extent);
                    let unsynced = self.unsynced(group);
                    unsynced.new_name = true;
                    unsynced.file = Some(file);
                    self.write(group, extent, None, run)?;
                }
            }
        }
    }

    fn write(
        &mut self,
        group: &Arc<Group>,
        extent: segment::Extent,
        last_mark: Option<segment::Mark>,
        run: Run,
    ) -> Result<(), Error> {
        let file = self.take_file(group, extent.first)?;
        let (disk, id, from) = (&*self.node.disk, group.id, extent.end);
        let (extent, marks) = segment::append(disk, &*file, id, extent, last_mark, &run.entries)?;
        group.lock().wrote(extent, marks, run.bytes);
        self.node.take_unsettled(run.bytes);
        self.unsynced(group).file = Some(file);
        self.cached.push(group.id, extent.first, from..extent.end);
        self.unsynced_bytes += run.bytes;
        if self.unsynced_bytes >= SYNC_BYTES || self.unsynced.len() >= UNSYNCED_MAX {
            self.sync_segments()?;
        }
        match self.unkept_bytes >= CHECKPOINT_BYTES {
            true => self.keep_checkpoints(),
            false => Ok(()),
        }
    }

    fn seal(&mut self, group: &Arc<Group>) -> Result<(), Error> {
        let tail = group.lock().tail().cloned();
        let (extent, marks) = tail.expect("only this thread seals");
        let file = self.take_file(group, extent.first)?;
        let (disk, outline) = (&*self.node.disk, segment::outline(&marks));
        segment::seal(disk, &*file, group.id, &extent, outline)?;
        group.lock().sealed();
        Ok(())
    }

    fn unsynced(&mut self, group: &Arc<Group>) -> &mut Unsynced {
        self.unsynced.entry(group.id).or_insert_with(|| Unsynced {
            group: Arc::clone(group),
            new_name: false,
            file: None,
        })
    }

    /// The file of the segment that is written.
    fn take_file(&mut self, group: &Group, segment: Index) -> Result<Box<dyn File>, Error> {
        let unsynced = self.unsynced.get_mut(&group.id);
        match unsynced.and_then(|unsynced| unsynced.file.take()) {
            Some(file) => Ok(file),
            None => segment::open(&*self.node.disk, group.id, segment),
        }
    }

    /// Makes every segment durable, then what relies on that: forgetting, and checkpoints.
    fn sync(&mut self) -> Result<(), Error> {
        self.sync_segments()?;
        self.keep_checkpoints()
    }

    fn sync_segments(&mut self) -> Result<(), Error> {
        for (id, unsynced) in std::mem::take(&mut self.unsynced) {
            let group = unsynced.group;
            if group.lock().is_removed() {
                continue;
            }
            let disk = &*self.node.disk;
            if let Some(file) = unsynced.file.filter(|_| !plants(Planted::SegmentNotSynced)) {
                file.sync()?;
            }
            if unsynced.new_name && !plants(Planted::SegmentNameNotSynced) {
                segment::sync_names(disk, id)?;
            }
            let mut inner = group.lock();
            let bytes = inner.keep();
            let kept = inner.kept();
            drop(inner);
            self.hot.push(group, kept, bytes);
        }
        self.unkept_bytes += std::mem::take(&mut self.unsynced_bytes);
        self.shrink();
        self.cached
            .shrink_to(&*self.node.disk, self.node.settings.cached_bytes_max);
        Ok(())
    }

    /// Lets go of what segments keep and there is no room for in memory beside what they do not.
    fn shrink(&mut self) {
        let hot_bytes_max = self.node.settings.hot_bytes_max;
        let unsettled = self.node.unsettled_bytes();
        self.hot.shrink_to(hot_bytes_max.saturating_sub(unsettled));
    }

    fn keep_checkpoints(&mut self) -> Result<(), Error> {
        self.unkept_bytes = 0;
        let mut due = Vec::new();
        let mut waiting = BTreeMap::new();
        for (id, checkpoint) in std::mem::take(&mut self.checkpoints) {
            let Some(group) = self.node.group(id) else {
                continue;
            };
            if checkpoint.0.index <= group.lock().kept() {
                due.push((id, checkpoint));
            } else {
                waiting.insert(id, checkpoint);
            }
        }
        self.checkpoints = waiting;
        if due.is_empty() {
            return Ok(());
        }
        self.state.keep(&due)
    }

    /// The journal has gone on to file `number`: what is in the files before it moves to segments.
    fn turned(&mut self, number: u32) -> Result<(), Error> {
        if self.files.back() != Some(&number) {
            self.files.push_back(number);
        }
        self.state.keep_newest_journal(number)?;
        let groups = self.node.groups();
        for group in &groups {
            self.leave_ended_files(group)?;
        }
        self.sync()?;
        self.settle_removals()?;
        let homes = groups.iter().filter_map(|group| group.lock().first_home());
        let homes = homes.filter(|_| !plants(Planted::JournalFreedEarly));
        let first_needed = homes.min().unwrap_or(number).min(number);
        if first_needed > self.first_needed {
            self.first_needed = first_needed;
            self.command(Command::Freed(first_needed));
        }
        Ok(())
    }

    fn prepare(&mut self, number: u32) -> Result<(), Error> {
        let disk = &*self.node.disk;
        let spare = self.spares.pop().map(layout::journal_path);
        let size = self.node.settings.journal_file_bytes;
        // What is written but once must not be written before that.
        let prepared = prepare(
            disk,
            number,
            size,
            spare.as_deref(),
            self.staying.is_empty(),
        )?;
        while self.spares.len() > SPARES_MAX {
            let spare = self.spares.remove(0);
            disk.remove(&layout::journal_path(spare))?;
        }
        self.command(Command::Prepared(prepared));
        Ok(())
    }

    /// Files before `first_needed` are free, and the journal says so durably.
    fn recycle(&mut self, first_needed: u32) -> Result<(), Error> {
        while let Some(&file) = self.files.front().filter(|&&file| file < first_needed) {
            self.files.pop_front();
            let path = layout::journal_path(file);
            if self.spares.len() < SPARES_MAX && self.node.disk.links(&path)? == 1 {
                self.spares.push(file);
            } else {
                self.node.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Lets removals go on whose topic no durable checkpoint of the cluster has any more.
    fn settle_removals(&mut self) -> Result<(), Error> {
        if self.removals.is_empty() {
            return Ok(());
        }
        if self.checkpoints.contains_key(&GroupId::CLUSTER)
            && let Some(cluster) = self.node.group(GroupId::CLUSTER)
        {
            self.settle(&cluster, 1, Index(u64::MAX))?;
            self.sync()?;
        }
        if !self.checkpoints.contains_key(&GroupId::CLUSTER) {
            for group in std::mem::take(&mut self.removals) {
                self.command(Command::Remove(group));
            }
        }
        Ok(())
    }

    /// The journal says durably that a group was removed: its files go.
    fn removed(&mut self, id: GroupId) -> Result<(), Error> {
        if let Some(unsynced) = self.node.forget(id) {
            self.node.take_unsettled(unsynced.lock().waiting_bytes());
        }
        self.unsynced.remove(&id);
        self.staying.remove(&id);
        self.menders.remove(&id);
        self.checkpoints.remove(&id);
        let disk = &*self.node.disk;
        disk.remove_dir(&layout::group_dir(id))?;
        disk.remove_dir(&layout::incoming_dir(id))?;
        self.node.recent.forget(id);
        disk.sync_dir(Path::new(layout::GROUPS_DIR))?;
        self.state.remove(id)?;
        self.node.gone(id);
        self.node.tell(Event::Removed { group: id });
        Ok(())
    }

    /// The journal says durably that a group begins with what was fetched of it.
    fn adopted(&mut self, group: &Arc<Group>, whole: Whole) -> Result<(), Error> {
        if group.lock().is_removed() {
            return Ok(());
        }
        adoption::move_in(&*self.node.disk, group.id)?;
        self.node.recent.forget(group.id);
        self.state.keep(&[(group.id, whole.checkpoint)])?;
        let missing = self.reopen(group)?;
        if !missing.is_empty() {
            self.command(Command::Tell(Event::Damaged {
                group: group.id,
                missing,
                what: "what was fetched cannot be read any more".to_owned(),
            }));
        }
        Ok(())
    }

    /// Looks at a segment in which a reader found damage. What only needs to be written anew is.
    fn examine(&mut self, group: &Arc<Group>, segment: Index) -> Result<(), Error> {
        let Some((extent, sealed)) = group.lock().suspicion(segment) else {
            return Ok(());
        };
        // What is in memory and in no segment durably stays there while the group is closed.
        self.sync()?;
        let disk = &*self.node.disk;
        let Some(mut broken) = segment::examine(disk, group.id, &extent, sealed)? else {
            return Ok(());
        };
        if broken.is_whole() {
            tracing::warn!(damage = %broken.damage, "a segment is damaged and is written anew");
        }
        let mender = self.menders.entry(group.id);
        let mender = mender.or_insert_with(|| Mender::new(Arc::clone(group), Vec::new()));
        let what = std::mem::take(&mut broken.damage);
        broken.damage.clone_from(&what);
        group.lock().close(&broken);
        mender.add(broken);
        let taken = mender.take(&self.node, &[])?;
        if taken.missing.is_empty() {
            // Nobody has heard of it.
            self.menders.remove(&group.id);
            group.lock().open_again();
            return Ok(());
        }
        self.command(Command::Tell(Event::Damaged {
            group: group.id,
            missing: taken.missing,
            what,
        }));
        Ok(())
    }

    fn mend(&mut self, id: GroupId, entries: &[PlacedEntry]) -> Result<(), Error> {
        let Some(mender) = self.menders.get_mut(&id) else {
            return Ok(());
        };
        let taken = mender.take(&self.node, entries)?;
        let group = Arc::clone(&mender.group);
        let mut missing = taken.missing;
        if missing.is_empty() {
            missing = self.reopen(&group)?;
        }
        if !missing.is_empty() {
            self.node.tell(Event::Mending {
                group: id,
                missing,
                refused: taken.refused,
            });
        }
        Ok(())
    }

    /// Finds a group's segments again, now that they are whole. Gives back what is missing all the same.
    fn reopen(&mut self, group: &Arc<Group>) -> Result<Vec<segment::Range>, Error> {
        let disk = &*self.node.disk;
        let inner = group.lock();
        let ((base, base_offset), kept) = (inner.base(), inner.kept());
        drop(inner);
        let expected = Expected {
            group: group.id,
            base,
            base_offset,
            kept,
            in_journal_from: kept.next(),
            journal_last: kept,
            read_from: base.index.next(),
            unapplied_bytes_max: self
                .node
                .settings
                .unapplied_bytes_max
                .min(REOPENED_BYTES_MAX),
        };
        for _ in 0..ROUNDS_MAX {
            let checkpoint = self.state.checkpoints()?.remove(&group.id);
            let (segments, held) = recover::open_segments(disk, expected, checkpoint)?;
            let rebuilt = held.checkpoint.clone().filter(|_| held.is_rebuilt);
            let recovered = recover::of_segments(group.id, base, &segments, held);
            if segments.broken.is_empty() {
                let reopened = group.lock().reopen(segments);
                reopened.map_err(|why| unfit(group.id, &why))?;
                self.menders.remove(&group.id);
                if let Some(rebuilt) = rebuilt {
                    self.state.keep(&[(group.id, rebuilt)])?;
                }
                self.command(Command::Reopen(Arc::clone(group), Box::new(recovered)));
                self.settle(group, self.node.settings.settle_bytes_min, Index(u64::MAX))?;
                return Ok(Vec::new());
            }
            let mut mender = Mender::new(Arc::clone(group), Vec::new());
            for broken in segments.broken {
                group.lock().close(&broken);
                mender.add(broken);
            }
            let missing = mender.take(&self.node, &[])?.missing;
            self.menders.insert(group.id, mender);
            if !missing.is_empty() {
                return Ok(missing);
            }
        }
        Err(unfit(group.id, "its segments are still damaged"))
    }

    /// The writer ends only after this thread, or when storage is dropped and nothing matters any more.
    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if self.node.is_poisoned() {
            return Err(Error::Poisoned);
        }
        for group in self.node.groups() {
            self.settle(&group, 1, Index(u64::MAX))?;
        }
        self.sync()
    }
}

impl Hot {
    fn push(&mut self, group: Arc<Group>, upto: Index, bytes: u64) {
        self.bytes += bytes;
        self.runs.push_back((group, upto, bytes));
    }

    fn shrink_to(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max
            && let Some((group, upto, bytes)) = self.runs.pop_front()
        {
            group.lock().forget(upto);
            self.bytes -= bytes;
        }
    }
}
