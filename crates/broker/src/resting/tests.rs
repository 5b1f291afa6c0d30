//! What a member says, hears and concludes for the groups that rest.

use kontiki_raft::{Incarnation, NodeId};

use super::*;

const TIMEOUT: Micros = Micros(300_000);
const INTERVAL: Micros = Micros(50_000);
const UNTIL: Micros = Micros(20_000_000);

fn peer(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id),
    }
}

/// A group is led by this member, and rests with these.
fn leads(resting: &mut Resting, group: u64, now: u64, with: &[u64]) {
    let with = with.iter().map(|id| peer(*id)).collect();
    let rest = Rest { leads: true, with };
    resting.lead(GroupId(group));
    resting.note(GroupId(group), Micros(now), Some(rest));
}

/// A group is led by a peer, and rests.
fn follows(resting: &mut Resting, group: u64, now: u64, leader: u64) {
    let with = vec![peer(leader)];
    let rest = Rest { leads: false, with };
    resting.note(GroupId(group), Micros(now), Some(rest));
}

/// A group rests no more.
fn wakes(resting: &mut Resting, group: u64, now: u64) {
    resting.note(GroupId(group), Micros(now), None);
}

/// A group is led no more, of which 2 is the only other member.
fn ceases(resting: &mut Resting, group: u64, now: u64) {
    wakes(resting, group, now);
    resting.cease(GroupId(group), UNTIL, std::iter::once(peer(2)));
}

fn said(life: u64, beat: u64, heard: Option<(u64, u64)>, ended: &[u64]) -> MemberBeat {
    MemberBeat {
        life,
        beat,
        heard,
        ended: ended.iter().map(|group| GroupId(*group)).collect(),
    }
}

fn hear(resting: &mut Resting, from: u64, beat: &MemberBeat, now: u64) -> Option<Vec<GroupId>> {
    let life = resting.life;
    let watch = resting.watches.get_mut(&peer(from)).unwrap();
    watch.hear(life, beat, Micros(now))
}

fn lost(resting: &Resting, of: u64, now: u64) -> Vec<GroupId> {
    resting.watches[&peer(of)].lost(Micros(now), TIMEOUT, INTERVAL)
}

#[test]
fn one_beat_serves_all_groups_that_rest_with_a_peer() {
    let mut resting = Resting::new(7);
    for group in 1..=100 {
        leads(&mut resting, group, 10, &[2, 3]);
        follows(&mut resting, 100 + group, 10, 2);
    }
    let beats = resting.beats(Micros(50), TIMEOUT);
    let first = said(7, 1, None, &[]);
    assert_eq!(beats, [(peer(2), first.clone()), (peer(3), first)]);
    for group in 1..=100 {
        wakes(&mut resting, group, 60);
    }
    let beats = resting.beats(Micros(100), TIMEOUT);
    assert_eq!(
        beats,
        [(peer(2), said(7, 2, None, &[]))],
        "who leads on says so there"
    );
    for group in 101..=200 {
        wakes(&mut resting, group, 110);
    }
    assert!(resting.beats(Micros(150), TIMEOUT).is_empty());
}

#[test]
fn a_leader_knows_when_the_last_beat_left_that_was_answered() {
    let mut resting = Resting::new(7);
    leads(&mut resting, 1, 0, &[2, 3]);
    assert_eq!(resting.evidence(GroupId(1)), Some(Vec::new()));
    for now in [50, 100, 150] {
        resting.beats(Micros(now), TIMEOUT);
    }
    hear(&mut resting, 2, &said(9, 1, Some((7, 2)), &[]), 170);
    hear(&mut resting, 3, &said(8, 1, Some((6, 3)), &[]), 170);
    let answered = vec![(peer(2), Micros(100))];
    assert_eq!(
        resting.evidence(GroupId(1)),
        Some(answered),
        "another life's answer is none"
    );
    assert_eq!(resting.evidence(GroupId(2)), None);
}

#[test]
fn a_follower_knows_when_its_leaders_member_was_heard() {
    let mut resting = Resting::new(7);
    follows(&mut resting, 1, 0, 2);
    hear(&mut resting, 2, &said(9, 4, None, &[]), 80);
    let heard = |at| Some(vec![(peer(2), Micros(at))]);
    assert_eq!(resting.evidence(GroupId(1)), heard(80));
    assert_eq!(hear(&mut resting, 2, &said(9, 4, None, &[1]), 90), None);
    assert_eq!(hear(&mut resting, 2, &said(9, 3, None, &[1]), 90), None);
    assert_eq!(
        resting.evidence(GroupId(1)),
        heard(80),
        "what comes late tells nothing"
    );
}

#[test]
fn silence_counts_from_when_there_was_something_to_be_heard() {
    let mut resting = Resting::new(7);
    follows(&mut resting, 1, 1_000_000, 2);
    hear(&mut resting, 2, &said(9, 1, None, &[]), 1_100_000);
    wakes(&mut resting, 1, 1_200_000);
    follows(&mut resting, 1, 9_000_000, 2);
    assert!(lost(&resting, 2, 9_299_999).is_empty());
    assert_eq!(lost(&resting, 2, 9_300_000), [GroupId(1)]);
    leads(&mut resting, 2, 9_200_000, &[2]);
    hear(&mut resting, 2, &said(9, 2, None, &[]), 9_250_000);
    assert!(lost(&resting, 2, 9_549_999).is_empty());
    hear(&mut resting, 2, &said(9, 3, None, &[]), 9_550_000);
    assert!(lost(&resting, 2, 9_599_999).is_empty());
    let unanswered = lost(&resting, 2, 9_600_000);
    assert_eq!(
        unanswered,
        [GroupId(2)],
        "heard it was, and answered it has not"
    );
}

#[test]
fn what_is_led_no_more_is_named_until_that_was_heard() {
    let mut resting = Resting::new(7);
    for group in 1..=3 {
        leads(&mut resting, group, 0, &[2]);
    }
    ceases(&mut resting, 1, 10);
    let ended = |resting: &mut Resting, now: u64| {
        let beats = resting.beats(Micros(now), TIMEOUT);
        beats[0]
            .1
            .ended
            .iter()
            .map(|group| group.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(ended(&mut resting, 50), [1]);
    ceases(&mut resting, 2, 60);
    assert_eq!(ended(&mut resting, 100), [1, 2]);
    hear(&mut resting, 2, &said(9, 1, Some((7, 1)), &[]), 120);
    assert_eq!(ended(&mut resting, 150), [2]);
    // What rests anew is led again.
    leads(&mut resting, 2, 160, &[2]);
    assert_eq!(ended(&mut resting, 200), [0; 0]);
    // Who never answers is told no longer than it can rest.
    ceases(&mut resting, 3, 210);
    assert_eq!(ended(&mut resting, 250), [3]);
    assert_eq!(ended(&mut resting, UNTIL.0), [0; 0]);
}

#[test]
fn no_beat_names_more_groups_than_fit() {
    let mut resting = Resting::new(7);
    let many = ENDED_RESTS_MAX as u64 + 5;
    for group in 1..=many {
        leads(&mut resting, group, 0, &[2]);
        ceases(&mut resting, group, 0);
    }
    let first = resting.beats(Micros(50), TIMEOUT).remove(0).1;
    assert_eq!(first.ended.len(), ENDED_RESTS_MAX);
    hear(&mut resting, 2, &said(9, 1, Some((7, 1)), &[]), 60);
    let second = resting.beats(Micros(100), TIMEOUT).remove(0).1;
    assert_eq!(second.ended.len(), 5);
}

#[test]
fn whoever_begins_anew_and_whoever_leads_no_more_rouses() {
    let mut resting = Resting::new(7);
    leads(&mut resting, 1, 0, &[2]);
    follows(&mut resting, 2, 0, 2);
    follows(&mut resting, 3, 0, 2);
    follows(&mut resting, 4, 0, 3);
    let none = Some(Vec::new());
    assert_eq!(hear(&mut resting, 2, &said(9, 1, None, &[]), 50), none);
    let ended = hear(&mut resting, 2, &said(9, 2, None, &[1, 3, 4]), 100);
    assert_eq!(ended, Some(vec![GroupId(3)]), "what it led");
    // That this was heard is said even if nothing rests with it any more.
    wakes(&mut resting, 1, 110);
    wakes(&mut resting, 2, 110);
    wakes(&mut resting, 3, 110);
    let beats = resting.beats(Micros(150), TIMEOUT);
    assert_eq!(beats[0], (peer(2), said(7, 1, Some((9, 2)), &[])));
    assert_eq!(resting.beats(Micros(200), TIMEOUT).len(), 1, "to the other");
    leads(&mut resting, 1, 210, &[2]);
    follows(&mut resting, 2, 210, 2);
    let anew = hear(&mut resting, 2, &said(5, 1, None, &[]), 250);
    assert_eq!(anew, Some(vec![GroupId(1), GroupId(2)]));
}

#[test]
fn what_is_led_no_more_is_named_though_its_leader_did_not_rest() {
    let mut resting = Resting::new(7);
    // A follower of it may have been asked to rest, and rest; the leader waited for others.
    ceases(&mut resting, 2, 10);
    let beats = resting.beats(Micros(50), TIMEOUT);
    assert_eq!(beats, [(peer(2), said(7, 1, None, &[2]))]);
    resting.lead(GroupId(2));
    assert!(resting.beats(Micros(100), TIMEOUT).is_empty());
}
