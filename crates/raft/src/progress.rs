//! What a leader knows of one follower, and what it does next about it.

use std::collections::VecDeque;

use crate::{
    ids::{Index, Life, Micros, NodeRef},
    input::{Planted, Settings},
    message::Session,
};

/// How entries travel to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Pace {
    /// Where the logs meet is not known: one question at a time.
    Probe {
        /// When the question left; `None` if it is to be asked now.
        asked: Option<Micros>,
        /// Ask without entries: the last question went unanswered, or nothing but a probe may be built.
        bare: bool,
    },
    /// Where the logs meet is known: appends follow each other without waiting.
    Stream,
    /// The host reads old entries for it: one reading at a time.
    Reading {
        /// When it was asked for.
        asked: Micros,
    },
}

/// The decision about one follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing may or need be sent.
    Rest,
    /// An append without entries, to learn where the logs meet.
    Ask,
    /// An append from the tail.
    Append,
    /// An append from the host's log.
    Read,
    /// What it needs is compacted: it is to fetch that.
    Fetch,
    /// The news that the commit index moved.
    Notice,
}

/// A peer that is no member any more, and is to learn that from the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leaving {
    /// Where the configuration without it was appended.
    pub(crate) index: Index,
    /// It is told no longer than that.
    until: Micros,
    /// The first beat that told it that this is committed, after it had acknowledged having it.
    told: Option<u64>,
}

/// One follower.
///
/// Invariant: `matched < next`, and `in_flight_bytes` is the sum over `in_flight`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Progress {
    pub(crate) peer: NodeRef,
    pub(crate) session: Session,
    pub(crate) pace: Pace,
    /// Everything up to here is on its disk and equal to the leader's log.
    pub(crate) matched: Index,
    /// The same as far as it counts for a quorum: said by a member that was not recovering.
    pub(crate) counted: Index,
    /// Whether it said last that it counts.
    pub(crate) counts: bool,
    /// It is recovering in this run, and counts again after this entry.
    pub(crate) rejoin: Option<(Life, Index)>,
    /// It is no member any more.
    pub(crate) leaving: Option<Leaving>,
    /// The first entry to send.
    pub(crate) next: Index,
    /// The highest commit index sent to it.
    pub(crate) told_commit: Index,
    /// The highest beat it has answered.
    pub(crate) beat: u64,
    /// The last one that it has answered, if that was that it rests; 0 otherwise.
    pub(crate) rested: u64,
    /// It fetches what the log no longer has, and has come so far.
    pub(crate) fetched: Option<Index>,
    /// When it last answered a beat.
    pub(crate) heard_at: Option<Micros>,
    /// Unanswered appends: the last index of each, and its bytes.
    in_flight: VecDeque<(Index, u64)>,
    in_flight_bytes: u64,
    /// When the oldest unanswered append left, an answer last moved `matched`, or one that does not count
    /// was last asked whether that is so.
    moved_at: Micros,
    /// When the last append left.
    sent_at: Micros,
    /// It followed the one before so soon that the next is likely to be near.
    hurried: bool,
}

impl Progress {
    /// A follower of which nothing is known: the first question is about the entry before `next`.
    pub(crate) fn new(peer: NodeRef, session: Session, next: Index) -> Self {
        Self {
            peer,
            session,
            pace: ASK_NOW,
            matched: Index(0),
            counted: Index(0),
            counts: true,
            rejoin: None,
            leaving: None,
            next,
            told_commit: Index(0),
            beat: 0,
            rested: 0,
            fetched: None,
            heard_at: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            moved_at: Micros(0),
            sent_at: Micros(0),
            hurried: false,
        }
    }

    /// What to send now.
    pub(crate) fn step(&self, log: Span, commit: Index, now: Micros, settings: &Settings) -> Step {
        if self.next <= log.base {
            return match self.pace {
                Pace::Probe { asked: Some(_), .. } => Step::Rest,
                _ => Step::Fetch,
            };
        }
        match self.pace {
            Pace::Probe { asked: Some(_), .. } | Pace::Reading { .. } => Step::Rest,
            Pace::Probe { bare, .. } => {
                let entries_at_hand = log.tail_first <= self.next && self.next <= log.last;
                if bare || !entries_at_hand {
                    Step::Ask
                } else {
                    Step::Append
                }
            }
            Pace::Stream if self.next <= log.last => {
                let full = self.in_flight.len() >= settings.window_messages_max.max(1)
                    || self.in_flight_bytes >= settings.window_bytes_max.max(1);
                if full {
                    Step::Rest
                } else if self.next < log.tail_first {
                    Step::Read
                } else {
                    Step::Append
                }
            }
            Pace::Stream => match self.notice_at(commit, settings) {
                Some(at) if at <= now => Step::Notice,
                _ => Step::Rest,
            },
        }
    }

    /// When the news that `commit` moved is due, if it is news. While answers are due, the next append or the
    /// last answer brings the occasion.
    pub(crate) fn notice_at(&self, commit: Index, settings: &Settings) -> Option<Micros> {
        let news = self.pace == Pace::Stream && self.told_commit < commit;
        (news && self.in_flight.is_empty()).then(|| match self.hurried {
            true => self.moved_at.after(settings.notice_delay),
            false => Micros(0),
        })
    }

    /// A question about the entry before `next` was sent, perhaps with entries.
    pub(crate) fn asked(&mut self, now: Micros) {
        self.pace = Pace::Probe {
            asked: Some(now),
            bare: false,
        };
    }

    /// It was told to fetch what the log no longer has.
    pub(crate) fn told_to_fetch(&mut self, now: Micros) {
        self.forget_flight();
        self.pace = Pace::Probe {
            asked: Some(now),
            bare: true,
        };
    }

    /// An append of the entries from `next` up to `last` was sent.
    pub(crate) fn sent(
        &mut self,
        last: Index,
        bytes: u64,
        commit: Index,
        now: Micros,
        settings: &Settings,
    ) {
        self.hurried = now.since(self.sent_at) < settings.notice_delay;
        self.sent_at = now;
        if self.in_flight.is_empty() {
            self.moved_at = now;
        }
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.next = last.next();
        self.told_commit = self.told_commit.max(commit.min(last));
    }

    /// A beat with the commit index was sent.
    pub(crate) fn beaten(&mut self, commit: Index) {
        if self.pace == Pace::Stream && self.in_flight.is_empty() {
            self.told_commit = commit;
        }
    }

    /// The host was asked to read and send from `next` on.
    pub(crate) fn reading(&mut self, now: Micros) {
        self.pace = Pace::Reading { asked: now };
    }

    /// It has everything up to `matched`, which is in the leader's log, and may count for a quorum.
    /// Whether a quorum may have reached more.
    pub(crate) fn appended(&mut self, matched: Index, counts: bool, now: Micros) -> bool {
        self.counts = counts;
        let reached = counts && matched > self.counted;
        if reached {
            self.counted = matched;
        }
        self.fetched = None;
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        while self
            .in_flight
            .front()
            .is_some_and(|(last, _)| *last <= self.matched)
        {
            let (_, bytes) = self.in_flight.pop_front().expect("the loop has seen it");
            self.in_flight_bytes -= bytes;
        }
        if news {
            self.moved_at = now;
        }
        match self.pace {
            Pace::Probe { .. } => {
                self.next = self.matched.next();
                self.pace = Pace::Stream;
            }
            Pace::Reading { .. } if self.matched >= self.next => {
                self.next = self.matched.next();
                self.pace = Pace::Stream;
            }
            Pace::Stream | Pace::Reading { .. } => self.next = self.next.max(self.matched.next()),
        }
        reached
    }

    /// It has forgotten what it had, and in this run counts again after the entry at `index`, the next
    /// of the leader's log. What it said before it forgot was true then, and stays counted.
    pub(crate) fn forgot(&mut self, life: Life, index: Index, session: Session) {
        self.rejoin = Some((life, index));
        self.counts = false;
        self.session = session;
        self.matched = Index(0);
        self.next = index;
        self.forget_flight();
        self.pace = ASK_NOW;
    }

    /// It does not have `prev`; `common` is the leader's own position nearest to what it has. Whether that
    /// contradicts what it has acknowledged: it has forgotten, or said so before and was overtaken.
    pub(crate) fn rejected(&mut self, prev: Index, common: Index) -> bool {
        if prev <= self.matched {
            return true;
        }
        let stale = match self.pace {
            Pace::Probe { .. } => prev.next() != self.next,
            Pace::Stream | Pace::Reading { .. } => prev >= self.next,
        };
        if stale {
            return false;
        }
        self.forget_flight();
        // Below what was refused, so that even a senseless hint brings the search to an end.
        self.next = common.min(prev.prev()).max(self.matched).next();
        self.pace = ASK_NOW;
        false
    }

    /// It lacks what it has acknowledged, or knows of no conversation. If an append is on its way, that
    /// tells it.
    pub(crate) fn unheard(&mut self) {
        if self.pace == Pace::Stream && self.in_flight.is_empty() {
            self.search_again();
            self.pace = ASK_NOW;
        }
    }

    /// Its link opened or closed: whatever was under way is forgotten, and so are answers to it.
    pub(crate) fn reachable(&mut self, open: bool, session: Session, now: Micros) {
        self.session = session;
        self.search_again();
        self.pace = if open {
            ASK_NOW
        } else {
            Pace::Probe {
                asked: Some(now),
                bare: true,
            }
        };
    }

    /// A beat is due: asks again for what has had no answer for too long.
    pub(crate) fn on_beat(&mut self, now: Micros, settings: &Settings) {
        let past = |since: Micros, patience: Micros| now.since(since) >= patience;
        match self.pace {
            Pace::Probe {
                asked: Some(asked), ..
            } if past(asked, settings.beat_interval) => {
                self.pace = ASK_BARE;
            }
            Pace::Stream
                if !self.in_flight.is_empty()
                    && past(self.moved_at, settings.election_timeout)
                    && !settings.plants(Planted::WindowStaysShut) =>
            {
                self.search_again();
                self.pace = ASK_BARE;
            }
            // That it counts by now may have been said and lost, and nothing else would make it say so.
            Pace::Stream
                if !self.counts
                    && self.in_flight.is_empty()
                    && past(self.moved_at, settings.election_timeout) =>
            {
                self.moved_at = now;
                self.pace = ASK_BARE;
            }
            Pace::Reading { asked } if past(asked, settings.election_timeout) => {
                self.search_again();
                self.pace = ASK_BARE;
            }
            Pace::Probe { .. } | Pace::Stream | Pace::Reading { .. } => {}
        }
    }

    /// The configuration at `index` does without it.
    pub(crate) fn leave(&mut self, index: Index, until: Micros) {
        self.leaving.get_or_insert(Leaving {
            index,
            until,
            told: None,
        });
    }

    /// A beat leaves that says how much is committed.
    pub(crate) fn bid_farewell(&mut self, beat: u64, commit: Index) {
        let matched = self.matched;
        if let Some(leaving) = &mut self.leaving
            && matched.min(commit) >= leaving.index
        {
            leaving.told.get_or_insert(beat);
        }
    }

    /// Whether it is no member any more, certainly, and knows it or had its time.
    pub(crate) fn has_left(&self, commit: Index, now: Micros) -> bool {
        self.leaving.is_some_and(|leaving| {
            let knows = leaving.told.is_some_and(|told| self.beat >= told);
            commit >= leaving.index && (knows || now >= leaving.until)
        })
    }

    /// See [`crate::Raft::forget_time`].
    #[cfg(feature = "planted")]
    pub(crate) fn forget_time(&mut self) {
        self.heard_at = None;
        self.moved_at = Micros(0);
        self.sent_at = Micros(0);
        if let Some(leaving) = &mut self.leaving {
            leaving.until = Micros(0);
        }
        if let Pace::Probe {
            asked: Some(at), ..
        }
        | Pace::Reading { asked: at } = &mut self.pace
        {
            *at = Micros(0);
        }
    }

    /// Whether it has everything up to `last`, knows that it is committed, and counts.
    pub(crate) fn has_all(&self, last: Index) -> bool {
        self.pace == Pace::Stream
            && self.in_flight.is_empty()
            && self.counts
            && self.matched.min(self.counted).min(self.told_commit) == last
            && self.next == last.next()
    }

    /// Bytes that may still be sent without an answer.
    pub(crate) fn room(&self, settings: &Settings) -> u64 {
        settings
            .window_bytes_max
            .saturating_sub(self.in_flight_bytes)
    }

    /// Whether it is known where the logs meet.
    pub(crate) fn is_streaming(&self) -> bool {
        !matches!(self.pace, Pace::Probe { .. })
    }

    /// Whether the invariant of this type holds, as far as a glance tells.
    pub(crate) fn holds(&self, last: Index) -> bool {
        let flight = self.in_flight.is_empty() == (self.in_flight_bytes == 0);
        let probing = matches!(self.pace, Pace::Probe { .. });
        self.matched < self.next
            && self.matched <= last
            && self.counted <= last
            && self.next <= last.next()
            && flight
            && (!probing || self.in_flight.is_empty())
    }

    fn search_again(&mut self) {
        if !matches!(self.pace, Pace::Probe { .. }) {
            self.next = self.matched.next();
        }
        self.forget_flight();
    }

    fn forget_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }
}

/// The leader's log, as far as a decision needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) base: Index,
    pub(crate) tail_first: Index,
    pub(crate) last: Index,
}

const ASK_NOW: Pace = Pace::Probe {
    asked: None,
    bare: false,
};
const ASK_BARE: Pace = Pace::Probe {
    asked: None,
    bare: true,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const LOG: Span = Span {
        base: Index(0),
        tail_first: Index(1),
        last: Index(1_000),
    };

    fn settings() -> Settings {
        Settings {
            window_messages_max: 3,
            window_bytes_max: 1_000,
            ..Settings::default()
        }
    }

    /// One whose log is known up to 10.
    fn streaming() -> Progress {
        let mut peer = Progress::new(NodeRef::default(), Session(1), Index(11));
        peer.asked(Micros(0));
        peer.appended(Index(10), true, Micros(0));
        peer
    }

    #[test]
    fn the_window_counts_what_is_unanswered() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let (mut peer, mut flight) = (streaming(), VecDeque::new());
            for now in 1..200 {
                let sum: u64 = flight.iter().map(|(_, bytes)| bytes).sum();
                let full = flight.len() >= 3 || sum >= 1_000;
                assert_eq!(peer.in_flight, flight);
                assert_eq!(peer.room(&settings()), 1_000_u64.saturating_sub(sum));
                let step = peer.step(LOG, Index(10), Micros(now), &settings());
                assert_eq!(step, if full { Step::Rest } else { Step::Append });
                if !full && random.up_to(2) == 1 {
                    let (last, bytes) = (peer.next.0 + random.up_to(3) - 1, random.up_to(600));
                    peer.sent(Index(last), bytes, Index(10), Micros(now), &settings());
                    flight.push_back((Index(last), bytes));
                } else {
                    let matched = 9 + random.up_to(peer.next.0 - 10);
                    peer.appended(Index(matched), true, Micros(now));
                    flight.retain(|(last, _)| *last > peer.matched);
                }
                assert!(peer.holds(LOG.last), "seed {seed} at {now}");
            }
        }
    }

    #[test]
    fn a_window_without_answers_is_given_up_and_one_bare_question_follows() {
        let (mut peer, settings) = (streaming(), settings());
        for last in [11, 12, 13] {
            peer.sent(Index(last), 10, Index(10), Micros(5), &settings);
        }
        peer.on_beat(Micros(4).after(settings.election_timeout), &settings);
        assert!(peer.is_streaming(), "an answer may still come in time");
        peer.on_beat(Micros(5).after(settings.election_timeout), &settings);
        assert_eq!(peer.step(LOG, Index(10), Micros(9), &settings), Step::Ask);
        assert_eq!((peer.next, peer.in_flight_bytes), (Index(11), 0));
        peer.asked(Micros(9));
        assert_eq!(peer.step(LOG, Index(10), Micros(9), &settings), Step::Rest);
    }

    #[test]
    fn news_of_a_commit_waits_for_the_next_append_only_while_appends_follow_each_other_closely() {
        let (mut peer, settings) = (streaming(), settings());
        let log = |last| Span {
            last: Index(last),
            ..LOG
        };
        // The first append, the answer, and the news of the commit that it made.
        peer.sent(Index(11), 10, Index(10), Micros(5_000), &settings);
        peer.appended(Index(11), true, Micros(5_200));
        let step = peer.step(log(11), Index(11), Micros(5_200), &settings);
        assert_eq!(step, Step::Notice);
        peer.beaten(Index(11));
        // The next one comes soon: so may the one after it, which would carry the news.
        peer.sent(Index(12), 10, Index(11), Micros(5_400), &settings);
        peer.appended(Index(12), true, Micros(5_600));
        assert_eq!(peer.notice_at(Index(12), &settings), Some(Micros(6_600)));
        let step = |now| peer.step(log(12), Index(12), Micros(now), &settings);
        assert_eq!(step(6_599), Step::Rest);
        assert_eq!(step(6_600), Step::Notice);
        peer.sent(Index(13), 10, Index(12), Micros(6_000), &settings);
        assert_eq!(peer.notice_at(Index(12), &settings), None);
    }

    #[test]
    fn a_reading_that_never_answers_is_given_up() {
        let (mut peer, settings) = (streaming(), settings());
        peer.reading(Micros(0));
        assert_eq!(peer.step(LOG, Index(10), Micros(9), &settings), Step::Rest);
        peer.on_beat(settings.election_timeout, &settings);
        assert_eq!(peer.step(LOG, Index(10), Micros(9), &settings), Step::Ask);
    }

    #[test]
    fn only_an_idle_stream_begins_again_for_one_that_heard_nothing() {
        let mut peer = streaming();
        peer.sent(Index(11), 10, Index(10), Micros(0), &settings());
        peer.unheard();
        assert!(peer.is_streaming(), "the append on its way is enough");
        peer.appended(Index(11), true, Micros(0));
        peer.unheard();
        assert_eq!(peer.pace, ASK_NOW);
        assert_eq!(peer.next, Index(12));
    }

    #[test]
    fn a_refusal_never_goes_below_what_is_matched() {
        let mut peer = streaming();
        peer.sent(Index(20), 10, Index(10), Micros(0), &settings());
        assert!(peer.rejected(Index(10), Index(0)));
        assert!(peer.is_streaming(), "what is matched is on its disk");
        assert!(!peer.rejected(Index(15), Index(3)));
        assert_eq!((peer.next, peer.pace), (Index(11), ASK_NOW));
        peer.rejected(Index(15), Index(3));
        assert_eq!(peer.next, Index(11), "a late refusal changes nothing");
    }

    #[test]
    fn what_came_before_it_forgot_counts_as_it_was_said_and_what_came_since_does_not() {
        let mut peer = streaming();
        peer.forgot(Life(1), Index(21), Session(2));
        assert!(!peer.counts && peer.holds(LOG.last));
        assert_eq!((peer.matched, peer.counted), (Index(0), Index(10)));
        assert!(!peer.appended(Index(21), false, Micros(1)));
        assert_eq!((peer.matched, peer.counted), (Index(21), Index(10)));
        // A late acknowledgement of the life before, as if it had come under this session.
        assert!(peer.appended(Index(15), true, Micros(2)));
        assert_eq!(peer.counted, Index(15), "no more than it says");
        assert!(peer.appended(Index(21), true, Micros(3)));
        assert_eq!(peer.counted, Index(21));
    }
}
