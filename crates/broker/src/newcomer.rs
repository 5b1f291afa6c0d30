//! Whether somebody who was given a topic gets on with its copy, as whoever leads the topic's group sees it:
//! others may hear of it all the while.

use kontiki_raft::{Index, Micros, PeerStatus};

/// What is known of one newcomer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Newcomer {
    has: Index,
    /// When it was last seen to get on, or was first looked at.
    at: Micros,
    /// Whether it was ever seen to.
    has_moved: bool,
    /// When that was last told.
    told: Option<Micros>,
}

impl Newcomer {
    /// Nothing is known but how far it is.
    pub(crate) fn new(now: Micros, peer: &PeerStatus) -> Self {
        Self {
            has: peer.has(),
            at: now,
            has_moved: false,
            told: None,
        }
    }

    /// How it is now.
    pub(crate) fn look(&mut self, now: Micros, peer: &PeerStatus) {
        let has_all = peer.caught_up && answers(peer);
        if has_all || peer.has() > self.has {
            self.moves(now);
        }
        self.has = peer.has();
    }

    /// It is heard to fetch the log from another, and has come on with that.
    pub(crate) fn moves(&mut self, now: Micros) {
        self.at = now;
        self.has_moved = true;
    }

    /// Whether it gets nowhere; `None` if that cannot be said yet. Between the two answers there is time enough
    /// for a link that comes and goes to be called one of both.
    pub(crate) fn is_stuck(&self, now: Micros, peer: &PeerStatus) -> Option<bool> {
        let still = now.since(self.at);
        let patience = match answers(peer) {
            true => STILL_MAX,
            false => SILENT_MAX,
        };
        if still >= patience {
            return Some(true);
        }
        (self.has_moved && still < MOVED_LATELY).then_some(false)
    }

    /// Whether it is time to tell, again and again until it is known.
    pub(crate) fn is_to_be_told(&mut self, now: Micros) -> bool {
        let is_due = self.told.is_none_or(|at| now.since(at) >= TELL_AGAIN);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

/// Whether it has answered at all lately.
fn answers(peer: &PeerStatus) -> bool {
    peer.heard.is_some_and(|ago| ago < HEARD_LATELY)
}

/// Who was heard of so lately answers: more than any election timeout that somebody would set.
const HEARD_LATELY: Micros = Micros(5_000_000);
/// Whoever is not heard of for so long is stuck: as long as somebody may be silent to all.
const SILENT_MAX: Micros = Micros(30_000_000);
/// Whoever is heard of and takes nothing for so long is: an entry of the greatest size passes a slow link
/// in less.
const STILL_MAX: Micros = Micros(60_000_000);
/// Whoever was seen to get on so lately does.
const MOVED_LATELY: Micros = Micros(2_000_000);
/// What the cluster does not know yet it is told again after this.
const TELL_AGAIN: Micros = Micros(1_000_000);

#[cfg(test)]
mod tests {
    use kontiki_raft::NodeRef;

    use super::*;

    fn peer(has: u64, heard: Option<u64>) -> PeerStatus {
        PeerStatus {
            peer: NodeRef::default(),
            matched: Index(has),
            heard: heard.map(|seconds| Micros(seconds * 1_000_000)),
            counts: true,
            home: None,
            streaming: true,
            caught_up: false,
            leaving: false,
            fetched: None,
        }
    }

    fn second(number: u64) -> Micros {
        Micros(7 + number * 1_000_000)
    }

    #[test]
    fn who_is_never_heard_is_stuck_after_half_a_minute_and_who_answers_and_takes_nothing_after_one()
    {
        let newcomer = Newcomer::new(second(0), &peer(0, None));
        for now in 0..30 {
            assert_eq!(newcomer.is_stuck(second(now), &peer(0, None)), None);
        }
        assert_eq!(newcomer.is_stuck(second(30), &peer(0, None)), Some(true));
        assert_eq!(newcomer.is_stuck(second(59), &peer(0, Some(0))), None);
        assert_eq!(newcomer.is_stuck(second(60), &peer(0, Some(0))), Some(true));
    }

    #[test]
    fn who_copies_on_is_not_stuck_however_slowly_and_who_has_all_of_it_never() {
        let mut newcomer = Newcomer::new(second(0), &peer(0, None));
        for minute in 1..10 {
            let now = second(59 * minute);
            let answers = peer(minute, Some(0));
            assert_eq!(newcomer.is_stuck(now, &answers), None);
            newcomer.look(now, &answers);
            assert_eq!(newcomer.is_stuck(now, &answers), Some(false));
        }
        let all = PeerStatus {
            caught_up: true,
            ..peer(9, Some(0))
        };
        newcomer.look(second(900), &all);
        assert_eq!(newcomer.is_stuck(second(900), &all), Some(false));
        // It had all there was when it fell silent.
        let silent = PeerStatus {
            heard: Some(second(20)),
            ..all
        };
        newcomer.look(second(920), &silent);
        assert_eq!(newcomer.is_stuck(second(920), &silent), None);
        assert_eq!(newcomer.is_stuck(second(930), &silent), Some(true));
    }

    #[test]
    fn who_fetches_the_log_from_another_is_not_heard_of_and_not_stuck() {
        let mut newcomer = Newcomer::new(second(0), &peer(0, None));
        newcomer.moves(second(25));
        assert_eq!(newcomer.is_stuck(second(54), &peer(0, None)), None);
        assert_eq!(newcomer.is_stuck(second(55), &peer(0, None)), Some(true));
        newcomer.moves(second(56));
        assert_eq!(newcomer.is_stuck(second(57), &peer(0, None)), Some(false));
    }

    #[test]
    fn what_is_not_known_is_told_once_a_second() {
        let mut newcomer = Newcomer::new(second(0), &peer(0, None));
        assert!(newcomer.is_to_be_told(second(1)));
        assert!(!newcomer.is_to_be_told(Micros(second(2).0 - 1)));
        assert!(newcomer.is_to_be_told(second(2)));
    }
}
