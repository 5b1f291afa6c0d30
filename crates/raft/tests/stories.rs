//! Plays `tests/stories/*.txt`, each of which shows one promise of the protocol, and compares every
//! line of the transcript. `UPDATE_GOLDEN=1 cargo test -p kontiki-raft --test stories` rewrites them;
//! what is rewritten is to be read as closely as code. The promises of Raft are checked after every
//! step as well (`promises/`), so that no rewriting can hide a broken one. The verbs are listed in
//! `story/command.rs`.

mod disk;
mod promises;
mod story;
mod words;

use std::{env, fs, path::PathBuf};

#[test]
fn every_story_happens_as_it_is_written() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in stories() {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let written = fs::read_to_string(&path).expect("a readable story");
        let said = written.lines().take_while(|line| line.starts_with("# "));
        if said.count() < 2 {
            wrong.push(format!("{name}: a story begins with what it shows"));
        }
        match story::play(&written) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(happened) if happened == written => {}
            Ok(happened) if update => fs::write(&path, happened).expect("a writable story"),
            Ok(happened) => wrong.push(format!("{name}:\n{}", difference(&written, &happened))),
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nif this is right, UPDATE_GOLDEN=1 writes it down",
        wrong.join("\n")
    );
}

fn stories() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories");
    let entries = fs::read_dir(folder).expect("the folder of stories");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut stories: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "txt"))
        .collect();
    assert!(!stories.is_empty(), "no story was found");
    stories.sort();
    stories
}

/// The first lines that differ, with what precedes them.
fn difference(written: &str, happened: &str) -> String {
    let (written, happened): (Vec<_>, Vec<_>) =
        (written.lines().collect(), happened.lines().collect());
    let same = written
        .iter()
        .zip(&happened)
        .take_while(|(a, b)| a == b)
        .count();
    let part = |lines: &[&str], from: usize, sign: char| {
        let lines = lines.iter().skip(from).take(LINES_SHOWN);
        lines
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    let before = same.saturating_sub(LINES_SHOWN);
    let common = part(&written[..same], before, ' ');
    let (expected, found) = (part(&written, same, '-'), part(&happened, same, '+'));
    format!("  line {}\n{common}{expected}{found}", same + 1)
}

/// Of each side of a difference.
const LINES_SHOWN: usize = 8;
