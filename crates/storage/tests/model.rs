//! Random writes, truncations, placements, checkpoints, removals and power cuts beside a plain model:
//! whatever happens, a restart finds what some prefix of the writes left behind, nothing durable is
//! missing, and no crash is taken for damage.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Fault, Settings, SimDisk, Unsynced};
use kontiki_wire::GroupId;
use proptest::prelude::*;

use crate::rig::{
    append,
    byhand::{ByHand, records},
    configuration, entry, hard,
};

/// One thing that happens; the numbers are taken modulo what makes sense.
#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u64,
        count: u64,
        bytes: usize,
        truncate: Option<u64>,
        elect: bool,
    },
    Place {
        group: u64,
        back: u64,
    },
    Checkpoint {
        group: u64,
        back: u64,
    },
    Write,
    Settle,
    Idle,
    Crash {
        seed: u64,
    },
    /// A call fails while the journal or the segments are written, and then the power.
    Fail {
        calls: u64,
        writing: bool,
        seed: u64,
    },
    /// The power goes, and a call fails while the next process starts.
    FailStart {
        calls: u64,
        seed: u64,
    },
    Read {
        group: u64,
    },
    Close,
    Remove {
        group: u64,
    },
}

/// Steps with groups of which the first is drawn so many times as often as both others.
fn step(often: u32, bytes: usize) -> impl Strategy<Value = Step> {
    let any_group = move || prop_oneof![often => Just(0_u64), 1 => 1..3_u64];
    prop_oneof![
        8 => (any_group(), 0..4_u64, 0..bytes, prop::option::weighted(0.2, 0..5_u64), any::<bool>())
            .prop_map(|(group, count, bytes, truncate, elect)| Step::Append { group, count, bytes, truncate, elect }),
        4 => (any_group(), 0..3_u64).prop_map(|(group, back)| Step::Place { group, back }),
        1 => (0..3_u64, 0..9_u64).prop_map(|(group, back)| Step::Checkpoint { group, back }),
        6 => Just(Step::Write),
        4 => Just(Step::Settle),
        1 => Just(Step::Idle),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        3 => (0..7_u64, any::<bool>(), any::<u64>())
            .prop_map(|(calls, writing, seed)| Step::Fail { calls, writing, seed }),
        2 => (0..40_u64, any::<u64>()).prop_map(|(calls, seed)| Step::FailStart { calls, seed }),
        2 => (0..3_u64).prop_map(|group| Step::Read { group }),
        1 => Just(Step::Close),
        1 => (0..3_u64).prop_map(|group| Step::Remove { group }),
    ]
}

/// Keeps none, all, or a mixture of what was not synced.
fn chance(seed: u64) -> impl FnMut(Unsynced<'_>) -> bool {
    let mut state = seed;
    move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match seed % 5 {
            0 => false,
            1 => true,
            _ => state >> 63 == 0,
        }
    }
}

struct Story {
    by_hand: ByHand,
    /// The ids that stand for the numbers of groups; a removed one is replaced.
    groups: [GroupId; 3],
    term: u64,
}

impl Story {
    fn last(&self, group: GroupId) -> u64 {
        let group = self.by_hand.model.now().get(&group);
        group.map_or(0, |group| group.entries.len() as u64)
    }

    fn placed(&self, group: GroupId) -> u64 {
        self.by_hand
            .model
            .placed
            .get(&group)
            .copied()
            .unwrap_or_default()
    }

    fn tell(&mut self, step: &Step) {
        match *step {
            Step::Append {
                group,
                count,
                bytes,
                truncate,
                elect,
            } => {
                let group = self.groups[group as usize];
                self.append(group, count, bytes, truncate, elect);
            }
            Step::Place { group, back } => {
                let group = self.groups[group as usize];
                let last = self.last(group).saturating_sub(back);
                if last > self.placed(group) {
                    self.by_hand.place(group, last);
                }
            }
            Step::Checkpoint { group, back } => {
                let group = self.groups[group as usize];
                let at = self.placed(group).saturating_sub(back) as usize;
                if at > 0 {
                    let at = self.by_hand.model.now()[&group].entries[at - 1].id;
                    self.by_hand.checkpoint(group, at);
                }
            }
            Step::Write => {
                self.by_hand.hands.write();
                self.by_hand.listen();
            }
            Step::Settle => {
                self.by_hand.hands.settle();
            }
            Step::Idle => self.by_hand.hands.idle(),
            Step::Crash { seed } => {
                self.by_hand.crash(chance(seed));
            }
            Step::Fail {
                calls,
                writing,
                seed,
            } => {
                self.by_hand.disk.fail_after(calls, Fault::Broken);
                if writing {
                    self.by_hand.hands.write();
                } else {
                    self.by_hand.hands.settle();
                }
                self.by_hand.crash(chance(seed));
            }
            Step::FailStart { calls, seed } => {
                let disk = self.by_hand.disk.after_crash(chance(seed));
                self.by_hand.listen();
                disk.fail_after(calls, Fault::Broken);
                if let Ok(started) = ByHand::try_new(disk.clone(), self.by_hand.settings.clone()) {
                    drop(started);
                }
                let disk = disk.after_crash(chance(seed.rotate_left(7)));
                self.by_hand.restart(disk);
            }
            Step::Read { group } => {
                let group = self.groups[group as usize];
                if self.by_hand.model.now().contains_key(&group) {
                    self.by_hand.read_group(group);
                }
            }
            Step::Close => self.close(),
            Step::Remove { group } => {
                let removed = self.groups[group as usize];
                let unused = self.groups.iter().map(|id| id.0).max().unwrap() + 1;
                self.groups[group as usize] = GroupId(unused);
                self.by_hand.model.removed.insert(removed);
                self.by_hand.model.placed.remove(&removed);
                self.by_hand.storage.remove(removed);
            }
        }
    }

    fn append(
        &mut self,
        group: GroupId,
        count: u64,
        bytes: usize,
        truncate: Option<u64>,
        elect: bool,
    ) {
        let mut last = self.last(group);
        let mut persist = append(vec![]);
        self.term += u64::from(elect);
        if let Some(back) = truncate
            && last > self.placed(group)
        {
            let from = (last - back.min(last - self.placed(group) - 1)).max(self.placed(group) + 1);
            persist.truncate_from = Some(Index(from));
            self.term += 1;
            last = from - 1;
        }
        if elect {
            persist.hard = Some(hard(self.term, group.0));
        }
        let body: Vec<u8> = (0..bytes)
            .map(|at| (at as u64 ^ self.term ^ last) as u8)
            .collect();
        persist.append = (last + 1..=last + count)
            .map(|index| match records(index) {
                0 => entry(index, self.term, &configuration(index)),
                _ => entry(index, self.term, &body),
            })
            .collect();
        let nothing =
            persist.append.is_empty() && persist.hard.is_none() && persist.truncate_from.is_none();
        if !nothing {
            self.by_hand.queue(vec![(group, persist)]);
        }
    }

    fn close(&mut self) {
        let fresh = ByHand::new(SimDisk::default(), self.by_hand.settings.clone()).0;
        let mut old = std::mem::replace(&mut self.by_hand, fresh);
        old.hands.work();
        old.listen();
        assert_eq!(
            old.durable,
            old.model.states.len() - 1,
            "everything queued is written"
        );
        let ByHand {
            disk,
            hands,
            model,
            durable,
            ..
        } = old;
        hands.close().unwrap();
        self.by_hand.model = model;
        self.by_hand.durable = durable;
        // Nothing that was closed cleanly depends on luck.
        let recovered = self.by_hand.restart(disk.after_crash(|_| false));
        assert_eq!(recovered.torn, None);
    }
}

fn tiny() -> Settings {
    Settings {
        journal_file_bytes: 4 << 10,
        segment_bytes: 6 << 10,
        hot_bytes_max: 2 << 10,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_finds_a_prefix_of_the_writes_that_has_all_durable_ones(steps in prop::collection::vec(step(1, 900), 1..90)) {
        let (by_hand, _) = ByHand::new(SimDisk::default(), tiny());
        let mut story = Story { by_hand, groups: [GroupId(0), GroupId(1), GroupId(2)], term: 1 };
        for step in &steps {
            story.tell(step);
        }
        story.tell(&Step::Crash { seed: 0 });
        story.tell(&Step::Close);
    }

    #[test]
    fn so_it_does_where_journal_files_become_segments(steps in prop::collection::vec(step(12, 3000), 1..150)) {
        let settings = Settings { apart_bytes_min: 0,
            settle_bytes_min: 1 << 10, journal_file_bytes: 8 << 10, ..tiny() };
        let (by_hand, _) = ByHand::new(SimDisk::default(), settings);
        let mut story = Story { by_hand, groups: [GroupId(0), GroupId(1), GroupId(2)], term: 1 };
        for step in &steps {
            story.tell(step);
        }
        story.tell(&Step::Crash { seed: 0 });
        story.tell(&Step::Close);
    }
}

#[test]
fn checkpoint_is_kept_once_its_entries_are_in_segments() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), tiny());
    let group = GroupId(3);
    let at = |index| LogId {
        term: Term(1),
        index: Index(index),
    };
    by_hand.write(
        group,
        (1..=9).map(|index| entry(index, 1, b"body")).collect(),
    );
    by_hand.place(group, 9);
    by_hand.checkpoint(group, at(5));
    by_hand.hands.work();
    let recovered = by_hand.crash(|_| false);
    assert_eq!(
        recovered.groups[0].checkpoint, None,
        "no segment has entry 5 yet"
    );
    by_hand.checkpoint(group, at(5));
    for index in 10..=40 {
        by_hand.write(group, vec![entry(index, 1, &[7; 400])]);
        by_hand.place(group, index);
        by_hand.hands.work();
    }
    let recovered = by_hand.crash(|_| false);
    assert_eq!(
        recovered.groups[0].checkpoint.as_ref().map(|(at, _)| *at),
        Some(at(5))
    );
    assert_eq!(
        recovered.groups[0].tail.first().map(|entry| entry.id),
        Some(at(5))
    );
}

#[test]
fn write_that_is_one_operation_survives_whole_or_not_at_all() {
    let group = GroupId(3);
    let mut torn = 0;
    for seed in 0..200 {
        let settings = Settings {
            journal_file_bytes: 16 << 10,
            ..tiny()
        };
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings);
        let first = (1..=4).map(|index| entry(index, 1, &[1; 300]));
        by_hand.write(group, first.collect());
        let second = (3..=8).map(|index| entry(index, 2, &[2; 300]));
        let persist = Persist {
            hard: Some(hard(2, 1)),
            truncate_from: Some(Index(3)),
            ..append(second.collect())
        };
        by_hand.queue(vec![(group, persist)]);
        // The write goes through and the sync does not.
        by_hand.disk.fail_after(1, Fault::Broken);
        by_hand.hands.write();
        torn += u64::from(by_hand.crash(chance(seed)).torn.is_some());
    }
    assert!(torn > 20, "only {torn} of the crashes tore the write");
}
