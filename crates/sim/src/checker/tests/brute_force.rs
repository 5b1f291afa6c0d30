//! The checker against a search through all orders, on histories of at most eight operations.

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use super::chance::Chance;
use crate::{
    checker::{Code, check},
    history::{Dump, History, Holder, Outcome, Piece, Seen},
};

const GROUP: GroupId = GroupId(1);

/// An operation as the search sees it.
#[derive(Clone, Copy, Debug)]
struct Operation {
    asked: u64,
    ended: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It stands as the so-many-th.
    Append(u64),
    /// It told this end.
    Tail(u64),
    /// It told that the end is not before this.
    AtLeast(u64),
}

/// Whether some order of the operations is allowed by their times and explains what they told.
fn is_explained(operations: &[Operation], done: &mut Vec<bool>, appended: u64) -> bool {
    if done.iter().all(|done| *done) {
        return true;
    }
    for (at, operation) in operations.iter().enumerate() {
        let open = || operations.iter().zip(&*done).filter(|(_, done)| !**done);
        if done[at] || open().any(|(other, _)| other.ended < operation.asked) {
            continue;
        }
        let after = match operation.kind {
            Kind::Append(place) if place == appended => appended + 1,
            Kind::Tail(told) if told == appended => appended,
            Kind::AtLeast(told) if told <= appended => appended,
            _ => continue,
        };
        done[at] = true;
        if is_explained(operations, done, after) {
            return true;
        }
        done[at] = false;
    }
    false
}

/// A few operations with random times, which a log may have made or not, told in both ways.
fn small(chance: &mut Chance) -> (History, Vec<Operation>) {
    let mut history = History::default();
    let mut operations = Vec::new();
    let count = 1 + chance.below(8);
    let span = 4 + chance.below(16);
    let mut log = Vec::new();
    let mut appends = Vec::new();
    for _ in 0..count {
        let asked = chance.below(span);
        let ended = asked + chance.below(span / 2);
        match chance.below(10) {
            0..6 => appends.push((asked, ended)),
            6..8 => {
                let told = chance.below(5);
                let tail = history.tail(Micros(asked), GROUP);
                history.tail_answered(Micros(ended), tail, told);
                let kind = Kind::Tail(told);
                operations.push(Operation { asked, ended, kind });
            }
            8 => {
                let told = chance.below(4);
                history.watermark(Micros(ended), GROUP, told);
                let kind = Kind::AtLeast(told);
                let asked = 0;
                operations.push(Operation { asked, ended, kind });
            }
            // One that was never answered says nothing.
            _ => {
                history.tail(Micros(asked), GROUP);
            }
        }
    }
    // Mostly in the order of their times, so that both answers are frequent.
    appends.sort_unstable();
    for at in 1..appends.len() {
        if chance.percent(25) {
            appends.swap(at - 1, at);
        }
    }
    for (asked, ended) in appends {
        let writer = history.writer();
        let (append, first) = history.append(Micros(asked), GROUP, writer, 1);
        let place = log.len() as u64;
        let (outcome, ended) = match chance.below(10) {
            0 => (Outcome::Failed, None),
            1 => (Outcome::Unknown, None),
            2 => (Outcome::Unknown, Some(u64::MAX)),
            _ => (Outcome::Acknowledged { offset: place }, Some(ended)),
        };
        history.append_ended(Micros(ended.unwrap_or(asked)), append, outcome);
        if let Some(ended) = ended {
            log.push(Seen::Value(first));
            let kind = Kind::Append(place);
            operations.push(Operation { asked, ended, kind });
        }
    }
    let pieces = (0..).zip(log).map(|(offset, seen)| Piece {
        offset,
        stamp: None,
        records: vec![seen],
    });
    history.dumps.push(Dump {
        holder: Holder::Client,
        group: GROUP,
        at: Micros(span * 2),
        complete: true,
        first: 0,
        pieces: pieces.collect(),
        marks: Vec::new(),
        state: None,
    });
    (history, operations)
}

#[test]
fn the_checker_and_a_search_through_all_orders_agree() {
    let (mut explained, mut contradicted) = (0, 0);
    for seed in 0..40_000 {
        let (history, operations) = small(&mut Chance::new(seed));
        let mut done = vec![false; operations.len()];
        let searched = is_explained(&operations, &mut done, 0);
        let verdict = check(&history);
        assert_eq!(
            verdict.violations.is_empty(),
            searched,
            "seed {seed}: {:#?}\n{operations:#?}",
            verdict.violations
        );
        // Nothing but times and ends was drawn at random.
        let expected = [
            Code::RealTime,
            Code::StaleRead,
            Code::Subscription,
            Code::Durability,
        ];
        for violation in &verdict.violations {
            assert!(expected.contains(&violation.code), "{violation}");
        }
        *(if searched {
            &mut explained
        } else {
            &mut contradicted
        }) += 1;
    }
    assert!(explained > 10_000, "{explained}");
    assert!(contradicted > 10_000, "{contradicted}");
}
