//! Whole groups under loss, reordering, partitions, crashes and slow disks, all of it decided by one
//! seed: safety is looked at after every turn, and after healing the group must go on. Meanwhile members
//! join and are removed, promoted, demoted and replaced. `SEEDS=10000 cargo test --release -p
//! kontiki-raft --test chaos turmoil` lives as many lives, from seed `FIRST` on.

mod disk;
mod turmoil;

use std::{env, panic};

use turmoil::World;

/// One life of a group: turmoil, then peace. Gives the hash of everything that happened, and how many
/// changes of the configuration were done, and how many logs were fetched.
fn live(seed: u64) -> (u64, usize, usize) {
    let mut world = World::new(seed);
    world.suffer();
    world.recover();
    (world.trace(), world.changed(), world.installed)
}

#[test]
fn turmoil_breaks_no_promise_and_ends_when_the_faults_do() {
    let number = |name: &str, default| {
        env::var(name).map_or(default, |number| number.parse().expect("a number of seeds"))
    };
    let (first, seeds) = (number("FIRST", 0), number("SEEDS", 200));
    let (mut changed, mut installed) = (0, 0);
    for seed in first..first + seeds {
        let life = panic::catch_unwind(|| live(seed));
        let (_, changes, installs) = life.unwrap_or_else(|_| panic!("seed {seed} broke a promise"));
        changed += changes;
        installed += installs;
    }
    println!("{seeds} lives, {changed} changes of the configuration, {installed} logs fetched");
    // What is true of many is not of each.
    if seeds >= 100 {
        assert!(installed as u64 >= seeds / 4, "hardly anything is fetched");
        assert!(changed as u64 >= seeds, "they hardly change");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [1, 2, 3, 77] {
        assert_eq!(live(seed), live(seed), "seed {seed}");
    }
    assert_ne!(live(1), live(2));
}

#[test]
fn a_follower_that_restarts_in_an_idle_group_learns_the_commit_index() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.recover();
        world.restart_an_idle_follower();
    }
}

/// Whether some life notices that this safeguard is gone.
#[cfg(feature = "planted")]
fn is_noticed(planted: kontiki_raft::Planted) -> bool {
    let life = |seed| {
        let mut world = World::new(seed);
        world.plant(planted);
        world.suffer();
    };
    (0..3_000).any(|seed| panic::catch_unwind(|| life(seed)).is_err())
}

#[cfg(feature = "planted")]
#[test]
fn every_safeguard_that_is_taken_away_is_missed() {
    use kontiki_raft::Planted;
    // To commit an earlier term's entry by count needs a chain of leaders that chance hardly makes; the
    // stories make it. What only links and clocks of a whole cluster bring out is `kontiki sim`'s.
    for planted in [
        Planted::UngatedVoteRequest,
        Planted::LeadBeforeOwnVote,
        Planted::UngatedVoteReply,
        Planted::UngatedAppended,
        Planted::CountSelfBeforeDurable,
        Planted::CommitWithoutQuorum,
        Planted::CommitUnverified,
        Planted::AcknowledgeUnverified,
        Planted::AppendUnchecked,
        Planted::CutBeyondConflict,
        Planted::KeepConflict,
        Planted::VoteByLength,
        Planted::VoteTwice,
        Planted::TransferUnready,
        Planted::ReadBeforeNoop,
    ] {
        assert!(is_noticed(planted), "{planted:?} passes");
    }
}
