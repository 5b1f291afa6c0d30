//! What a seed stands for: how large the cluster is, how it is tuned, what is asked of it, and what it
//! suffers. A plan without some of its faults is a plan too: that is how a failure is made shorter.

use crate::{
    chance::Chance,
    damage::Harm,
    faults::{self, FIRST_AT, Fault},
    network::Quality,
    tuning::Tuning,
};

/// A story before it is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Members of the cluster.
    pub members: usize,
    /// How long it suffers, in microseconds; then it is healed and must recover.
    pub suffers: u64,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    pub(crate) tuning: Tuning,
    pub(crate) network: Quality,
    /// A disk's sync takes about so long.
    pub(crate) sync: u64,
    pub(crate) topics: Vec<Topic>,
    pub(crate) harm: Harm,
    /// All the chance that is left for what happens in it.
    pub(crate) chance: u64,
}

/// A topic that is there from the beginning, and what is done with it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) replicas: u8,
    pub(crate) producers: Vec<Load>,
    pub(crate) consumers: usize,
    pub(crate) readers: usize,
}

/// What a producer writes.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Between two batches, about.
    pub(crate) gap: u64,
    pub(crate) records_max: u32,
    pub(crate) filling_max: u64,
    pub(crate) in_flight: usize,
    /// After this long a batch is given up.
    pub(crate) patience: u64,
    /// It writes nothing after this moment of the story, but stays in what its topic remembers.
    pub(crate) leaves_at: u64,
}

/// What may be chosen about a story beside its seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// How large the cluster is.
    pub members: Option<usize>,
    /// How long it suffers, in microseconds.
    pub suffers: Option<u64>,
    /// Whether members come and go.
    pub changes: bool,
}

/// Sets the dice of who comes and goes apart from all others.
const CHANGES_SALT: u64 = 0x6b6f_6e74_696b_6921;
/// The largest cluster there is.
pub const MEMBERS_MAX: usize = 7;

impl Plan {
    /// Draws a story.
    #[must_use]
    pub fn draw(seed: u64, choice: Choice) -> Self {
        let mut chance = Chance::new(seed);
        // Three members are what most clusters have.
        let members = *chance.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, 7]);
        let members = choice.members.unwrap_or(members).clamp(1, MEMBERS_MAX);
        let suffers = chance.between(40_000_000, 90_000_000);
        let suffers = choice.suffers.unwrap_or(suffers);
        let tuning = Tuning::draw(&mut chance.fork(1));
        let mut of_network = chance.fork(2);
        let network = Quality {
            delay: *of_network.pick(&[100, 300, 1_000, 5_000]),
            overtaken: *of_network.pick(&[0, 0, 20]),
            lost: *of_network.pick(&[0, 0, 2, 10]),
            doubled: *of_network.pick(&[0, 0, 2, 10]),
        };
        let sync = *of_network.pick(&[200, 700, 2_000]);
        let topics = topics(&mut chance.fork(3), members, suffers);
        let harm = Harm::draw(&mut chance.fork(5), members);
        let mut faults = faults::draw(&mut chance.fork(4), suffers, members);
        if choice.changes {
            let mut dice = Chance::new(seed ^ CHANGES_SALT);
            faults.extend(faults::draw_changes(&mut dice, suffers));
            faults.extend(faults::draw_standings(&mut dice, suffers));
            faults.extend(faults::draw_unheard(&mut dice, suffers));
        }
        Self {
            seed,
            members,
            suffers,
            faults,
            tuning,
            network,
            sync,
            topics,
            harm,
            chance: chance.next(),
        }
    }
}

fn topics(chance: &mut Chance, members: usize, suffers: u64) -> Vec<Topic> {
    let count = chance.between(1, 4) as usize;
    // All producers of a story together, in batches a second.
    let rate = *chance.pick(&[20, 40, 80, 160]);
    let mut topics: Vec<Topic> = (0..count)
        .map(|_| Topic {
            replicas: *chance.pick(&[3, 3, 3, members as u8]),
            producers: Vec::new(),
            consumers: chance.between(1, 3) as usize,
            readers: chance.between(1, 4) as usize,
        })
        .collect();
    let more = *chance.pick(&[4, 4, 4, 16]);
    let producers = chance.between(count as u64, count as u64 + more);
    for number in 0..producers as usize {
        // A topic's first producer is busy and stays; of the others some speak rarely, and some leave.
        let is_first = number < count;
        let pace = match is_first {
            true => 1,
            false => *chance.pick(&[1, 1, 1, 5, 25]),
        };
        let leaves_at = match !is_first && chance.permille(300) {
            true => chance.between(FIRST_AT, suffers),
            false => u64::MAX,
        };
        topics[number % count].producers.push(Load {
            gap: pace * 1_000_000 * producers / rate,
            records_max: *chance.pick(&[1, 3, 20]),
            filling_max: *chance.pick(&[16, 100, 2_000]),
            in_flight: *chance.pick(&[1, 4, 32]),
            patience: *chance.pick(&[2_000_000, 10_000_000, 60_000_000]),
            leaves_at,
        });
    }
    topics
}
