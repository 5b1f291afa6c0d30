//! Certificates by commands: taken back once, kept until they would have expired, bounded.

use kontiki_wire::{ClusterState, Epoch, Recovery, Standing};

use super::*;

const SECOND: u64 = 1_000_000;

fn cluster() -> Cluster {
    let member = |id| Member {
        id,
        incarnation: id * 100,
        name: format!("n{id}"),
        address: format!("a{id}"),
        peer_address: format!("p{id}"),
        ..Member::default()
    };
    let birth = ClusterState {
        members: (1..=3).map(member).collect(),
        ..ClusterState::default()
    };
    Cluster::restore(birth, None).unwrap()
}

fn papers(member: u64) -> Papers {
    Papers {
        member,
        serial: format!("{member:x}"),
        mark: member * 1000,
        not_after: 5 * CERTIFICATE_SECONDS_MAX,
        ..Papers::default()
    }
}

fn named(role: Option<Role>, name: &str) -> Whom {
    let name = name.to_owned();
    Whom::Name { role, name }
}

fn revoked(cluster: &Cluster) -> Vec<&Whom> {
    let revoked = cluster.state().trust.revoked.iter();
    revoked.map(|one| &one.whom).collect()
}

fn why(change: Change) -> String {
    match change {
        Change::Void(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_revoked_twice_is_so_once_and_since_the_second_time() {
    let mut cluster = cluster();
    let shop = named(None, "shop");
    for now in [SECOND, 2 * SECOND] {
        assert_eq!(cluster.revoke(shop.clone(), Micros(now)), Change::Trusted);
    }
    let Whom::Name { .. } = &shop else { panic!() };
    assert_eq!(revoked(&cluster), [&shop]);
    assert_eq!(cluster.state().trust.revoked[0].at, 2 * SECOND);
}

#[test]
fn a_member_is_removed_and_not_revoked() {
    let mut cluster = cluster();
    let node = |name| named(Some(Role::Node), name);
    assert!(why(cluster.revoke(node("n2"), Micros(1))).contains("member remove"));
    assert!(why(cluster.revoke(Whom::Key(200), Micros(1))).contains("member remove"));
    assert_eq!(cluster.certify(papers(2)), Change::Trusted);
    let serial = Whom::Serial("2".to_owned());
    assert!(why(cluster.revoke(serial, Micros(1))).contains("the member n2 shows"));
    assert_eq!(cluster.revoke(node("n9"), Micros(1)), Change::Trusted);
    // A client may be called like a member.
    assert_eq!(
        cluster.revoke(named(None, "n2"), Micros(1)),
        Change::Trusted
    );
}

#[test]
fn who_is_dropped_is_let_in_no_more_with_any_key_it_had() {
    let mut cluster = cluster();
    assert_eq!(cluster.certify(papers(2)), Change::Trusted);
    for id in [2, 3] {
        cluster.set_standing(id, Standing::Leaving);
        cluster.state.named.retain(|named| *named != id);
        let dropped = cluster.drop_member(id, Micros(SECOND));
        assert!(matches!(dropped, Change::Dropped(_)), "{dropped:?}");
    }
    let keys = [Whom::Key(200), Whom::Key(2000), Whom::Key(300)];
    assert_eq!(revoked(&cluster), keys.iter().collect::<Vec<_>>());
    assert_eq!(cluster.state().trust.papers, []);
    let ends: Vec<_> = cluster
        .state()
        .trust
        .revoked
        .iter()
        .map(|one| one.until)
        .collect();
    let year = CERTIFICATE_SECONDS_MAX * SECOND;
    assert_eq!(ends, [5 * year, 5 * year, year + SECOND]);
    assert!(why(cluster.certify(papers(2))).contains("no member"));
}

#[test]
fn what_has_expired_is_forgotten_and_no_more_is_kept_than_may_be() {
    let mut cluster = cluster();
    for at in 0..SAID_MAX {
        let change = cluster.revoke(Whom::Serial(format!("{at:x}")), Micros(at as u64));
        assert_eq!(change, Change::Trusted);
    }
    let one_more = Whom::Serial("ffff".to_owned());
    assert!(
        why(cluster.revoke(one_more.clone(), Micros(SECOND))).contains("revocations that hold")
    );
    assert_eq!(
        cluster.revoke(Whom::Serial("0".to_owned()), Micros(SECOND)),
        Change::Trusted
    );
    let later = Micros((REVOKED_SECONDS + 2) * SECOND);
    assert_eq!(cluster.revoke(one_more.clone(), later), Change::Trusted);
    assert_eq!(revoked(&cluster), [&one_more]);
}

#[test]
fn members_that_go_take_back_nothing_of_what_an_operator_has_said() {
    let mut cluster = cluster();
    for at in 0..SAID_MAX {
        let change = cluster.revoke(Whom::Serial(format!("{at:x}")), Micros(SECOND));
        assert_eq!(change, Change::Trusted);
    }
    let gone = 2 * MEMBERS_MAX as u64 + 10;
    for id in 10_000..10_000 + gone {
        let member = Member {
            id,
            incarnation: id,
            ..Member::default()
        };
        cluster.disown(&member, Micros(id * SECOND));
    }
    let left = revoked(&cluster);
    assert_eq!(left.len(), REVOKED_MAX);
    let of_operators = left.iter().filter(|whom| !matches!(whom, Whom::Key(_)));
    assert_eq!(of_operators.count(), SAID_MAX);
    // The key whose certificate ends next has given way, and the latest is there.
    assert!(!left.contains(&&Whom::Key(10_000)));
    assert!(left.contains(&&Whom::Key(10_000 + gone - 1)));
}

#[test]
fn a_member_that_goes_takes_nobodys_key_with_it() {
    let mut cluster = cluster();
    assert_eq!(cluster.certify(papers(3)), Change::Trusted);
    // 2 says that it shows what 3 shows, or was admitted with.
    for mark in [3000, 300] {
        let stolen = Papers { mark, ..papers(2) };
        assert!(why(cluster.certify(stolen)).contains("the one of n3"));
    }
    // Whatever has come to stand there, 3 keeps what is its own.
    cluster.state.trust.papers[0].mark = 200;
    let two = cluster.member(2).unwrap().clone();
    cluster.state.trust.papers.insert(
        0,
        Papers {
            mark: 300,
            ..papers(2)
        },
    );
    cluster.set_standing(2, Standing::Leaving);
    cluster.state.named.retain(|named| *named != 2);
    let dropped = cluster.drop_member(2, Micros(SECOND));
    assert_eq!(
        dropped,
        Change::Dropped(Member {
            standing: Standing::Leaving,
            ..two
        })
    );
    assert_eq!(revoked(&cluster), [] as [&Whom; 0]);
}

#[test]
fn of_those_who_are_given_up_in_a_recovery_nothing_is_good_any_more() {
    let mut cluster = cluster();
    for id in 1..=3 {
        assert_eq!(cluster.certify(papers(id)), Change::Trusted);
    }
    let recovery = Recovery {
        epoch: Epoch { number: 1, mark: 7 },
        ..Recovery::default()
    };
    let recovered = cluster.recover(recovery, 1, (&[], 1), Micros(SECOND));
    assert!(
        matches!(recovered, Ok(Change::Recovered { .. })),
        "{recovered:?}"
    );
    let shown: Vec<u64> = cluster
        .state()
        .trust
        .papers
        .iter()
        .map(|one| one.member)
        .collect();
    assert_eq!(shown, [1]);
    let keys = [200, 2000, 300, 3000].map(Whom::Key);
    assert_eq!(revoked(&cluster), keys.iter().collect::<Vec<_>>());
}
