//! Ten of the planted mistakes, others in every turn, are found by stories that find nothing without
//! them. `PLANTED_TURN` chooses which ten.

use std::{collections::BTreeSet, env, sync::Mutex, time::Duration};

use kontiki_sim::planted::{CATALOGUE, Hunt, Hunted, Mistake, hunt, tell};

/// How many are looked for.
const TEN: usize = 10;
/// Seconds of a processor for one, in a build for tests.
const CPU_SECONDS_MAX: u64 = 120;

/// The turn's ten, of those that do not take long.
fn ten(turn: usize) -> Vec<&'static Mistake> {
    let quick: Vec<_> = CATALOGUE.iter().filter(|it| !it.is_rare).collect();
    let from = turn % quick.len().div_ceil(TEN) * TEN;
    quick.iter().copied().cycle().skip(from).take(TEN).collect()
}

fn all_found(mistakes: &[&'static Mistake]) -> Vec<Hunted> {
    let all = Mutex::new(Vec::new());
    let how = Hunt {
        first: 1,
        cpu_max: Duration::from_secs(CPU_SECONDS_MAX),
        threads: 2,
    };
    hunt(mistakes, how, |hunted| {
        all.lock().expect("nobody panics with it").push(hunted);
    });
    all.into_inner().expect("nobody panics with it")
}

#[test]
fn ten_mistakes_are_found_by_stories_that_are_sound_without_them() {
    let turn = env::var("PLANTED_TURN").map_or(0, |turn| turn.parse().expect("a number"));
    println!("repeat with PLANTED_TURN={turn}");
    let mut seeds = BTreeSet::new();
    for hunted in all_found(&ten(turn)) {
        let name = hunted.mistake.name;
        let found = hunted
            .found
            .unwrap_or_else(|| panic!("{name} goes unnoticed in {} stories", hunted.stories));
        println!("{name}: seed {}: {}", found.seed, found.what);
        let again = tell(found.seed, Some(hunted.mistake));
        assert_eq!(again, (found.at, Some(found.what)), "{name} again");
        seeds.insert(found.seed);
    }
    for seed in seeds {
        assert_eq!(tell(seed, None).1, None, "seed {seed} with nothing planted");
    }
}

#[test]
fn every_mistake_has_a_name_of_its_own_and_says_what_it_is() {
    let names: BTreeSet<_> = CATALOGUE.iter().map(|mistake| mistake.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    assert!(CATALOGUE.len() >= 30);
    for mistake in CATALOGUE {
        assert!(mistake.what.len() > 20, "{}", mistake.name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let (room, file) = mistake.place.split_once('/').expect("a crate and a file");
        let place = std::path::Path::new(source)
            .join(room)
            .join("src")
            .join(file);
        let text = std::fs::read_to_string(&place).expect("the file it is planted in");
        assert!(text.contains("Planted::"), "{}", mistake.place);
    }
}

#[test]
fn what_was_planted_goes_when_the_story_ends() {
    let clean = tell(1, None);
    let planted = CATALOGUE.iter().find(|it| it.name == "duplicate-placed");
    assert!(tell(1, planted).1.is_some());
    assert_eq!(tell(1, None), clean);
}
