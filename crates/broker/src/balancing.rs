//! How the leader of the cluster's own group spreads topics and leaderships evenly, once every topic is
//! where it has to be: a newcomer gets its share of what there is. Only what is worth its bytes is moved,
//! and each move brings the loads closer to each other, so that none is ever taken back.

use kontiki_raft::Micros;
use kontiki_wire::Topic;

use crate::{
    broker::Broker,
    chores::Chore,
    homes::Homes,
    input::Now,
    placement::{Loads, Placement},
};

impl Broker {
    /// Something has changed that may make it worth while to spread topics anew, when all is calm.
    pub(crate) fn balance_later(&mut self, now: Now) {
        if self.cluster.state().balance {
            self.later(now, Chore::Balance, CALM);
        }
    }

    /// Moves topics, or if none is worth it leaderships, from those who have most to those who have least.
    pub(crate) fn balance(&mut self, now: Now) {
        if !self.leads_cluster() || !self.cluster.state().balance {
            return;
        }
        let room = self.room(now.monotonic);
        let since = now.monotonic.since(self.placing.unrest);
        if since < CALM || room == 0 || self.places_topics() {
            return self.later(now, Chore::Balance, AGAIN);
        }
        let homes = self.homes(now.monotonic);
        let moves = self.moves_worth_it(&homes, room);
        if !moves.is_empty() {
            self.later(now, Chore::Balance, AGAIN);
        }
        for (topic, placement) in moves {
            self.propose_placement(now, &topic, placement);
        }
    }

    /// At most so many moves of topics; if there are none, changes of who is to lead.
    fn moves_worth_it(&self, homes: &Homes, room: usize) -> Vec<(Topic, Placement)> {
        let mut loads = self.cluster.loads().clone();
        self.tickets.add_to(&mut loads);
        let moved = self.improvements(&mut loads, room, |loads, topic| {
            loads.spread(topic, &self.homes_for(topic, homes))
        });
        if !moved.is_empty() {
            return moved;
        }
        self.improvements(&mut loads, LEADERS_MAX, |loads, topic| {
            loads.lead_evenly(topic, homes)
        })
    }

    fn improvements(
        &self,
        loads: &mut Loads,
        most: usize,
        better: impl Fn(&Loads, &Topic) -> Option<Placement>,
    ) -> Vec<(Topic, Placement)> {
        let mut found = Vec::new();
        for topic in self.cluster.state().topics.iter().filter(|it| it.settled) {
            if found.len() == most {
                break;
            }
            if let Some(placement) = better(loads, topic) {
                loads.remove(&topic.replicas, topic.preferred);
                loads.add(&placement.replicas, placement.preferred);
                found.push((topic.clone(), placement));
            }
        }
        found
    }
}

impl Loads {
    /// Where a topic is to be kept for the loads to be closer to each other, if that is worth moving it: all
    /// who keep it answer, and the fullest of them hands it to the emptiest of the others that answer.
    fn spread(&self, topic: &Topic, homes: &Homes) -> Option<Placement> {
        let Topic {
            replicas,
            preferred,
            ..
        } = topic;
        if !replicas.iter().all(|id| homes.answering.contains(id)) {
            return None;
        }
        let may_get = |id: &&u64| !replicas.contains(id);
        let others = homes.answering.iter().filter(may_get);
        let empty = *others.min_by_key(|id| (self.kept_by(**id), self.led_by(**id), **id))?;
        let fullness = |id: &&u64| (self.kept_by(**id), *id != preferred, **id);
        let full = *replicas.iter().max_by_key(fullness)?;
        let apart = self.kept_by(full).saturating_sub(self.kept_by(empty));
        let kept = homes.standing.iter().map(|id| self.kept_by(*id));
        if apart < worth(MOVE_WORTH, kept.sum(), homes.standing.len()) {
            return None;
        }
        let moved = |id: &u64| if *id == full { empty } else { *id };
        Some(Placement {
            replicas: replicas.iter().map(moved).collect(),
            preferred: moved(preferred),
        })
    }

    /// Who is to lead a topic for leaderships to be spread better, if that is worth it.
    fn lead_evenly(&self, topic: &Topic, homes: &Homes) -> Option<Placement> {
        let answers = |id: &&u64| homes.answering.contains(id);
        let others = topic.replicas.iter().filter(answers);
        let idle = *others.min_by_key(|id| (self.led_by(**id), **id))?;
        let apart = self
            .led_by(topic.preferred)
            .saturating_sub(self.led_by(idle));
        let led = homes.standing.iter().map(|id| self.led_by(*id));
        let worth = worth(LEAD_WORTH, led.sum(), homes.standing.len());
        (apart >= worth).then(|| Placement {
            replicas: topic.replicas.clone(),
            preferred: idle,
        })
    }
}

/// How far two members must be apart for a move between them: at least so much, and a part of what they
/// have on average.
fn worth(least: u64, sum: u64, members: usize) -> u64 {
    let mean = sum / members.max(1) as u64;
    least.max(mean / UNEVEN_PARTS)
}

/// Topics and leaderships are spread when members have not changed for so long.
const CALM: Micros = Micros(10_000_000);
/// The next few are moved when the last few are, which is looked at so often.
const AGAIN: Micros = Micros(2_000_000);
/// Leaderships that change at a time.
const LEADERS_MAX: usize = 32;
/// With one topic less apart a move would only swap who has more.
const MOVE_WORTH: u64 = 2;
/// One more, so that a leader whom a person has chosen among few topics stays.
const LEAD_WORTH: u64 = 3;
/// A tenth more or less than the average is even enough.
const UNEVEN_PARTS: u64 = 10;

#[cfg(test)]
mod tests;
