//! Lets strangers in who have a token: one request each, judged here, agreed on by the cluster, and
//! answered with a certificate by a member that has the authorities.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use kontiki_broker::Members;
use kontiki_transport::{Endpoint, Identity, Pace, Proof, Role, Stranger};
use kontiki_wire::{
    Admission, Birth, Claim, ClusterCommand, Join, Joined, MemberInfo, ParseError, Refusal,
    Response, Seat, Token, TokenId, TopicPattern, Welcome, limits::JOIN_BYTES_MAX,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    birth::is_address,
    driver::Order,
    limits::{
        FAREWELL_MAX, GUESSES_PER_SECOND, JOIN_TURN_MAX, JOINS_IN_A_BURST, JOINS_PER_SECOND,
        OPENING_MAX, STRANGERS_MAX, TOKEN_AWAITED_MAX, TOKEN_LOOK,
    },
    member::{MemberFile, mark_of},
    service::{Service, going_away},
};

/// Who receives strangers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) service: Service,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) member: Arc<MemberFile>,
}

/// Two lines of those who wait for their turn, so that whoever has no token does not stand in the way of
/// those who have one.
struct Turns {
    bearers: Pace,
    guesses: Pace,
}

impl Reception {
    /// Receives strangers until the endpoint is closed, so many at a time.
    pub(crate) async fn run(self, endpoint: Endpoint) {
        let turns = Arc::new(Turns {
            bearers: Pace::new(JOINS_PER_SECOND, JOINS_IN_A_BURST),
            guesses: Pace::new(GUESSES_PER_SECOND, JOINS_IN_A_BURST),
        });
        let mut under_way = JoinSet::new();
        loop {
            let stranger = tokio::select! {
                stranger = endpoint.accept_stranger() => stranger,
                Some(_) = under_way.join_next() => continue,
            };
            let Some(stranger) = stranger else { return };
            while under_way.try_join_next().is_some() {}
            if under_way.len() >= STRANGERS_MAX {
                debug!(from = %stranger.remote_address(), "too many strangers at a time");
                continue;
            }
            let (reception, turns) = (self.clone(), Arc::clone(&turns));
            under_way.spawn(async move {
                tokio::select! {
                    () = reception.receive(&stranger, &turns) => {}
                    // What is agreed on already is told when it asks again.
                    () = stranger.closed() => {}
                }
            });
        }
    }

    /// One request, one answer.
    async fn receive(&self, stranger: &Stranger, turns: &Turns) {
        let from = stranger.remote_address();
        let heard = timeout(OPENING_MAX, async {
            let (writer, mut reader) = stranger.accept().await?;
            let frame = reader.next(JOIN_BYTES_MAX).await?;
            Ok::<_, kontiki_transport::Error>((writer, frame))
        });
        let (mut writer, frame) = match heard.await {
            Ok(Ok((writer, Some(frame)))) => (writer, frame),
            Ok(Ok((_, None))) | Err(_) => return debug!(%from, "a stranger says nothing"),
            Ok(Err(error)) => return debug!(%from, %error, "a stranger is not understood"),
        };
        let joined = match Join::decode(&frame) {
            Ok(join) => self.answer(stranger, join, turns).await,
            Err(malformed) => Joined::Refused(Refusal::Malformed {
                what: malformed.to_string(),
            }),
        };
        match &joined {
            // Of these there can be as many as there are handshakes.
            Joined::Refused(why @ (Refusal::Malformed { .. } | Refusal::Busy)) => {
                debug!(%from, %why, "a stranger is not let in");
            }
            Joined::Refused(why) => warn!(%from, %why, "a stranger is not let in"),
            Joined::Welcome(_) | Joined::Elsewhere { .. } => {}
        }
        let mut out = BytesMut::new();
        joined.encode(&mut out);
        // A stranger that has gone asks again, and is told the same.
        let _ = writer.write(out.freeze()).await;
        writer.finish();
        let _ = timeout(FAREWELL_MAX, writer.stopped()).await;
    }

    async fn answer(&self, stranger: &Stranger, join: Join, turns: &Turns) -> Joined {
        match self.admit(stranger, join, turns).await {
            Ok(joined) => joined,
            Err(refusal) => Joined::Refused(refusal),
        }
    }

    async fn admit(
        &self,
        stranger: &Stranger,
        join: Join,
        turns: &Turns,
    ) -> Result<Joined, Refusal> {
        let token = self.prove(stranger, &join, &turns.guesses).await?;
        turn(&turns.bearers).await?;
        let claim = join.claim;
        let identity = check_claim(self.member.cluster, &claim, &token)?;
        let signing = &self.service.signing;
        if signing.authorities().is_err() {
            return self.signers();
        }
        let mark = mark_of(stranger.key().fingerprint());
        let birth = match claim.seat {
            Seat::Member {
                address,
                peer_address,
                versions,
            } => {
                let admission = Admission {
                    token: token.id,
                    name: claim.name,
                    incarnation: mark,
                    address,
                    peer_address,
                    versions,
                };
                let (me, again) = self.admit_member(admission).await?;
                Some(self.birth(me, again))
            }
            Seat::Client => {
                self.admit_client(token.id, claim.name, mark).await?;
                None
            }
        };
        let certificate = signing
            .sign(stranger.key(), &identity, patterns(&token)?)
            .await?;
        let from = stranger.remote_address();
        info!(%identity, token = %token.id, %from, "let in");
        Ok(Joined::Welcome(Box::new(Welcome {
            cluster: self.member.cluster,
            certificate,
            client_roots: match birth {
                Some(_) => signing.client_roots(),
                None => String::new(),
            },
            members: self.members.borrow().list.clone(),
            birth,
        })))
    }

    /// The token that a stranger has, if it has one. Whoever has one that is known here does not wait
    /// behind those who have none.
    async fn prove(
        &self,
        stranger: &Stranger,
        join: &Join,
        guesses: &Pace,
    ) -> Result<Token, Refusal> {
        let id = TokenId(join.claim.token);
        let gone = |error: kontiki_transport::Error| Refusal::Unavailable {
            why: error.to_string(),
        };
        let binding = stranger.binding(&join.claim.to_bytes()).map_err(gone)?;
        let proof = Proof {
            key: join.key,
            signature: join.signature,
        };
        let proven = |token: &Token| proof.holds(&token.hash, &binding);
        if let Some(token) = self.token(id).await?.filter(proven) {
            return Ok(token);
        }
        turn(guesses).await?;
        let token = self.awaited(id).await?.filter(proven);
        token.ok_or_else(|| unproven(id))
    }

    /// A token, as soon as this member knows it.
    async fn awaited(&self, id: TokenId) -> Result<Option<Token>, Refusal> {
        let until = Instant::now() + TOKEN_AWAITED_MAX;
        loop {
            let token = self.token(id).await?;
            if token.is_some() || Instant::now() >= until {
                return Ok(token);
            }
            sleep(TOKEN_LOOK).await;
        }
    }

    /// A token, if this member knows it.
    async fn token(&self, id: TokenId) -> Result<Option<Token>, Refusal> {
        let (sender, answer) = oneshot::channel();
        let order = Order::Token(id, sender);
        self.orders.send(order).await.map_err(|_| going_away())?;
        answer.await.map_err(|_| going_away())
    }

    /// The member, and whether it was one before.
    async fn admit_member(&self, admission: Admission) -> Result<(MemberInfo, bool), Refusal> {
        let command = ClusterCommand::Admit(admission);
        match self.service.agree(command).await {
            Response::Admitted(me) => Ok((me, false)),
            Response::Member(me) => Ok((me, true)),
            other => Err(refusal(other)),
        }
    }

    async fn admit_client(&self, token: TokenId, name: String, mark: u64) -> Result<(), Refusal> {
        let command = ClusterCommand::SpendToken { token, name, mark };
        match self.service.agree(command).await {
            Response::Token(_) => Ok(()),
            other => Err(refusal(other)),
        }
    }

    fn birth(&self, me: MemberInfo, again: bool) -> Birth {
        Birth {
            founders: self.member.members.clone(),
            auto_create: self.member.auto_create,
            epoch: self.member.epoch,
            version: self.member.version,
            me,
            again,
        }
    }

    /// Where somebody is found who signs.
    fn signers(&self) -> Result<Joined, Refusal> {
        let members = self.members.borrow();
        let signers = members.list.iter().filter(|member| member.signs);
        let addresses: Vec<_> = signers.map(|member| member.address.clone()).collect();
        if addresses.is_empty() {
            // One that was configured to sign since its birth may be asked next.
            return Err(Refusal::Unavailable {
                why: "no member of this cluster is known to sign: set `ca.dir` in the kontiki.toml of one to the \
                      folder with the authorities and their keys, and restart it"
                    .to_owned(),
            });
        }
        Ok(Joined::Elsewhere { addresses })
    }
}

/// Waits for a turn, if it comes soon.
async fn turn(pace: &Pace) -> Result<(), Refusal> {
    match pace.turn_within(JOIN_TURN_MAX).await {
        true => Ok(()),
        false => Err(Refusal::Busy),
    }
}

/// To which topics a token confines its bearer.
fn patterns(token: &Token) -> Result<Vec<TopicPattern>, Refusal> {
    let patterns = token.topics.iter().map(|pattern| pattern.parse());
    let patterns: Result<_, ParseError> = patterns.collect();
    patterns.map_err(|why| Refusal::Unfit { why: why.into() })
}

/// What somebody may be called who has this token, if the claim is one that it admits to.
fn check_claim(
    cluster: kontiki_wire::ClusterId,
    claim: &Claim,
    token: &Token,
) -> Result<Identity, Refusal> {
    let unfit = |why: String| Err(Refusal::Unfit { why });
    let role = token.role;
    match &claim.seat {
        Seat::Client if role == Role::Node => {
            return unfit("this token admits a member: use `kontiki join`".to_owned());
        }
        Seat::Member { .. } if role != Role::Node => {
            return unfit(format!(
                "this token is for a client, as {role}: use `kontiki login`"
            ));
        }
        Seat::Member {
            address,
            peer_address,
            versions: _,
        } => {
            for address in [address, peer_address] {
                if !is_address(address) {
                    return unfit(format!(
                        "{address:?} is no address that others can dial: it is a host and a port, such \
                         as 10.0.0.2:7400"
                    ));
                }
            }
        }
        Seat::Client => {}
    }
    let identity = Identity::new(cluster, role, &claim.name);
    identity.or_else(|why| unfit(format!("{:?} cannot be borne as a name: {why}", claim.name)))
}

/// The same for whoever guesses and whoever comes too late.
fn unproven(id: TokenId) -> Refusal {
    Refusal::Unfit {
        why: format!(
            "token {id} admits nobody: it has expired, was revoked, or was never made; ask for a new one"
        ),
    }
}

fn refusal(response: Response) -> Refusal {
    match response {
        Response::Refused(refusal) => refusal,
        other => {
            warn!(?other, "an answer to another question");
            Refusal::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{ClusterId, Versions};

    use super::*;

    fn token(role: Role) -> Token {
        Token {
            id: TokenId(1),
            hash: [0; 32],
            role,
            topics: Vec::new(),
            issued_at: 0,
            expires_at: 1,
            spent: None,
            revoked: false,
        }
    }

    fn claim(name: &str, address: Option<&str>) -> Claim {
        let seat = address.map_or(Seat::Client, |address| Seat::Member {
            address: address.to_owned(),
            peer_address: "10.0.0.2:7401".to_owned(),
            versions: Versions::MINE,
        });
        Claim {
            token: 1,
            name: name.to_owned(),
            seat,
        }
    }

    #[test]
    fn a_token_admits_to_what_it_is_for_under_a_name_that_can_be_borne() {
        let check = |claim, role| check_claim(ClusterId(7), &claim, &token(role));
        let node = check(claim("n2", Some("10.0.0.2:7400")), Role::Node).unwrap();
        assert_eq!(node.to_string(), format!("kontiki://{:032x}/node/n2", 7));
        let client = check(claim("shop", None), Role::Producer).unwrap();
        assert_eq!(client.role, Role::Producer);
        for (claim, role, told) in [
            (claim("n2", None), Role::Node, "use `kontiki join`"),
            (
                claim("shop", Some("10.0.0.2:7400")),
                Role::Operator,
                "as operator",
            ),
            (claim("n2", Some("10.0.0.2")), Role::Node, "no address"),
            (claim("n2", Some("10.0.0.2:0")), Role::Node, "no address"),
            (claim("../n2", Some("h:1")), Role::Node, "as a name"),
            (claim("", None), Role::Consumer, "as a name"),
        ] {
            match check(claim, role) {
                Err(Refusal::Unfit { why }) => assert!(why.contains(told), "{why}"),
                other => panic!("{told}: {other:?}"),
            }
        }
    }
}
