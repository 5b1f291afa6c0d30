//! Tokens by commands: made, spent once, expired by the time of the entries.

use kontiki_wire::ClusterState;

use super::*;

fn cluster() -> Cluster {
    Cluster::restore(ClusterState::default(), None).unwrap()
}

fn spec(id: u64, life_seconds: u64) -> TokenSpec {
    TokenSpec {
        id: TokenId(id),
        hash: [id as u8; 32],
        role: Role::Producer,
        topics: Vec::new(),
        life_seconds,
    }
}

fn made(cluster: &mut Cluster, spec: TokenSpec, now: u64) -> Token {
    match cluster.create_token(spec, Micros(now)) {
        Change::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

fn spent(name: &str, mark: u64) -> Spent {
    Spent {
        name: name.to_owned(),
        mark,
    }
}

fn why(change: Change) -> String {
    match change {
        Change::Void(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_asked_for_twice_is_one_and_another_of_its_number_is_refused() {
    let mut cluster = cluster();
    let token = made(&mut cluster, spec(5, 10), 100);
    assert_eq!(token.expires_at, 100 + 10_000_000);
    assert_eq!(made(&mut cluster, spec(5, 20), 200), token);
    let other = TokenSpec {
        hash: [9; 32],
        ..spec(5, 10)
    };
    let refused = why(cluster.create_token(other, Micros(300)));
    assert!(refused.contains("another token"), "{refused}");
}

#[test]
fn a_token_is_spent_once_but_for_the_same_as_often_as_it_asks() {
    let mut cluster = cluster();
    made(&mut cluster, spec(5, 10), 0);
    let id = TokenId(5);
    for _ in 0..2 {
        let change = cluster.spend_token(id, spent("writer", 1), Micros(1));
        assert!(matches!(change, Change::Token(_)), "{change:?}");
    }
    for other in [spent("writer", 2), spent("other", 1)] {
        let refused = why(cluster.spend_token(id, other, Micros(1)));
        assert!(refused.contains("was spent by writer"), "{refused}");
    }
}

#[test]
fn a_token_expires_by_the_time_of_the_entry_that_finds_it_so() {
    let mut cluster = cluster();
    made(&mut cluster, spec(5, 1), 0);
    made(&mut cluster, spec(6, 100), 0);
    let refused = why(cluster.spend_token(TokenId(5), spent("late", 1), Micros(1_000_000)));
    assert!(refused.contains("has expired"), "{refused}");
    assert!(cluster.token(TokenId(5)).is_none(), "and is forgotten");
    assert!(cluster.token(TokenId(6)).is_some());
    let refused = why(cluster.spend_token(TokenId(5), spent("late", 1), Micros(1_000_000)));
    assert!(refused.contains("no token"), "{refused}");
}

#[test]
fn a_token_that_was_revoked_admits_nobody() {
    let mut cluster = cluster();
    made(&mut cluster, spec(5, 10), 0);
    let change = cluster.revoke_token(TokenId(5), Micros(1));
    assert_eq!(change, Change::TokenGone);
    let refused = why(cluster.spend_token(TokenId(5), spent("late", 1), Micros(2)));
    assert!(refused.contains("no token"), "{refused}");
    assert!(matches!(
        cluster.revoke_token(TokenId(5), Micros(3)),
        Change::Void(_)
    ));
}

#[test]
fn a_late_request_to_make_a_token_does_not_make_one_that_was_revoked() {
    let mut cluster = cluster();
    made(&mut cluster, spec(5, 10), 0);
    assert_eq!(
        cluster.revoke_token(TokenId(5), Micros(1)),
        Change::TokenGone
    );
    let refused = why(cluster.create_token(spec(5, 10), Micros(2)));
    assert!(refused.contains("was revoked"), "{refused}");
    assert_eq!(cluster.token(TokenId(5)), None);
    // It is forgotten when it would have expired.
    made(&mut cluster, spec(6, 10), 10_000_000);
    let kept: Vec<_> = cluster.state().tokens.iter().map(|one| one.id).collect();
    assert_eq!(kept, [TokenId(6)]);
}

#[test]
fn a_token_is_good_for_its_role_alone() {
    let mut cluster = cluster();
    let node = TokenSpec {
        role: Role::Node,
        ..spec(5, 10)
    };
    made(&mut cluster, node, 0);
    made(&mut cluster, spec(6, 10), 0);
    let refused = why(cluster.spend_token(TokenId(5), spent("client", 1), Micros(1)));
    assert!(refused.contains("admits a member"), "{refused}");
    let refused = cluster.spend(TokenId(6), Role::Node, spent("n4", 1), Micros(1));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("admits a producer, not a node"),
        "{refused}"
    );
}

#[test]
fn tokens_are_bounded_and_expired_ones_make_room() {
    let mut cluster = cluster();
    for id in 0..TOKENS_MAX as u64 {
        made(&mut cluster, spec(id, 10), 0);
    }
    let more = spec(TOKENS_MAX as u64, 10);
    let refused = why(cluster.create_token(more.clone(), Micros(1)));
    assert!(refused.contains("the limit is 1024"), "{refused}");
    made(&mut cluster, more, 10_000_000);
    assert_eq!(cluster.state().tokens.len(), 1);
}

#[test]
fn tokens_that_were_revoked_leave_their_room_to_others_the_oldest_first() {
    let mut cluster = cluster();
    let all = TOKENS_MAX as u64;
    for id in 0..all {
        made(&mut cluster, spec(2 * id, 1_000 - id % 100), 0);
    }
    let numbers = |cluster: &Cluster| -> Vec<u64> {
        let tokens = cluster.state().tokens.iter();
        tokens.map(|token| token.id.0).collect()
    };
    let full = why(cluster.create_token(spec(7, 10), Micros(1)));
    assert!(full.contains("the limit is 1024"), "{full}");
    for id in [10, 40, 20] {
        let gone = cluster.revoke_token(TokenId(id), Micros(1));
        assert_eq!(gone, Change::TokenGone);
    }
    // The one whose life was the shortest.
    made(&mut cluster, spec(7, 10), 1);
    let kept = numbers(&cluster);
    assert!(!kept.contains(&40) && [7, 10, 20].iter().all(|id| kept.contains(id)));
    assert!(kept.is_sorted() && kept.len() == TOKENS_MAX);
    for id in [9, 3] {
        made(&mut cluster, spec(id, 10), 1);
    }
    let full = why(cluster.create_token(spec(11, 10), Micros(1)));
    assert!(full.contains("the limit is 1024"), "{full}");
}

#[test]
fn a_life_without_end_or_without_time_is_refused() {
    let mut cluster = cluster();
    for life in [0, TOKEN_LIFE_SECONDS_MAX + 1, u64::MAX] {
        assert!(matches!(
            cluster.create_token(spec(5, life), Micros(0)),
            Change::Void(_)
        ));
    }
}
