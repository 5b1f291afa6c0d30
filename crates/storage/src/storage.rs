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
use kontiki_wire::GroupId;

use crate::{
    Error, Event, Recovered, Settings,
    disk::Disk,
    layout,
    log::Log,
    node::Node,
    os_disk::{DirLock, OsDisk},
    recover,
    writer::{self, Command, Writer},
};

/// The node's disk. Cheap to clone; writes go through one queue to one thread. When the last clone is
/// dropped without [`Storage::close`], the threads stop where they are, as after a crash.
#[derive(Clone, Debug)]
pub struct Storage {
    node: Arc<Node>,
    commands: Sender<Command>,
    running: Arc<Running>,
}

/// The threads and the lock, until they are to go.
#[derive(Debug)]
struct Running {
    stop: Sender<Command>,
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
        let opened = recover::open(&*disk, &settings)?;
        let node = Arc::new(Node::new(disk, settings, events, opened.groups));
        let writer = Writer::new(
            Arc::clone(&node),
            opened.journal,
            opened.salt,
            opened.ledger,
            0,
            opened.recovered.damage.clone(),
        );
        let (commands, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|source| Error::Io {
                doing: "cannot start a thread for",
                path: node.disk.full_path(Path::new(layout::JOURNAL_DIR)),
                source,
            })?;
        let running = Running {
            stop: commands.clone(),
            threads: Mutex::new(vec![thread]),
            lock: Mutex::new(None),
        };
        let storage = Self {
            node,
            commands,
            running: Arc::new(running),
        };
        Ok((storage, opened.recovered))
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
        // The writer ends only when it is told to, or fails; both have been told.
        let _ = self.commands.send(Command::Write(writes));
    }

    /// Bytes of bodies given to [`Storage::persist`] that are not durable yet.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.node.queued_bytes.load(Ordering::Relaxed)
    }

    /// These entries are committed and this is where their records went: they may move to segments.
    /// Every entry named has been given to [`Storage::persist`] before.
    pub fn applied(&self, group: GroupId, placed: &[Placed]) {
        if let Some(group) = self.node.group(group) {
            group.lock().place(placed);
        }
    }

    /// Keeps a group's small state, once its segments reach it.
    pub fn checkpoint(&self, _group: GroupId, _at: LogId, _state: Bytes) {}

    /// Removes everything of a group, in the background.
    pub fn remove(&self, group: GroupId) {
        self.node.remove(group);
        let _ = self.commands.send(Command::Remove(group));
    }

    /// A group's log, for readers; empty if nothing was written yet, `None` if it was removed.
    #[must_use]
    pub fn log(&self, group: GroupId) -> Option<Log> {
        self.node.group(group).map(Log::new)
    }

    /// Writes out what is queued, seals the journal cleanly and stops the threads. Blocks.
    pub fn close(self) -> Result<(), Error> {
        let (answer, answered) = mpsc::channel();
        let _ = self.commands.send(Command::Close(answer));
        let closed = answered.recv().unwrap_or(Err(Error::Poisoned));
        self.running.end();
        closed
    }
}

impl Running {
    fn end(&self) {
        // A thread that has ended already needs no word.
        let _ = self.stop.send(Command::Stop);
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
