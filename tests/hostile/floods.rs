//! Floods: first packets from addresses that are not the sender's, handshakes without end, streams opened
//! only to be reset, more connections than anybody may have.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use kontiki_transport::{Applicant, JoinKey, Role, Token};
use kontiki_wire::{Claim, Join, Joined, Refusal, Seat, limits::WELCOME_BYTES_MAX};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    nonsense::Random,
    siege::{Siege, besieged, flood_time},
    stranger::{CLIENTS, Stranger, client_papers, clients_address, peers_address},
};

/// Packets a second of either kind, against one member: what two cores shared with the attacker carry.
const PACKETS_PER_SECOND: u64 = 2_000;
/// Handshakes a second.
const HANDSHAKES_PER_SECOND: u64 = 500;
/// How often a paced flood sends, in a second.
const TICKS_PER_SECOND: u64 = 100;
/// Addresses that a flood comes from.
const SOURCES: u64 = 512;
/// Connections that a member lets one identity have.
const CONNECTIONS_PER_IDENTITY: usize = 1_024;
/// How long somebody else then takes to be let in.
const NEWCOMER_TIME_MAX: Duration = Duration::from_secs(10);
/// Guesses at tokens that a member judges at once, and in a second.
const GUESSES_AT_ONCE: u64 = 20;
const GUESSES_PER_SECOND: u64 = 10;
/// Who guess at the same time.
const GUESSERS: usize = 48;
/// A first packet must be as long as this.
const INITIAL_BYTES: usize = 1_200;

/// Calls `send` so many times a second for as long as a flood takes.
async fn paced(per_second: u64, mut send: impl AsyncFnMut(u64)) -> u64 {
    let mut ticks = interval(Duration::from_millis(1_000 / TICKS_PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + flood_time();
    let mut sent = 0;
    while Instant::now() < end {
        ticks.tick().await;
        for _ in 0..per_second / TICKS_PER_SECOND {
            send(sent).await;
            sent += 1;
        }
    }
    sent
}

/// Real first packets of many dialers, caught on their way.
async fn first_packets(stranger: &Stranger) -> Vec<Vec<u8>> {
    let trap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = trap.local_addr().unwrap();
    let mut packets = Vec::new();
    for _ in 0..SOURCES {
        let dialling = tokio::spawn({
            let stranger = stranger.clone();
            async move { stranger.dial(to).await.map(drop) }
        });
        let mut packet = vec![0; 2_048];
        let bytes = trap.recv(&mut packet).await.unwrap();
        dialling.abort();
        packet.truncate(bytes);
        packets.push(packet);
    }
    packets
}

/// One of many sockets, each with an address of its own, nobody's.
async fn source(nth: u64) -> UdpSocket {
    let address = Ipv4Addr::new(127, 254, (nth / 250) as u8, (nth % 250) as u8 + 1);
    UdpSocket::bind((IpAddr::from(address), 0)).await.unwrap()
}

#[test]
fn floods_starve_nobody() {
    besieged(|siege| {
        first_packets_from_unproven_addresses(siege);
        handshakes_without_end(siege);
        streams_opened_only_to_be_reset(siege);
        connections_of_one_identity(siege);
        guesses_of_a_secret(siege);
    });
}

/// Half of them first packets of real dialers, from addresses that are not theirs; half of them garbage
/// that looks like one, or like nothing.
fn first_packets_from_unproven_addresses(siege: &mut Siege) {
    let (packets, sources) = siege.prepare(async |siege| {
        let papers = client_papers(&siege.cluster, Role::Consumer);
        let packets = first_packets(&siege.stranger(&papers, CLIENTS)).await;
        let mut sources = Vec::new();
        for nth in 0..SOURCES {
            sources.push(source(nth).await);
        }
        (packets, sources)
    });
    siege.withstands("first packets from anywhere", 0.2, async |siege| {
        let mut random = Random::new(1);
        let planes = [
            clients_address(&siege.cluster, siege.leader),
            peers_address(&siege.cluster, siege.leader),
        ];
        let sent = paced(2 * PACKETS_PER_SECOND, async |nth| {
            let source = &sources[random.below(sources.len())];
            let to = planes[(nth / 2 % 2) as usize];
            let packet = match nth % 2 {
                0 => &packets[random.below(packets.len())],
                _ => &garbage(&mut random),
            };
            // What the kernel does not take is lost, as on any network.
            let _ = source.send_to(packet, to).await;
        });
        println!("{} packets", sent.await);
    });
}

fn garbage(random: &mut Random) -> Vec<u8> {
    let start: &[u8] = random.of(&[
        &[0xc0, 0, 0, 0, 1, 8][..],
        &[0xc0, 0xff, 0xff, 0, 1, 8],
        &[0x40],
        &[],
    ]);
    let mut packet = start.to_vec();
    while packet.len() < INITIAL_BYTES {
        packet.extend_from_slice(&random.next().to_le_bytes());
    }
    packet
}

fn handshakes_without_end(siege: &mut Siege) {
    siege.withstands("handshakes without end", 0.05, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Producer);
        let strangers: Vec<_> = (0..8).map(|_| siege.stranger(&papers, CLIENTS)).collect();
        let to = clients_address(&siege.cluster, siege.leader);
        let done = Arc::new(AtomicU64::new(0));
        let mut dials = JoinSet::new();
        let begun = paced(HANDSHAKES_PER_SECOND, async |nth| {
            let (stranger, done) = (strangers[(nth % 8) as usize].clone(), done.clone());
            dials.spawn(async move {
                if stranger.dial(to).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            while dials.try_join_next().is_some() {}
        })
        .await;
        let done = done.load(Ordering::Relaxed);
        println!("{begun} handshakes begun, {done} finished");
    });
}

fn streams_opened_only_to_be_reset(siege: &mut Siege) {
    siege.withstands("streams opened and reset", 0.1, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Producer);
        let to = clients_address(&siege.cluster, siege.leader);
        let end = Instant::now() + flood_time();
        let mut storms = JoinSet::new();
        for _ in 0..4 {
            let connection = siege.stranger(&papers, CLIENTS).dial(to).await.unwrap();
            storms.spawn(async move {
                let mut opened = 0u64;
                while Instant::now() < end {
                    let Ok((mut send, mut recv)) = connection.open_bi().await else {
                        break;
                    };
                    // Half of them say something first.
                    if opened.is_multiple_of(2) {
                        let _ = send.write_all(b"KT\x01\x01").await;
                    }
                    let _ = send.reset(VarInt::from_u32(1));
                    let _ = recv.stop(VarInt::from_u32(1));
                    opened += 1;
                }
                opened
            });
        }
        println!("{} streams", storms.join_all().await.iter().sum::<u64>());
    });
}

/// As many as one identity may have, and others are still let in.
fn connections_of_one_identity(siege: &mut Siege) {
    siege.withstands("connections of one identity", 0.05, async |siege| {
        let papers = client_papers(&siege.cluster, Role::Consumer);
        let stranger = siege.stranger(&papers, CLIENTS);
        let to = clients_address(&siege.cluster, siege.leader);
        let (held, refused) = exhaust(&stranger, to).await;
        assert_eq!(held.len(), CONNECTIONS_PER_IDENTITY);
        let why = format!("consumer/mallory has {CONNECTIONS_PER_IDENTITY} connections here");
        assert!(refused.contains(&why), "{refused}");
        println!("{} connections, the next refused: {refused}", held.len());
        let newcomer = timeout(NEWCOMER_TIME_MAX, siege.cluster.client()).await;
        newcomer.expect("others are let in").close().await;
    });
}

/// Dials more than that; what was got, and why there was no more.
async fn exhaust(stranger: &Stranger, to: SocketAddr) -> (Vec<Connection>, String) {
    let mut held = Vec::new();
    let mut refused = String::new();
    let mut dials = JoinSet::new();
    let mut left = CONNECTIONS_PER_IDENTITY + 50;
    while left > 0 || !dials.is_empty() {
        while left > 0 && dials.len() < 32 {
            left -= 1;
            let stranger = stranger.clone();
            dials.spawn(async move { stranger.dial(to).await });
        }
        match dials.join_next().await {
            Some(Ok(Ok(connection))) => held.push(connection),
            Some(Ok(Err(ConnectionError::ApplicationClosed(close)))) => {
                refused = String::from_utf8_lossy(&close.reason).into_owned();
            }
            // It hears no reason that has not finished its own half of the handshake.
            Some(Ok(Err(ConnectionError::ConnectionClosed(_)))) => {}
            Some(Ok(Err(error))) => panic!("refused without a reason: {error}"),
            _ => {}
        }
    }
    (held, refused)
}

/// All that is known of a token but its secret, by many who guess at that as fast as they can.
fn guesses_of_a_secret(siege: &mut Siege) {
    let token = siege.ask(
        siege
            .client
            .invite(Role::Operator, Duration::from_secs(3_600)),
    );
    let token = token.unwrap();
    siege.withstands("guesses of a token's secret", 0.05, async |siege| {
        let to = clients_address(&siege.cluster, siege.leader);
        let (begun, end) = (Instant::now(), Instant::now() + flood_time());
        let mut guessers = JoinSet::new();
        for _ in 0..GUESSERS {
            let token = token.clone();
            guessers.spawn(async move {
                let (mut begun, mut judged) = (0_u64, 0_u64);
                while Instant::now() < end {
                    let mut guess = token_like(&token);
                    guess.id = token.id;
                    begun += 1;
                    match asked(to, &guess).await {
                        Some(Joined::Refused(Refusal::Unfit { why })) => {
                            assert!(why.contains("admits nobody"), "{why}");
                            judged += 1;
                        }
                        // It had no turn, or no place.
                        Some(Joined::Refused(Refusal::Busy)) | None => {}
                        other => panic!("a guess is answered with {other:?}"),
                    }
                }
                (begun, judged)
            });
        }
        // Meanwhile whoever has it is believed; these members keep no authority that could sign.
        let bearer = timeout(NEWCOMER_TIME_MAX, async {
            loop {
                if let Some(Joined::Refused(Refusal::Unavailable { why })) = asked(to, &token).await
                {
                    return why;
                }
            }
        });
        let why = bearer.await.expect("whoever has the token has its turn");
        assert!(why.contains("is known to sign"), "{why}");
        let waited = begun.elapsed();
        let counts = guessers.join_all().await;
        let tried: u64 = counts.iter().map(|(tried, _)| tried).sum();
        let judged: u64 = counts.iter().map(|(_, judged)| judged).sum();
        let most = GUESSES_AT_ONCE + GUESSES_PER_SECOND * (begun.elapsed().as_secs() + 2);
        assert!(judged > 0 && judged <= most, "{judged} guesses were judged");
        println!("{tried} guesses, {judged} judged, the bearer was answered after {waited:?}");
        let said = siege.cluster.said(siege.leader);
        let told = said.matches("a stranger is not let in").count() as u64;
        assert!(told >= judged, "{told} lines of {judged} guesses");
    });
}

/// One with another secret.
fn token_like(token: &Token) -> Token {
    let addresses = token.addresses.clone();
    Token::new(token.cluster, token.authority, token.role, addresses).unwrap()
}

/// Asks with a token, as somebody whom nobody knows; `None` if that is not heard.
async fn asked(to: SocketAddr, token: &Token) -> Option<Joined> {
    let key = JoinKey::generate().unwrap();
    let claim = Claim {
        token: token.id,
        name: "mallory".to_owned(),
        seat: Seat::Client,
    };
    let session = Applicant::dial(to, token, &key).await.ok()?;
    let proof = token.prove(&session.binding(&claim.to_bytes()).ok()?);
    let join = Join {
        claim,
        key: proof.key,
        signature: proof.signature,
    };
    let mut out = BytesMut::new();
    join.encode(&mut out);
    let (mut writer, mut reader) = session.open().await.ok()?;
    writer.write(out.freeze()).await.ok()?;
    let answer = timeout(NEWCOMER_TIME_MAX, reader.next(WELCOME_BYTES_MAX)).await;
    Joined::decode(&answer.ok()?.ok()??).ok()
}
