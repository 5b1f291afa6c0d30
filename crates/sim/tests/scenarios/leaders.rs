//! Leaders that are cut off, deposed, paused, killed, or told to hand over.

use super::{of, scenario};

#[test]
fn a_leader_that_was_cut_off_takes_writes_and_loses_them_when_it_returns() {
    scenario(|script| {
        let old = script.await_leader();
        script.cut_off(old);
        // Its clients still reach it, and write to it until it gives up.
        script.run(200);
        script.until("another leads", |script| {
            script.leader().is_some_and(|leader| leader != old)
        });
        script.write(30);
        let cut = script.tally().cut;
        script.let_back(old);
        script.write(30);
        script.until("it has cut what nobody else has", |script| {
            script.tally().cut > cut
        });
    });
}

#[test]
fn subscribers_never_see_what_is_cut_later() {
    scenario(|script| {
        for _ in 0..4 {
            let old = script.await_leader();
            script.cut_off(old);
            script.run(700);
            script.let_back(old);
            script.write(10);
        }
        assert!(script.tally().cut > 0);
    });
}

#[test]
fn a_deposed_leader_that_clients_alone_reach_tells_no_fresh_end() {
    scenario(|script| {
        let old = script.await_leader();
        script.cut_off(old);
        for other in (0..3).filter(|other| *other != old) {
            script.cut_clients(other);
        }
        script.run(2_000);
        for other in (0..3).filter(|other| *other != old) {
            script.join_clients(other);
        }
        script.write(20);
        script.let_back(old);
        script.write(20);
    });
}

#[test]
fn a_leader_that_stood_still_wakes_up_deposed() {
    scenario(|script| {
        let old = script.await_leader();
        script.pause(old, 1_500);
        script.until("another leads", |script| {
            script.leader().is_some_and(|leader| leader != old)
        });
        script.run(2_000);
        script.write(20);
    });
}

#[test]
fn a_leader_that_hears_and_is_not_heard_gives_way() {
    scenario(|script| {
        let old = script.await_leader();
        for other in (0..3).filter(|other| *other != old) {
            script.cut(old, other);
        }
        script.until("another leads", |script| {
            script.leader().is_some_and(|leader| leader != old)
        });
        script.write(20);
    });
}

#[test]
fn a_leader_that_is_heard_and_does_not_hear_gives_way() {
    scenario(|script| {
        let old = script.await_leader();
        for other in (0..3).filter(|other| *other != old) {
            script.cut(other, old);
        }
        script.until("another leads", |script| {
            script.leader().is_some_and(|leader| leader != old)
        });
        script.write(20);
    });
}

#[test]
fn a_bridge_between_two_parts_does_not_make_them_fight() {
    of(5, |script| {
        // Two on each side hear each other and the one in the middle.
        for (one, other) in [(0, 3), (0, 4), (1, 3), (1, 4)] {
            script.cut(one, other);
            script.cut(other, one);
        }
        script.run(1_500);
        let elections = script.tally().elections;
        script.run(3_000);
        assert!(script.tally().elections <= elections + 2);
        script.write(20);
    });
}

#[test]
fn leadership_is_handed_round_under_load_without_a_loss() {
    scenario(|script| {
        for round in 0..6 {
            let leader = script.await_leader();
            let to = (leader + 1 + round % 2) % 3;
            script.hand_over(to);
            script.until("it leads", |script| script.leader() == Some(to));
            script.write(10);
        }
    });
}

#[test]
fn every_leader_in_turn_is_killed_and_nothing_is_lost_or_doubled() {
    scenario(|script| {
        for _ in 0..5 {
            let leader = script.await_leader();
            script.kill(leader);
            script.write(15);
            script.start(leader);
            script.run(50);
        }
        assert_eq!(script.tally().restarts, 5);
    });
}

#[test]
fn a_leader_that_dies_while_it_hands_over_leaves_one_successor() {
    scenario(|script| {
        for wait in [0, 1, 2, 5] {
            let leader = script.await_leader();
            script.hand_over((leader + 1) % 3);
            script.run(wait);
            script.kill(leader);
            script.write(10);
            script.start(leader);
        }
    });
}

#[test]
fn clocks_set_back_by_years_change_no_order() {
    scenario(|script| {
        for (round, seconds) in [-315_360_000, 3_600, -3_600].into_iter().enumerate() {
            script.set_clock(round, seconds);
            let leader = script.await_leader();
            script.kill(leader);
            script.write(10);
            script.start(leader);
        }
    });
}

#[test]
fn a_member_that_returns_with_nothing_new_unseats_nobody() {
    scenario(|script| {
        let follower = script.await_follower();
        script.cut_off(follower);
        script.run(3_000);
        let (leader, elections) = (script.leader(), script.tally().elections);
        script.let_back(follower);
        script.run(1_000);
        assert_eq!(script.leader(), leader);
        assert_eq!(script.tally().elections, elections);
    });
}
