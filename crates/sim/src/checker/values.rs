//! Who wrote each value, and where it stands.

use crate::history::{History, Seen, Value};

/// Nobody, and nowhere.
const NONE: u32 = u32::MAX;
const NOWHERE: u64 = u64::MAX;

/// All values of a history, by writer and number.
#[derive(Clone, Default, Debug)]
pub(super) struct Values {
    /// Where each writer's values begin in the lists; one more than there are writers.
    begins: Vec<usize>,
    writers: Vec<u32>,
    places: Vec<u64>,
}

impl Values {
    pub(super) fn of(history: &History) -> Self {
        let mut counts: Vec<usize> = Vec::new();
        for append in &history.appends {
            let writer = append.first.writer as usize;
            if counts.len() <= writer {
                counts.resize(writer + 1, 0);
            }
            let end = append.first.number as usize + append.count as usize;
            counts[writer] = counts[writer].max(end);
        }
        let mut values = Self {
            begins: vec![0],
            ..Self::default()
        };
        let mut total = 0;
        for count in counts {
            total += count;
            values.begins.push(total);
        }
        values.writers = vec![NONE; total];
        values.places = vec![NOWHERE; total];
        for (id, append) in history.appends.iter().enumerate() {
            let at = values.begins[append.first.writer as usize] + append.first.number as usize;
            values.writers[at..at + append.count as usize].fill(id as u32);
        }
        values
    }

    fn at(&self, value: Value) -> Option<usize> {
        let writer = value.writer as usize;
        let begin = *self.begins.get(writer)?;
        let end = *self.begins.get(writer + 1)?;
        let at = begin + value.number as usize;
        (at < end).then_some(at)
    }

    /// The append that wrote it.
    pub(super) fn append(&self, value: Value) -> Option<usize> {
        let id = self.writers[self.at(value)?];
        (id != NONE).then_some(id as usize)
    }

    /// The append that wrote what was seen.
    pub(super) fn append_of(&self, seen: Seen) -> Option<usize> {
        match seen {
            Seen::Value(value) => self.append(value),
            Seen::Garbled { .. } => None,
        }
    }

    /// Where it stands.
    pub(super) fn place(&self, value: Value) -> Option<u64> {
        let place = self.places[self.at(value)?];
        (place != NOWHERE).then_some(place)
    }

    /// Says where a value stands; where it was said to stand before, if elsewhere.
    pub(super) fn put(&mut self, value: Value, offset: u64) -> Option<u64> {
        let at = self.at(value)?;
        let place = &mut self.places[at];
        if *place == NOWHERE {
            *place = offset;
        }
        Some(*place).filter(|place| *place != offset)
    }

    /// Where an append's values stand, in their order.
    pub(super) fn places(&self, history: &History, append: usize) -> Vec<Option<u64>> {
        let append = &history.appends[append];
        let values = (0..append.count).map(|more| Value {
            writer: append.first.writer,
            number: append.first.number + more,
        });
        values.map(|value| self.place(value)).collect()
    }

    /// The offset of an append's first record, if any of it stands anywhere.
    pub(super) fn start(&self, history: &History, append: usize) -> Option<u64> {
        let append = &history.appends[append];
        (0..append.count).find_map(|more| {
            let place = self.place(Value {
                writer: append.first.writer,
                number: append.first.number + more,
            })?;
            place.checked_sub(more.into())
        })
    }
}
