//! The longest time for which somebody waited for an acknowledgement and nobody got one.

use kontiki_raft::Micros;

use crate::history::{History, Outcome};

/// An append's beginning or end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ended { acknowledged: bool },
    Asked,
}

pub(super) fn longest(history: &History) -> Micros {
    let mut events = Vec::with_capacity(history.appends.len() * 2);
    for append in &history.appends {
        // What has no end is waited for by nobody: its teller gave up.
        let Some((at, outcome)) = append.ended else {
            continue;
        };
        let acknowledged = matches!(outcome, Outcome::Acknowledged { .. });
        events.push((append.asked, Event::Asked));
        events.push((at, Event::Ended { acknowledged }));
    }
    events.sort_unstable();
    let mut longest = Micros(0);
    let (mut waiting, mut since) = (0_i64, Micros(0));
    for (at, event) in events {
        match event {
            Event::Asked => {
                if waiting <= 0 {
                    since = at;
                }
                waiting += 1;
            }
            Event::Ended { acknowledged } => {
                longest = longest.max(at.since(since));
                waiting -= 1;
                if acknowledged {
                    since = at;
                }
            }
        }
    }
    longest
}
