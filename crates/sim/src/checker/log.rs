//! One topic's log, laid out from all sources: what stands at each offset, and what contradicts it
//! (C1 origin, C2 agreement, C3 uniqueness, C4 density).

use std::fmt;

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use crate::{
    checker::{Code, parts::Part, values::Values, violation::Violations},
    history::{Dump, History, Holder, Outcome, Piece, Seen, Stamp, Value},
};

/// Where something was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Dump(Holder),
    Delivery(usize),
    Acknowledgement(usize),
}

/// One offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) seen: Seen,
    source: Source,
}

/// What is known of one topic.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) group: GroupId,
    /// By offset.
    slots: Vec<Option<Slot>>,
    /// When each offset was first known to be committed, other than by its acknowledgement.
    known_at: Vec<Micros>,
    /// The headers of batches, by the offset of their first record.
    pub(super) stamps: Vec<(u64, Stamp, u32)>,
    /// Where the log ends, if a complete dump tells.
    pub(super) end: Option<u64>,
    /// Offsets below it were trimmed: nothing is known of them.
    pub(super) base: u64,
}

/// Offsets are judged up to this many times the values there are, and some: beyond, there is nothing
/// that could have got them.
const OFFSETS_TO_VALUES: u64 = 2;
const OFFSETS_MORE: u64 = 1024;

impl Log {
    /// Lays out a topic.
    pub(super) fn lay(
        history: &History,
        group: GroupId,
        part: &Part,
        values: &mut Values,
        violations: &mut Violations<'_>,
    ) -> Self {
        let complete = part.dumps.iter().map(|id| &history.dumps[*id]);
        let complete: Vec<&Dump> = complete.filter(|dump| dump.complete).collect();
        let mut log = Self {
            group,
            slots: Vec::new(),
            known_at: Vec::new(),
            stamps: Vec::new(),
            end: None,
            base: complete.iter().map(|dump| dump.first).max().unwrap_or(0),
        };
        let counts = part.appends.iter().map(|id| history.appends[*id].count);
        let counts: u64 = counts.map(u64::from).sum();
        let mut laying = Laying {
            history,
            log: &mut log,
            values,
            violations,
            bound: counts * OFFSETS_TO_VALUES + OFFSETS_MORE,
        };
        let (whole, earlier) = part.dumps.split_at(complete.len());
        for id in whole {
            laying.dump(*id);
        }
        // From here on, what lies beyond the end is not there, whoever has seen it.
        let ends = complete.iter().filter_map(|dump| dump.pieces.last());
        let end = ends.map(Piece::end).max().unwrap_or(0).min(laying.bound);
        laying.log.end = (!complete.is_empty()).then_some(end);
        for id in earlier {
            laying.dump(*id);
        }
        for id in &part.subscriptions {
            laying.subscription(*id);
        }
        if complete.is_empty() {
            for id in &part.appends {
                laying.acknowledgement(*id);
            }
        }
        for id in &part.watermarks {
            laying.watermark(*id);
        }
        log.stamps.sort_unstable_by_key(|(offset, _, _)| *offset);
        log.agree_on_stamps(violations);
        log
    }

    /// Everything that stands, in order.
    pub(super) fn standing(&self) -> impl Iterator<Item = (u64, Seen)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(offset, slot)| Some((offset as u64, slot.as_ref()?.seen)))
    }

    /// When it was known that the offset is committed, without an acknowledgement.
    pub(super) fn known_at(&self, offset: u64) -> Option<Micros> {
        let at = self.known_at.get(usize::try_from(offset).ok()?)?;
        Some(*at).filter(|at| *at != NEVER)
    }

    /// The same batch has the same header wherever it is seen.
    fn agree_on_stamps(&mut self, violations: &mut Violations<'_>) {
        let group = self.group;
        self.stamps.dedup();
        self.stamps.dedup_by(|later, first| {
            if later.0 != first.0 {
                return false;
            }
            violations.add(Code::Agreement, group, &[], || {
                format!(
                    "the batch at {} is {:?} of {} records, and elsewhere {:?} of {}",
                    first.0, first.1, first.2, later.1, later.2
                )
            });
            true
        });
    }
}

const NEVER: Micros = Micros(u64::MAX);

/// A log while it is laid out.
struct Laying<'a, 'b> {
    history: &'a History,
    log: &'a mut Log,
    values: &'a mut Values,
    violations: &'a mut Violations<'b>,
    bound: u64,
}

impl Laying<'_, '_> {
    fn dump(&mut self, id: usize) {
        let dump = &self.history.dumps[id];
        let source = Source::Dump(dump.holder);
        let mut next = dump.first;
        for piece in &dump.pieces {
            if piece.offset != next {
                let group = self.log.group;
                self.violations.add(Code::Density, group, &[], || {
                    format!("{source} has {} where {next} is due", piece.offset)
                });
            }
            next = piece.end();
            self.piece(piece, source);
        }
    }

    fn subscription(&mut self, id: usize) {
        let source = Source::Delivery(id);
        for delivery in &self.history.subscriptions[id].deliveries {
            self.piece(&delivery.piece, source);
            let reach = self.log.known_at.len() as u64;
            for offset in delivery.piece.offset..delivery.piece.end().min(reach) {
                let at = &mut self.log.known_at[offset as usize];
                *at = (*at).min(delivery.at);
            }
        }
    }

    /// What is committed up to an offset is committed at the one before it.
    fn watermark(&mut self, id: usize) {
        let said = self.history.watermarks[id];
        let last = said.next.checked_sub(1).map(usize::try_from);
        if let Some(Ok(last)) = last
            && let Some(at) = self.log.known_at.get_mut(last)
        {
            *at = (*at).min(said.at);
        }
    }

    fn acknowledgement(&mut self, id: usize) {
        let append = &self.history.appends[id];
        let Some(offset) = append.acknowledged() else {
            return;
        };
        for more in 0..append.count {
            let value = Value {
                writer: append.first.writer,
                number: append.first.number + more,
            };
            let offset = offset.saturating_add(more.into());
            self.put(offset, value.into(), Source::Acknowledgement(id));
        }
    }

    fn piece(&mut self, piece: &Piece, source: Source) {
        let there = self.log.end.is_none_or(|end| piece.end() <= end);
        if let Some(stamp) = piece.stamp.filter(|_| there) {
            let count = piece.records.len() as u32;
            self.log.stamps.push((piece.offset, stamp, count));
        }
        for (more, seen) in piece.records.iter().enumerate() {
            let offset = piece.offset.saturating_add(more as u64);
            self.put(offset, *seen, source);
        }
    }

    fn put(&mut self, offset: u64, seen: Seen, source: Source) {
        let group = self.log.group;
        if offset >= self.bound {
            self.violations.add(Code::Density, group, &[], || {
                format!("{source} has {seen} at {offset}, more than was ever appended")
            });
            return;
        }
        let slot = Slot { seen, source };
        if self.log.end.is_some_and(|end| offset >= end) {
            self.origin(offset, slot);
            return;
        }
        let at = offset as usize;
        if at >= self.log.slots.len() {
            self.log.slots.resize(at + 1, None);
            self.log.known_at.resize(at + 1, NEVER);
        }
        match self.log.slots[at] {
            None => {
                self.log.slots[at] = Some(slot);
                self.origin(offset, slot);
                self.unique(offset, slot);
            }
            Some(before) if before.seen == seen => {}
            // What is garbled was said to be, and says nothing else.
            Some(before) if matches!(before.seen, Seen::Garbled { .. }) => {
                self.log.slots[at] = Some(slot);
                self.origin(offset, slot);
                self.unique(offset, slot);
            }
            Some(before) => {
                if self.origin(offset, slot) {
                    self.disagree(offset, before, slot);
                }
            }
        }
    }

    /// C1; whether it is an intact value that may stand in this topic.
    fn origin(&mut self, offset: u64, slot: Slot) -> bool {
        let Slot { seen, source } = slot;
        let group = self.log.group;
        if matches!(seen, Seen::Garbled { .. }) {
            self.violations.report.wrong_bytes += 1;
            self.violations.add(Code::Origin, group, &[], || {
                format!("{source} has {seen} at {offset}")
            });
            return false;
        }
        let append = self.values.append_of(seen);
        let what = match append.map(|id| &self.history.appends[id]) {
            None => "which was never written",
            Some(one) if one.group != group => "which was written to another topic",
            Some(one) if matches!(one.ended, Some((_, Outcome::Failed))) => {
                "which certainly was not appended"
            }
            Some(_) => return true,
        };
        self.violations.report.phantom += 1;
        let appends: Vec<usize> = append.into_iter().collect();
        self.violations.add(Code::Origin, group, &appends, || {
            format!("{source} has {seen} at {offset}, {what}")
        });
        false
    }

    /// C3.
    fn unique(&mut self, offset: u64, slot: Slot) {
        let Seen::Value(value) = slot.seen else {
            return;
        };
        let Some(first) = self.values.put(value, offset) else {
            return;
        };
        self.violations.report.doubled += 1;
        let appends: Vec<usize> = self.values.append(value).into_iter().collect();
        let (group, source) = (self.log.group, slot.source);
        self.violations.add(Code::Uniqueness, group, &appends, || {
            format!("{source} has {value} at {offset}, and it stands at {first}")
        });
    }

    /// C2, or C11 between replicas.
    fn disagree(&mut self, offset: u64, before: Slot, after: Slot) {
        let code = match (before.source, after.source) {
            (Source::Dump(Holder::Member(_)), Source::Dump(Holder::Member(_))) => Code::Replicas,
            _ => Code::Agreement,
        };
        let seen = [before.seen, after.seen];
        let appends = seen
            .into_iter()
            .filter_map(|one| self.values.append_of(one));
        let appends: Vec<usize> = appends.collect();
        self.violations.add(code, self.log.group, &appends, || {
            format!(
                "at {offset} {} has {}, and {} has {}",
                before.source, before.seen, after.source, after.seen
            )
        });
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dump(holder) => holder.fmt(f),
            Self::Delivery(id) => write!(f, "subscription {id}"),
            Self::Acknowledgement(id) => write!(f, "the acknowledgement of append {id}"),
        }
    }
}
