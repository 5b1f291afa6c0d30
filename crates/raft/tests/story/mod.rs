//! Text stories: commands to a virtual cluster, and below them what the cluster did.

mod cluster;
mod command;
mod member;
mod script;
mod transcript;

use script::Piece;

/// Plays a story, and gives it back with what really happened.
pub(crate) fn play(text: &str) -> Result<String, String> {
    let mut pieces = script::read(text)?;
    let mut cluster = cluster::Cluster::default();
    for piece in &mut pieces {
        let Piece::Block {
            commands,
            transcript,
        } = piece
        else {
            continue;
        };
        transcript.clear();
        for line in commands {
            let unheard = line
                .strip_prefix('(')
                .and_then(|line| line.strip_suffix(')'));
            let command = unheard.unwrap_or(line).parse();
            let said = command.and_then(|command| cluster.perform(command));
            let said = said.map_err(|error| format!("{line}: {error}"))?;
            if unheard.is_none() {
                transcript.push_str(&said);
            }
        }
    }
    Ok(script::write(&pieces))
}
