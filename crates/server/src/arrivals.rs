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
    ClusterId, Found, Frame, FrameKind, Malformed, Missing, PeerHello, PeerLane, decode_peer,
    limits::PEER_FRAME_BYTES_MAX,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    limits::{ARRIVALS_MAX, OPENING_MAX, REQUEST_BYTES_MAX},
    links::Callers,
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
                let reason = match opened {
                    Ok((hello, reader)) => {
                        arrivals.serve(hello, &connection, reader, &serving).await
                    }
                    Err(reason) => reason,
                };
                debug!(peer = %connection.identity(), %reason, "a peer's link ended");
                connection.close(REFUSED, &reason);
            });
        }
    }

    /// The first frame of the first stream, checked.
    async fn open(&self, connection: &Connection) -> Result<(PeerHello, FrameReader), String> {
        let open = async {
            let (_, mut reader) = connection.accept().await?;
            let frame = reader.next(REQUEST_BYTES_MAX).await?;
            let frame = frame.filter(|frame| frame.kind == FrameKind::PeerHello);
            let hello = frame.map(|frame| PeerHello::decode(&frame)).transpose()?;
            Ok::<_, Error>((hello, reader))
        };
        let (hello, reader) = timeout(OPENING_MAX, open)
            .await
            .map_err(|_| "a link opens with a hello, and none came".to_owned())?
            .map_err(|error| error.to_string())?;
        let hello = hello.ok_or("a link opens with a hello, and something else came")?;
        if let Err(refusal) = self.check(&hello, connection) {
            warn!(peer = %connection.identity(), %refusal, "a peer's link is refused");
            return Err(refusal);
        }
        Ok((hello, reader))
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
            return Err(match members.is_gone(hello.from.id.0) {
                true => format!("member {} is a member no more", hello.from.id),
                false => format!("member {} is not known here yet", hello.from.id),
            });
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
        hello: PeerHello,
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
        let mut members = self.members.clone();
        let excluded = async {
            loop {
                let listed = members
                    .borrow_and_update()
                    .find(hello.from.id.0)
                    .is_some_and(|member| node_ref(member) == hello.from);
                if !listed {
                    return "no longer a member".to_owned();
                }
                if members.changed().await.is_err() {
                    return "the member is stopping".to_owned();
                }
            }
        };
        tokio::select! {
            reason = self.hand_on(&hello, reader) => reason,
            reason = excluded => reason,
        }
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
        _ => return Ok(None),
    }))
}

const REFUSED: u32 = 1;
const REPLACED: u32 = 2;
const BUSY: u32 = 3;
const SOUND: &str = "nothing panics while holding it";
