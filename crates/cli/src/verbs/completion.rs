//! `kontiki completion`: what a shell needs to complete commands.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::{Exit, Failure};

/// For which shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Where they go:
  bash  source <(kontiki completion bash)    in ~/.bashrc
  zsh   kontiki completion zsh > \"${fpath[1]}/_kontiki\"
  fish  kontiki completion fish > ~/.config/fish/completions/kontiki.fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

/// Prints them for the command line `C`.
pub(crate) fn run<C: CommandFactory>(args: Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "kontiki", &mut script);
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&script)?;
    stdout.flush()?;
    Ok(Exit::Done)
}
