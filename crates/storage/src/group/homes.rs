//! Which journal files a group still needs, and where in them its bodies are.

use kontiki_raft::{Entry, Index};

use crate::{
    group::{BodyPlace, Home, Inner},
    journal::Body,
};

impl Inner {
    /// Entries from `first` on are gone from the log.
    pub(crate) fn leave_homes(&mut self, first: u64) {
        while let Some(home) = self.homes.pop_back() {
            let before = self.homes.back().map_or(0, |home| home.last);
            let last = home.last.min(first.saturating_sub(1));
            if last > before {
                self.homes.push_back(Home { last, ..home });
                return;
            }
        }
    }

    /// Entries up to `last`, which follow the ones before and have so many bytes, went to journal file `file`.
    pub(crate) fn settle_home(&mut self, file: u32, last: u64, bytes: u64) {
        match self.homes.back_mut().filter(|home| home.file == file) {
            Some(home) => {
                home.last = last;
                home.bytes += bytes;
            }
            None => self.homes.push_back(Home { file, last, bytes }),
        }
    }

    /// These bodies lie one behind the other from byte `at` of journal file `file` on, or will when what is staged is
    /// written. What they belong to may have been cut from the log by now.
    pub(crate) fn lie(&mut self, bodies: &[Body], file: u32, mut at: u64) {
        for body in bodies {
            let held = self.position_of(body.id.index.0);
            let held = held.and_then(|held| self.held.get_mut(held));
            if let Some(held) = held.filter(|held| held.entry.id == body.id) {
                // Nobody asks where in a file of more than 4 GiB.
                let at = u32::try_from(at).ok();
                held.body = at.map(|at| BodyPlace { file, at });
            }
            at += body.bytes.len() as u64;
        }
    }

    /// Where the bodies of all entries up to `last` that no segment has begin in journal file `file`; `None` if one
    /// of them is not known to be there.
    pub(crate) fn bodies_in(&self, file: u32, last: Index) -> Option<Vec<u64>> {
        let from = (self.written + 1 - self.first) as usize;
        let to = (last.0 + 1 - self.first) as usize;
        let there = |place: &BodyPlace| place.file == file;
        let bodies = self
            .held
            .range(from..to)
            .map(|held| held.body.filter(there));
        bodies.map(|place| Some(u64::from(place?.at))).collect()
    }

    /// All entries that segments do not keep went to journal file `file`.
    pub(crate) fn move_home(&mut self, file: u32) {
        self.homes.clear();
        let last = self.last();
        if last > self.kept {
            let unkept = self.held.range((self.kept + 1 - self.first) as usize..);
            let bytes = unkept.map(|held| held.entry.body.len() as u64).sum();
            self.homes.push_back(Home { file, last, bytes });
        }
    }

    /// The first journal file with entries that no segment has.
    pub(crate) fn unwritten_home(&self) -> Option<Home> {
        let mut homes = self.homes.iter();
        homes.find(|home| home.last > self.written).copied()
    }

    /// The first journal file with entries that segments do not keep.
    pub(crate) fn first_home(&mut self) -> Option<u32> {
        while self
            .homes
            .front()
            .is_some_and(|home| home.last <= self.kept)
        {
            self.homes.pop_front();
        }
        self.homes.front().map(|home| home.file)
    }

    /// All entries that segments do not keep, if nothing of this group was queued since write `seq`.
    pub(crate) fn unkept(&self, seq: u64) -> Option<Vec<Entry>> {
        if self.last_seq >= Some(seq) {
            return None;
        }
        Some(self.after_kept())
    }

    /// All entries that segments do not keep.
    pub(crate) fn after_kept(&self) -> Vec<Entry> {
        let from = (self.kept + 1 - self.first) as usize;
        self.held
            .range(from..)
            .map(|held| held.entry.clone())
            .collect()
    }
}
