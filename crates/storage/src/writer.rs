//! The one thread that writes the journal: everything that is queued goes out with one sync.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use kontiki_broker::{GroupWrite, Writes};
use kontiki_wire::GroupId;

use crate::{
    Error,
    journal::{Begin, Draft, Journal, Prepared, Standing, prepare},
    layout::journal::ENTRY_BYTES,
    node::Node,
};

/// Bytes of one sync, above which what is queued waits for the next one.
const SYNC_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one frame, above which the next operation begins another.
const FRAME_BYTES_MAX: u64 = 1 << 20;
/// How long nothing comes before a mark is written, so that the last sync has a witness.
const MARK_AFTER: Duration = Duration::from_millis(20);
/// How long nothing comes after a mark before it is synced.
const SYNC_MARK_AFTER: Duration = Duration::from_secs(1);

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Write(Writes),
    Remove(GroupId),
    /// The file that comes next is ready.
    Prepared(Prepared),
    /// Files before this one are not needed any more.
    Freed(u32),
    /// Seal the journal, answer, and end.
    Close(Sender<Result<(), Error>>),
    /// End as after a crash.
    Stop,
}

/// What is still to be done for the last sync to have a witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Witness {
    Missing,
    Unsynced,
    Done,
}

pub(crate) struct Writer {
    node: Arc<Node>,
    journal: Journal,
    salt: u64,
    /// Every group's small state as of what is staged.
    ledger: BTreeMap<GroupId, Standing>,
    prepared: Option<Prepared>,
    first_needed: u32,
    damage: Vec<String>,
    draft: Draft,
    witness: Witness,
    failed: bool,
}

impl Writer {
    pub(crate) fn new(
        node: Arc<Node>,
        journal: Journal,
        salt: u64,
        ledger: BTreeMap<GroupId, Standing>,
        first_needed: u32,
        damage: Vec<String>,
    ) -> Self {
        Self {
            node,
            journal,
            salt,
            ledger,
            prepared: None,
            first_needed,
            damage,
            draft: Draft::default(),
            witness: Witness::Missing,
            failed: false,
        }
    }

    /// Runs until it is told to end.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match self.witness {
                Witness::Missing => commands.recv_timeout(MARK_AFTER),
                Witness::Unsynced => commands.recv_timeout(SYNC_MARK_AFTER),
                Witness::Done => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let end = match first {
                Ok(command) => self.turn(command, commands),
                Err(RecvTimeoutError::Timeout) => {
                    self.guarded(Self::idle);
                    None
                }
                Err(RecvTimeoutError::Disconnected) => Some(End::Stopped),
            };
            match end {
                None => {}
                Some(End::Stopped) => return,
                Some(End::Closed(answer)) => {
                    // Nobody may wait for the answer any more; then nobody needs it.
                    let _ = answer.send(self.close());
                    return;
                }
            }
        }
    }

    /// Takes in everything that is queued and syncs once. Gives back the end if the queue has it.
    fn turn(&mut self, first: Command, commands: &Receiver<Command>) -> Option<End> {
        let mut taken = Taken::default();
        let mut next = Some(first);
        let mut end = None;
        while let Some(command) = next {
            match command {
                Command::Close(answer) => {
                    end = Some(End::Closed(answer));
                    break;
                }
                Command::Stop => return Some(End::Stopped),
                command => self.guarded(|writer| writer.take(command, &mut taken)),
            }
            let more = taken.bytes < SYNC_BYTES_MAX;
            next = more.then(|| commands.try_recv().ok()).flatten();
        }
        self.guarded(|writer| writer.commit(&taken));
        self.node
            .queued_bytes
            .fetch_sub(taken.bytes, Ordering::Relaxed);
        end
    }

    /// Does something unless an earlier write failed; its own failure poisons.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) {
        if self.failed || self.node.is_poisoned() {
            return;
        }
        if let Err(error) = work(self) {
            self.failed = true;
            self.node.poison(error);
        }
    }

    fn take(&mut self, command: Command, taken: &mut Taken) -> Result<(), Error> {
        match command {
            Command::Write(writes) => {
                assert!(Some(writes.seq) > taken.upto, "writes are numbered upwards");
                taken.upto = Some(writes.seq);
                for write in &writes.writes {
                    taken.bytes += body_bytes(write);
                    taken.sync |= self.write(write)?;
                }
            }
            Command::Remove(group) => {
                if self.ledger.contains_key(&group) {
                    self.make_room(OP_BYTES_MAX)?;
                    self.ledger.remove(&group);
                    self.draft.removed(group);
                    taken.sync = true;
                }
            }
            Command::Prepared(prepared) => self.prepared = Some(prepared),
            Command::Freed(first_needed) => {
                self.make_room(OP_BYTES_MAX)?;
                self.flush();
                self.first_needed = first_needed;
                self.journal.freed(first_needed);
            }
            Command::Close(_) | Command::Stop => unreachable!("the caller keeps them"),
        }
        Ok(())
    }

    /// Drafts one group's write. Says whether it is worth a sync: a new commit index alone is not even
    /// worth a frame.
    fn write(&mut self, write: &GroupWrite) -> Result<bool, Error> {
        let persist = &write.persist;
        for entry in &persist.append {
            if crc32c::crc32c(&entry.body) != entry.checksum {
                return Err(Error::Unfit(format!(
                    "entry {} of group {} does not match its checksum and was not written",
                    entry.id, write.group
                )));
            }
        }
        let standing = self.ledger.entry(write.group).or_insert_with(|| Standing {
            group: write.group,
            ..Standing::default()
        });
        standing.commit = standing.commit.max(persist.commit);
        if persist.hard.is_none() && persist.truncate_from.is_none() && persist.append.is_empty() {
            return Ok(false);
        }
        self.make_room(op_bytes(write))?;
        let standing = self.ledger.get_mut(&write.group).expect("entered above");
        standing.hard = persist.hard.unwrap_or(standing.hard);
        if let Some(from) = persist.truncate_from {
            standing.last = standing.last.min(from.prev());
        }
        if let Some(last) = persist.append.last() {
            standing.last = last.id.index;
        }
        self.draft.persist(write.group, persist);
        Ok(true)
    }

    /// Sees to it that an operation of so many bytes fits into the frame that is drafted, that frame
    /// into the file, and that the ledger tells of nothing that is not in an earlier frame when a file
    /// is begun. An operation that is larger than a file makes its file longer.
    fn make_room(&mut self, op_bytes: u64) -> Result<(), Error> {
        let drafted = self.draft.content_bytes();
        if drafted < FRAME_BYTES_MAX && self.journal.fits(drafted + op_bytes) {
            return Ok(());
        }
        self.flush();
        if self.journal.fits(op_bytes) {
            return Ok(());
        }
        self.turn_over()
    }

    /// Stages what is drafted as one frame.
    fn flush(&mut self) {
        if !self.draft.is_empty() {
            let draft = std::mem::take(&mut self.draft);
            self.journal.operations(&draft);
        }
    }

    /// Ends this file and begins the next one, which repeats every group's small state.
    fn turn_over(&mut self) -> Result<(), Error> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => prepare(
                &*self.node.disk,
                self.journal.number() + 1,
                self.node.settings.journal_file_bytes,
                None,
                false,
            )?,
        };
        let previous = self.journal.turn(prepared.number)?;
        let begin = Begin {
            previous,
            first_needed: self.first_needed,
            size: prepared.size,
            damage: self.damage.clone(),
        };
        self.journal = Journal::begin(prepared, self.salt, &begin);
        let mut draft = Draft::default();
        for standing in self.ledger.values() {
            draft.standing(standing);
        }
        self.journal.operations(&draft);
        Ok(())
    }

    fn commit(&mut self, taken: &Taken) -> Result<(), Error> {
        self.flush();
        self.journal.write()?;
        if taken.sync {
            self.journal.sync()?;
            self.witness = Witness::Missing;
        }
        if let Some(upto) = taken.upto {
            self.node.persisted(upto);
        }
        Ok(())
    }

    /// Nothing has come for a while: gives the last sync its witness.
    fn idle(&mut self) -> Result<(), Error> {
        match self.witness {
            Witness::Missing => {
                if self.journal.fits(0) {
                    self.journal.mark();
                    self.journal.write()?;
                }
                self.witness = Witness::Unsynced;
            }
            Witness::Unsynced => {
                self.journal.sync()?;
                self.witness = Witness::Done;
            }
            Witness::Done => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        if self.failed || self.node.is_poisoned() {
            return Err(Error::Poisoned);
        }
        self.journal.close()
    }
}

/// How the thread ends.
enum End {
    Closed(Sender<Result<(), Error>>),
    Stopped,
}

/// What one turn has taken from the queue.
#[derive(Debug, Default)]
struct Taken {
    upto: Option<u64>,
    bytes: u64,
    sync: bool,
}

/// Bytes of an operation without entries, at most.
const OP_BYTES_MAX: u64 = 128;

fn op_bytes(write: &GroupWrite) -> u64 {
    OP_BYTES_MAX + (write.persist.append.len() * ENTRY_BYTES) as u64 + body_bytes(write)
}

/// Bytes of the bodies of a write.
pub(crate) fn body_bytes(write: &GroupWrite) -> u64 {
    let bodies = write.persist.append.iter().map(|entry| entry.body.len());
    bodies.sum::<usize>() as u64
}
