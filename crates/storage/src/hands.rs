//! The work of storage's two threads, done one step at a time.

use std::{collections::VecDeque, fmt, sync::mpsc::Receiver};

use crate::{
    Error,
    command::{Command, Task},
    settler::Settler,
    writer::Writer,
};

/// What the two threads would do, done when it is asked for: for simulation and tests, which need to
/// choose what happens when.
pub struct Hands {
    pub(crate) writer: Writer,
    pub(crate) commands: Receiver<Command>,
    /// Taken off the queue, to be written next.
    taken: VecDeque<Command>,
    pub(crate) settler: Settler,
    pub(crate) tasks: Receiver<Task>,
}

impl Hands {
    pub(crate) fn new(
        writer: Writer,
        commands: Receiver<Command>,
        settler: Settler,
        tasks: Receiver<Task>,
    ) -> Self {
        Self {
            writer,
            commands,
            taken: VecDeque::new(),
            settler,
            tasks,
        }
    }

    /// Takes off the queue what the next write is to have: what is queued from then on waits for the
    /// write after it. False if there is nothing to write.
    pub fn take(&mut self) -> bool {
        self.taken.extend(self.commands.try_iter());
        !self.taken.is_empty()
    }

    /// Writes what was taken to the journal, with one sync; everything that is queued if nothing was
    /// taken. False if there was nothing.
    pub fn write(&mut self) -> bool {
        if self.taken.is_empty() {
            self.take();
        }
        let Some(command) = self.taken.pop_front() else {
            return false;
        };
        self.writer.turn(command, || self.taken.pop_front());
        true
    }

    /// Does the next thing that is asked of the background. False if nothing is.
    pub fn settle(&mut self) -> bool {
        let Ok(task) = self.tasks.try_recv() else {
            return false;
        };
        self.settler.turn(task);
        true
    }

    /// Lets the background look again at what it had to put off: it does so whenever nothing has been
    /// asked of it for a while.
    pub fn look_again(&mut self) {
        self.settler.look_again();
    }

    /// Lets the journal find that nothing has come for a while: the first time it writes a mark, the
    /// second time it syncs that.
    pub fn idle(&mut self) {
        self.writer.rest();
    }

    /// Does everything that there is to do.
    pub fn work(&mut self) {
        while self.write() || self.settle() {}
    }

    /// What [`crate::Storage::close`] does.
    pub fn close(mut self) -> Result<(), Error> {
        self.work();
        self.settler.close()?;
        self.work();
        self.writer.close()
    }
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}
