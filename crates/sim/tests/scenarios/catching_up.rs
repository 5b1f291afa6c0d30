//! Members that are behind and come back, while others go.

use super::{of, scenario};

/// More than a follower is sent from memory.
const FAR_BEHIND: usize = 400;

#[test]
fn a_member_far_behind_catches_up_from_files() {
    scenario(|script| {
        let follower = script.await_follower();
        script.kill(follower);
        script.write(FAR_BEHIND);
        script.start(follower);
        let due = script.reached();
        script.until("it has caught up", |script| {
            script.watermark(follower) >= due
        });
        assert!(script.tally().read_from_files > 0);
    });
}

#[test]
fn catching_up_goes_on_under_another_leader() {
    of(5, |script| {
        let follower = script.await_follower();
        script.kill(follower);
        script.write(FAR_BEHIND);
        script.start(follower);
        let before = script.watermark(follower);
        let leader = script.await_leader();
        script.kill(leader);
        let due = script.reached();
        script.until("it has caught up", |script| {
            script.watermark(follower) >= due
        });
        assert!(before < due);
        script.start(leader);
    });
}

#[test]
fn catching_up_goes_on_after_the_follower_dies_in_it() {
    scenario(|script| {
        let follower = script.await_follower();
        script.kill(follower);
        script.write(FAR_BEHIND);
        let due = script.reached();
        for pause in [1, 5, 20, 60] {
            script.start(follower);
            script.run(pause);
            script.kill(follower);
        }
        script.start(follower);
        script.until("it has caught up", |script| {
            script.watermark(follower) >= due
        });
    });
}

#[test]
fn a_slow_follower_is_not_given_up() {
    scenario(|script| {
        let follower = script.await_follower();
        script.slow_down(follower, 150);
        script.write(100);
        let due = script.reached();
        script.until("it has everything", |script| {
            script.watermark(follower) >= due
        });
    });
}

#[test]
fn the_one_that_is_behind_leads_nobody() {
    scenario(|script| {
        let behind = script.await_follower();
        script.cut_off(behind);
        script.write(50);
        let leader = script.await_leader();
        let other = (0..3).find(|it| *it != behind && *it != leader).unwrap();
        // The two that remain are the one that has everything and the one that has not.
        script.power_off(&[leader]);
        script.let_back(behind);
        script.until("somebody leads", |script| script.leader() == Some(other));
        script.write(10);
        script.start(leader);
    });
}

#[test]
fn what_was_cached_of_a_log_goes_when_it_is_cut() {
    scenario(|script| {
        for _ in 0..3 {
            let old = script.await_leader();
            script.cut_off(old);
            script.run(300);
            script.until("another leads", |script| {
                script.leader().is_some_and(|leader| leader != old)
            });
            script.write(5);
            script.let_back(old);
            script.run(100);
            // The one that has just cut its log leads, and serves what it has in memory.
            script.hand_over(old);
            script.until("it leads again", |script| script.leader() == Some(old));
            script.write(20);
        }
        assert!(script.tally().cut > 0);
    });
}
