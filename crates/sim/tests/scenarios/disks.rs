//! Power, disks and restarts.

use super::{of, scenario};

const ALL: [usize; 3] = [0, 1, 2];

#[test]
fn power_lost_everywhere_at_once_takes_nothing_that_was_acknowledged() {
    scenario(|script| {
        for round in 0..6 {
            script.write(5);
            script.run(round * 3);
            script.power_off(&ALL);
            script.run(100);
            for member in ALL {
                script.start(member);
            }
        }
        script.write(10);
    });
}

#[test]
fn power_lost_between_any_two_calls_of_a_disk_takes_nothing() {
    scenario(|script| {
        for calls in 0..24 {
            let member = (calls % 3) as usize;
            script.power_off_after(member, calls);
            script.until("it is down", |script| !script.is_up(member));
            script.run(20);
            script.start(member);
            script.write(3);
        }
    });
}

#[test]
fn a_leader_whose_disk_fails_stops_and_the_others_go_on() {
    scenario(|script| {
        for calls in [0, 1, 2, 3, 7] {
            let leader = script.await_leader();
            let restarts = script.tally().restarts;
            script.fail_disk(leader, calls);
            script.until("it has stopped itself and is back", |script| {
                script.tally().restarts > restarts
            });
            script.write(10);
        }
    });
}

#[test]
fn restarts_without_a_pause_end_in_a_cluster_that_works() {
    of(5, |script| {
        for round in 0..40 {
            let member = round % 5;
            if script.is_up(member) {
                script.kill(member);
                script.start(member);
            }
            script.run(30);
        }
        script.write(20);
        assert!(script.tally().restarts >= 30);
    });
}

#[test]
fn a_rolling_restart_costs_nothing() {
    scenario(|script| {
        for member in ALL {
            script.kill(member);
            script.write(10);
            script.start(member);
            script.run(500);
        }
        script.write(10);
    });
}

#[test]
fn a_majority_that_lost_its_power_brings_back_what_it_acknowledged() {
    scenario(|script| {
        for round in 0..4 {
            let leader = script.await_leader();
            let one = (leader + 1 + round % 2) % 3;
            script.power_off(&[leader, one]);
            script.run(400);
            script.start(one);
            script.write(10);
            script.start(leader);
        }
    });
}

#[test]
fn a_cluster_of_one_keeps_everything_by_itself() {
    of(1, |script| {
        for _ in 0..6 {
            script.write(10);
            script.power_off(&[0]);
            script.run(50);
            script.start(0);
        }
        script.write(10);
    });
}
