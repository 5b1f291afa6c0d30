//! Reads this member's own log, a piece at each request, to see whether it is still what it was. Slowly:
//! the disk has other work.

use std::time::Duration;

use kontiki_raft::Index;
use kontiki_storage::Log;
use kontiki_wire::{
    GroupId, Refusal, Response, WalkedDamage,
    limits::{TEXT_BYTES_MAX, WALK_DAMAGE_MAX},
};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::{
    limits::{WALK_BYTES_MAX, WALK_BYTES_PER_SECOND, WALK_LOOK, WALK_LOOKS_MAX},
    service::Service,
};

/// Walks over a piece of a group's log.
pub(crate) async fn walk(
    service: &Service,
    group: GroupId,
    range: (Index, Index),
    digest: u32,
) -> Response {
    // A group that has nothing yet has nothing that could be damaged.
    let Some(log) = service.storage.known_log(group) else {
        return Response::Walked(kontiki_wire::Walked::default());
    };
    let walked = if range.0.max(Index(1)) > range.1 {
        Ok(Found::none(range.0, digest))
    } else {
        at_leisure(service, &log, range, digest).await
    };
    match walked {
        Ok(found) => Response::Walked(found.told(&log)),
        Err(refusal) => Response::Refused(refusal),
    }
}

/// What a piece of the log was found to be.
struct Found {
    walked: kontiki_storage::Walked,
    /// What was said when damage was met that nobody knew of.
    damage: Option<(Index, String)>,
}

/// One piece after the other, whoever asks: the turn ends when the time for so many bytes is over.
async fn at_leisure(
    service: &Service,
    log: &Log,
    range: (Index, Index),
    digest: u32,
) -> Result<Found, Refusal> {
    let _turn = service.walking.lock().await;
    let began = Instant::now();
    let mut damage = None;
    for _ in 0..WALK_LOOKS_MAX {
        let (first, last) = (range.0.max(Index(1)), range.1);
        let reader = log.clone();
        let read = service.read(
            move || match reader.walk(first, last, digest, WALK_BYTES_MAX) {
                Err(error) if error.is_damage() => Ok(Err(error.to_string())),
                read => read.map(Ok),
            },
        );
        match read.await? {
            Ok(walked) if walked.upto >= first || walked.upto >= log.placed_upto() => {
                let micros = walked.bytes.saturating_mul(1_000_000) / WALK_BYTES_PER_SECOND;
                sleep_until(began + Duration::from_micros(micros)).await;
                return Ok(Found { walked, damage });
            }
            // The damage is being looked into.
            Ok(_) => {}
            Err(what) => {
                warn!(%what, "a walk over the log met damage");
                damage = Some((first, what));
            }
        }
        sleep(WALK_LOOK).await;
    }
    let why = damage.map_or_else(
        || "what is damaged is still being looked into".to_owned(),
        |(_, what)| what,
    );
    Err(Refusal::Unavailable { why })
}

impl Found {
    fn none(first: Index, digest: u32) -> Self {
        Self {
            walked: kontiki_storage::Walked {
                upto: first.prev(),
                digest,
                ..kontiki_storage::Walked::default()
            },
            damage: None,
        }
    }

    fn told(self, log: &Log) -> kontiki_wire::Walked {
        let walked = self.walked;
        let mut damage = Vec::new();
        if let Some((first, what)) = self.damage {
            // It may have been mended while it was looked for.
            let exact = walked.missing.iter().find(|range| range.0 == first);
            damage.push(told(first, exact.map_or(first, |range| range.1), what));
        }
        for &(first, last) in &walked.missing {
            if damage.first().is_none_or(|known| known.first != first.0) {
                let what = "cannot be read, and is fetched from another member".to_owned();
                damage.push(told(first, last, what));
            }
        }
        if let Some(what) = walked.met {
            let first = walked.upto.next();
            damage.push(told(first, first, what));
        }
        damage.truncate(WALK_DAMAGE_MAX);
        kontiki_wire::Walked {
            placed: log.placed_upto().0,
            upto: walked.upto.0,
            digest: walked.digest,
            entries: walked.entries,
            bytes: walked.bytes,
            damage,
        }
    }
}

fn told(first: Index, last: Index, mut what: String) -> WalkedDamage {
    while what.len() > TEXT_BYTES_MAX {
        what.pop();
    }
    WalkedDamage {
        first: first.0,
        last: last.0,
        what,
    }
}
