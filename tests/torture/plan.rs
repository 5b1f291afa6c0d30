//! How much is to be done, of what, and from which seed: what the environment's `TORTURE` says.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::Write as _,
    ops::RangeInclusive,
    time::Duration,
};

/// The variable, as in `TORTURE="rounds=500 only=kills seed=7"`.
const VARIABLE: &str = "TORTURE";

/// One kind of torture, and the seed that all its choices come from.
pub(crate) struct Plan {
    pub(crate) kind: &'static str,
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) random: Random,
}

impl Plan {
    /// `None` if other kinds were asked for. `few` rounds fit into a run of all tests.
    pub(crate) fn of(kind: &'static str, few: u32) -> Option<Self> {
        let said = std::env::var(VARIABLE).unwrap_or_default();
        let (mut rounds, mut seed, mut wanted) =
            (few, RandomState::new().build_hasher().finish(), true);
        for word in said.split_whitespace() {
            match word.split_once('=') {
                Some(("rounds", count)) => rounds = count.parse().expect("rounds is a number"),
                Some(("seed", number)) => seed = number.parse().expect("seed is a number"),
                Some(("only", kinds)) => wanted = kinds.split(',').any(|k| k == kind),
                _ => panic!("{VARIABLE} says {word:?}; it knows rounds=N, seed=N, only=KIND,KIND"),
            }
        }
        if !wanted {
            return None;
        }
        say(format_args!(
            "torture {kind}: {rounds} rounds; again with \
             {VARIABLE}=\"only={kind} rounds={rounds} seed={seed}\" \
             cargo test --release --test torture -- --nocapture"
        ));
        Some(Self {
            kind,
            seed,
            rounds,
            random: Random::new(kind, seed),
        })
    }

    /// All rounds, in portions of one cluster each.
    pub(crate) fn in_clusters_of(&self, most: u32) -> impl Iterator<Item = u32> + use<> {
        let rounds = self.rounds;
        (0..rounds.div_ceil(most)).map(move |nth| most.min(rounds - nth * most))
    }
}

/// Says it where nothing captures it: what did not run must not look like what passed.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    // At once, or the lines of tests beside this one come between; a closed stderr has no reader.
    let _ = std::io::stderr().write_all(format!("{what}\n").as_bytes());
}

/// Says that a kind of torture does not run here, and why.
pub(crate) fn not_run(kind: &str, why: &str) {
    say(format_args!("NOT RUN: torture {kind}: {why}"));
}

/// Whether this is the superuser, who may mount and unmount. Says so if it is not.
pub(crate) fn may_touch_the_machine(kind: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_run(kind, "it needs root");
    }
    is_root
}

/// Cards that are all drawn before one comes again, so that few rounds have something of everything.
pub(crate) struct Deck<T> {
    cards: Vec<T>,
    left: Vec<T>,
}

impl<T: Clone> Deck<T> {
    pub(crate) fn of(cards: &[T]) -> Self {
        Self {
            cards: cards.to_vec(),
            left: Vec::new(),
        }
    }

    pub(crate) fn draw(&mut self, random: &mut Random) -> T {
        if self.left.is_empty() {
            self.left.clone_from(&self.cards);
        }
        let at = random.below(self.left.len() as u64) as usize;
        self.left.swap_remove(at)
    }
}

/// A sequence that its seed determines: splitmix64.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    fn new(kind: &str, seed: u64) -> Self {
        let of_kind = kind.bytes().fold(seed, |sum, byte| {
            sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(byte.into())
        });
        Self(of_kind)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another sequence, whose draws change nothing in this one.
    pub(crate) fn branch(&mut self) -> Self {
        Self(self.next())
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number in the range.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of them.
    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    /// A moment in between.
    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

#[test]
fn few_draws_have_something_of_everything() {
    let mut deck = Deck::of(&[1, 2, 3]);
    let mut random = Random(7);
    for _ in 0..10 {
        let mut drawn = [(); 3].map(|()| deck.draw(&mut random));
        drawn.sort_unstable();
        assert_eq!(drawn, [1, 2, 3]);
    }
}
