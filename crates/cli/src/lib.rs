//! The one binary, `kontiki`: starts members, and does everything a client can.

#![forbid(unsafe_code)]

mod address;
mod args;
mod birth;
mod certificate;
mod exit;
mod home;
mod invocation;
mod lines;
mod logging;
mod moment;
mod nearest;
mod output;
mod position;
mod reasons;
mod renewal;
mod signals;
mod stdout;
mod verbs;

use std::{
    panic,
    process::{self, ExitCode},
};

use clap::Parser;

use crate::{
    args::Cli,
    exit::{Exit, Failure},
};

/// What the binary does, whatever its name.
pub fn main() -> ExitCode {
    // A member with a fault of its own must stop whole, not go on with one thread less.
    panic::set_hook(Box::new(|fault| {
        eprintln!("error: this is a fault of kontiki itself, please report it: {fault}");
        process::abort();
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are data and go to stdout; a reader that left early is no failure.
            let _ = message.print();
            let exit = if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return ExitCode::from(exit.code());
        }
    };
    let (invocation, command) = cli.split();
    let ended = runtime().and_then(|runtime| {
        let ended = runtime.block_on(args::run(command, &invocation));
        // Reads of stdin that will never end must not hold the process.
        runtime.shutdown_background();
        ended
    });
    let exit = ended.unwrap_or_else(|failure| {
        invocation.output.failure(&failure);
        failure.exit()
    });
    ExitCode::from(exit.code())
}

/// One thread: the work of a member or a client is one pipeline, and cores are left to other members.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))
}
