//! Tokens against live members: replayed, altered, guessed, raced, used for what they are not for, and after a
//! crash. Nobody is let in but whoever has the token, once.

use std::{fs, net::Ipv4Addr};

use bytes::{Bytes, BytesMut};
use kontiki_client::joining::join;
use kontiki_transport::{
    Applicant, Certificate, Credentials, Endpoint, JoinKey, Plane, Proof, PublicKey, Role, Token,
    authority_fingerprint,
};
use kontiki_wire::{
    Claim, Frame, Join, Joined, Refusal, Request, Response, Seat, TokenId, TokenSpec, Versions,
    Welcome, encode_frame,
    limits::{JOIN_BYTES_MAX, WELCOME_BYTES_MAX},
};
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
    let authority = fs::read_to_string(cluster.member_dir(0).join("certs/node-ca.pem"));
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
    Joined::decode(&answer(session, claim, proof).await).unwrap()
}

async fn answer(session: &Applicant, claim: Claim, proof: Proof) -> Frame {
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
    answer.expect("a frame")
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

/// What one who joins says to whoever listens here as a member, which gives it the answer of a true one.
async fn asks(
    cluster: &Cluster,
    token: &Token,
    key: &JoinKey,
    claim: &Claim,
    answer: &Frame,
) -> Bytes {
    let certs = cluster.member_dir(0).join("certs");
    let read = |name: &str| fs::read_to_string(certs.join(name)).unwrap();
    let credentials = Credentials::from_pem(
        &read("node.pem"),
        &read("node.key"),
        &read("node-ca.pem"),
        &read("client-ca.pem"),
    );
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Endpoint::listen(any, Plane::Clients, &credentials.unwrap()).unwrap();
    let mut token = token.clone();
    token.addresses = vec![listener.local_address().to_string()];
    let listens = async {
        let stranger = listener.accept_stranger().await.unwrap();
        let (mut writer, mut reader) = stranger.accept().await.unwrap();
        let asked = reader.next(JOIN_BYTES_MAX).await.unwrap().unwrap();
        let mut out = BytesMut::new();
        encode_frame(answer.kind, &answer.payload, &mut out);
        writer.write(out.freeze()).await.unwrap();
        writer.finish();
        let _ = timeout(PATIENCE, writer.stopped()).await;
        asked.payload
    };
    let joins = join(&token, key, &claim.name, claim.seat.clone(), PATIENCE);
    let (joined, asked) = tokio::join!(joins, listens);
    joined.expect("the true member has let it in");
    asked
}

/// Six bits a character, in either alphabet, whatever else stands between.
fn unarmored(text: &str) -> Vec<u8> {
    let value = |character| match character {
        'A'..='Z' => Some(character as u32 - 65),
        'a'..='z' => Some(character as u32 - 71),
        '0'..='9' => Some(character as u32 + 4),
        '+' | '-' => Some(62),
        '/' | '_' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for six in text.chars().filter_map(value) {
        (bits, held) = (bits << 6 | six, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

/// The private half of a key in PEM.
fn scalar(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.contains("-----")).collect();
    let der = unarmored(&body);
    // In PKCS #8 it follows this.
    let at = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]);
    let at = at.expect("a P-256 key") + 5;
    der[at..at + 32].to_vec()
}

/// Whether the secret is among these bytes, or among those that their text stands for.
fn is_in(bytes: &[u8], secret: &[u8]) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|one| one == secret);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = String::from_utf8_lossy(bytes);
    let in_hex = text.to_lowercase().contains(&hex);
    // Wherever its text may begin.
    let text: String = text.split_whitespace().collect();
    let words = text.split(|character: char| !character.is_ascii_graphic());
    let mut armored = words.flat_map(|word| (0..4).filter_map(|skip| word.get(skip..)));
    holds(bytes) || in_hex || armored.any(|word| holds(&unarmored(word)))
}

/// What two ends of a connection tell each other is more than anybody in between can see of it.
#[tokio::test]
async fn neither_a_private_key_nor_the_secret_of_a_token_travels_when_somebody_joins() {
    let mut cluster = Cluster::start(1).await;
    has_sign(&mut cluster, &[0], 3600).await;
    let member = Seat::Member {
        address: "127.0.0.1:1".to_owned(),
        peer_address: "127.0.0.1:2".to_owned(),
        versions: Versions::MINE,
    };
    for (role, seat) in [(Role::Operator, Seat::Client), (Role::Node, member)] {
        let (token, key) = (made(&cluster, role).await, key());
        let claim = Claim {
            seat,
            ..claim(&token, "newcomer")
        };
        let session = dial(&cluster, 0, &token, &key).await;
        let proof = proof(&session, &token, &claim);
        let public = proof.key;
        let told = answer(&session, claim.clone(), proof).await;
        welcome(Joined::decode(&told).unwrap());
        let asked = asks(&cluster, &token, &key, &claim, &told).await;

        let text = token.to_string();
        let secret = unarmored(text.strip_prefix("kontiki1.").unwrap())[57..89].to_vec();
        assert!(is_in(text.as_bytes(), &secret), "it is looked for in vain");
        assert!(is_in(&asked, &public), "what recognises the token travels");
        let mut secrets = vec![("the token's secret".to_owned(), secret)];
        let pem = key.pem();
        assert!(is_in(pem.as_bytes(), &scalar(&pem)));
        secrets.push(("the newcomer's key".to_owned(), scalar(&pem)));
        let (ca, own) = (cluster.dir.path().join("ca"), cluster.member_dir(0));
        for file in [
            ca.join("node-ca.key"),
            ca.join("client-ca.key"),
            own.join("certs/node.key"),
        ] {
            let pem = fs::read_to_string(&file).unwrap();
            secrets.push((file.display().to_string(), scalar(&pem)));
        }
        for (what, secret) in secrets {
            assert!(!is_in(&asked, &secret), "{role} sends {what}");
            assert!(!is_in(&told.payload, &secret), "{role} is sent {what}");
        }
    }
}
