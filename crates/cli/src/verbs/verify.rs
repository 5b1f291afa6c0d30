//! `kontiki verify`: whether what is on the disks is what was written.

use std::path::PathBuf;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
};

mod directory;

/// What to look over
#[derive(Debug, clap::Args)]
#[command(after_help = "Ends with 1 if anything is damaged.

Example:
  kontiki verify --data cluster/n2          # a member that does not run")]
pub(crate) struct Args {
    /// The folder of a member that does not run, or the data folder in it: every file of it is read,
    /// and nothing is written
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    directory::run(args.data, invocation).await
}
