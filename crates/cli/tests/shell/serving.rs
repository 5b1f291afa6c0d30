//! Members that run, each a process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use rustix::process::Signal;

use super::{Shell, dev::Process};

/// A member that runs. Killed when it is dropped.
pub(crate) struct Serving(Child);

impl Serving {
    #[track_caller]
    /// Starts one, and waits until it says this.
    pub(crate) fn start(shell: &Shell, words: &[&str], ready: &str) -> Self {
        let mut child = shell.command(words).stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(
            log.any(|line| line.unwrap().contains(ready)),
            "it is not ready"
        );
        // What it says later is read, so that it can go on.
        std::thread::spawn(move || log.for_each(drop));
        Self(child)
    }

    /// Waits until it has ended by itself, and says how.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// Ends it, and says how it ended.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        Process::find(self.0.id()).signal(signal);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
