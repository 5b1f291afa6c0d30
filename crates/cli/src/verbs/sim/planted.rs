//! `kontiki sim --planted`: how long it takes to find what others have done wrong, done on purpose.

use crate::{
    exit::{Exit, Failure},
    output::Output,
};

/// What makes a build that can.
const BUILD: &str = "cargo run --profile planted --features planted -- sim --planted";

/// Looks for all of them, or for one.
pub(super) fn run(only: Option<&str>, output: Output) -> Result<Exit, Failure> {
    // A panic may be what a mistake comes to: it must not be the end.
    if cfg!(not(feature = "planted")) || cfg!(panic = "abort") {
        let sentence = "nothing is planted in this program, and nothing can be";
        return Err(Failure::new(sentence).advise(format!("build one that can: {BUILD}")));
    }
    hunt(only, output)
}

#[cfg(not(feature = "planted"))]
fn hunt(_only: Option<&str>, _output: Output) -> Result<Exit, Failure> {
    Ok(Exit::Failed)
}

#[cfg(feature = "planted")]
use hunting::hunt;

#[cfg(feature = "planted")]
mod hunting;
