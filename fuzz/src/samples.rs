//! Good bytes to start from: the golden files of the wire, which have one of every variant.

use std::{fs, path::Path};

const HEADER_BYTES: usize = 16;
const KIND_AT: usize = 3;

/// Every golden file's bytes, by name.
fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/wire/tests/golden");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the golden files of the wire")
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a golden file");
            let digits = text.lines().filter(|line| !line.starts_with('#'));
            let bytes = digits.flat_map(str::split_whitespace);
            let bytes = bytes.map(|two| u8::from_str_radix(two, 16).expect("hexadecimal"));
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            (name.into_owned(), bytes.collect())
        })
        .collect();
    found.sort();
    found
}

/// The payloads of the whole frames of these kinds.
fn payloads(kinds: &[u8]) -> Vec<Vec<u8>> {
    frames()
        .into_iter()
        .filter(|frame| frame.len() > HEADER_BYTES && kinds.contains(&frame[KIND_AT]))
        .map(|frame| frame[HEADER_BYTES..].to_vec())
        .collect()
}

/// The values that stand alone whose names begin like this.
fn bare(prefixes: &[&str]) -> Vec<Vec<u8>> {
    let named = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let bare = golden()
        .into_iter()
        .filter(|(name, bytes)| named(name) && !bytes.starts_with(b"KT"));
    bare.map(|(_, bytes)| bytes).collect()
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let frames = golden().into_iter().map(|(_, bytes)| bytes);
    frames.filter(|bytes| bytes.starts_with(b"KT")).collect()
}

pub(crate) fn batches() -> Vec<Vec<u8>> {
    payloads(&[4])
}

pub(crate) fn openings() -> Vec<Vec<u8>> {
    payloads(&[1, 7])
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    payloads(&[5])
}

pub(crate) fn deliveries() -> Vec<Vec<u8>> {
    payloads(&[6])
}

pub(crate) fn peers() -> Vec<Vec<u8>> {
    payloads(&[16, 17])
}

pub(crate) fn control() -> Vec<Vec<u8>> {
    let mut all = payloads(&[2, 3]);
    all.extend(bare(&["refusal-", "command-", "state-"]));
    all
}

pub(crate) fn checkpoints() -> Vec<Vec<u8>> {
    bare(&["state-"])
}
