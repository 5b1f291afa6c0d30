//! Breadth first, and never again where something that could go at least as far has been.

use std::{
    collections::VecDeque,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    exploration::{
        bounds::Bounds,
        catalogue::{Act, Catalogue, QuickMap},
        world::{Past, World},
    },
    words,
};

/// How an exploration ended.
pub(crate) struct Outcome {
    /// States visited.
    pub(crate) states: usize,
    /// Steps taken, those to known states included.
    pub(crate) steps: usize,
    /// Whether every state within the bounds was visited.
    pub(crate) complete: bool,
    /// States of single members that were seen.
    pub(crate) members: usize,
    /// States of the three together, whatever was under way, and a digest of them.
    pub(crate) groups: (usize, u64),
    /// Messages that were seen.
    pub(crate) messages: usize,
    /// The first broken promise, if one was found.
    pub(crate) broken: Option<Broken>,
}

/// A broken promise and a way to it.
pub(crate) struct Broken {
    /// Which, where.
    pub(crate) promise: String,
    /// What happened, step by step.
    pub(crate) way: String,
    /// How many steps.
    pub(crate) length: usize,
}

/// How a state was first reached.
#[derive(Clone, Copy)]
struct Origin {
    from: u32,
    at: u8,
    act: Act,
}

/// The pasts that were seen with the same members; none covers another.
#[derive(Default)]
struct Seen {
    pasts: QuickMap<[u32; 3], Vec<Past>>,
}

impl Seen {
    /// Whether it was seen before, or something that covers it; from now on it was.
    fn add(&mut self, world: &World, catalogue: &Catalogue) -> bool {
        let pasts = self.pasts.entry(world.members).or_default();
        if pasts.iter().any(|past| past.covers(&world.past, catalogue)) {
            return false;
        }
        pasts.retain(|past| !world.past.covers(past, catalogue));
        pasts.push(world.past);
        true
    }

    /// The same for the same groups, whatever their numbers.
    fn digest(&self, catalogue: &Catalogue) -> u64 {
        let hash = |members: &[u32; 3]| {
            let mut hasher = DefaultHasher::new();
            let members = members.map(|member| catalogue.members.value(member));
            members.hash(&mut hasher);
            hasher.finish()
        };
        self.pasts.keys().map(hash).fold(0, u64::wrapping_add)
    }

    /// Whether something else that was seen covers it by now.
    fn outdone(&self, world: &World) -> bool {
        !self.pasts[&world.members].contains(&world.past)
    }
}

/// Visits every state within the bounds, or stops at the first broken promise.
pub(crate) fn explore(bounds: Bounds) -> Outcome {
    let mut catalogue = Catalogue::new(bounds);
    let birth = World::new(&mut catalogue);
    let mut seen = Seen::default();
    seen.add(&birth, &catalogue);
    // Where each state but the first came from.
    let mut origins: Vec<Origin> = Vec::new();
    let mut front = VecDeque::from([(0, birth)]);
    let mut steps = 0;
    let mut broken = None;
    'all: while let Some((from, world)) = front.pop_front() {
        if seen.outdone(&world) {
            continue;
        }
        for (at, act) in world.acts(&catalogue) {
            let Some(mut next) = world.after(&mut catalogue, at, act) else {
                continue;
            };
            steps += 1;
            let origin = Origin { from, at, act };
            match catalogue.observe(next.members, next.past.history) {
                Ok(history) => next.past.history = history,
                Err(promise) => {
                    broken = Some(trace(&mut catalogue, &origins, origin, promise));
                    break 'all;
                }
            }
            if seen.add(&next, &catalogue) {
                origins.push(origin);
                front.push_back((origins.len() as u32, next));
            }
        }
        if origins.len() >= bounds.states {
            break;
        }
    }
    Outcome {
        states: origins.len() + 1,
        steps,
        complete: front.is_empty() && broken.is_none(),
        members: catalogue.members.len(),
        groups: (seen.pasts.len(), seen.digest(&catalogue)),
        messages: catalogue.letters.len(),
        broken,
    }
}

/// Walks back to the beginning, and forward again in words.
fn trace(catalogue: &mut Catalogue, origins: &[Origin], last: Origin, promise: String) -> Broken {
    let mut steps = vec![last];
    while let Some(before) = steps[steps.len() - 1].from.checked_sub(1) {
        steps.push(origins[before as usize]);
    }
    steps.reverse();
    let mut world = World::new(catalogue);
    let mut way = String::new();
    for Origin { at, act, .. } in &steps {
        let before = world.members[usize::from(*at)];
        world = world
            .after(catalogue, *at, *act)
            .expect("a step that was taken before changes something");
        let member = catalogue.members.value(world.members[usize::from(*at)]);
        let heading = match act {
            Act::Campaign => format!("{} campaigns", at + 1),
            Act::Propose(number) => format!("{} takes v{number}", at + 1),
            Act::Arrive(letter) => {
                let letter = catalogue.letters.value(*letter);
                let message = words::message(&letter.message);
                format!("{}->{} {message}", letter.from, letter.to)
            }
            Act::Persist => {
                let write = &catalogue.members.value(before).queue()[0];
                format!("{} durable: {}", at + 1, words::write(write))
            }
            Act::Crash => format!("{} crashes and starts again", at + 1),
            Act::Forget => format!("{} loses its disk and starts again", at + 1),
            Act::Change => format!("{} is asked for other voters", at + 1),
            Act::StepDown => format!("{} finds no quorum", at + 1),
            Act::Renew(peer) => format!("{} begins anew with {}", at + 1, peer + 1),
        };
        let status = words::status(&member.status());
        write!(way, "{heading}\n    {status}\n").expect("a string takes it");
    }
    Broken {
        promise,
        way,
        length: steps.len(),
    }
}
