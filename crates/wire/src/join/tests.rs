//! What is longer than it may be is refused by either side.

use super::*;
use crate::{golden, limits::CLIENT_FRAME_BYTES_MAX};

fn heard(join: &Join) -> Result<Join, Malformed> {
    let mut out = BytesMut::new();
    join.encode(&mut out);
    Join::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
}

fn told(joined: &Joined) -> Result<Joined, Malformed> {
    let mut out = BytesMut::new();
    joined.encode(&mut out);
    Joined::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
}

fn join(name: usize, address: usize) -> Join {
    Join {
        claim: Claim {
            token: 1,
            name: "n".repeat(name),
            seat: Seat::Member {
                address: "a".repeat(address),
                peer_address: "b".repeat(ADDRESS_BYTES_MAX),
                versions: Versions::default(),
            },
        },
        key: [1; 32],
        signature: [2; 64],
    }
}

fn member(address: usize) -> MemberInfo {
    MemberInfo {
        name: "n".repeat(NAME_BYTES_MAX),
        address: "a".repeat(address),
        peer_address: "b".repeat(ADDRESS_BYTES_MAX),
        versions: Versions::default(),
        ..golden::member()
    }
}

fn welcome() -> Welcome {
    Welcome {
        cluster: ClusterId(1),
        certificate: "c".repeat(PEM_BYTES_MAX),
        client_roots: "c".repeat(PEM_BYTES_MAX),
        members: vec![member(ADDRESS_BYTES_MAX); MEMBERS_MAX],
        birth: Some(Birth {
            founders: vec![member(ADDRESS_BYTES_MAX); MEMBERS_MAX],
            auto_create: false,
            epoch: Epoch::FIRST,
            version: 1,
            me: member(ADDRESS_BYTES_MAX),
            again: false,
        }),
    }
}

#[test]
fn whoever_asks_has_a_name_and_addresses_of_bounded_length() {
    let longest = join(NAME_BYTES_MAX, ADDRESS_BYTES_MAX);
    assert_eq!(heard(&longest).as_ref(), Ok(&longest));
    assert!(heard(&join(NAME_BYTES_MAX + 1, 1)).is_err());
    assert!(heard(&join(1, ADDRESS_BYTES_MAX + 1)).is_err());
    assert!(heard(&join(JOIN_BYTES_MAX, 1)).is_err());
}

#[test]
fn a_welcome_is_read_up_to_its_bounds_and_not_beyond() {
    let largest = Joined::Welcome(Box::new(welcome()));
    assert_eq!(told(&largest).as_ref(), Ok(&largest));
    type Spoil = fn(&mut Welcome);
    let spoils: [Spoil; 5] = [
        |welcome| welcome.certificate = "c".repeat(PEM_BYTES_MAX + 1),
        |welcome| welcome.members.push(member(1)),
        |welcome| welcome.members[0] = member(ADDRESS_BYTES_MAX + 1),
        |welcome| {
            let birth = welcome.birth.as_mut().unwrap();
            birth.founders.push(member(1));
        },
        |welcome| {
            let birth = welcome.birth.as_mut().unwrap();
            birth.me.name.push('n');
        },
    ];
    for (at, spoil) in spoils.into_iter().enumerate() {
        let mut spoiled = welcome();
        spoil(&mut spoiled);
        assert!(told(&Joined::Welcome(Box::new(spoiled))).is_err(), "{at}");
    }
    let addresses = |count| Joined::Elsewhere {
        addresses: vec!["h:1".to_owned(); count],
    };
    assert!(told(&addresses(MEMBERS_MAX)).is_ok());
    assert!(told(&addresses(MEMBERS_MAX + 1)).is_err());
}

#[test]
fn claims_that_differ_have_other_bytes() {
    let claim = |token, name: &str, seat| Claim {
        token,
        name: name.to_owned(),
        seat,
    };
    let member = |address: &str, peer_address: &str| Seat::Member {
        address: address.to_owned(),
        peer_address: peer_address.to_owned(),
        versions: Versions::default(),
    };
    let claims = [
        claim(1, "a", Seat::Client),
        claim(2, "a", Seat::Client),
        claim(1, "b", Seat::Client),
        claim(1, "a", member("ab", "c")),
        claim(1, "a", member("a", "bc")),
        claim(1, "aa", member("b", "c")),
    ];
    for (at, one) in claims.iter().enumerate() {
        for other in &claims[at + 1..] {
            assert_ne!(one.to_bytes(), other.to_bytes());
        }
    }
}
