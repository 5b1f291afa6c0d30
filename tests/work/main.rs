//! How much the codec and the core do for a given load, counted and not timed: allocations in every build,
//! and, built with `.ci/instrumented`, how often pieces of our own code ran. No noise moves either.

mod counted;
mod loads;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use counted::Work;
use loads::{Trio, batch, delivery, entry, peer_frame, read_batch};

/// What may be more than is recorded, in percent: another compiler counts a little differently.
const SLACK: u64 = 5;

/// Each piece of work by name. It is done once before it is counted.
fn works() -> BTreeMap<&'static str, Work> {
    let small = batch(100, 100);
    let large = batch(1, 10_000);
    let entries: Vec<_> = (1..=16).map(|index| entry(index, &small)).collect();
    let batches = vec![small.clone(); 16];
    let bytes = small.bytes().clone();
    let mut trio = Trio::new();
    trio.append(&small);
    BTreeMap::from([
        ("encode 100 records", counted::of(|| drop(batch(100, 100)))),
        ("read 100 records", counted::of(|| read_batch(&bytes))),
        (
            "16 entries to a follower",
            counted::of(|| peer_frame(&entries)),
        ),
        (
            "16 batches to a subscriber",
            counted::of(|| delivery(&batches)),
        ),
        (
            "1,000 small appends by three cores",
            counted::of(|| (0..1_000).for_each(|_| trio.append(&small))),
        ),
        (
            "1,000 large appends by three cores",
            counted::of(|| (0..1_000).for_each(|_| trio.append(&large))),
        ),
    ])
}

#[test]
fn codec_and_core_do_no_more_than_is_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/work/recorded.txt");
    let works = works();
    // Whoever counts something else every time guards nothing. One test in this program: steps are counted
    // over all threads.
    let small = batch(100, 100);
    let read_once = counted::of(|| read_batch(small.bytes()));
    assert_eq!(counted::of(|| read_batch(small.bytes())), read_once);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let before = read(&path);
        fs::write(&path, written(&works, &before)).unwrap();
    }
    let recorded = read(&path);
    for (name, work) in works {
        let before = recorded[name];
        for (what, now, before) in [
            (
                "allocations",
                Some(work.allocations),
                Some(before.allocations),
            ),
            ("allocated bytes", Some(work.bytes), Some(before.bytes)),
            ("steps", work.steps, before.steps),
        ] {
            let (Some(now), Some(before)) = (now, before) else {
                continue;
            };
            println!("{name}: {now} {what}, recorded {before}");
            assert!(
                now * 100 <= before * (100 + SLACK),
                "{name} takes {now} {what} where {before} were enough; if that is worth it, record it: \
                 UPDATE_GOLDEN=1, once in an ordinary build and once with .ci/instrumented"
            );
        }
    }
}

/// `name: allocations bytes steps`, a line each; `-` for steps that nobody has counted.
fn read(path: &Path) -> BTreeMap<String, Work> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, counts) = line.split_once(": ").expect("a name and its counts");
        let mut counts = counts.split(' ').map(|count| count.parse::<u64>().ok());
        let mut next = || counts.next().flatten();
        let work = Work {
            allocations: next().expect("a number of allocations"),
            bytes: next().expect("a number of bytes"),
            steps: next(),
        };
        (name.to_owned(), work)
    };
    text.lines().map(line).collect()
}

fn written(works: &BTreeMap<&str, Work>, before: &BTreeMap<String, Work>) -> String {
    let mut text = String::new();
    for (name, work) in works {
        let steps = work.steps.or_else(|| before.get(*name)?.steps);
        let steps = steps.map_or_else(|| "-".to_owned(), |steps| steps.to_string());
        writeln!(text, "{name}: {} {} {steps}", work.allocations, work.bytes)
            .expect("a string takes everything");
    }
    text
}
