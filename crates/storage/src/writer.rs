//! The one thread that writes the journal: everything that is queued goes out with one sync.

use std::{
    collections::{BTreeMap, btree_map},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use kontiki_broker::GroupWrite;
use kontiki_raft::Entry;
use kontiki_wire::GroupId;

use crate::{
    Error, Event, RecoveredGroup,
    adoption::Whole,
    command::{Answer, Command, Task},
    group::Group,
    journal::{Begin, Draft, Journal, Prepared, Standing, prepare},
    layout::journal::ENTRY_BYTES,
    node::Node,
    planted::{Planted, plants},
    recover::{add_journal, is_recovering},
};

/// Bytes of one sync, above which what is queued waits for the next one.
const SYNC_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one frame, above which the next operation begins another.
const FRAME_BYTES_MAX: u64 = 1 << 20;
/// How long nothing comes before a mark is written, so that the last sync has a witness.
const MARK_AFTER: Duration = Duration::from_millis(100);
/// How long nothing comes after a mark before it is synced.
const SYNC_MARK_AFTER: Duration = Duration::from_secs(1);

/// Files back from which on entries that no segment keeps are written again, so that one group that
/// does not commit does not hold the whole journal.
const FILES_HELD_MAX: u32 = 4;

/// What is still to be done for the last sync to have a witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Witness {
    Missing,
    Unsynced,
    Done,
}

pub(crate) struct Writer {
    node: Arc<Node>,
    tasks: Sender<Task>,
    journal: Journal,
    salt: u64,
    ledger: Ledger,
    /// The write that is being drafted, or the next one.
    seq: u64,
    /// The file that comes next, if it is ready.
    prepared: Option<Prepared>,
    /// Whether it was asked for.
    asked: bool,
    /// The file before this one, until it says that this one was begun.
    before: Option<Journal>,
    first_needed: u32,
    damage: Vec<String>,
    draft: Draft,
    witness: Witness,
    failed: bool,
}

/// Every group and its small state as of what is drafted.
pub(crate) type Ledger = BTreeMap<GroupId, (Arc<Group>, Standing)>;

impl Writer {
    pub(crate) fn new(
        node: Arc<Node>,
        tasks: Sender<Task>,
        journal: Journal,
        salt: u64,
        ledger: Ledger,
        damage: Vec<String>,
    ) -> Self {
        let first_needed = journal.number();
        Self {
            node,
            tasks,
            journal,
            salt,
            ledger,
            seq: 0,
            prepared: None,
            asked: false,
            before: None,
            first_needed,
            damage,
            draft: Draft::default(),
            witness: Witness::Missing,
            failed: false,
        }
    }

    /// Runs until it is told to end.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        let _alarm = self.node.alarm();
        loop {
            let first = match self.witness {
                Witness::Missing => commands.recv_timeout(MARK_AFTER),
                Witness::Unsynced => commands.recv_timeout(SYNC_MARK_AFTER),
                Witness::Done => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let end = match first {
                Ok(command) => {
                    self.node.wait_for_segments();
                    self.turn(command, || commands.try_recv().ok())
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
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
    pub(crate) fn turn(
        &mut self,
        first: Command,
        mut queued: impl FnMut() -> Option<Command>,
    ) -> Option<End> {
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
            next = more.then(&mut queued).flatten();
        }
        self.guarded(|writer| writer.commit(&mut taken));
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
                self.seq = writes.seq;
                for write in &writes.writes {
                    taken.bytes += body_bytes(write);
                    taken.sync |= self.write(write, taken)?;
                }
                taken.upto = Some(writes.seq);
                self.seq = writes.seq + 1;
            }
            Command::Remove(group) => {
                if self.ledger.contains_key(&group) {
                    self.make_room(OP_BYTES_MAX)?;
                    let removed = self.ledger.remove(&group);
                    if removed.is_some_and(|(_, standing)| standing.hard.recovering) {
                        self.one_less_recovers(taken);
                    }
                    if !plants(Planted::RemovalNotLogged) {
                        self.draft.removed(group);
                    }
                    taken.sync = true;
                }
                taken.synced.push(Task::Removed(group));
            }
            Command::Adopt(standing, whole) => self.adopt(standing, whole, taken)?,
            Command::Prepared(prepared) if prepared.number > self.journal.number() => {
                self.prepared = Some(prepared);
            }
            Command::Prepared(prepared) => self.task(Task::Unused(prepared.number)),
            Command::Freed(first_needed) => {
                self.make_room(OP_BYTES_MAX)?;
                self.flush();
                self.first_needed = first_needed;
                self.journal.freed(first_needed);
                taken.sync = true;
                taken.synced.push(Task::Freed(first_needed));
            }
            Command::Reopen(group, recovered) => taken.told.push(Told::Reopened(group, recovered)),
            Command::Tell(event) => taken.told.push(Told::Event(event)),
            Command::Flush(answer) => taken.flushed.push(answer),
            Command::Close(_) | Command::Stop => unreachable!("the caller keeps them"),
        }
        Ok(())
    }

    /// A group that has nothing here begins with what was fetched of it.
    fn adopt(&mut self, standing: Standing, whole: Whole, taken: &mut Taken) -> Result<(), Error> {
        let id = standing.group;
        let Some(group) = self.node.group(id) else {
            return Ok(());
        };
        if self.ledger.contains_key(&id) {
            return Err(Error::Unfit(format!(
                "group {id} was to begin with what was fetched of it, and had begun"
            )));
        }
        self.make_room(OP_BYTES_MAX)?;
        group.lock().begin_after(whole.last, whole.end_offset);
        self.draft.standing(&standing);
        self.ledger.insert(id, (Arc::clone(&group), standing));
        taken.sync = true;
        taken.synced.push(Task::Adopted(group, whole));
        Ok(())
    }

    /// Drafts one group's write. Says whether it is worth a sync: a new commit index alone is not even
    /// worth a frame.
    fn write(&mut self, write: &GroupWrite, taken: &mut Taken) -> Result<bool, Error> {
        let persist = &write.persist;
        for entry in &persist.append {
            check(write.group, entry)?;
        }
        if let btree_map::Entry::Vacant(vacant) = self.ledger.entry(write.group) {
            let Some(group) = self.node.group(write.group) else {
                return Ok(false);
            };
            let standing = Standing {
                group: write.group,
                ..Standing::default()
            };
            vacant.insert((group, standing));
        }
        if persist.hard.is_some() || persist.truncate_from.is_some() || !persist.append.is_empty() {
            self.make_room(op_bytes(write))?;
        }
        let (group, standing) = self.ledger.get_mut(&write.group).expect("entered above");
        standing.commit = standing.commit.max(persist.commit);
        if persist.hard.is_none() && persist.truncate_from.is_none() && persist.append.is_empty() {
            return Ok(false);
        }
        let was_recovering = standing.hard.recovering;
        standing.hard = persist.hard.unwrap_or(standing.hard);
        let recovered = was_recovering && !standing.hard.recovering;
        let mut inner = group.lock();
        if let Some(from) = persist.truncate_from {
            standing.last = standing.last.min(from.prev());
            inner.leave_homes(from.0);
        }
        if let Some(last) = persist.append.last() {
            standing.last = last.id.index;
            inner.settle_home(self.journal.number(), last.id.index.0, body_bytes(write));
        }
        drop(inner);
        self.draft.persist(write.group, persist);
        if recovered {
            self.one_less_recovers(taken);
        }
        let hard_alone = persist.truncate_from.is_none() && persist.append.is_empty();
        Ok(!(hard_alone && plants(Planted::VoteNotSynced)))
    }

    /// A group counts again or is gone. Damage is forgotten with the last one.
    fn one_less_recovers(&mut self, taken: &mut Taken) {
        if !is_recovering(self.ledger.values().map(|(_, standing)| standing)) {
            self.damage.clear();
            taken.synced.push(Task::Recovered);
        }
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

    /// Stages what is drafted as one frame, and tells groups where their entries' bodies are.
    fn flush(&mut self) {
        if self.draft.is_empty() {
            return;
        }
        let draft = std::mem::take(&mut self.draft);
        let file = self.journal.number();
        let mut at = self.journal.operations(&draft);
        for bodies in draft.bodies.chunk_by(|one, next| one.group == next.group) {
            if let Some((group, _)) = self.ledger.get(&bodies[0].group) {
                group.lock().lie(bodies, file, at);
            }
            at += bodies
                .iter()
                .map(|body| body.bytes.len() as u64)
                .sum::<u64>();
        }
    }

    /// Ends this file and begins the next one, which repeats every group's small state.
    fn turn_over(&mut self) -> Result<(), Error> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => {
                // One that was asked for may be made at this moment: it is left alone.
                let number = self.journal.number() + 1 + u32::from(self.asked);
                let size = self.node.settings.journal_file_bytes;
                prepare(&*self.node.disk, number, size, None, false)?
            }
        };
        let number = prepared.number;
        let begin = Begin {
            previous: self.journal.turn(number)?,
            first_needed: self.first_needed,
            size: prepared.size,
            damage: self.damage.clone(),
        };
        // The end of this file made the beginning of it durable, if that was not.
        self.begun()?;
        let next = Journal::begin(prepared, self.salt, &begin);
        self.before = Some(std::mem::replace(&mut self.journal, next));
        self.asked = false;
        let draft = &mut self.draft;
        let mut room = self.node.settings.journal_file_bytes / 2;
        for (group, standing) in self.ledger.values_mut() {
            let mut inner = group.lock();
            standing.kept = inner.kept();
            if plants(Planted::VoteLostAtTurn) {
                standing.hard.vote = None;
            }
            let held = inner
                .first_home()
                .is_some_and(|home| home + FILES_HELD_MAX <= number);
            let unkept = held.then(|| inner.unkept(self.seq)).flatten();
            let bytes = |entries: &Vec<Entry>| entries.iter().map(entry_bytes).sum::<u64>();
            match unkept.filter(|entries| bytes(entries) <= room) {
                Some(entries) => {
                    room -= bytes(&entries);
                    draft.whole(standing, &entries);
                    inner.move_home(number);
                }
                None => draft.standing(standing),
            }
        }
        self.flush();
        Ok(())
    }

    /// The settler ends before this thread only when nothing is left to do.
    fn task(&self, task: Task) {
        let _ = self.tasks.send(task);
    }

    fn commit(&mut self, taken: &mut Taken) -> Result<(), Error> {
        self.flush();
        self.journal.write()?;
        self.node.journal_reached(self.journal.position());
        if taken.sync || self.before.is_some() {
            self.sync()?;
            self.witness = Witness::Missing;
        }
        if let Some(upto) = taken.upto {
            self.node.persisted(upto);
        }
        if !self.asked && self.journal.is_worth_a_next() {
            self.asked = true;
            self.task(Task::Prepare(self.journal.number() + 1));
        }
        for told in taken.told.drain(..) {
            let (group, mut recovered) = match told {
                Told::Reopened(group, recovered) => (group, recovered),
                Told::Event(event) => {
                    self.node.tell(event);
                    continue;
                }
            };
            if let Some((_, standing)) = self.ledger.get(&group.id) {
                let unkept = group.lock().after_kept();
                add_journal(&mut recovered, standing.hard, standing.commit, &unkept);
                self.node.tell(Event::Mended(recovered));
            }
        }
        for task in taken.synced.drain(..) {
            self.task(task);
        }
        for answer in taken.flushed.drain(..) {
            // Who does not wait any more does not need it.
            let _ = answer.send(Ok(()));
        }
        Ok(())
    }

    /// Makes what is written durable.
    fn sync(&mut self) -> Result<(), Error> {
        self.journal.sync()?;
        self.begun()
    }

    /// This file's beginning is durable. Only then is it told of, and before anything in it is promised:
    /// the file before it and the settler keep its number, and a file whose number is known must not be
    /// gone after a crash.
    fn begun(&mut self) -> Result<(), Error> {
        if let Some(before) = self.before.take() {
            let number = self.journal.number();
            before.followed(number)?;
            self.task(Task::Turned(number));
        }
        Ok(())
    }

    /// Nothing has come for a while.
    pub(crate) fn rest(&mut self) {
        self.guarded(Self::witness);
    }

    /// Gives the last sync its witness.
    fn witness(&mut self) -> Result<(), Error> {
        match self.witness {
            Witness::Missing => {
                if !self.journal.mark() {
                    // The first frame of the next file is as good a witness.
                    self.turn_over()?;
                }
                self.journal.write()?;
                self.witness = Witness::Unsynced;
            }
            Witness::Unsynced => {
                self.sync()?;
                self.witness = Witness::Done;
            }
            Witness::Done => {}
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if self.failed || self.node.is_poisoned() {
            return Err(Error::Poisoned);
        }
        self.journal.close()?;
        self.begun()
    }
}

/// How the thread ends.
pub(crate) enum End {
    Closed(Answer),
    Stopped,
}

/// What one turn has taken from the queue.
#[derive(Debug, Default)]
struct Taken {
    upto: Option<u64>,
    bytes: u64,
    sync: bool,
    /// What the settler is asked for once this is durable.
    synced: Vec<Task>,
    /// Who waits for this to be durable.
    flushed: Vec<Answer>,
    /// What is to be told once this is durable, in this order.
    told: Vec<Told>,
}

/// What is told.
#[derive(Debug)]
enum Told {
    /// A group's segments are whole again.
    Reopened(Arc<Group>, Box<RecoveredGroup>),
    Event(Event),
}

/// Bytes of an operation without entries, at most.
const OP_BYTES_MAX: u64 = 128;

fn op_bytes(write: &GroupWrite) -> u64 {
    OP_BYTES_MAX + write.persist.append.iter().map(entry_bytes).sum::<u64>()
}

fn entry_bytes(entry: &Entry) -> u64 {
    (ENTRY_BYTES + entry.body.len()) as u64
}

/// An entry that does not match its checksum would look like damage when it is read back.
fn check(group: GroupId, entry: &Entry) -> Result<(), Error> {
    if crc32c::crc32c(&entry.body) == entry.checksum {
        return Ok(());
    }
    let id = entry.id;
    Err(Error::Unfit(format!(
        "entry {id} of group {group} does not match its checksum and was not written"
    )))
}

/// Bytes of the bodies of a write.
pub(crate) fn body_bytes(write: &GroupWrite) -> u64 {
    let bodies = write.persist.append.iter().map(|entry| entry.body.len());
    bodies.sum::<usize>() as u64
}
