//! The same binary, of the next version, under a name of its own, so that both are there at once.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kontiki_cli::main()
}
