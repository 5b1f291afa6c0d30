//! The links between members: who hears whom, how late, and how often.

use crate::{chance::Chance, event::Life};

/// How the links are at a moment, beside what is cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quality {
    /// Microseconds on the way, about.
    pub(crate) delay: u64,
    /// Of a thousand sends.
    pub(crate) lost: u64,
    /// Of a thousand sends.
    pub(crate) doubled: u64,
    /// Of a thousand sends, those that what comes later may overtake.
    pub(crate) overtaken: u64,
}

impl Quality {
    fn add(&mut self, other: Self) {
        self.delay += other.delay;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.overtaken += other.overtaken;
    }

    fn take(&mut self, other: Self) {
        self.delay -= other.delay;
        self.lost -= other.lost;
        self.doubled -= other.doubled;
        self.overtaken -= other.overtaken;
    }
}

/// One member's way to another, which it dials itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// The process at the other end, while the link is up.
    pub(crate) up: Option<Life>,
    /// Counts the times it came up.
    pub(crate) number: u64,
    pub(crate) since: u64,
    /// Faults that keep everything from arriving.
    cuts: u32,
    cut_since: u64,
    /// Nothing arrives before this.
    clogged_until: u64,
    worse: Quality,
    /// When the last message on each lane arrives: what is not overtaken stays in order.
    last: [u64; 2],
}

/// All links.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// By who dials, and who is dialled.
    links: Vec<Vec<Link>>,
    base: Quality,
    /// For each member, the faults that keep clients from it.
    client_cuts: Vec<u32>,
    chance: Chance,
}

impl Network {
    pub(crate) fn new(members: usize, base: Quality, chance: Chance) -> Self {
        Self {
            links: vec![vec![Link::default(); members]; members],
            base,
            client_cuts: vec![0; members],
            chance,
        }
    }

    /// One more member.
    pub(crate) fn grow(&mut self) {
        let members = self.links.len() + 1;
        self.links.push(Vec::new());
        for links in &mut self.links {
            links.resize(members, Link::default());
        }
        self.client_cuts.push(0);
    }

    pub(crate) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from][to]
    }

    /// Whether anything gets from one to the other.
    pub(crate) fn is_cut(&mut self, from: usize, to: usize) -> bool {
        self.link(from, to).cuts > 0
    }

    /// Whether a conversation is possible: that takes both directions.
    pub(crate) fn converse(&mut self, one: usize, other: usize) -> bool {
        !self.is_cut(one, other) && !self.is_cut(other, one)
    }

    /// Since when a conversation has not been possible; `None` if it is.
    pub(crate) fn silent_since(&mut self, one: usize, other: usize) -> Option<u64> {
        let there = self.link(one, other);
        let there = (there.cuts > 0).then_some(there.cut_since);
        let back = self.link(other, one);
        let back = (back.cuts > 0).then_some(back.cut_since);
        match (there, back) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    pub(crate) fn cut(&mut self, now: u64, from: usize, to: usize) {
        let link = self.link(from, to);
        if link.cuts == 0 {
            link.cut_since = now;
        }
        link.cuts += 1;
    }

    pub(crate) fn join(&mut self, from: usize, to: usize) {
        self.link(from, to).cuts -= 1;
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until: u64) {
        let link = self.link(from, to);
        link.clogged_until = link.clogged_until.max(until);
    }

    pub(crate) fn worsen(&mut self, from: usize, to: usize, by: Quality) {
        self.link(from, to).worse.add(by);
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize, by: Quality) {
        self.link(from, to).worse.take(by);
    }

    pub(crate) fn cut_clients(&mut self, member: usize) {
        self.client_cuts[member] += 1;
    }

    pub(crate) fn join_clients(&mut self, member: usize) {
        self.client_cuts[member] -= 1;
    }

    pub(crate) fn hears_clients(&self, member: usize) -> bool {
        self.client_cuts[member] == 0
    }

    /// Everything is well from now on.
    pub(crate) fn heal(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.cuts = 0;
            link.clogged_until = 0;
            link.worse = Quality::default();
        }
        self.client_cuts.fill(0);
        self.base = Quality {
            delay: self.base.delay.min(1_000),
            ..Quality::default()
        };
    }

    /// How long something between a client and a member is on its way.
    pub(crate) fn client_delay(&mut self) -> u64 {
        50 + self.chance.around(self.base.delay)
    }

    /// When what is sent now arrives: not at all, once or twice.
    pub(crate) fn arrivals(&mut self, now: u64, from: usize, to: usize, lane: usize) -> Vec<u64> {
        let base = self.base;
        let chance = &mut self.chance;
        let link = &mut self.links[from][to];
        let mut quality = base;
        quality.add(link.worse);
        if link.cuts > 0 || chance.permille(quality.lost) {
            return Vec::new();
        }
        let copies = 1 + usize::from(chance.permille(quality.doubled));
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let at = (now + 20 + chance.around(quality.delay)).max(link.clogged_until);
            if chance.permille(quality.overtaken) {
                arrivals.push(at + chance.around(4 * quality.delay));
            } else {
                link.last[lane] = at.max(link.last[lane]);
                arrivals.push(link.last[lane]);
            }
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(quality: Quality) -> Network {
        Network::new(3, quality, Chance::new(1))
    }

    #[test]
    fn calm_links_keep_the_order_and_lose_nothing() {
        let delay = 500;
        let mut network = network(Quality {
            delay,
            ..Quality::default()
        });
        let mut last = 0;
        for now in 0..1_000 {
            let arrivals = network.arrivals(now, 0, 1, 0);
            assert_eq!(arrivals.len(), 1);
            assert!(arrivals[0] >= last && arrivals[0] > now);
            last = arrivals[0];
        }
    }

    #[test]
    fn two_cuts_of_one_link_are_healed_one_by_one() {
        let mut network = network(Quality::default());
        network.cut(5, 0, 1);
        network.cut(7, 0, 1);
        assert_eq!(network.silent_since(1, 0), Some(5));
        network.join(0, 1);
        assert!(network.arrivals(9, 0, 1, 0).is_empty());
        assert!(!network.arrivals(9, 1, 0, 0).is_empty());
        assert!(!network.converse(0, 1));
        network.join(0, 1);
        assert!(network.converse(0, 1));
    }
}
