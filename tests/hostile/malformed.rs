//! Frames and streams that nobody may send, by the thousand, from those who were let in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kontiki_raft::{Incarnation, NodeId, NodeRef};
use kontiki_transport::Role;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    nonsense::{Between, Case, Random, Then, for_clients_plane, for_peers_plane},
    siege::{Siege, setting},
    stranger::{CLIENTS, PEERS, Papers, Stranger, clients_address, member, peers_address},
};

/// Malformed streams on each plane that a connection is used for before the next is dialled.
const CASES_PER_CONNECTION: usize = 200;
/// How long an answer to a malformed stream is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(200);
/// Streams that one attacker leaves hanging.
const LEFT_MAX: usize = 24;

fn cases() -> usize {
    setting("HOSTILE_CASES", 2_000) as usize
}

fn seed() -> u64 {
    let seed = setting("HOSTILE_SEED", getrandom::u64().unwrap() >> 32);
    println!("HOSTILE_SEED={seed}");
    seed
}

/// One attacker: a connection that is dialled again whenever it is closed.
struct Attacker {
    stranger: Stranger,
    to: SocketAddr,
    connection: Option<Connection>,
    used: usize,
    left: Vec<(SendStream, RecvStream)>,
}

impl Attacker {
    fn new(papers: &Papers, alpn: &[u8], to: SocketAddr) -> Self {
        Self {
            stranger: Stranger::new(papers, alpn),
            to,
            connection: None,
            used: 0,
            left: Vec::new(),
        }
    }

    async fn open(&mut self) -> (SendStream, RecvStream) {
        loop {
            if self.used >= CASES_PER_CONNECTION {
                self.connection = None;
            }
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    self.used = 0;
                    self.left.clear();
                    match self.stranger.dial(self.to).await {
                        Ok(connection) => connection,
                        // As many of this kind as there may be: one of them ends soon.
                        Err(_) => {
                            tokio::task::yield_now().await;
                            continue;
                        }
                    }
                }
            };
            let opened = timeout(ANSWER_TIME_MAX, connection.open_bi()).await;
            if let Ok(Ok(opened)) = opened {
                self.used += 1;
                self.connection = Some(connection);
                return opened;
            }
        }
    }

    async fn send(&mut self, case: Case) {
        let (mut send, mut recv) = self.open().await;
        // Whether it is taken is the member's to say.
        let _ = timeout(ANSWER_TIME_MAX, send.write_all(&case.bytes)).await;
        match case.then {
            Then::Finish => {
                let _ = send.finish();
                let _ = timeout(ANSWER_TIME_MAX, recv.read_to_end(1 << 20)).await;
            }
            Then::Reset => {
                let _ = send.reset(VarInt::from_u32(7));
            }
            Then::Leave => {
                if self.left.len() < LEFT_MAX {
                    self.left.push((send, recv));
                }
            }
        }
    }
}

#[tokio::test]
async fn malformed_streams_of_clients_change_nothing_for_the_honest() {
    let seed = seed();
    Siege::start()
        .await
        .withstands("malformed, clients' plane", 0.1, async |siege| {
            let cluster = &siege.cluster;
            let roles = [Role::Producer, Role::Consumer, Role::Operator];
            let papers = roles.map(|role| Papers::of_client(cluster, role, "mallory"));
            let mut attackers = JoinSet::new();
            for nth in 0..6 {
                let to = clients_address(cluster, nth % 3);
                let mut attacker = Attacker::new(&papers[nth / 2], CLIENTS, to);
                attackers.spawn(async move {
                    let mut random = Random::new(seed + nth as u64);
                    for _ in 0..cases() / 6 + 1 {
                        attacker.send(for_clients_plane(&mut random)).await;
                    }
                });
            }
            while let Some(attacked) = attackers.join_next().await {
                attacked.unwrap();
            }
            println!("{} malformed streams", (cases() / 6 + 1) * 6);
        })
        .await;
}

/// The certificate is a follower's: the links of a leader that somebody else replaces are no leader's.
#[tokio::test]
async fn malformed_streams_of_a_member_change_nothing_for_the_honest() {
    let seed = seed();
    Siege::start()
        .await
        .withstands("malformed, peers' plane", 0.05, async |siege| {
            let cluster = &siege.cluster;
            let council = siege.client.admin().status().await.unwrap().leader;
            let leads = |at: usize| {
                at == siege.leader || council.as_ref() == Some(&cluster.members[at].name)
            };
            let from = (0..3).find(|at| !leads(*at)).unwrap();
            let papers = Arc::new(Papers::of_member(cluster, from));
            let node = |at: usize| {
                let member = member(cluster, at);
                let me = member.me();
                NodeRef {
                    id: NodeId(me.id),
                    incarnation: Incarnation(me.incarnation),
                }
            };
            let mut attackers = JoinSet::new();
            for (nth, to) in (0..3).filter(|at| *at != from).enumerate() {
                let between = Between {
                    cluster: member(cluster, from).cluster,
                    from: node(from),
                    to: node(to),
                    group: siege.group,
                    term: siege.term,
                };
                let mut attacker = Attacker::new(&papers, PEERS, peers_address(cluster, to));
                attackers.spawn(async move {
                    let mut random = Random::new(seed + nth as u64);
                    for _ in 0..cases() / 8 + 1 {
                        attacker.send(for_peers_plane(&mut random, between)).await;
                    }
                });
            }
            while let Some(attacked) = attackers.join_next().await {
                attacked.unwrap();
            }
            println!("{} malformed streams", (cases() / 8 + 1) * 2);
        })
        .await;
}
