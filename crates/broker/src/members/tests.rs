//! Members by commands: admitted once, under one name, with a number that nobody gets again.

use kontiki_wire::{ClusterState, TokenId, TokenSpec, Versions, limits::CERTIFICATE_SECONDS_MAX};

use super::*;

const NOW: Micros = Micros(1_000);

fn cluster(members: u64) -> Cluster {
    let member = |id| Member {
        id,
        incarnation: id * 100,
        name: format!("n{id}"),
        address: format!("a{id}"),
        peer_address: format!("p{id}"),
        ..Member::default()
    };
    let birth = ClusterState {
        members: (1..=members).map(member).collect(),
        ..ClusterState::default()
    };
    let mut cluster = Cluster::restore(birth, None).unwrap();
    for id in 1..=9 {
        give(&mut cluster, id);
    }
    cluster
}

fn give(cluster: &mut Cluster, token: u64) {
    let spec = TokenSpec {
        id: TokenId(token),
        hash: [0; 32],
        role: Role::Node,
        topics: Vec::new(),
        life_seconds: 10,
    };
    let change = cluster.create_token(spec, NOW);
    assert!(matches!(change, Change::Token(_)), "{change:?}");
}

fn admission(token: u64, name: &str, incarnation: u64) -> Admission {
    Admission {
        token: TokenId(token),
        name: name.to_owned(),
        incarnation,
        address: format!("{name}-{incarnation}"),
        peer_address: format!("peers of {name}-{incarnation}"),
        versions: Versions::MINE,
    }
}

fn admitted(cluster: &mut Cluster, admission: Admission) -> Member {
    match cluster.admit(admission, NOW) {
        Change::Admitted(member) => member,
        other => panic!("{other:?}"),
    }
}

/// The reason of a refusal.
fn why(change: Change) -> String {
    match change {
        Change::Void(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

fn leave(cluster: &mut Cluster, id: u64) {
    let change = cluster.set_standing(id, Standing::Leaving);
    assert!(matches!(change, Change::Member(_)), "{change:?}");
    cluster.state.named.retain(|named| *named != id);
    let change = cluster.drop_member(id, NOW);
    assert!(matches!(change, Change::Dropped(_)), "{change:?}");
}

#[test]
fn who_is_admitted_twice_with_one_disk_is_one_member() {
    let mut cluster = cluster(1);
    let member = admitted(&mut cluster, admission(1, "n4", 7));
    assert_eq!((member.id, member.standing), (2, Standing::Active));
    let again = cluster.admit(admission(1, "n4", 7), NOW);
    assert_eq!(again, Change::Member(member));
    assert_eq!(cluster.state().members.len(), 2);
}

#[test]
fn a_spent_token_admits_nobody_else() {
    let mut cluster = cluster(1);
    admitted(&mut cluster, admission(1, "n4", 7));
    let refused = why(cluster.admit(admission(1, "n5", 8), NOW));
    assert!(refused.contains("was spent by n4"), "{refused}");
    // The same name on another disk is another.
    leave(&mut cluster, 2);
    let refused = why(cluster.admit(admission(1, "n4", 8), NOW));
    assert!(refused.contains("was spent by n4"), "{refused}");
}

#[test]
fn refused_admission_spends_no_token() {
    let mut cluster = cluster(2);
    let refused = why(cluster.admit(admission(1, "n2", 7), NOW));
    assert!(refused.contains("a member n2 already"), "{refused}");
    let taken = Admission {
        peer_address: "a1".to_owned(),
        ..admission(1, "n4", 7)
    };
    let refused = why(cluster.admit(taken, NOW));
    assert!(refused.contains("the address of n1"), "{refused}");
    let refused = why(cluster.admit(admission(1, "n4", 100), NOW));
    assert!(refused.contains("that of n1"), "{refused}");
    assert!(matches!(
        cluster.admit(admission(1, "", 7), NOW),
        Change::Void(_)
    ));
    let ahead = Versions::MINE.highest + 1;
    let newer = Admission {
        versions: Versions {
            lowest: ahead,
            highest: ahead,
        },
        ..admission(1, "n4", 7)
    };
    let refused = why(cluster.admit(newer, NOW));
    assert!(refused.contains("the cluster is at version 1"), "{refused}");
    admitted(&mut cluster, admission(1, "n4", 7));
}

#[test]
fn a_name_that_returns_is_another_member_and_no_number_is_given_twice() {
    let mut cluster = cluster(3);
    let mut seen = vec![1, 2, 3];
    for round in 0..5 {
        let token = round + 1;
        let id = admitted(&mut cluster, admission(token, "n4", 50 + round)).id;
        assert!(!seen.contains(&id), "{id} of {seen:?}");
        seen.push(id);
        leave(&mut cluster, id);
        // What is kept knows, too.
        let checkpoint = cluster.checkpoint();
        cluster = Cluster::restore(ClusterState::default(), Some(&checkpoint)).unwrap();
    }
    assert_eq!(cluster.state().members.len(), 3);
}

#[test]
fn members_are_bounded() {
    let mut cluster = cluster(MEMBERS_MAX as u64);
    let refused = why(cluster.admit(admission(1, "more", 7), NOW));
    assert!(refused.contains("at most 64 members"), "{refused}");
}

#[test]
fn the_last_member_that_stays_does_not_leave() {
    let mut cluster = cluster(2);
    leave(&mut cluster, 2);
    let refused = why(cluster.set_standing(1, Standing::Leaving));
    assert!(refused.contains("the last member that stays"), "{refused}");
    let drained = cluster.set_standing(1, Standing::Draining);
    assert!(matches!(drained, Change::Member(_)), "{drained:?}");
    let refused = why(cluster.set_standing(9, Standing::Active));
    assert!(refused.contains("no member \"9\""), "{refused}");
}

#[test]
fn the_last_member_that_votes_is_not_demoted_and_the_others_may_be() {
    let mut cluster = cluster(3);
    for id in [2, 3] {
        let demoted = cluster.set_standing(id, Standing::Demoted);
        assert!(matches!(demoted, Change::Member(_)), "{demoted:?}");
    }
    for standing in [Standing::Demoted, Standing::Leaving] {
        let refused = why(cluster.set_standing(1, standing));
        assert!(
            refused.contains("the last member that stays and votes"),
            "{refused}"
        );
    }
    let promoted = cluster.set_standing(2, Standing::Active);
    assert!(matches!(promoted, Change::Member(_)), "{promoted:?}");
    let demoted = cluster.set_standing(1, Standing::Demoted);
    assert!(matches!(demoted, Change::Member(_)), "{demoted:?}");
}

#[test]
fn only_who_leaves_is_dropped_and_only_when_the_cluster_s_own_group_does_without_it() {
    let mut cluster = cluster(3);
    let refused = why(cluster.drop_member(2, NOW));
    assert!(refused.contains("n2 is active"), "{refused}");
    cluster.set_standing(2, Standing::Leaving);
    let refused = why(cluster.drop_member(2, NOW));
    assert!(refused.contains("made of n2 too"), "{refused}");
    leave(&mut cluster, 2);
    assert!(why(cluster.drop_member(2, NOW)).contains("no member"));
}

#[test]
fn who_is_a_member_no_more_does_not_come_back_by_the_token_it_has_spent() {
    let mut cluster = cluster(2);
    let n3 = admitted(&mut cluster, admission(1, "n3", 333));
    let again = cluster.admit(admission(1, "n3", 333), NOW);
    assert!(matches!(again, Change::Member(_)), "{again:?}");
    cluster.set_standing(n3.id, Standing::Leaving);
    let dropped = cluster.drop_member(n3.id, NOW);
    assert!(matches!(dropped, Change::Dropped(_)), "{dropped:?}");
    let refused = why(cluster.admit(admission(1, "n3", 333), NOW));
    assert!(refused.contains("was spent by n3"), "{refused}");
}

#[test]
fn the_key_of_a_member_that_was_removed_admits_nobody_and_spends_no_token() {
    let mut cluster = cluster(1);
    let n4 = admitted(&mut cluster, admission(1, "n4", 7));
    leave(&mut cluster, n4.id);
    // The same folder, with another token.
    let refused = why(cluster.admit(admission(2, "n4", 7), NOW));
    assert!(refused.contains("join with an empty folder"), "{refused}");
    let members = cluster.state().members.len();
    assert_eq!(members, 1);
    admitted(&mut cluster, admission(2, "n4", 8));
    // What is forgotten is good again.
    let year = Micros(NOW.0 + CERTIFICATE_SECONDS_MAX * 1_000_000);
    let spec = TokenSpec {
        id: TokenId(50),
        hash: [0; 32],
        role: Role::Node,
        topics: Vec::new(),
        life_seconds: 10,
    };
    let made = cluster.create_token(spec, year);
    assert!(matches!(made, Change::Token(_)), "{made:?}");
    let again = cluster.admit(admission(50, "n5", 7), year);
    assert!(matches!(again, Change::Admitted(_)), "{again:?}");
}
