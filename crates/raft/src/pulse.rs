//! The leader's pulse: one counter of beats, whose answers serve check-quorum and reads.

use std::{collections::VecDeque, mem};

use crate::{
    ids::{Index, Micros, ReadId},
    input::Settings,
};

/// The beats of one leadership.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Beats {
    /// The last one sent.
    pub(crate) last: u64,
    /// The highest that a quorum has answered.
    pub(crate) quorum: u64,
    /// When that one left; the election counts as the first, and so does the end of a rest.
    pub(crate) quorum_sent_at: Micros,
    /// The next one is due, at its time or early.
    pub(crate) due: bool,
    pub(crate) next_at: Micros,
    /// Those after `quorum`, and when each left.
    sent: VecDeque<(u64, Micros)>,
}

impl Beats {
    /// The first one is due at once.
    pub(crate) fn new(now: Micros) -> Self {
        Self {
            last: 0,
            quorum: 0,
            quorum_sent_at: now,
            due: true,
            next_at: now,
            sent: VecDeque::new(),
        }
    }

    /// The next one leaves now. One that only reads want puts off none that is due: with those comes what is
    /// to be done in time, as to ask again for what had no answer.
    pub(crate) fn send(&mut self, now: Micros, interval: Micros) {
        self.last += 1;
        self.sent.push_back((self.last, now));
        if mem::take(&mut self.due) {
            self.next_at = now.after(interval);
        }
    }

    /// See [`crate::Raft::forget_time`].
    #[cfg(feature = "planted")]
    pub(crate) fn forget_time(&mut self) {
        self.quorum_sent_at = Micros(0);
        self.next_at = Micros(0);
        self.sent.clear();
    }

    /// A quorum has answered everything up to `beat`.
    pub(crate) fn answered(&mut self, beat: u64) {
        while let Some((number, at)) = self.sent.front().copied()
            && number <= beat
        {
            self.quorum = number;
            self.quorum_sent_at = self.quorum_sent_at.max(at);
            self.sent.pop_front();
        }
    }
}

/// How far the leader's log went at the beats of the last election timeout.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ends(VecDeque<(Micros, Index)>);

impl Ends {
    /// A beat leaves. Those that reads want early add nothing.
    pub(crate) fn note(&mut self, now: Micros, last: Index, settings: &Settings) {
        let news = |(at, _): &(Micros, Index)| now.since(*at) >= settings.beat_interval;
        if self.0.back().is_none_or(news) {
            self.0.push_back((now, last));
        }
        let old = |(at, _): &(Micros, Index)| now.since(*at) > settings.election_timeout;
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }

    /// Where the log ended at the first beat after `since`; `None` if there was none.
    pub(crate) fn after(&self, since: Micros) -> Option<Index> {
        let later = self.0.iter().find(|(at, _)| *at > since);
        later.map(|(_, last)| *last)
    }

    /// See [`crate::Raft::forget_time`].
    #[cfg(feature = "planted")]
    pub(crate) fn forget_time(&mut self) {
        self.0.clear();
    }
}

/// A read that waits for its beat to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Read {
    pub(crate) id: ReadId,
    pub(crate) index: Index,
}

/// The reads of one leadership, oldest first. All that come between two beats share the second.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Reads {
    /// With the beat that confirms each.
    sent: VecDeque<(u64, Read)>,
    /// They came after the last beat left.
    fresh: VecDeque<Read>,
}

impl Reads {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.sent.len() + self.fresh.len()
    }

    /// One more.
    pub(crate) fn push(&mut self, read: Read) {
        self.fresh.push_back(read);
    }

    /// Whether a beat should leave for them now rather than at its time: one such at a time, so that
    /// the more reads there are, the more share one.
    pub(crate) fn want_beat(&self) -> bool {
        !self.fresh.is_empty() && self.sent.is_empty()
    }

    /// A beat leaves: it will confirm all that came before.
    pub(crate) fn beat_sent(&mut self, beat: u64) {
        self.sent
            .extend(self.fresh.drain(..).map(|read| (beat, read)));
    }

    /// The next read that a quorum's answer to `beat` confirms.
    pub(crate) fn confirmed(&mut self, beat: u64) -> Option<Read> {
        if self.sent.front()?.0 > beat {
            return None;
        }
        self.sent.pop_front().map(|(_, read)| read)
    }

    /// The next read, whatever it waits for.
    pub(crate) fn next(&mut self) -> Option<Read> {
        let sent = self.sent.pop_front().map(|(_, read)| read);
        sent.or_else(|| self.fresh.pop_front())
    }

    /// All that wait; none waits any more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Read> + '_ {
        let sent = self.sent.drain(..).map(|(_, read)| read);
        sent.chain(self.fresh.drain(..))
    }
}
