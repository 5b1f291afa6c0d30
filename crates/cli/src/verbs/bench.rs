//! `kontiki bench`: the user's own measure of a cluster.

mod append;
mod crowd;
mod latency;
mod load;
mod machine;
mod outcome;
mod pace;
mod payload;
mod plot;
mod read;
mod report;
mod tail;
mod verdict;
mod worker;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
};

const HOW: &str = "How it measures:
  Payloads cannot be compressed and say who sent them, as which and when.
  With --rate, latency counts from the moment a record was due, so that a stall is charged to
  every record that it held up; without, from the moment it was submitted. Records count when
  their acknowledgement arrives after the warm-up and before the end.
  CPU seconds are those of the cluster's `kontiki serve` and `kontiki join` processes on this
  machine (or of --pids) and of the bench itself, from /proc; bytes written are those that the
  servers caused to be written to disks.";

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Measure appending: throughput, and how long acknowledgements take
    #[command(after_help = HOW)]
    Append(append::Args),
    /// Measure catching up: how fast all of a topic is read; contents are verified
    #[command(after_help = HOW)]
    Read(read::Args),
    /// Measure following: how long a record takes from its producer to every subscriber
    #[command(after_help = HOW)]
    Tail(tail::Args),
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    match verb {
        Verb::Append(args) => append::run(args, invocation).await,
        Verb::Read(args) => read::run(args, invocation).await,
        Verb::Tail(args) => tail::run(args, invocation).await,
    }
}
