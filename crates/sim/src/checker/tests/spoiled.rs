//! What was spoiled is always flagged, with the right code. Each way to spoil a valid history is a bug
//! that some log has had.

mod clients;
mod deliveries;
mod logs;
mod replicas;
mod topics;

use super::{chance::Chance, cluster};
use crate::{
    checker::{Code, check},
    history::{History, Piece, Seen, Value},
};

/// Each way is tried until it has fitted so many histories.
const HISTORIES: u32 = 300;
/// A way that fits fewer than one in so many histories proves little.
const TRIES_MAX: u64 = 40_000;

/// Spoils valid histories in one way, which says whether it fitted; each must be flagged with `code`.
fn always(code: Code, spoil: impl Fn(&mut History, &mut Chance) -> Option<()>) {
    let mut fitted = 0;
    for seed in 0..TRIES_MAX {
        let mut chance = Chance::new(seed);
        let steps = 20 + chance.below(100);
        let mut history = cluster::history(&mut chance, steps);
        if spoil(&mut history, &mut chance).is_none() {
            continue;
        }
        let verdict = check(&history);
        assert!(
            verdict.violations.iter().any(|one| one.code == code),
            "seed {seed}: {:#?}\n{history:#?}",
            verdict.violations
        );
        fitted += 1;
        if fitted == HISTORIES {
            return;
        }
    }
    panic!("only {fitted} histories can be spoiled so");
}

/// All places where consecutive records are seen.
fn pieces(history: &mut History) -> impl Iterator<Item = &mut Piece> {
    let dumped = history.dumps.iter_mut().flat_map(|dump| &mut dump.pieces);
    let subscriptions = history.subscriptions.iter_mut();
    let delivered = subscriptions
        .flat_map(|subscription| &mut subscription.deliveries)
        .map(|delivery| &mut delivery.piece);
    dumped.chain(delivered)
}

/// The batches of a topic that was not removed, as all replicas hold them, and the topic's last dump.
fn batches(history: &History, chance: &mut Chance) -> Option<(usize, Vec<Piece>)> {
    let dumps: Vec<usize> = (0..history.dumps.len())
        .filter(|id| history.dumps[*id].complete)
        .collect();
    let dump = *chance.pick(&dumps)?;
    let pieces = history.dumps[dump].pieces.clone();
    (!pieces.is_empty()).then_some((dump, pieces))
}

/// The append that a batch in the log is of.
fn append_of(history: &History, piece: &Piece) -> usize {
    let Some(Seen::Value(first)) = piece.records.first().copied() else {
        panic!("a batch of the log has records")
    };
    let is_of = |one: &crate::history::Append| one.first == first;
    history
        .appends
        .iter()
        .position(is_of)
        .expect("it was asked for")
}

/// All complete dumps of a dump's topic.
fn siblings(history: &mut History, dump: usize) -> impl Iterator<Item = &mut crate::history::Dump> {
    let group = history.dumps[dump].group;
    let dumps = history.dumps.iter_mut();
    dumps.filter(move |one| one.complete && one.group == group)
}

/// A value that nobody was given.
const NEVER_WRITTEN: Value = Value {
    writer: 77,
    number: 7,
};
