//! What goes to the log, and how: always stderr.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt};

use crate::{exit::Failure, output::above_bar};

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the state's library tells of its daily work is of no use to an operator. A filter that names it
/// brings it back.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// Where the log goes: a line at a time, which no bar overwrites.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        above_bar(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging what `filter` lets through, in the words of `tracing`: a level such as `debug`, or
/// `info,kontiki_server=trace`.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    // What comes later in the list wins.
    let parsed = EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| {
        Failure::usage(format!("{filter:?} is no log filter: {error}"))
            .advise("write a level (error, warn, info, debug, trace) or a list such as info,kontiki_server=debug")
    })?;
    let base = fmt().with_env_filter(parsed).with_writer(|| Stderr);
    let started = match format {
        LogFormat::Text => base
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(format!("cannot start logging: {error}")))
}
