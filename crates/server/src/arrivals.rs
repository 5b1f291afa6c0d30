//! The links that other members dial: who they are is checked against the certificate and the member
//! list, and then what they say goes to the driver.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kontiki_broker::{Input, Members};
use kontiki_raft::{NodeId, NodeRef};
use kontiki_transport::{Connection, Endpoint, Error, FrameReader, Role};
use kontiki_wire::{
    ClusterId, Found, Frame, FrameKind, Malformed, Member, Missing, PeerHello, PeerLane, Relay,
    decode_peer, limits::PEER_FRAME_BYTES_MAX,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    limits::{ARRIVALS_MAX, OPENING_MAX, REQUEST_BYTES_MAX},
    links::{CLOSE_GONE, Callers},
    member::node_ref,
};

/// Takes in the connections of one member's peers.
pub(crate) struct Arrivals {
    pub(crate) cluster: ClusterId,
    pub(crate) me: NodeRef,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) callers: Callers,
    /// To the driver, for each lane.
    pub(crate) beats: mpsc::Sender<Input>,
    pub(crate) log: mpsc::Sender<Input>,
}

/// The connection that serves each lane of each peer: a newer one takes the place of an older.
type Serving = Arc<Mutex<HashMap<(NodeId, PeerLane), Connection>>>;

impl Arrivals {
    /// Accepts until the endpoint is closed.
    pub(crate) async fn run(self, endpoint: Endpoint) {
        let arrivals = Arc::new(self);
        let serving = Serving::default();
        let arriving = Arc::new(Semaphore::new(ARRIVALS_MAX));
        let mut links = JoinSet::new();
        loop {
            let connection = tokio::select! {
                connection = endpoint.accept() => connection,
                Some(_) = links.join_next() => continue,
            };
            let Some(connection) = connection else { return };
            let Ok(permit) = arriving.clone().try_acquire_owned() else {
                connection.close(BUSY, "too many links are being opened");
                continue;
            };
            let (arrivals, serving) = (arrivals.clone(), serving.clone());
            links.spawn(async move {
                let opened = arrivals.open(&connection).await;
                drop(permit);
                let (code, reason) = match opened {
                    Ok((hello, reader)) => {
                        let reason = arrivals.serve(&hello, &connection, reader, &serving).await;
                        (arrivals.code_for(&hello), reason)
                    }
                    Err((code, reason)) => (code, reason),
                };
                debug!(peer = %connection.identity(), %reason, "a peer's link ended");
                connection.close(code, &reason);
            });
        }
    }

    /// The first frame of the first stream, checked.
    async fn open(&self, connection: &Connection) -> Result<(PeerHello, FrameReader), No> {
        let open = async {
            let (_, mut reader) = connection.accept().await?;
            let frame = reader.next(REQUEST_BYTES_MAX).await?;
            let frame = frame.filter(|frame| frame.kind == FrameKind::PeerHello);
            let hello = frame.map(|frame| PeerHello::decode(&frame)).transpose()?;
            Ok::<_, Error>((hello, reader))
        };
        let (hello, reader) = timeout(OPENING_MAX, open)
            .await
            .map_err(|_| "a link opens with a hello, and none came".to_owned())
            .and_then(|opened| opened.map_err(|error| error.to_string()))
            .map_err(|reason| (REFUSED, reason))?;
        let strange = "a link opens with a hello, and something else came".to_owned();
        let hello = hello.ok_or((REFUSED, strange))?;
        if let Err(refusal) = self.check(&hello, connection) {
            warn!(peer = %connection.identity(), %refusal, "a peer's link is refused");
            return Err((self.code_for(&hello), refusal));
        }
        Ok((hello, reader))
    }

    /// The code with which a link of this peer is closed now: one for those who are members no more, so that
    /// they know.
    fn code_for(&self, hello: &PeerHello) -> u32 {
        let ours = hello.cluster == self.cluster && hello.to == self.me;
        match ours && self.members.borrow().is_gone(hello.from.id.0) {
            true => CLOSE_GONE,
            false => REFUSED,
        }
    }

    /// Whether whoever says this may say it: certificate, hello and member list must agree.
    fn check(&self, hello: &PeerHello, connection: &Connection) -> Result<(), String> {
        let identity = connection.identity();
        if identity.role != Role::Node {
            return Err(format!("{identity} is not a member"));
        }
        if hello.cluster != self.cluster || identity.cluster != self.cluster {
            return Err(format!(
                "this is cluster {}, the link is meant for {}",
                self.cluster, hello.cluster
            ));
        }
        if hello.to != self.me {
            return Err(format!(
                "this is member {} in incarnation {:016x}, the link is meant for {} in {:016x}",
                self.me.id, self.me.incarnation.0, hello.to.id, hello.to.incarnation.0
            ));
        }
        if hello.from == self.me {
            return Err("a member has no link to itself".to_owned());
        }
        let members = self.members.borrow();
        let Some(member) = members.find(hello.from.id.0) else {
            return match members.is_gone(hello.from.id.0) {
                true => Err(format!("member {} is a member no more", hello.from.id)),
                // It has come since this member last heard of any.
                false => Ok(()),
            };
        };
        if member.name != identity.name {
            return Err(format!(
                "member {} is {}, the certificate is {}'s",
                hello.from.id, member.name, identity.name
            ));
        }
        if node_ref(member) != hello.from {
            return Err(format!(
                "{} was admitted with another data directory than the one it has now; replace it",
                member.name
            ));
        }
        Ok(())
    }

    /// Hands on what the peer says until the link ends; says why it did.
    async fn serve(
        &self,
        hello: &PeerHello,
        connection: &Connection,
        reader: FrameReader,
        serving: &Serving,
    ) -> String {
        let key = (hello.from.id, hello.lane);
        let before = serving.lock().expect(SOUND).insert(key, connection.clone());
        if let Some(before) = before {
            before.close(REPLACED, "a newer link took its place");
        }
        self.callers.heard(hello.from.id, hello.lane);
        debug!(peer = %connection.identity(), lane = ?hello.lane, "a peer's link is open");
        self.introduce(hello, connection).await;
        let mut members = self.members.clone();
        let excluded = async {
            loop {
                let excluded = {
                    let members = members.borrow_and_update();
                    let known = members.find(hello.from.id.0);
                    members.is_gone(hello.from.id.0)
                        || known.is_some_and(|member| node_ref(member) != hello.from)
                };
                if excluded {
                    return "no longer a member".to_owned();
                }
                if members.changed().await.is_err() {
                    return "the member is stopping".to_owned();
                }
            }
        };
        tokio::select! {
            reason = self.hand_on(hello, reader) => reason,
            reason = excluded => reason,
        }
    }

    /// A peer of whom this member has not heard yet: its certificate says that it is one of this cluster.
    async fn introduce(&self, hello: &PeerHello, connection: &Connection) {
        if self.members.borrow().find(hello.from.id.0).is_some() {
            return;
        }
        let member = Member {
            id: hello.from.id.0,
            incarnation: hello.from.incarnation.0,
            name: connection.identity().name.clone(),
            peer_address: hello.peer_address.clone(),
            ..Member::default()
        };
        // Nobody hears it any more when the member is stopping.
        let _ = self.beats.send(Input::Introduced { member }).await;
    }

    async fn hand_on(&self, hello: &PeerHello, mut reader: FrameReader) -> String {
        let from = hello.from;
        let inputs = match hello.lane {
            PeerLane::Beats => &self.beats,
            PeerLane::Log => &self.log,
        };
        loop {
            let frame = match reader.next(PEER_FRAME_BYTES_MAX).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return "the peer ended the link".to_owned(),
                Err(error) => return error.to_string(),
            };
            let input = match said(from, &frame) {
                Ok(Some(input)) => input,
                Ok(None) => return "a frame that is no peer's".to_owned(),
                Err(malformed) => {
                    warn!(peer = %from, %malformed, "a peer said what means nothing");
                    return malformed.to_string();
                }
            };
            if inputs.send(input).await.is_err() {
                return "the member is stopping".to_owned();
            }
        }
    }
}

/// What a frame says; `None` if it is not of a kind that peers send.
fn said(from: NodeRef, frame: &Frame) -> Result<Option<Input>, Malformed> {
    Ok(Some(match frame.kind {
        FrameKind::Peer => Input::Peer {
            from,
            messages: decode_peer(frame)?.messages,
        },
        FrameKind::Missing => Input::Asked {
            from,
            missing: Missing::decode(frame)?,
        },
        FrameKind::Found => Input::Found {
            from,
            found: Found::decode(frame)?,
        },
        FrameKind::Relay => Input::Relayed {
            from,
            command: Relay::decode(frame)?.command,
        },
        _ => return Ok(None),
    }))
}

/// Why a link is closed: a code and a sentence.
type No = (u32, String);

const REFUSED: u32 = 1;
const REPLACED: u32 = 2;
const BUSY: u32 = 3;
const SOUND: &str = "nothing panics while holding it";
