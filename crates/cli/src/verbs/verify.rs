//! `kontiki verify`: whether what is on the disks is what was written.

use std::path::PathBuf;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
};

mod cluster;
mod directory;

/// What to look over
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with 1 if anything is damaged, differs, or was not read. A join that was interrupted is no \
damage: it is told, with what to do.

Example:
  kontiki verify                            # a running cluster: every member reads its own log
  kontiki verify --data cluster/n2          # a member that does not run"
)]
pub(crate) struct Args {
    /// The folder of a member that does not run, or the data folder in it: every file of it is read,
    /// and nothing is written. Without it every member of the running cluster reads its own log, and
    /// the replicas are compared
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    match args.data {
        Some(dir) => directory::run(dir, invocation).await,
        None => cluster::run(invocation).await,
    }
}
