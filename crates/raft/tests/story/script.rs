//! The text of a story: comments, and blocks of commands with the transcript they produced.
//!
//! ```text
//! # a comment
//! command
//! (command without a transcript)
//! ----
//! what happened
//!
//! ```

/// A piece of a story.
pub(crate) enum Piece {
    /// Comments and blank lines, as they stand.
    Prose(String),
    /// Commands, and what is written below them.
    Block {
        commands: Vec<String>,
        transcript: String,
    },
}

/// Reads a story; a transcript ends at the first blank line.
pub(crate) fn read(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            pieces.push(Piece::Prose(line.to_owned()));
            continue;
        }
        let mut commands = vec![line.to_owned()];
        loop {
            match lines.next() {
                Some(RULE) => break,
                Some(line) if !line.is_empty() => commands.push(line.to_owned()),
                _ => return Err(format!("{line:?} is not followed by {RULE:?}")),
            }
        }
        let mut transcript = String::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            transcript.push_str(line);
            transcript.push('\n');
        }
        pieces.push(Piece::Block {
            commands,
            transcript,
        });
    }
    Ok(pieces)
}

/// Writes it back.
pub(crate) fn write(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Prose(line) => text.push_str(line),
            Piece::Block {
                commands,
                transcript,
            } => {
                for line in commands.iter().map(String::as_str).chain([RULE]) {
                    text.push_str(line);
                    text.push('\n');
                }
                text.push_str(transcript);
                continue;
            }
        }
        text.push('\n');
    }
    text
}

/// Between commands and transcript.
const RULE: &str = "----";
