//! The door: open and recover, then hand writes to the one thread that writes.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use kontiki_broker::{Placed, Writes};
use kontiki_raft::LogId;
use kontiki_wire::{GroupId, PlacedEntry};

use crate::{
    Error, Event, Recovered, Settings,
    command::{Answer, Command, Task},
    disk::Disk,
    group::Group,
    hands::Hands,
    incoming::Incoming,
    log::Log,
    node::Node,
    os_disk::{DirLock, OsDisk},
    recover,
    settler::Settler,
    writer::{self, Writer},
};

/// The node's disk. Cheap to clone; writes go through one queue to one thread. When the last clone is
/// dropped without [`Storage::close`], the threads stop where they are, as after a crash.
#[derive(Clone, Debug)]
pub struct Storage {
    node: Arc<Node>,
    running: Arc<Running>,
}

/// The threads and the lock, until they are to go.
#[derive(Debug)]
struct Running {
    node: Arc<Node>,
    commands: Sender<Command>,
    tasks: Sender<Task>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<DirLock>>,
}

impl Storage {
    /// Opens a data directory, making it if it is empty, and recovers. Holds a lock on it until it is
    /// closed. `events` is called from storage's threads and must not block.
    pub fn open(
        dir: &Path,
        settings: Settings,
        events: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<(Self, Recovered), Error> {
        let (disk, lock) = OsDisk::lock(dir)?;
        let (storage, recovered) = Self::open_on(Arc::new(disk), settings, events)?;
        *lock_of(&storage.running.lock) = Some(lock);
        Ok((storage, recovered))
    }

    /// Opens what is on a disk of any kind.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        settings: Settings,
        events: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<(Self, Recovered), Error> {
        let (storage, hands, recovered) = Self::open_by_hand(disk, settings, events)?;
        let Hands {
            writer,
            commands,
            settler,
            tasks,
            ..
        } = hands;
        storage
            .running
            .spawn("journal", move || writer.run(&commands))?;
        storage
            .running
            .spawn("segments", move || settler.run(&tasks))?;
        Ok((storage, recovered))
    }

    /// Opens without threads: what they would do is done by [`Hands`], one step at a time. For
    /// simulation and tests.
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        settings: Settings,
        events: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<(Self, Hands, Recovered), Error> {
        let opened = recover::open(&disk, &settings)?;
        let groups = opened.groups.iter().map(|(group, _)| Arc::clone(group));
        let (commands, command_queue) = mpsc::channel();
        let (tasks, task_queue) = mpsc::channel();
        let removed = opened.removed;
        let node = Node::new(disk, settings, events, tasks.clone(), groups, removed);
        let node = Arc::new(node);
        // The receiver is still here.
        let _ = tasks.send(Task::Turned(opened.journal.number()));
        let by_id = |(group, standing): (Arc<Group>, _)| (group.id, (group, standing));
        let writer = Writer::new(
            Arc::clone(&node),
            tasks.clone(),
            opened.journal,
            opened.salt,
            opened.groups.into_iter().map(by_id).collect(),
            opened.recovered.damage.clone(),
        );
        let settler = Settler::new(
            Arc::clone(&node),
            opened.state,
            commands.clone(),
            opened.files,
            opened.broken,
        );
        let hands = Hands::new(writer, command_queue, settler, task_queue);
        let running = Running {
            node: Arc::clone(&node),
            commands,
            tasks,
            threads: Mutex::default(),
            lock: Mutex::default(),
        };
        let storage = Self {
            node,
            running: Arc::new(running),
        };
        Ok((storage, hands, opened.recovered))
    }

    /// Queues a write; [`Event::Persisted`] or [`Event::Failed`] follows. Whatever is queued when the
    /// writer comes back from the disk goes out with one sync.
    pub fn persist(&self, writes: Writes) {
        let mut bytes = 0;
        for write in &writes.writes {
            if let Some(group) = self.node.group(write.group) {
                group.lock().persist(writes.seq, &write.persist);
            }
            bytes += writer::body_bytes(write);
        }
        self.node.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.node.given_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.command(Command::Write(writes));
    }

    /// Bytes of bodies given to [`Storage::persist`] that are not durable yet.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.node.queued_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of bodies given to [`Storage::persist`] so far.
    #[must_use]
    pub fn given_bytes(&self) -> u64 {
        self.node.given_bytes.load(Ordering::Relaxed)
    }

    /// These entries are committed and this is where their records went: they may move to segments.
    /// Every entry named has been given to [`Storage::persist`] before. Panics if a placement
    /// contradicts the log.
    pub fn applied(&self, group: GroupId, placed: &[Placed]) {
        let Some(group) = self.node.group(group) else {
            return;
        };
        let mut inner = group.lock();
        let placing = inner.place(placed, self.node.settings.settle_bytes_min);
        // Under the group's lock, so that the settler cannot have taken them off before.
        self.node.add_unsettled(placing.bytes);
        drop(inner);
        if placing.tell {
            self.task(Task::Settle(group));
        }
    }

    /// Keeps a group's small state, once its segments reach it; until then the one before stays.
    pub fn checkpoint(&self, group: GroupId, at: LogId, state: Bytes) {
        self.task(Task::Checkpoint { group, at, state });
    }

    /// Takes in committed entries that a peer has, for those that are missing here; the rest of them are
    /// ignored. They are kept beside the segments until a segment has all of its own; then it is
    /// written anew. [`Event::Mending`] follows, or, when nothing is missing any more,
    /// [`Event::Mended`]. By then the group must have been ended: nothing of it is to be persisted from
    /// the first call on until it is whole.
    pub fn mend(&self, group: GroupId, entries: Vec<PlacedEntry>) {
        self.task(Task::Mend { group, entries });
    }

    /// Removes everything of a group, in the background; nothing of it can be read or written from now
    /// on. Its files go only when the last checkpoint given so far of the cluster's own group is
    /// durable.
    pub fn remove(&self, group: GroupId) {
        self.node.remove(group);
        self.task(Task::Remove(group));
    }

    /// Lets a group be written anew that was removed and of which [`Event::Removed`] has told; nothing if it
    /// is no such group.
    pub fn revive(&self, group: GroupId) {
        self.node.revive(group);
    }

    /// Begins to take in the log of a group that has nothing here, or goes on where an earlier life came to.
    /// Reads what that left, and may take a while. One at a time for each group. Revives it, like
    /// [`Storage::revive`].
    pub fn take_in(&self, group: GroupId) -> Result<Incoming, Error> {
        self.node.revive(group);
        let opened = Incoming::open(Arc::clone(&self.node), group);
        opened.map_err(|error| self.node.poison_by(error))
    }

    /// Has a group begin with what was taken in of it, all of which is committed: [`Event::Mended`] tells
    /// when. Its term is that of the last entry, in which it has not voted: the group must never have been
    /// here, or be one that `forgot`.
    pub fn adopt(&self, incoming: Incoming, forgot: bool) -> Result<(), Error> {
        let finished = incoming.finish();
        let (group, whole) = finished.map_err(|error| self.node.poison_by(error))?;
        self.task(Task::Adopt {
            group,
            whole,
            forgot,
        });
        Ok(())
    }

    /// Removes what was taken in of a group that is to begin without it.
    pub fn forgo(&self, group: GroupId) {
        self.task(Task::Forgo(group));
    }

    /// A group's log, for readers; empty if nothing was written yet, `None` if it was removed.
    #[must_use]
    pub fn log(&self, group: GroupId) -> Option<Log> {
        let group = self.node.group(group)?;
        Some(Log::new(Arc::clone(&self.node), group))
    }

    /// A group's log, if there is such a group.
    #[must_use]
    pub fn known_log(&self, group: GroupId) -> Option<Log> {
        let group = self.node.known_group(group)?;
        Some(Log::new(Arc::clone(&self.node), group))
    }

    /// Writes out what is queued, moves what is committed to segments, keeps checkpoints, seals the
    /// journal cleanly and stops the threads. Blocks. Other clones can only read afterwards. What was
    /// opened by hand is closed by [`Hands::close`].
    pub fn close(self) -> Result<(), Error> {
        let flushed = self.asked(|answer| self.command(Command::Flush(answer)));
        let settled = self.asked(|answer| self.task(Task::Close(answer)));
        let closed = self.asked(|answer| self.command(Command::Close(answer)));
        self.running.end();
        flushed.and(settled).and(closed)
    }

    fn asked(&self, ask: impl FnOnce(Answer)) -> Result<(), Error> {
        let (answer, answered) = mpsc::channel();
        ask(answer);
        answered.recv().unwrap_or(Err(Error::Poisoned))
    }

    /// A thread that has ended was told to, or has told the host why: nobody else is to be told here.
    fn command(&self, command: Command) {
        let _ = self.running.commands.send(command);
    }

    fn task(&self, task: Task) {
        let _ = self.running.tasks.send(task);
    }
}

impl Running {
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = spawned.map_err(|source| Error::Io {
            doing: "cannot start a thread for",
            path: self.node.disk.full_path(Path::new("")),
            source,
        })?;
        lock_of(&self.threads).push(thread);
        Ok(())
    }

    fn end(&self) {
        self.node.end_settling();
        let _ = self.commands.send(Command::Stop);
        let _ = self.tasks.send(Task::Stop);
        for thread in lock_of(&self.threads).drain(..) {
            // A panic of its own has been printed, and ends the process in a release build.
            let _ = thread.join();
        }
        lock_of(&self.lock).take();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
