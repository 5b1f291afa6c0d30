//! The links that other members dial: who they are is checked against the certificate and the member
//! list, and then what they say goes to the driver.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
    time::Instant,
};

use kontiki_broker::{Input, Members};
use kontiki_raft::{NodeId, NodeRef};
use kontiki_transport::{Certificate, Connection, Endpoint, Error, FrameReader, FrameWriter, Role};
use kontiki_wire::{
    ClusterCommand, ClusterId, Epoch, Found, Frame, FrameKind, GroupId, Inquiry, Malformed, Member,
    MemberBeat, Missing, PeerHello, PeerLane, Relay, Renew, Renewed, Stock, Versions, decode_peer,
    limits::PEER_FRAME_BYTES_MAX,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    agreed::Agreed,
    keeper::Said,
    limits::{ARRIVALS_MAX, OPENING_MAX, RENEWAL_PAUSE_FIRST, REQUEST_BYTES_MAX},
    links::{CLOSE_GONE, CLOSE_OUTDATED, Callers},
    member::{mark_of, node_ref},
    shipping::Shipping,
};

/// Takes in the connections of one member's peers.
pub(crate) struct Arrivals {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
    pub(crate) me: NodeRef,
    /// Whom the cluster was born with: their incarnations are drawn, all others' follow from their keys.
    pub(crate) founders: Vec<NodeRef>,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) callers: Callers,
    pub(crate) shipping: Shipping,
    pub(crate) agreed: watch::Receiver<Arc<Agreed>>,
    /// To the keeper of the own certificate.
    pub(crate) said: mpsc::Sender<Said>,
    /// What was handed on to the keeper lately.
    pub(crate) paced: Paced,
    /// To the driver, for each lane.
    pub(crate) beats: mpsc::Sender<Input>,
    pub(crate) log: mpsc::Sender<Input>,
}

/// Keeps a member that speaks of certificates without end from having this one sign without end, and from
/// taking the keeper's time from others.
#[derive(Default)]
pub(crate) struct Paced(Mutex<HashMap<(NodeId, FrameKind), Instant>>);

impl Paced {
    /// Whether a member that says something of this kind now is heard: not if it was just before. No member that
    /// waits for an answer says it again so soon.
    fn hears(&self, peer: NodeId, kind: FrameKind, now: Instant) -> bool {
        let mut heard = self.0.lock().expect(SOUND);
        heard.retain(|_, at| now.duration_since(*at) < RENEWAL_PAUSE_FIRST);
        match heard.entry((peer, kind)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(now);
                true
            }
        }
    }
}

/// The connection that serves each lane of each peer, and one that it took the place of and that ends by itself, when
/// all that it carries is heard.
type Serving = Arc<Mutex<HashMap<(NodeId, PeerLane), (Connection, Option<Connection>)>>>;

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
            links.spawn(endpoint.precedence().first(async move {
                let opened = arrivals.open(&connection).await;
                drop(permit);
                let (code, reason) = match opened {
                    Ok((hello, stream)) => {
                        let reason = arrivals.serve(&hello, &connection, stream, &serving).await;
                        (arrivals.code_for(&hello, connection.certificate()), reason)
                    }
                    Err((code, reason)) => (code, reason),
                };
                debug!(peer = %connection.identity(), %reason, "a peer's link ended");
                connection.close(code, &reason);
            }));
        }
    }

    /// The first frame of the first stream, checked.
    async fn open(&self, connection: &Connection) -> Result<(PeerHello, Stream), No> {
        let open = async {
            let (writer, mut reader) = connection.accept().await?;
            let frame = reader.next(REQUEST_BYTES_MAX).await?;
            let frame = frame.filter(|frame| frame.kind == FrameKind::PeerHello);
            let hello = frame.map(|frame| PeerHello::decode(&frame)).transpose()?;
            Ok::<_, Error>((hello, (writer, reader)))
        };
        let (hello, stream) = timeout(OPENING_MAX, open)
            .await
            .map_err(|_| "a link opens with a hello, and none came".to_owned())
            .and_then(|opened| opened.map_err(|error| error.to_string()))
            .map_err(|reason| (REFUSED, reason))?;
        let strange = "a link opens with a hello, and something else came".to_owned();
        let hello = hello.ok_or((REFUSED, strange))?;
        if let Err(refusal) = self.check(&hello, connection) {
            warn!(peer = %connection.identity(), %refusal, "a peer's link is refused");
            return Err((self.code_for(&hello, connection.certificate()), refusal));
        }
        Ok((hello, stream))
    }

    /// The code with which a link of this peer is closed now: one for those who are members no more, so that
    /// they know.
    fn code_for(&self, hello: &PeerHello, shown: &Certificate) -> u32 {
        let ours = hello.cluster == self.cluster && hello.to == self.me;
        if ours && hello.epoch.number < self.epoch.number {
            return CLOSE_OUTDATED;
        }
        let gone = self.members.borrow().is_gone(hello.from.id.0) || self.is_removed(shown);
        match ours && gone {
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
        if hello.epoch != self.epoch {
            return Err(other_epoch(hello.epoch, self.epoch));
        }
        if hello.to != self.me {
            return Err(format!(
                "this is member {} in incarnation {:016x}, the link is meant for {} in {:016x}",
                self.me.id, self.me.incarnation.0, hello.to.id, hello.to.incarnation.0
            ));
        }
        check_versions(hello.versions, self.members.borrow().version)?;
        if hello.from == self.me {
            return Err("a member has no link to itself".to_owned());
        }
        self.check_member(hello.from, connection.certificate())
    }

    /// Whether a certificate is for the key of a member that was removed.
    fn is_removed(&self, shown: &Certificate) -> bool {
        self.agreed.borrow().revoked.has_key(shown)
    }

    /// Whether this certificate is that member's, as far as it can be told here.
    fn check_member(&self, from: NodeRef, certificate: &Certificate) -> Result<(), String> {
        let members = self.members.borrow();
        if members.is_gone(from.id.0) {
            return Err(format!("member {} is a member no more", from.id));
        }
        // One whose number this member has not heard of being given may be on the list, too, by its own word.
        if from.id.0 < members.next
            && let Some(member) = members.find(from.id.0)
        {
            if member.name != certificate.identity.name {
                return Err(format!(
                    "member {} is {}, the certificate is {}'s",
                    from.id, member.name, certificate.identity.name
                ));
            }
            if node_ref(member) != from {
                return Err(format!(
                    "{} was admitted with another data directory than the one it has now; replace it",
                    member.name
                ));
            }
        }
        if self.is_removed(certificate) {
            return Err("its key is that of a member that was removed".to_owned());
        }
        // A name is given again when its bearer was removed, and the certificate of that one is still good.
        let is_its_key = mark_of(certificate.key_fingerprint) == from.incarnation.0;
        if !is_its_key && !self.founders.contains(&from) {
            return Err(format!(
                "the certificate is for another key than the one that member {} was admitted with",
                from.id
            ));
        }
        Ok(())
    }

    /// Hands on what the peer says until the link ends; says why it did.
    async fn serve(
        &self,
        hello: &PeerHello,
        connection: &Connection,
        (writer, reader): Stream,
        serving: &Serving,
    ) -> String {
        let is_bulk = hello.lane == PeerLane::Bulk;
        if !is_bulk {
            take_over(serving, hello, connection);
            self.callers.heard(hello);
        }
        debug!(peer = %connection.identity(), lane = ?hello.lane, "a peer's link is open");
        self.introduce(hello, connection).await;
        let (mut members, mut agreed) = (self.members.clone(), self.agreed.clone());
        let excluded = async {
            loop {
                let excluded = {
                    let members = members.borrow_and_update();
                    let known = members.find(hello.from.id.0);
                    let given = hello.from.id.0 < members.next;
                    members.is_gone(hello.from.id.0)
                        || given && known.is_some_and(|member| node_ref(member) != hello.from)
                };
                agreed.borrow_and_update();
                if excluded || self.is_removed(connection.certificate()) {
                    return "no longer a member".to_owned();
                }
                let changed = tokio::select! {
                    changed = members.changed() => changed,
                    changed = agreed.changed() => changed,
                };
                if changed.is_err() {
                    return "the member is stopping".to_owned();
                }
            }
        };
        let serve = async {
            match is_bulk {
                // Who is on no list yet has no topic to fetch.
                true if hello.from.id.0 >= self.members.borrow().next => {
                    "not on the list".to_owned()
                }
                true => self.shipping.serve(writer, reader).await,
                false => self.hand_on(hello, connection, reader).await,
            }
        };
        tokio::select! {
            reason = serve => reason,
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

    async fn hand_on(
        &self,
        hello: &PeerHello,
        connection: &Connection,
        mut reader: FrameReader,
    ) -> String {
        let from = hello.from;
        let inputs = match hello.lane {
            PeerLane::Beats => &self.beats,
            PeerLane::Log | PeerLane::Bulk => &self.log,
        };
        let mut listed = false;
        loop {
            let frame = match reader.next(PEER_FRAME_BYTES_MAX).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return "the peer ended the link".to_owned(),
                Err(error) => return error.to_string(),
            };
            if matches!(frame.kind, FrameKind::Renew | FrameKind::Renewed) {
                match self.of_certificates(from, connection, &frame) {
                    Ok(()) => continue,
                    Err(malformed) => return malformed.to_string(),
                }
            }
            let input = match said(from, &frame) {
                Ok(Some(input)) => input,
                Ok(None) => return "a frame that is no peer's".to_owned(),
                Err(malformed) => {
                    warn!(peer = %from, %malformed, "a peer said what means nothing");
                    return malformed.to_string();
                }
            };
            if !is_its_own(&input, connection.certificate()) {
                // Said again, on a link that shows it.
                debug!(peer = %from, "a peer speaks of a key that its link has not shown");
                continue;
            }
            listed = listed || from.id.0 < self.members.borrow().next;
            let input = match listed {
                true => Some(input),
                false => of_cluster(input),
            };
            if let Some(input) = input
                && inputs.send(input).await.is_err()
            {
                return "the member is stopping".to_owned();
            }
        }
    }
}

/// Has a connection serve a lane from now on: others end, but for the one that it renews.
fn take_over(serving: &Serving, hello: &PeerHello, connection: &Connection) {
    let key = (hello.from.id, hello.lane);
    let mut serving = serving.lock().expect(SOUND);
    let (before, leaving) = match serving.remove(&key) {
        Some((before, leaving)) => (Some(before), leaving),
        None => (None, None),
    };
    let (renewed, ended) = match hello.renews {
        true => (before, None),
        false => (None, before),
    };
    for ended in [ended, leaving].into_iter().flatten() {
        ended.close(REPLACED, "a newer link took its place");
    }
    serving.insert(key, (connection.clone(), renewed));
}

/// Whether a build that can do these may speak here. The cluster may be at a later version than this member has
/// heard of, and is never at an earlier one.
fn check_versions(theirs: Versions, version: u16) -> Result<(), String> {
    match Versions::MINE.common(theirs) {
        Some(common) if common >= version => Ok(()),
        Some(_) => Err(format!(
            "a build of {theirs} speaks, and the cluster is at version {version}"
        )),
        None => Err(format!(
            "a build of {theirs} speaks, and this one can do {}: no version is common to both",
            Versions::MINE
        )),
    }
}

/// Why nobody of another life of the cluster is heard.
fn other_epoch(theirs: Epoch, ours: Epoch) -> String {
    let more = match theirs.number.cmp(&ours.number) {
        Ordering::Less => {
            "the cluster has been recovered since, and what is of the life before counts no more"
        }
        Ordering::Greater => {
            "the cluster has been recovered without this member: stop it, and let it join with a new \
             token and an empty directory"
        }
        Ordering::Equal => {
            "two members were each made a cluster of its own: stop one of them, and let it join the \
             other with a new token and an empty directory"
        }
    };
    format!("the link is of epoch {theirs}, and this is epoch {ours}: {more}")
}

impl Arrivals {
    /// A peer speaks of certificates. Who is on no list yet is not heard, and what the keeper has no time for is
    /// said again.
    fn of_certificates(
        &self,
        from: NodeRef,
        connection: &Connection,
        frame: &Frame,
    ) -> Result<(), Malformed> {
        let said = match frame.kind {
            FrameKind::Renew => {
                Renew::decode(frame)?;
                Said::Asked(from, Box::new(connection.certificate().clone()))
            }
            _ => Said::Answered(from, Renewed::decode(frame)?),
        };
        let members = self.members.borrow();
        let listed = members.find(from.id.0);
        let listed = listed.is_some_and(|member| node_ref(member) == from);
        if listed && self.paced.hears(from.id, frame.kind, Instant::now()) {
            let _ = self.said.try_send(said);
        }
        Ok(())
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
        FrameKind::Beat => Input::Beat {
            from,
            beat: MemberBeat::decode(frame)?,
        },
        FrameKind::Inquiry => Input::Inquired {
            from,
            inquiry: Inquiry::decode(frame)?,
        },
        FrameKind::Stock => Input::Stock {
            from,
            stock: Stock::decode(frame)?,
        },
        FrameKind::Relay => Input::Relayed {
            from,
            command: Relay::decode(frame)?.command,
        },
        _ => return Ok(None),
    }))
}

/// Whether a member that says what it shows has shown a certificate for that key here: a key that is another's goes
/// with whoever has said that it is his.
fn is_its_own(input: &Input, shown: &Certificate) -> bool {
    match input {
        Input::Relayed {
            command: ClusterCommand::Certify(papers),
            ..
        } => papers.mark == shown.mark(),
        _ => true,
    }
}

/// What of it is heard from a peer that is on no list yet: what the cluster's own group says, from which
/// this member learns who is on it, and what this member has lost of that group's log and asked for. Nothing
/// else is lost for good: it is all said again.
fn of_cluster(input: Input) -> Option<Input> {
    match input {
        Input::Peer { from, mut messages } => {
            messages.retain(|message| message.group == GroupId::CLUSTER);
            (!messages.is_empty()).then_some(Input::Peer { from, messages })
        }
        Input::Found { ref found, .. } if found.asked.group == GroupId::CLUSTER => Some(input),
        _ => None,
    }
}

/// The stream that a link opens with.
type Stream = (FrameWriter, FrameReader);

/// Why a link is closed: a code and a sentence.
type No = (u32, String);

const REFUSED: u32 = 1;
const REPLACED: u32 = 2;
const BUSY: u32 = 3;
const SOUND: &str = "nothing panics while holding it";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_raft::{Body, Incarnation, Index, LogId, Message, Term};
    use kontiki_transport::{Authority, Identity};
    use kontiki_wire::{GroupMessage, Papers, TokenId};

    use super::*;

    #[test]
    fn a_build_that_cannot_do_the_clusters_version_is_not_heard() {
        let (lowest, highest) = (Versions::MINE.lowest, Versions::MINE.highest);
        let theirs = |lowest, highest| Versions { lowest, highest };
        assert_eq!(check_versions(theirs(lowest, highest + 1), highest), Ok(()));
        let old = check_versions(theirs(0, highest - 1), highest).unwrap_err();
        assert!(old.contains(&format!("{highest}")), "{old}");
        let late = check_versions(theirs(lowest, highest), highest + 1).unwrap_err();
        assert!(late.contains("the cluster is at version"), "{late}");
        let ahead = check_versions(theirs(highest + 1, highest + 1), lowest).unwrap_err();
        assert!(ahead.contains("no version is common"), "{ahead}");
    }

    #[test]
    fn a_member_that_asks_for_certificates_without_end_is_heard_now_and_then_and_others_are() {
        let (paced, begun) = (Paced::default(), Instant::now());
        let heard = |peer: u64, kind, millis| {
            let now = begun + Duration::from_millis(millis);
            paced.hears(NodeId(peer), kind, now)
        };
        let without_end = (0..1_000)
            .filter(|at| heard(4, FrameKind::Renew, *at))
            .count();
        assert_eq!(without_end, 3);
        assert!(heard(5, FrameKind::Renew, 999), "another asks");
        assert!(heard(4, FrameKind::Renewed, 999), "it answers");
        assert!(!heard(4, FrameKind::Renew, 999));
        assert!(heard(4, FrameKind::Renew, 5_000));
    }

    #[test]
    fn nobody_says_that_it_shows_the_key_of_another() {
        let day = Duration::from_secs(24 * 60 * 60);
        let authority = Authority::new("a test's", day).unwrap();
        let shown = || {
            let identity = Identity::new(ClusterId(7), Role::Node, "n1").unwrap();
            let issued = authority.issue(&identity, day).unwrap();
            Certificate::from_pem(&issued.certificate_pem).unwrap()
        };
        let (own, other) = (shown(), shown());
        let from = NodeRef {
            id: NodeId(9),
            incarnation: Incarnation(1),
        };
        let certify = |mark| Input::Relayed {
            from,
            command: ClusterCommand::Certify(Papers {
                mark,
                ..Papers::default()
            }),
        };
        assert!(is_its_own(&certify(own.mark()), &own));
        assert!(!is_its_own(&certify(other.mark()), &own));
        let command = ClusterCommand::Confirm { mark: other.mark() };
        assert!(is_its_own(&Input::Relayed { from, command }, &own));
    }

    #[test]
    fn of_a_peer_on_no_list_only_the_clusters_own_group_is_heard() {
        let from = NodeRef {
            id: NodeId(9),
            incarnation: Incarnation(1),
        };
        let vote = |group| GroupMessage {
            group,
            message: Message {
                term: Term(1),
                body: Body::Vote {
                    last: LogId::ORIGIN,
                    transfer: false,
                },
            },
        };
        let (own, topic) = (vote(GroupId::CLUSTER), vote(GroupId(3)));
        let said = |messages| Input::Peer { from, messages };
        let heard = of_cluster(said(vec![topic.clone(), own.clone()]));
        assert_eq!(heard, Some(said(vec![own])));
        assert_eq!(of_cluster(said(vec![topic])), None);
        let missing = Missing {
            group: GroupId::CLUSTER,
            first: Index(1),
            last: Index(1),
        };
        assert_eq!(of_cluster(Input::Asked { from, missing }), None);
        for (group, heard) in [(GroupId::CLUSTER, true), (GroupId(3), false)] {
            let asked = Missing { group, ..missing };
            let entries = Vec::new();
            let found = Found { asked, entries };
            assert_eq!(of_cluster(Input::Found { from, found }).is_some(), heard);
        }
        let id = TokenId(1);
        let command = ClusterCommand::RevokeToken { id };
        assert_eq!(of_cluster(Input::Relayed { from, command }), None);
    }
}
