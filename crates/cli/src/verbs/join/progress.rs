//! How far a member is that joins: what it copies, how fast, how long that takes, and what it waits for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kontiki_server::{CatchUp, Server};
use kontiki_wire::GroupId;
use tokio::time::sleep;

use crate::{
    output::Output,
    verbs::teller::{Teller, bytes_left_words},
};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A member that is given nothing for so long has what it is to have for now.
const CALM: Duration = Duration::from_secs(30);
/// What comes in waves is told of when none has come for so long.
const PAUSE: Duration = Duration::from_secs(3);
/// A member that has had the cluster's own log for so long is not given a vote for now.
const VOTE_AWAITED: Duration = Duration::from_secs(5);
/// A speed is measured over about this.
const SPEED_OVER: Duration = Duration::from_secs(3);

/// Tells how far a member is until it votes, or is known to copy without a vote, and until it has what it is given
/// soon after that.
pub(super) async fn follow(server: &Server, name: &str, output: Output) {
    let mut teller = None;
    let mut speeds = Speeds::default();
    let mut story = Story::new(name, Instant::now());
    // A member that has ended is told of elsewhere.
    while let Some(mut seen) = server.catch_up().await {
        let now = Instant::now();
        for note in story.hear(&mut seen, now) {
            drop(teller.take());
            output.note(note);
        }
        if story.is_over(now) {
            return;
        }
        if story.goes_on() {
            let sentences = speeds.sentences(&seen, name, now);
            let left = seen.copies.iter().map(|copy| copy.bytes_left).sum();
            let teller = teller.get_or_insert_with(|| Teller::new(output));
            teller.tell(left, sentences);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What a member has come to, as far as it was told.
struct Story {
    name: String,
    seat: Seat,
    /// Since when it has had the cluster's own log, and no vote.
    learns_since: Option<Instant>,
    /// Logs that it had once. One that lags behind later, under load, is no news.
    had: BTreeSet<GroupId>,
    /// Logs that it copies for the first time.
    comes: BTreeSet<GroupId>,
    /// Whether it has copied some since that was last told.
    copied: bool,
    /// When it last had something to copy, or came to something.
    busy_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Seat {
    None,
    Learns,
    Votes,
}

impl Story {
    fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            seat: Seat::None,
            learns_since: None,
            had: BTreeSet::new(),
            comes: BTreeSet::new(),
            copied: false,
            busy_at: now,
        }
    }

    /// Takes note of what is seen, and leaves in it of the copies those that come for the first time; says what is
    /// new for good.
    fn hear(&mut self, seen: &mut CatchUp, now: Instant) -> Vec<String> {
        let had = seen.logs.iter().filter(|(_, has)| **has);
        self.had.extend(had.map(|(group, _)| *group));
        seen.copies.retain(|copy| !self.had.contains(&copy.group));
        self.comes.extend(seen.copies.iter().map(|copy| copy.group));
        let comes = |group: &GroupId| seen.logs.contains_key(group) && !self.had.contains(group);
        self.comes.retain(comes);
        let mut notes = self.take_seat(seen, now);
        if !self.comes.is_empty() {
            (self.copied, self.busy_at) = (true, now);
        }
        let calm = now.duration_since(self.busy_at);
        if self.copied && self.seat > Seat::None && calm >= PAUSE {
            self.copied = false;
            notes.push(format!("{} has all that it was given so far", self.name));
        }
        if self.is_over(now) && self.seat == Seat::None {
            notes.push(format!(
                "{} serves, and has not been given a vote yet: `kontiki member status` says what that waits for",
                self.name
            ));
        }
        notes
    }

    /// Who has the log is given a vote within moments, where there is one.
    fn take_seat(&mut self, seen: &CatchUp, now: Instant) -> Vec<String> {
        self.learns_since = match seen.learns {
            true => self.learns_since.or(Some(now)),
            false => None,
        };
        let waited = |since: Instant| now.duration_since(since) >= VOTE_AWAITED;
        let (seat, how) = match self.learns_since {
            _ if seen.votes => (Seat::Votes, "votes"),
            Some(since) if waited(since) => (
                Seat::Learns,
                "copies it without a vote, as all do who come after the seventh, and whoever is demoted",
            ),
            _ => return Vec::new(),
        };
        if self.seat >= seat {
            return Vec::new();
        }
        (self.seat, self.busy_at) = (seat, now);
        vec![format!(
            "{} has caught up with the cluster's own log and {how}; topics come as the cluster places them",
            self.name
        )]
    }

    /// Whether there is something to be shown.
    fn goes_on(&self) -> bool {
        self.seat == Seat::None || !self.comes.is_empty()
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.busy_at) >= CALM
    }
}

/// How fast each log comes.
#[derive(Default)]
struct Speeds {
    /// When so many bytes were left, and how many came in a second until then, once that is known.
    since: BTreeMap<GroupId, (Instant, u64, Option<u64>)>,
}

impl Speeds {
    /// What is to be said of this.
    fn sentences(&mut self, seen: &CatchUp, name: &str, now: Instant) -> Vec<String> {
        let copied = |group: &GroupId| seen.copies.iter().any(|copy| copy.group == *group);
        self.since.retain(|group, _| copied(group));
        let mut said: Vec<String> = Vec::new();
        for copy in &seen.copies {
            let speed = self.speed(copy.group, copy.bytes_left, now);
            said.push(match copy.bytes_left {
                0 => copy.why.clone(),
                left => format!("{}: {}", copy.why, bytes_left_words(left, speed)),
            });
        }
        if said.is_empty() {
            said.push(match seen.learns {
                true => format!("{name} has the cluster's own log, and waits for a vote"),
                false => {
                    format!("{name} waits for the cluster to hear from it and to give it a vote")
                }
            });
        }
        said
    }

    /// Bytes a second that have come of a log lately.
    fn speed(&mut self, group: GroupId, left: u64, now: Instant) -> Option<u64> {
        let (at, before, speed) = self.since.entry(group).or_insert((now, left, None));
        let passed = now.duration_since(*at);
        if left > *before {
            // There is more of it than was known.
            (*at, *before) = (now, left);
        } else if passed >= LOOK_EVERY {
            let micros = passed.as_micros().max(1);
            let lately = u128::from(*before - left) * 1_000_000 / micros;
            let lately = u64::try_from(lately).unwrap_or(u64::MAX);
            let parts = (SPEED_OVER.as_micros() / micros).clamp(1, 64) as u64;
            *speed = Some(match *speed {
                None | Some(0) => lately,
                Some(speed) => (speed / parts).saturating_mul(parts - 1) + lately / parts,
            });
            (*at, *before) = (now, left);
        }
        *speed
    }
}

#[cfg(test)]
mod tests {
    use kontiki_server::Copying;

    use super::*;

    fn copies(bytes_left: u64) -> CatchUp {
        let copy = Copying {
            group: GroupId(4),
            why: "n4 fetches from n1 the log of topic t".to_owned(),
            bytes_left,
        };
        CatchUp {
            copies: vec![copy],
            logs: [(GroupId(4), false)].into(),
            ..CatchUp::default()
        }
    }

    /// A member that votes and keeps this log, or copies it.
    fn votes(group: u64, has: bool) -> CatchUp {
        let group = GroupId(group);
        let copy = Copying {
            group,
            why: "n4 copies topic t from n1".to_owned(),
            bytes_left: 5,
        };
        CatchUp {
            votes: true,
            logs: [(group, has)].into(),
            copies: if has { Vec::new() } else { vec![copy] },
            ..CatchUp::default()
        }
    }

    /// What is told of looks that are a second apart, and whether it is over after them.
    fn told(looks: impl IntoIterator<Item = CatchUp>) -> (Vec<String>, bool) {
        let mut now = Instant::now();
        let mut story = Story::new("n4", now);
        let mut told = Vec::new();
        for mut seen in looks {
            now += Duration::from_secs(1);
            told.extend(story.hear(&mut seen, now));
        }
        (told, story.is_over(now))
    }

    #[test]
    fn a_log_that_lags_behind_under_load_when_it_was_there_is_no_news() {
        let turns = (0..60).flat_map(|at| [votes(4, at % 2 == 1), votes(4, true)]);
        let (said, over) = told(turns);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("and votes;"), "{said:?}");
        assert_eq!(said[1], "n4 has all that it was given so far");
        assert!(over);
        // What comes later is told of, once for a wave.
        let wave = |group| [votes(group, false), votes(group, true)];
        let calm = || (0..5).map(|_| votes(4, true));
        let looks = wave(4).into_iter().chain(wave(5)).chain(calm());
        let (said, over) = told(looks.chain(wave(6)).chain(calm()));
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(!over);
    }

    #[test]
    fn a_member_that_is_given_no_vote_is_told_so_before_it_is_left_alone() {
        let learner = || CatchUp {
            learns: true,
            ..CatchUp::default()
        };
        let (said, over) = told((0..40).map(|_| learner()));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("without a vote"), "{said:?}");
        assert!(over);
        // One that is given a vote in time has not been told of the other.
        let (said, _) = told((0..4).map(|_| learner()).chain([votes(0, true)]));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("and votes;"), "{said:?}");
        let (said, over) = told((0..40).map(|_| CatchUp::default()));
        assert!(
            said[0].contains("has not been given a vote yet"),
            "{said:?}"
        );
        assert!(over);
    }

    #[test]
    fn what_is_copied_is_told_with_speed_and_end_and_that_it_stands_still() {
        let (mut speeds, mut now) = (Speeds::default(), Instant::now());
        let mut tell = |left| {
            now += Duration::from_secs(1);
            let mut said = speeds.sentences(&copies(left), "n4", now);
            assert_eq!(said.len(), 1);
            said.remove(0)
        };
        let why = "n4 fetches from n1 the log of topic t";
        let first = tell(100 << 20);
        assert_eq!(first, format!("{why}: 100.00 MiB left"));
        tell(90 << 20);
        let steady = tell(80 << 20);
        assert_eq!(
            steady,
            format!("{why}: 80.00 MiB left, 10.00 MiB/s, about 9 s")
        );
        let mut still = String::new();
        for _ in 0..100 {
            still = tell(80 << 20);
        }
        assert!(
            still.ends_with("80.00 MiB left, and none arrives at the moment"),
            "{still}"
        );
        assert_eq!(tell(0), why);
    }

    #[test]
    fn a_member_that_copies_nothing_says_what_it_waits_for() {
        let said = Speeds::default().sentences(&CatchUp::default(), "n4", Instant::now());
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("n4 waits for the cluster"), "{said:?}");
    }
}
