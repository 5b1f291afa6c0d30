//! Topics that come and go.

use super::scenario;

#[test]
fn a_topic_ordered_twice_is_the_one_that_was_there() {
    scenario(|script| {
        script.write(20);
        script.make_topic_again(0);
        script.until("it is answered", |script| script.is_ordered());
        script.write(20);
    });
}

#[test]
fn a_deleted_topic_leaves_nothing_anywhere() {
    scenario(|script| {
        let topic = script.make_topic();
        script.until("all keep it", |script| {
            (0..3).all(|member| script.keeps(member, topic))
        });
        script.run(300);
        script.delete_topic(topic);
        script.until("nobody keeps it", |script| {
            (0..3).all(|member| !script.keeps(member, topic))
        });
        script.until("its files are removed", |script| {
            script.tally().removals >= 3
        });
    });
}

#[test]
fn a_member_that_was_down_when_a_topic_was_deleted_deletes_it_too() {
    scenario(|script| {
        let topic = script.make_topic();
        script.until("all keep it", |script| {
            (0..3).all(|member| script.keeps(member, topic))
        });
        script.run(300);
        let down = script.await_follower();
        script.kill(down);
        script.delete_topic(topic);
        script.until("it is deleted", |script| script.is_ordered());
        script.start(down);
        script.until("it keeps it no more", |script| !script.keeps(down, topic));
    });
}

#[test]
fn a_removal_that_a_crash_cuts_in_half_is_finished_later() {
    scenario(|script| {
        for calls in 0..8 {
            let topic = script.make_topic();
            script.until("all keep it", |script| {
                (0..3).all(|member| script.keeps(member, topic))
            });
            script.run(100);
            let member = (calls % 3) as usize;
            script.delete_topic(topic);
            script.run(3);
            script.power_off_after(member, calls);
            script.until("it is down", |script| !script.is_up(member));
            script.start(member);
            script.until("nobody keeps it", |script| {
                (0..3).all(|member| !script.keeps(member, topic))
            });
        }
    });
}

#[test]
fn a_topic_that_is_made_while_its_leader_dies_is_there_or_not_for_everybody() {
    scenario(|script| {
        for wait in [1, 2, 4, 8, 16] {
            let topic = script.make_topic();
            script.run(wait);
            let leader = script.await_leader();
            script.kill(leader);
            script.run(700);
            script.start(leader);
            script.until("it was answered", |script| script.is_ordered());
            let kept = script.keeps(leader, topic);
            script.run(500);
            assert!(script.keeps(leader, topic) || !kept);
            script.delete_topic(topic);
        }
    });
}
