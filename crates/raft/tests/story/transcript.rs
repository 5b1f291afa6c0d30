//! What a command prints: a heading for each thing that happened, and below it what followed.

use std::mem;

/// The transcript of the command under way.
#[derive(Default)]
pub(crate) struct Transcript {
    text: String,
    /// A change of the clock, said only if something is said at that time.
    clock: Option<String>,
}

impl Transcript {
    /// Something happened, and this followed.
    pub(crate) fn event(&mut self, heading: &str, followed: &[String]) {
        if let Some(time) = self.clock.take() {
            self.line(&format!("at {time}"));
        }
        self.line(heading);
        for line in followed {
            self.line(&format!("  {line}"));
        }
    }

    /// The clock moved.
    pub(crate) fn clock(&mut self, time: String) {
        self.clock = Some(time);
    }

    /// What was said since the last call.
    pub(crate) fn take(&mut self) -> String {
        mem::take(&mut self.text)
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}
