//! A campaign that is interrupted tells of what it has done so far.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::runtime;

use crate::{
    exit::{Exit, Failure},
    signals::Signals,
};

/// Whether this process was asked to end.
pub(super) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// From now on the first signal is only remembered; the second ends the process.
    pub(super) fn watch() -> Result<Self, Failure> {
        let set = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&set);
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        thread::spawn(move || {
            runtime.block_on(signals.next());
            seen.store(true, Ordering::Relaxed);
            runtime.block_on(signals.next());
            process::exit(i32::from(Exit::Failed.code()));
        });
        Ok(Self(set))
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
