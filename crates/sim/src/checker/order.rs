//! C6 and C7: whether real time allows the order that the log gives.
//!
//! Appends and linearizable readings of the end form one chain: append 0, the readings that told 1,
//! append 1, and so on. Each must take effect at a moment between its beginning and its end, and no
//! earlier than anything before it in the chain. The earliest such moment is the latest beginning of
//! itself and of all before it; if that lies after its end, no order is possible, and if it never does,
//! these moments are one. Whoever was shown an append, or a watermark beyond it, saw it ended.

use kontiki_raft::Micros;

use crate::{
    checker::{Code, log::Log, parts::Part, values::Values, violation::Violations},
    history::{History, Outcome},
};

/// Something in the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
    Append(usize),
    Tail(usize),
}

/// The latest beginning so far, and whose it is.
#[derive(Clone, Copy)]
struct Latest {
    at: Micros,
    item: Option<Item>,
    /// It has been found contradicted already.
    told: bool,
}

/// How something in the chain is known to have ended.
#[derive(Clone, Copy)]
struct End {
    at: Micros,
    shown: bool,
}

pub(super) fn check(
    history: &History,
    part: &Part,
    log: &Log,
    values: &Values,
    violations: &mut Violations<'_>,
) {
    let starts = part.appends.iter().filter_map(|&id| {
        let start = values.start(history, id)?;
        Some((start, id))
    });
    let mut starts: Vec<(u64, usize)> = starts.collect();
    starts.sort_unstable();
    let tails = part.tails.iter().filter_map(|&id| {
        let (_, next) = history.tails[id].answered?;
        Some((next, id))
    });
    let mut tails: Vec<(u64, usize)> = tails.collect();
    tails.sort_unstable();

    let mut chain = Chain {
        history,
        log,
        violations,
        latest: Latest {
            at: Micros(0),
            item: None,
            told: false,
        },
    };
    let mut tails = tails.as_slice();
    for (start, id) in starts {
        let until = tails.partition_point(|(next, _)| *next <= start);
        let (before, after) = tails.split_at(until);
        chain.tails(before);
        tails = after;
        chain.append(start, id);
        let end = start + u64::from(history.appends[id].count);
        for (next, tail) in tails.iter().take_while(|(next, _)| *next < end) {
            chain.inside(start, end, *next, id, *tail);
        }
    }
    chain.tails(tails);
}

struct Chain<'a, 'b> {
    history: &'a History,
    log: &'a Log,
    violations: &'a mut Violations<'b>,
    latest: Latest,
}

impl Chain<'_, '_> {
    /// Readings, in the order of what they told; those that told the same are in no order.
    fn tails(&mut self, tails: &[(u64, usize)]) {
        for equal in tails.chunk_by(|one, other| one.0 == other.0) {
            for &(_, id) in equal {
                if let Some((at, _)) = self.history.tails[id].answered {
                    self.ended(Item::Tail(id), End { at, shown: false });
                }
            }
            for &(_, id) in equal {
                self.begun(Item::Tail(id), self.history.tails[id].asked);
            }
        }
    }

    fn append(&mut self, start: u64, id: usize) {
        let append = &self.history.appends[id];
        let acknowledged = match append.ended {
            Some((at, Outcome::Acknowledged { .. })) => at,
            _ => Micros(u64::MAX),
        };
        let offsets = start..start + u64::from(append.count);
        let shown = offsets.filter_map(|offset| self.log.known_at(offset)).min();
        let end = match shown {
            Some(at) if at < acknowledged => End { at, shown: true },
            _ => End {
                at: acknowledged,
                shown: false,
            },
        };
        self.begun(Item::Append(id), append.asked);
        self.ended(Item::Append(id), end);
    }

    fn begun(&mut self, item: Item, at: Micros) {
        if at > self.latest.at || self.latest.item.is_none() {
            self.latest = Latest {
                at,
                item: Some(item),
                told: false,
            };
        }
    }

    fn ended(&mut self, item: Item, end: End) {
        let Latest {
            at,
            item: Some(before),
            told,
        } = self.latest
        else {
            return;
        };
        if at <= end.at {
            return;
        }
        let stale = matches!(item, Item::Tail(_)) || matches!(before, Item::Tail(_));
        let code = match (stale, end.shown) {
            (true, _) => Code::StaleRead,
            (false, true) => Code::Subscription,
            (false, false) => Code::RealTime,
        };
        // One late beginning contradicts everything behind it: it is told once.
        match code {
            Code::StaleRead => self.violations.report.stale_reads += u64::from(!told),
            _ => self.violations.report.reordered += 1,
        }
        if told {
            return;
        }
        self.latest.told = true;
        let appends = [before, item].into_iter().filter_map(|item| match item {
            Item::Append(id) => Some(id),
            Item::Tail(_) => None,
        });
        let mut appends: Vec<usize> = appends.collect();
        appends.dedup();
        let history = self.history;
        self.violations.add(code, self.log.group, &appends, || {
            let how = if end.shown { "shown" } else { "ended" };
            format!(
                "{} stands behind {}, and was {how} at {:.6} s, before the other began",
                words(history, item),
                words(history, before),
                end.at.0 as f64 / 1e6
            )
        });
    }

    /// A reading told an end that lies between the records of an append.
    fn inside(&mut self, start: u64, end: u64, next: u64, append: usize, tail: usize) {
        if next <= start {
            return;
        }
        let history = self.history;
        self.violations
            .add(Code::Density, self.log.group, &[append], || {
                format!(
                    "{} lies inside an append that stands from {start} to {end}",
                    words(history, Item::Tail(tail))
                )
            });
    }
}

fn words(history: &History, item: Item) -> String {
    match item {
        Item::Append(id) => format!("append {id}"),
        Item::Tail(id) => {
            let tail = &history.tails[id];
            let (at, next) = tail.answered.unwrap_or_default();
            let seconds = |at: Micros| at.0 as f64 / 1e6;
            format!(
                "the end {next} told from {:.6} to {:.6} s",
                seconds(tail.asked),
                seconds(at)
            )
        }
    }
}
