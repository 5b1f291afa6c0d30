//! The binary `kontiki`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kontiki_cli::main()
}
