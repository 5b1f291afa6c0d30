//! Whole stories: nothing is found, and one seed is one story.

use kontiki_sim::{Choice, Fault, Kind, Plan, tell};

fn plan(seed: u64, seconds: u64) -> Plan {
    let suffers = Some(seconds * 1_000_000);
    let choice = Choice {
        suffers,
        ..Choice::default()
    };
    Plan::draw(seed, choice)
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..20 {
        let once = tell(plan(seed, 12), false);
        let again = tell(plan(seed, 12), false);
        assert_eq!(once.trace.hash(), again.trace.hash(), "seed {seed}");
        assert_eq!(once.history, again.history, "seed {seed}");
        assert!(once.report.acknowledged > 0, "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_story() {
    let hash = |seed| tell(plan(seed, 8), false).trace.hash();
    assert_ne!(hash(1), hash(2));
}

#[test]
fn nothing_is_found_in_stories_of_every_kind() {
    for seed in 1_000..1_020 {
        let told = tell(plan(seed, 30), false);
        assert_eq!(told.finding, None, "seed {seed}");
    }
}

#[test]
fn nothing_is_found_where_members_come_and_go() {
    let mut changed = 0;
    for seed in 1..9 {
        let choice = Choice {
            suffers: Some(30_000_000),
            changes: true,
            ..Choice::default()
        };
        let told = tell(Plan::draw(seed, choice), false);
        assert_eq!(told.finding, None, "seed {seed}");
        let kinds = [
            Kind::MemberJoined,
            Kind::MemberRemoved,
            Kind::MemberReplaced,
            Kind::MemberDrained,
            Kind::MemberDemoted,
        ];
        let counts = kinds.iter().filter_map(|kind| told.counts.get(kind));
        changed += counts.sum::<u64>();
    }
    assert!(changed > 20, "{changed} changes");
}

/// The cluster did not look again at who leaves when the last topic that it kept was deleted.
#[test]
fn who_leaves_is_let_go_when_its_last_topic_is_deleted() {
    let choice = Choice {
        changes: true,
        ..Choice::default()
    };
    let mut plan = Plan::draw(672_484_496_186, choice);
    // Members stand down in stories only since: that is drawn last.
    let comes_or_goes = |fault: &Fault| {
        let kinds = [
            Kind::MemberJoined,
            Kind::MemberRemoved,
            Kind::MemberReplaced,
        ];
        kinds.contains(&fault.kind)
    };
    let last = plan.faults.iter().rposition(comes_or_goes).unwrap();
    plan.faults.truncate(last + 1);
    let told = tell(plan, false);
    assert_eq!(told.finding, None);
}

/// It asked for ever to be let in with a disk whose key the cluster had taken back, because it was removed
/// before it heard that it had been admitted.
#[test]
fn who_is_removed_before_it_hears_that_it_is_in_comes_with_an_empty_disk() {
    nothing_is_found_where_members_change(530_961_534_037);
}

/// One who was to be replaced was told to keep nothing, which made it stay, so that its name was never free.
#[test]
fn who_is_replaced_is_not_told_to_stand_down() {
    nothing_is_found_where_members_change(11_280_816_824);
}

/// One left and another was about to be drained: of the two that were left one lost its disk.
#[test]
fn who_is_about_to_go_is_not_counted_on() {
    nothing_is_found_where_members_change(530_961_533_821);
}

/// A start marked an entry in an index twice, and that segment could not be mended when it was damaged.
#[test]
fn segment_that_starts_went_on_with_is_mended() {
    nothing_is_found_where_members_change(300_710_215_174);
}

fn nothing_is_found_where_members_change(seed: u64) {
    let choice = Choice {
        changes: true,
        ..Choice::default()
    };
    let told = tell(Plan::draw(seed, choice), false);
    assert_eq!(told.finding, None, "seed {seed}");
}
