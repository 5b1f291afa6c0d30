//! How far a member is that joins: what it copies, how fast, how long that takes, and what it waits for.

use std::{
    collections::BTreeMap,
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
/// A speed is measured over about this.
const SPEED_OVER: Duration = Duration::from_secs(3);

/// Tells how far a member is until it votes, and until it has what it is given soon after that.
pub(super) async fn follow(server: &Server, name: &str, output: Output) {
    let mut teller = Some(Teller::new(output));
    let mut speeds = Speeds::default();
    let mut busy_at = Instant::now();
    let (mut said, mut copied) = (false, false);
    // A member that has ended is told of elsewhere.
    while let Some(seen) = server.catch_up().await {
        if seen.votes && !said {
            said = true;
            drop(teller.take());
            output.note(format_args!(
                "{name} has caught up with the cluster's own log and votes; topics come as the cluster places \
                 them"
            ));
            busy_at = Instant::now();
        }
        if !seen.copies.is_empty() {
            (copied, busy_at) = (true, Instant::now());
        } else if copied && said {
            copied = false;
            drop(teller.take());
            output.note(format_args!("{name} has all that it was given so far"));
        }
        if busy_at.elapsed() >= CALM {
            return;
        }
        if !said || copied {
            let sentences = speeds.sentences(&seen, name, Instant::now());
            let left = seen.copies.iter().map(|copy| copy.bytes_left).sum();
            let teller = teller.get_or_insert_with(|| Teller::new(output));
            teller.tell(left, sentences);
        }
        sleep(LOOK_EVERY).await;
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
            said.push(format!(
                "{name} waits for the cluster to hear from it and to give it a vote"
            ));
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
            votes: false,
            copies: vec![copy],
        }
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
