//! Everything that was ever seen, numbered, so that a world is a handful of numbers. A core is a value:
//! the same member in the same state does the same again, and is asked only once.

#![expect(
    clippy::disallowed_types,
    reason = "the order of a map is never looked at"
)]

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    rc::Rc,
};

use kontiki_raft::{Message, NodeRef};

use crate::{
    exploration::{
        bounds::Bounds,
        member::{Event, Facts, Member, nodes},
    },
    promises::{History, View},
};

/// A message with its envelope.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Letter {
    pub(crate) from: NodeRef,
    pub(crate) to: NodeRef,
    pub(crate) message: Message,
}

/// What happens, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Campaign,
    Persist,
    Crash,
    Forget,
    StepDown,
    Change,
    Renew(u8),
    Propose(u8),
    Arrive(u32),
}

/// What is known of a numbered member at a glance.
#[derive(Clone, Copy)]
pub(crate) struct Glance {
    facts: u32,
    pub(crate) term: u64,
    pub(crate) leads: bool,
    pub(crate) writes: bool,
}

/// What follows from an act: the member after it, and the letters it sent.
pub(crate) struct Follows {
    pub(crate) member: u32,
    pub(crate) sent: Box<[u32]>,
}

/// The numbered members, letters, facts and histories, and what follows from what.
pub(crate) struct Catalogue {
    pub(crate) bounds: Bounds,
    pub(crate) members: Numbers<Member>,
    pub(crate) letters: Numbers<Letter>,
    facts: Numbers<Facts>,
    histories: Numbers<History>,
    glances: Vec<Glance>,
    /// For each letter, whom it is for.
    receivers: Vec<u8>,
    /// For each member, by the act's slot.
    follows: Vec<Vec<Option<Rc<Follows>>>>,
    observed: QuickMap<([u32; 3], u32), Result<u32, String>>,
}

impl Catalogue {
    /// Nothing was seen yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            members: Numbers::new(),
            letters: Numbers::new(),
            facts: Numbers::new(),
            histories: Numbers::new(),
            glances: Vec::new(),
            receivers: Vec::new(),
            follows: Vec::new(),
            observed: QuickMap::default(),
        }
    }

    /// The members as they begin, and the history in which nothing has happened.
    pub(crate) fn birth(&mut self) -> ([u32; 3], u32) {
        let members = [0, 1, 2].map(|at| {
            let member = Member::new(nodes()[at], &self.bounds, self.bounds.logs[at]);
            self.member(member)
        });
        (members, self.histories.number(History::default()))
    }

    /// What is known of a member at a glance.
    pub(crate) fn glance(&self, member: u32) -> Glance {
        self.glances[member as usize]
    }

    /// Whom a letter is for.
    pub(crate) fn receiver(&self, letter: u32) -> u8 {
        self.receivers[letter as usize]
    }

    /// What follows if this happens to this member, which stands at this place.
    pub(crate) fn follows(&mut self, at: u8, member: u32, act: Act) -> Rc<Follows> {
        let known = self.follows[member as usize].get(act.slot());
        if let Some(known) = known.and_then(Option::as_ref) {
            return Rc::clone(known);
        }
        let event = self.event(act);
        let (next, sent) = self.members.value(member).after(&event, &self.bounds);
        let from = nodes()[usize::from(at)];
        let letters = sent
            .into_iter()
            .map(|(to, message)| Letter { from, to, message });
        let sent = letters.filter_map(|letter| self.letter(letter)).collect();
        let follows = Rc::new(Follows {
            member: self.member(next),
            sent,
        });
        let slots = &mut self.follows[member as usize];
        slots.resize(slots.len().max(act.slot() + 1), None);
        slots[act.slot()] = Some(Rc::clone(&follows));
        follows
    }

    /// Checks the promises over these members: the history with what is seen now, or what is broken.
    pub(crate) fn observe(&mut self, members: [u32; 3], history: u32) -> Result<u32, String> {
        if self.bounds.planted.is_none() {
            // A core that notices something itself says so; with a safeguard gone that is no news.
            let halted = members.iter().find_map(|m| self.members.value(*m).halted());
            if let Some(reason) = halted {
                return Err(format!("a member halts: {reason}"));
            }
        }
        let facts = members.map(|member| self.glance(member).facts);
        if let Some(known) = self.observed.get(&(facts, history)) {
            return known.clone();
        }
        let views = facts.map(|facts| {
            let facts = self.facts.value(facts);
            View {
                me: facts.me,
                term: facts.term,
                leads: facts.leads,
                config: &facts.config,
                log: &facts.log,
                commit: facts.commit,
                disk: &facts.disk,
                forgot: facts.forgot,
            }
        });
        let mut now = self.histories.value(history).clone();
        let seen = now.observe(&views).map(|()| self.histories.number(now));
        self.observed.insert((facts, history), seen.clone());
        seen
    }

    /// Whether the first history has all that the second has.
    pub(crate) fn history_covers(&self, first: u32, second: u32) -> bool {
        first == second
            || self
                .histories
                .value(first)
                .covers(self.histories.value(second))
    }

    fn event(&self, act: Act) -> Event {
        match act {
            Act::Campaign => Event::Campaign,
            Act::Persist => Event::Persist,
            Act::Crash => Event::Crash,
            Act::Forget => Event::Forget,
            Act::StepDown => Event::StepDown,
            Act::Change => Event::Change,
            Act::Renew(peer) => Event::Renew(nodes()[usize::from(peer)].id),
            Act::Propose(number) => Event::Propose(number),
            Act::Arrive(letter) => {
                let letter = self.letters.value(letter);
                Event::Arrive(letter.from, letter.message.clone())
            }
        }
    }

    fn member(&mut self, member: Member) -> u32 {
        let number = self.members.number(member);
        if number as usize == self.glances.len() {
            let member = self.members.value(number);
            let (facts, writes) = (member.facts(), member.is_writing());
            self.follows.push(Vec::new());
            self.glances.push(Glance {
                term: facts.term.0,
                leads: facts.leads,
                facts: self.facts.number(facts),
                writes,
            });
        }
        number
    }

    /// `None` if it is lost.
    fn letter(&mut self, letter: Letter) -> Option<u32> {
        let to = (0..self.bounds.members).find(|at| nodes()[usize::from(*at)] == letter.to)?;
        let number = self.letters.number(letter);
        if number as usize == self.receivers.len() {
            self.receivers.push(to);
        }
        Some(number)
    }
}

impl Act {
    /// A small number for each.
    fn slot(self) -> usize {
        match self {
            Self::Campaign => 0,
            Self::Persist => 1,
            Self::Crash => 2,
            Self::StepDown => 3,
            Self::Forget => 4,
            Self::Renew(peer) => 5 + usize::from(peer),
            Self::Change => 8,
            Self::Propose(number) => 8 + usize::from(number),
            Self::Arrive(letter) => 8 + 256 + letter as usize,
        }
    }
}

/// Numbers values, the same the same.
pub(crate) struct Numbers<T> {
    by_value: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Numbers<T> {
    fn new() -> Self {
        Self {
            by_value: HashMap::default(),
            values: Vec::new(),
        }
    }

    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.by_value.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("memory ends before numbers do");
        let value = Rc::new(value);
        self.values.push(Rc::clone(&value));
        self.by_value.insert(value, number);
        number
    }

    /// The value that has this number.
    pub(crate) fn value(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A map from a few small numbers.
pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Hashes a few small numbers, with a multiplication for each.
#[derive(Default)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(4) {
            self.write_u32(
                chunk
                    .iter()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte)),
            );
        }
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = u128::from(self.0 ^ u64::from(number)) * 0x9e37_79b9_7f4a_7c15;
        self.0 = mixed as u64 ^ (mixed >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
