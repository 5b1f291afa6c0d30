//! Frames and streams that nobody may send, by the thousand, from those who were let in.

use std::{net::SocketAddr, time::Duration};

use kontiki_raft::{Incarnation, NodeId, NodeRef};
use kontiki_transport::Role;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    cluster::Cluster,
    nonsense::{Between, Case, Random, Then, for_clients_plane, for_peers_plane},
    siege::{Siege, besieged, setting},
    stranger::{
        CLIENTS, PEERS, Stranger, client_papers, clients_address, member, member_papers,
        peers_address,
    },
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
    fn new(stranger: Stranger, to: SocketAddr) -> Self {
        Self {
            stranger,
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

#[test]
fn malformed_frames_and_streams_change_nothing_for_the_honest() {
    let seed = seed();
    besieged(|siege| {
        of_clients(siege, seed);
        of_a_member(siege, seed);
    });
}

fn of_clients(siege: &mut Siege, seed: u64) {
    siege.withstands("malformed, clients' plane", 0.1, async |siege| {
        let roles = [Role::Producer, Role::Consumer, Role::Operator];
        let papers = roles.map(|role| client_papers(&siege.cluster, role));
        let mut attackers = JoinSet::new();
        for nth in 0..6 {
            let to = clients_address(&siege.cluster, nth % 3);
            let mut attacker = Attacker::new(siege.stranger(&papers[nth / 2], CLIENTS), to);
            attackers.spawn(async move {
                let mut random = Random::new(seed + nth as u64);
                for _ in 0..cases() / 6 + 1 {
                    attacker.send(for_clients_plane(&mut random)).await;
                }
            });
        }
        attackers.join_all().await;
        println!("{} malformed streams", (cases() / 6 + 1) * 6);
    });
}

/// The certificate is a follower's: the links of a leader that somebody else replaces are no leader's.
fn of_a_member(siege: &mut Siege, seed: u64) {
    siege.withstands("malformed, peers' plane", 0.05, async |siege| {
        let council = siege.client.admin().status().await.unwrap().leader;
        let cluster = &siege.cluster;
        let leads =
            |at: usize| at == siege.leader || council.as_ref() == Some(&cluster.members[at].name);
        let from = (0..3).find(|at| !leads(*at)).unwrap();
        let papers = member_papers(cluster, from);
        let mut attackers = JoinSet::new();
        for (nth, to) in (0..3).filter(|at| *at != from).enumerate() {
            let between = Between {
                cluster: member(&siege.cluster, from).cluster,
                from: node(&siege.cluster, from),
                to: node(&siege.cluster, to),
                group: siege.group,
                term: siege.term,
            };
            let to = peers_address(&siege.cluster, to);
            let mut attacker = Attacker::new(siege.stranger(&papers, PEERS), to);
            attackers.spawn(async move {
                let mut random = Random::new(seed + nth as u64);
                for _ in 0..cases() / 8 + 1 {
                    attacker.send(for_peers_plane(&mut random, between)).await;
                }
            });
        }
        attackers.join_all().await;
        println!("{} malformed streams", (cases() / 8 + 1) * 2);
    });
}

/// A member as Raft knows it.
fn node(cluster: &Cluster, at: usize) -> NodeRef {
    let member = member(cluster, at);
    let me = member.me();
    NodeRef {
        id: NodeId(me.id),
        incarnation: Incarnation(me.incarnation),
    }
}
