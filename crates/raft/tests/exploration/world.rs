//! A state of the whole group: three members, every message ever sent, and what may still happen.

use std::iter;

use crate::exploration::catalogue::{Act, Catalogue};

/// A state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct World {
    pub(crate) members: [u32; 3],
    pub(crate) past: Past,
}

/// What has happened besides what the members know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Past {
    /// Messages are never taken away: each may arrive late, twice, or not at all.
    sent: Letters,
    pub(crate) history: u32,
    campaigns: u8,
    proposals: u8,
    crashes: u8,
    forgot: bool,
    changed: bool,
    renewals: u8,
}

impl World {
    /// Nothing has happened, or nothing but an election.
    pub(crate) fn new(catalogue: &mut Catalogue) -> Self {
        let (members, history) = catalogue.birth();
        let mut world = Self {
            members,
            past: Past {
                history,
                ..Past::default()
            },
        };
        if catalogue.bounds.elected {
            world.take(catalogue, 0, Act::Campaign);
            world.settle(catalogue);
        }
        world
    }

    /// Everything reaches its disk, and everything that 1 and 2 say to each other arrives.
    fn settle(&mut self, catalogue: &mut Catalogue) {
        loop {
            let acts = self.acts(catalogue).into_iter();
            let ours =
                |(at, act): &(u8, Act)| *at < 2 && matches!(act, Act::Persist | Act::Arrive(_));
            let mut changed = false;
            for (at, act) in acts.filter(ours) {
                let writes = catalogue.glance(self.members[usize::from(at)]).writes;
                changed |= (act != Act::Persist || writes) && self.take(catalogue, at, act);
            }
            if !changed {
                return;
            }
        }
    }

    /// Whether it changed anything.
    fn take(&mut self, catalogue: &mut Catalogue, at: u8, act: Act) -> bool {
        let Some(next) = self.after(catalogue, at, act) else {
            return false;
        };
        *self = next;
        let seen = catalogue.observe(self.members, self.past.history);
        self.past.history = seen.expect("an election breaks no promise");
        true
    }

    /// Everything that can happen now, and to whom.
    pub(crate) fn acts(&self, catalogue: &Catalogue) -> Vec<(u8, Act)> {
        let bounds = &catalogue.bounds;
        let past = &self.past;
        let letters = past.sent.iter();
        let mut acts: Vec<_> = letters
            .map(|l| (catalogue.receiver(l), Act::Arrive(l)))
            .collect();
        for (at, member) in (0..bounds.members).zip(self.members) {
            let glance = catalogue.glance(member);
            let mut may = |this: bool, act: Act| acts.extend(this.then_some((at, act)));
            may(glance.writes, Act::Persist);
            may(past.crashes < bounds.crashes, Act::Crash);
            may(at + 1 == bounds.forgets && !past.forgot, Act::Forget);
            if glance.leads {
                let number = past.proposals + 1;
                may(number <= bounds.proposals, Act::Propose(number));
                may(!bounds.target.is_empty() && !past.changed, Act::Change);
                may(bounds.quorum_losses, Act::StepDown);
                for peer in (0..3).filter(|peer| *peer != at) {
                    may(past.renewals < bounds.renewals, Act::Renew(peer));
                }
            } else {
                let candidate = at < bounds.candidates && glance.term < bounds.terms;
                may(
                    candidate && past.campaigns < bounds.campaigns,
                    Act::Campaign,
                );
            }
        }
        acts
    }

    /// The state after an act; `None` if it changes nothing. The history is still the old one.
    pub(crate) fn after(&self, catalogue: &mut Catalogue, at: u8, act: Act) -> Option<Self> {
        let place = usize::from(at);
        let follows = catalogue.follows(at, self.members[place], act);
        let said = |letter: &u32| self.past.sent.contains(*letter);
        if follows.member == self.members[place] && follows.sent.iter().all(said) {
            return None;
        }
        let mut next = *self;
        next.members[place] = follows.member;
        let past = &mut next.past;
        match act {
            Act::Campaign => past.campaigns += 1,
            Act::Propose(_) => past.proposals += 1,
            Act::Crash => past.crashes += 1,
            Act::Forget => past.forgot = true,
            Act::Change => past.changed = true,
            Act::Renew(_) => past.renewals += 1,
            Act::Arrive(_) | Act::Persist | Act::StepDown => {}
        }
        let mut fresh = Vec::new();
        past.send(&follows.sent, &mut fresh);
        if catalogue.bounds.thrifty {
            next.speak_out(catalogue, at, fresh);
        }
        Some(next)
    }

    /// Sends everything that members would send without changing, now that one has changed and these
    /// letters are fresh. A message more takes no way away: every way from the state before is a way
    /// from this one.
    fn speak_out(&mut self, catalogue: &mut Catalogue, changed: u8, mut fresh: Vec<u32>) {
        let theirs = self
            .past
            .sent
            .iter()
            .filter(|l| catalogue.receiver(*l) == changed);
        fresh.extend(theirs);
        while let Some(letter) = fresh.pop() {
            let at = catalogue.receiver(letter);
            let member = self.members[usize::from(at)];
            let follows = catalogue.follows(at, member, Act::Arrive(letter));
            if follows.member == member {
                self.past.send(&follows.sent, &mut fresh);
            }
        }
    }
}

impl Past {
    /// Whether whatever can happen after `other` can happen after this, the members being the same:
    /// at least its messages were sent, at least its facts were seen, and no more was used up.
    pub(crate) fn covers(&self, other: &Self, catalogue: &Catalogue) -> bool {
        if !catalogue.bounds.thrifty {
            return self == other;
        }
        self.campaigns <= other.campaigns
            && self.crashes <= other.crashes
            && self.forgot <= other.forgot
            && self.changed == other.changed
            && self.renewals <= other.renewals
            && self.proposals == other.proposals
            && self.sent.cover(&other.sent)
            && catalogue.history_covers(self.history, other.history)
    }

    fn send(&mut self, letters: &[u32], fresh: &mut Vec<u32>) {
        for letter in letters.iter().copied() {
            if !self.sent.contains(letter) {
                self.sent.insert(letter);
                fresh.push(letter);
            }
        }
    }
}

/// A set of letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Letters([u64; LETTERS_MAX / 64]);

impl Letters {
    fn contains(&self, letter: u32) -> bool {
        let (word, bit) = place(letter);
        self.0[word] & bit != 0
    }

    fn insert(&mut self, letter: u32) {
        let (word, bit) = place(letter);
        self.0[word] |= bit;
    }

    fn cover(&self, other: &Self) -> bool {
        let missing = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(ours, theirs)| theirs & !ours);
        missing.fold(0, |all, missing| all | missing) == 0
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.0).flat_map(|(word, bits)| {
            let mut left = *bits;
            iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(word * u64::BITS + bit)
            })
        })
    }
}

fn place(letter: u32) -> (usize, u64) {
    assert!(
        (letter as usize) < LETTERS_MAX,
        "these bounds take a greater LETTERS_MAX"
    );
    ((letter / u64::BITS) as usize, 1 << (letter % u64::BITS))
}

/// Different messages within the bounds, at most.
const LETTERS_MAX: usize = 512;
