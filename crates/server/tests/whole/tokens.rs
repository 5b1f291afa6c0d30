//! Tokens against live members: replayed, altered, guessed, raced, used for what they are not for, and after a
//! crash. Nobody is let in but whoever has the token, once.

use kontiki_transport::{
    Applicant, Certificate, JoinKey, Proof, PublicKey, Role, Token, authority_fingerprint,
};
use kontiki_wire::{
    Claim, Join, Joined, Refusal, Request, Response, Seat, TokenId, TokenSpec, Versions, Welcome,
    limits::WELCOME_BYTES_MAX,
};

use bytes::BytesMut;
use tokio::time::timeout;

use crate::{
    certificates::has_sign,
    cluster::{Cluster, PATIENCE, until},
};

/// A token that the cluster knows, for whoever signs.
async fn made(cluster: &Cluster, role: Role) -> Token {
    let token = made_up(cluster, role);
    let spec = TokenSpec {
        id: TokenId(token.id),
        hash: token.hash(),
        role,
        topics: Vec::new(),
        life_seconds: 600,
    };
    until("the token is made", async || {
        for at in 0..cluster.members.len() {
            let request = Request::CreateToken(spec.clone());
            let made = cluster.operator(at).await.request(request).await;
            if matches!(made, Response::Token(_)) {
                return true;
            }
        }
        false
    })
    .await;
    token
}

/// One that nobody has made.
fn made_up(cluster: &Cluster, role: Role) -> Token {
    let authority = std::fs::read_to_string(cluster.member_dir(0).join("certs/node-ca.pem"));
    let authority = authority_fingerprint(&authority.unwrap()).unwrap();
    let addresses = vec![cluster.address(0).to_string()];
    Token::new(cluster.birth.cluster, authority, role, addresses).unwrap()
}

fn claim(token: &Token, name: &str) -> Claim {
    Claim {
        token: token.id,
        name: name.to_owned(),
        seat: Seat::Client,
    }
}

async fn dial(cluster: &Cluster, at: usize, token: &Token, key: &JoinKey) -> Applicant {
    let dialled = Applicant::dial(cluster.address(at), token, key);
    dialled.await.unwrap()
}

/// What is proven in a session, as whoever has the token proves it.
fn proof(session: &Applicant, token: &Token, claim: &Claim) -> Proof {
    token.prove(&session.binding(&claim.to_bytes()).unwrap())
}

async fn said(session: &Applicant, claim: Claim, proof: Proof) -> Joined {
    let (mut writer, mut reader) = session.open().await.unwrap();
    let mut out = BytesMut::new();
    let join = Join {
        claim,
        key: proof.key,
        signature: proof.signature,
    };
    join.encode(&mut out);
    writer.write(out.freeze()).await.unwrap();
    let answer = timeout(PATIENCE, reader.next(WELCOME_BYTES_MAX)).await;
    let answer = answer.expect("an answer").unwrap();
    Joined::decode(&answer.expect("a frame")).unwrap()
}

/// Asks as whoever has the token does.
async fn asked(cluster: &Cluster, at: usize, token: &Token, key: &JoinKey, name: &str) -> Joined {
    let session = dial(cluster, at, token, key).await;
    let claim = claim(token, name);
    let proof = proof(&session, token, &claim);
    said(&session, claim, proof).await
}

fn welcome(joined: Joined) -> Welcome {
    match joined {
        Joined::Welcome(welcome) => *welcome,
        other => panic!("{other:?}"),
    }
}

fn why(joined: Joined) -> String {
    match joined {
        Joined::Refused(Refusal::Unfit { why }) => why,
        other => panic!("{other:?}"),
    }
}

fn key() -> JoinKey {
    JoinKey::generate().unwrap()
}

#[tokio::test]
async fn what_was_proven_in_another_session_of_another_claim_or_by_another_secret_admits_nobody() {
    let mut cluster = Cluster::start(1).await;
    has_sign(&mut cluster, &[0], 3600).await;
    let token = made(&cluster, Role::Producer).await;
    let key = key();
    let good = claim(&token, "shop");

    let heard = dial(&cluster, 0, &token, &key).await;
    let replayed = proof(&heard, &token, &good);
    let session = dial(&cluster, 0, &token, &key).await;
    let altered = proof(&session, &token, &claim(&token, "boss"));
    let mut other = made_up(&cluster, Role::Producer);
    other.id = token.id;
    let guessed = proof(&session, &other, &good);
    let right = proof(&session, &token, &good);
    let mixed = Proof {
        key: right.key,
        signature: guessed.signature,
    };
    let empty = Proof {
        key: right.key,
        signature: [0; 64],
    };
    for (wrong, proof) in [
        ("replayed", replayed),
        ("of another claim", altered),
        ("of another secret", guessed),
        ("with the right key and another's signature", mixed),
        ("without a signature", empty),
    ] {
        // One stranger asks once: each has a session of its own, and what binds to it is another.
        let asks = dial(&cluster, 0, &token, &key).await;
        let told = why(said(&asks, good.clone(), proof).await);
        assert!(told.contains("admits nobody"), "{wrong}: {told}");
    }
    let member = Claim {
        seat: Seat::Member {
            address: "127.0.0.1:1".to_owned(),
            peer_address: "127.0.0.1:2".to_owned(),
            versions: Versions::MINE,
        },
        ..good.clone()
    };
    let asks = dial(&cluster, 0, &token, &key).await;
    let of_member = proof(&asks, &token, &member);
    let told = why(said(&asks, member, of_member).await);
    assert!(told.contains("for a client, as producer"), "{told}");

    // None of that has spent it: whoever has it gets what it is for, under the name it was asked for, and for
    // its own key.
    let welcome = welcome(asked(&cluster, 0, &token, &key, "shop").await);
    let shown = Certificate::from_pem(&welcome.certificate).unwrap();
    assert_eq!(
        (shown.identity.role, shown.identity.name.as_str()),
        (Role::Producer, "shop")
    );
    assert_eq!(PublicKey::of(&shown).unwrap(), PublicKey::from(&key));
    assert_eq!((welcome.client_roots.as_str(), welcome.birth), ("", None));
}

#[tokio::test]
async fn a_token_that_two_use_at_two_members_at_once_admits_one_of_them() {
    const RACES: usize = 15;
    let mut cluster = Cluster::start(3).await;
    has_sign(&mut cluster, &[0, 1], 3600).await;
    for race in 0..RACES {
        let token = made(&cluster, Role::Consumer).await;
        let (one, two) = (key(), key());
        let (one, two) = tokio::join!(
            asked(&cluster, 0, &token, &one, "one"),
            asked(&cluster, 1, &token, &two, "two"),
        );
        let won = [&one, &two].map(|joined| matches!(joined, Joined::Welcome(_)));
        assert_eq!(
            won.iter().filter(|won| **won).count(),
            1,
            "race {race}: {one:?}, {two:?}"
        );
        let lost = if won[0] { two } else { one };
        assert!(why(lost).contains("was spent by"), "race {race}");
    }
}

#[tokio::test]
async fn a_crash_between_making_and_using_a_token_neither_voids_nor_doubles_it() {
    let mut cluster = Cluster::start(1).await;
    has_sign(&mut cluster, &[0], 3600).await;
    let spent = made(&cluster, Role::Consumer).await;
    let unspent = made(&cluster, Role::Consumer).await;
    let first = key();
    welcome(asked(&cluster, 0, &spent, &first, "first").await);
    cluster.kill(0);
    cluster.start_member(0).await;
    let told = why(asked(&cluster, 0, &spent, &key(), "second").await);
    assert!(told.contains("was spent by first"), "{told}");
    // Whoever has spent it and not heard the answer hears it again.
    welcome(asked(&cluster, 0, &spent, &first, "first").await);
    welcome(asked(&cluster, 0, &unspent, &key(), "third").await);
}
