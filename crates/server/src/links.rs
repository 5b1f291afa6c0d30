//! The links to the other members: for each of them two connections that this member dials, one for
//! beats and votes and one for the log, so that neither waits behind the other.

use std::{
    collections::BTreeMap,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use kontiki_broker::Input;
use kontiki_raft::{Body, Message, NodeId, NodeRef, SendLog};
use kontiki_storage::Log;
use kontiki_transport::{
    Certificate, Connection, Credentials, Endpoint, Error, Expect, FrameReader, FrameWriter,
};
use kontiki_wire::{
    ClusterCommand, ClusterId, Epoch, Found, FrameKind, GroupId, GroupMessage, Inquiry, Member,
    MemberBeat, Missing, PeerHello, PeerLane, Relay, Stock, Versions,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    budget::Budget,
    dialling::dial,
    fetching::Way,
    limits::{
        DIAL_MAX, FIND_LOOK, FIND_LOOKS_MAX, FINDS_MAX, LINK_FAREWELL_MAX, LINK_FRESH,
        LINK_RENEWAL_PAUSE, LINK_RENEWED_AT, LOG_READS_MAX, REDIAL_FIRST, REDIAL_LONGEST,
    },
    member::node_ref,
    outbox::Outbox,
};

/// All links of this member.
pub(crate) struct Links {
    cluster: (ClusterId, Epoch),
    me: NodeRef,
    /// Where peers reach this member.
    peer_address: String,
    endpoint: Endpoint,
    inputs: mpsc::Sender<Input>,
    callers: Callers,
    budget: Arc<Budget>,
    peers: BTreeMap<NodeId, Peer>,
}

/// Who is dialled, to be told that a peer was heard of. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Callers {
    waiting: Arc<Mutex<BTreeMap<NodeId, Arc<Lanes<Notify>>>>>,
}

struct Peer {
    member: Member,
    outboxes: Lanes<Arc<Outbox>>,
    reads: mpsc::Sender<LogRead>,
    finds: mpsc::Sender<Find>,
    /// Ends the tasks when the peer is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Lanes<T> {
    beats: T,
    log: T,
}

struct LogRead {
    group: GroupId,
    send: SendLog,
    log: Log,
}

/// What a peer has lost and asks for.
struct Find {
    missing: Missing,
    /// `None` if there is nothing of the group here.
    log: Option<Log>,
}

impl Links {
    pub(crate) fn new(
        cluster: (ClusterId, Epoch),
        (me, peer_address): (NodeRef, String),
        endpoint: Endpoint,
        inputs: mpsc::Sender<Input>,
        callers: Callers,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            cluster,
            me,
            peer_address,
            endpoint,
            inputs,
            callers,
            budget,
            peers: BTreeMap::new(),
        }
    }

    /// Opens links to new members, closes those to members that are gone.
    pub(crate) fn set_members(&mut self, members: &[Member]) {
        let is_the_same = |peer: &Peer| {
            let mut same = members
                .iter()
                .filter(|one| node_ref(one) == node_ref(&peer.member));
            same.any(|one| one.peer_address == peer.member.peer_address)
        };
        self.peers.retain(|_, peer| is_the_same(peer));
        for member in members {
            let node = node_ref(member);
            if node != self.me && !self.peers.contains_key(&node.id) {
                let peer = self.open(member);
                self.peers.insert(node.id, peer);
            }
        }
        let known = |id: &NodeId, _: &mut Arc<Lanes<Notify>>| self.peers.contains_key(id);
        self.callers.lock().retain(known);
    }

    /// Sends on a link, or drops it where there is none: Raft says it again.
    pub(crate) fn send(&self, to: NodeRef, lane: PeerLane, messages: Vec<GroupMessage>) {
        if let Some(peer) = self.peer(to) {
            peer.outboxes.of(lane).push(messages);
        }
    }

    /// Reads from the log and sends; the same promise.
    pub(crate) fn send_log(&self, group: GroupId, send: SendLog, log: Log) {
        if let Some(peer) = self.peer(send.to) {
            // A full queue drops it: Raft asks again.
            let _ = peer.reads.try_send(LogRead { group, send, log });
        }
    }

    /// Beats for all groups that rest with a peer; the same promise.
    pub(crate) fn beat(&self, to: NodeRef, beat: &MemberBeat) {
        if let Some(peer) = self.peer(to) {
            let mut frame = BytesMut::new();
            beat.encode(&mut frame);
            peer.outboxes.beats.push_beat(frame.freeze());
        }
    }

    /// Asks a peer for entries, or not, where there is no link: they are asked for again.
    pub(crate) fn ask(&self, to: NodeRef, missing: &Missing) {
        if let Some(peer) = self.peer(to) {
            let mut frame = BytesMut::new();
            missing.encode(&mut frame);
            peer.outboxes.log.push_frame(vec![frame.freeze()]);
        }
    }

    /// Reads what a peer asks for and sends it; the same promise.
    pub(crate) fn find(&self, to: NodeRef, missing: Missing, log: Option<Log>) {
        if let Some(peer) = self.peer(to) {
            // A full queue drops it.
            let _ = peer.finds.try_send(Find { missing, log });
        }
    }

    /// Hands a command over to a peer; the same promise.
    pub(crate) fn relay(&self, to: NodeRef, command: ClusterCommand) {
        if let Some(peer) = self.peer(to) {
            let mut frame = BytesMut::new();
            Relay { command }.encode(&mut frame);
            peer.outboxes.log.push_frame(vec![frame.freeze()]);
        }
    }

    /// Asks a peer how much there is to fetch of a log; the same promise.
    pub(crate) fn inquire(&self, to: NodeRef, inquiry: Inquiry) {
        if let Some(peer) = self.peer(to) {
            let mut frame = BytesMut::new();
            inquiry.encode(FrameKind::Inquiry, &mut frame);
            peer.outboxes.log.push_frame(vec![frame.freeze()]);
        }
    }

    /// Tells a peer how much there is; the same promise.
    pub(crate) fn tell_stock(&self, to: NodeRef, stock: Stock) {
        if let Some(peer) = self.peer(to) {
            let mut frame = BytesMut::new();
            stock.encode(&mut frame);
            peer.outboxes.log.push_frame(vec![frame.freeze()]);
        }
    }

    /// How a peer is dialled for a log.
    pub(crate) fn way_to(&self, to: NodeRef) -> Option<Way> {
        let peer = self.peer(to)?;
        Some(Way {
            endpoint: self.endpoint.clone(),
            member: peer.member.clone(),
            hello: self.hello(&peer.member, PeerLane::Bulk),
        })
    }

    fn hello(&self, to: &Member, lane: PeerLane) -> PeerHello {
        PeerHello {
            cluster: self.cluster.0,
            epoch: self.cluster.1,
            from: self.me,
            to: node_ref(to),
            lane,
            versions: Versions::MINE,
            renews: false,
            peer_address: self.peer_address.clone(),
        }
    }

    /// Sends a frame of the host's own to a peer; the same promise.
    pub(crate) fn say(&self, to: NodeRef, frame: Bytes) {
        if let Some(peer) = self.peer(to) {
            peer.outboxes.log.push_frame(vec![frame]);
        }
    }

    fn peer(&self, node: NodeRef) -> Option<&Peer> {
        let peer = self.peers.get(&node.id)?;
        (node_ref(&peer.member) == node).then_some(peer)
    }

    fn open(&self, member: &Member) -> Peer {
        let outboxes = Lanes {
            beats: Arc::new(Outbox::new(PeerLane::Beats)),
            log: Arc::new(Outbox::new(PeerLane::Log)),
        };
        let knocks = Arc::new(Lanes::<Notify>::default());
        self.callers
            .lock()
            .insert(NodeId(member.id), knocks.clone());
        let (up, ups) = watch::channel(0);
        let up = Arc::new(up);
        let mut tasks = JoinSet::new();
        let precedence = self.endpoint.precedence();
        for lane in [PeerLane::Beats, PeerLane::Log] {
            let link = Link {
                hello: self.hello(member, lane),
                member: member.clone(),
                endpoint: self.endpoint.clone(),
                outbox: outboxes.of(lane).clone(),
                knocks: knocks.clone(),
                up: up.clone(),
                inputs: self.inputs.clone(),
            };
            tasks.spawn(precedence.first(link.run()));
        }
        tasks.spawn(precedence.first(report(NodeId(member.id), ups, self.inputs.clone())));
        let (reads, waiting) = mpsc::channel(LOG_READS_MAX);
        tasks.spawn(precedence.first(read_and_send(
            NodeId(member.id),
            waiting,
            outboxes.log.clone(),
            Arc::clone(&self.budget),
        )));
        let (finds, asked) = mpsc::channel(FINDS_MAX);
        tasks.spawn(precedence.first(find_and_send(asked, outboxes.log.clone())));
        Peer {
            member: member.clone(),
            outboxes,
            reads,
            finds,
            _tasks: tasks,
        }
    }
}

impl Callers {
    /// A peer has just dialled this member: so it can be dialled, and if its process is a new one, what is
    /// left of a link to the one before leads nowhere. One that has only renewed its link is reached as before.
    pub(crate) fn heard(&self, hello: &PeerHello) {
        if let Some(knocks) = self.lock().get(&hello.from.id)
            && !hello.renews
        {
            knocks.of(hello.lane).notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Lanes<Notify>>>> {
        self.waiting
            .lock()
            .expect("nothing panics while holding it")
    }
}

impl<T> Lanes<T> {
    fn of(&self, lane: PeerLane) -> &T {
        match lane {
            PeerLane::Beats => &self.beats,
            PeerLane::Log | PeerLane::Bulk => &self.log,
        }
    }
}

/// One link: dials, writes what waits, dials again.
struct Link {
    hello: PeerHello,
    member: Member,
    endpoint: Endpoint,
    outbox: Arc<Outbox>,
    knocks: Arc<Lanes<Notify>>,
    /// How many of the peer's links are up.
    up: Arc<watch::Sender<usize>>,
    inputs: mpsc::Sender<Input>,
}

impl Link {
    async fn run(self) {
        let (peer, lane) = (&self.member.name, self.hello.lane);
        let mut pause = REDIAL_FIRST;
        let mut complained = false;
        let mut known = None;
        loop {
            let dialled = tokio::select! {
                dialled = self.dial(known, false) => dialled,
                // The peer is there only since now: what this dial has sent so far is lost.
                () = self.heard() => continue,
            };
            match dialled {
                Ok(dialled) => {
                    let address = dialled.connection.remote_address();
                    info!(%peer, ?lane, %address, "link is up");
                    complained = false;
                    known = Some(address);
                    let since = Instant::now();
                    let lost = self.serve(dialled).await;
                    self.hear_of_removal(&lost).await;
                    info!(%peer, ?lane, reason = %lost, "link is down");
                    // A peer that takes the link and then refuses it is not dialled all the time.
                    if since.elapsed() > LINK_FRESH {
                        pause = REDIAL_FIRST;
                        continue;
                    }
                }
                Err(error) => {
                    // Who is refused may hear so before it has said anything.
                    self.hear_of_removal(&error).await;
                    match mem::replace(&mut complained, true) {
                        true => debug!(%peer, ?lane, reason = %error, "no link"),
                        false => info!(%peer, ?lane, reason = %error, "no link; dialling on"),
                    }
                }
            }
            tokio::select! {
                () = sleep(jittered(pause)) => pause = (pause * 2).min(REDIAL_LONGEST),
                () = self.heard() => pause = REDIAL_FIRST,
            }
        }
    }

    /// The peer says that this member is one no more, or of an earlier life of the cluster: it tells so by the
    /// code alone, whatever its words.
    async fn hear_of_removal(&self, lost: &Error) {
        let by = NodeId(self.member.id);
        let told = match lost {
            Error::Closed { code, .. } if *code == u64::from(CLOSE_GONE) => Input::Disowned { by },
            Error::Closed { code, .. } if *code == u64::from(CLOSE_OUTDATED) => {
                Input::Outdated { by }
            }
            _ => return,
        };
        // Nobody hears it any more when the member is stopping.
        let _ = self.inputs.send(told).await;
    }

    async fn heard(&self) {
        self.knocks.of(self.hello.lane).notified().await;
    }

    /// Dials the peer where its address leads, and where it was reached before: whoever finds addresses by their
    /// names may be away.
    async fn dial(&self, known: Option<SocketAddr>, renews: bool) -> Result<Dialled, Error> {
        let dial = async {
            let credentials = self.endpoint.credentials();
            let shown = serial(&credentials.borrow());
            let expect = Expect::Node(self.member.name.clone());
            let to = (self.member.peer_address.as_str(), known);
            let connection = dial(&self.endpoint, to, &expect).await?;
            let (mut writer, reader) = connection.open().await?;
            let mut hello = BytesMut::new();
            let says = PeerHello {
                renews,
                ..self.hello.clone()
            };
            says.encode(&mut hello);
            writer.write(hello.freeze()).await?;
            Ok(Dialled {
                connection,
                writer,
                _reader: reader,
                credentials,
                shown,
            })
        };
        match timeout(DIAL_MAX, dial).await {
            Ok(dialled) => dialled,
            Err(_) => Err(Error::TimedOut("dialling")),
        }
    }

    /// Writes what waits until the connection is lost; says why it was. A certificate that is renewed on
    /// either side, or ends soon, is dialled with anew before the old connection is let go, and what that one
    /// carries arrives: nobody is told that the link was another.
    async fn serve(&self, mut dialled: Dialled) -> Error {
        self.outbox.open();
        self.up.send_modify(|up| *up += 1);
        let mut leaving = JoinSet::new();
        let lost = loop {
            match self.write(&mut dialled).await {
                Ended::Lost(error) => break error,
                Ended::Renewed(renewed) => {
                    let before = mem::replace(&mut dialled, *renewed);
                    while leaving.try_join_next().is_some() {}
                    let precedence = self.endpoint.precedence();
                    leaving.spawn(precedence.first(before.leave()));
                    debug!(peer = %self.member.name, lane = ?self.hello.lane, "link is renewed");
                }
            }
        };
        dialled.connection.close(0, "the link is dialled again");
        self.up.send_modify(|up| *up -= 1);
        self.outbox.close();
        lost
    }

    async fn write(&self, dialled: &mut Dialled) -> Ended {
        let since = Instant::now();
        let Dialled {
            connection,
            writer,
            credentials,
            shown,
            ..
        } = dialled;
        let (renews, mut next) = oneshot::channel();
        let write = async {
            let mut pieces = Vec::new();
            loop {
                tokio::select! {
                    // Between two frames.
                    Ok(renewed) = &mut next => return Ended::Renewed(Box::new(renewed)),
                    () = self.outbox.take(&mut pieces) => {}
                }
                if let Err(error) = writer.write_all(&mut pieces).await {
                    return Ended::Lost(error);
                }
                pieces.clear();
            }
        };
        let replaced = async {
            loop {
                self.heard().await;
                // Two members that dial each other at once need not do so twice.
                if since.elapsed() > LINK_FRESH {
                    return Error::Lost("the peer dialled anew".to_owned());
                }
            }
        };
        let renewed = async {
            let renewed = self.renewed(connection, (credentials, shown)).await;
            // It is taken as soon as what is being written is.
            let _ = renews.send(renewed);
            sleep(LINK_RENEWAL_PAUSE).await;
            Error::TimedOut("writing to a link that was renewed")
        };
        tokio::select! {
            ended = write => ended,
            error = renewed => Ended::Lost(error),
            error = connection.closed() => Ended::Lost(error),
            error = replaced => Ended::Lost(error),
        }
    }

    /// Resolves with a link to take the place of this one, once another certificate may be shown on either side
    /// and the peer answers.
    async fn renewed(
        &self,
        connection: &Connection,
        (credentials, shown): (&mut watch::Receiver<Credentials>, &String),
    ) -> Dialled {
        loop {
            stale(connection.certificate(), (credentials, shown)).await;
            match self.dial(Some(connection.remote_address()), true).await {
                Ok(renewed) => return renewed,
                Err(error) => {
                    debug!(peer = %self.member.name, reason = %error, "link is not renewed");
                    sleep(LINK_RENEWAL_PAUSE).await;
                }
            }
        }
    }
}

/// A link that is up.
struct Dialled {
    connection: Connection,
    writer: FrameWriter,
    /// Held, so that the peer's half stays open.
    _reader: FrameReader,
    /// What this member shows.
    credentials: watch::Receiver<Credentials>,
    /// The serial number of what it showed when it dialled, or before.
    shown: String,
}

impl Dialled {
    /// Another has taken its place: it ends when the peer has heard all that it carries.
    async fn leave(mut self) {
        self.writer.finish();
        let _ = timeout(LINK_FAREWELL_MAX, self.connection.closed()).await;
        self.connection.close(0, "a certificate was renewed");
    }
}

/// Why writing to a link ends.
enum Ended {
    Lost(Error),
    /// Another has taken its place.
    Renewed(Box<Dialled>),
}

/// Resolves when this member shows another certificate than when it dialled, or when the other side may show
/// another than it did.
async fn stale(
    theirs: &Certificate,
    (credentials, shown): (&mut watch::Receiver<Credentials>, &String),
) {
    let renewed = async {
        let other = |credentials: &Credentials| serial(credentials) != *shown;
        if credentials.wait_for(other).await.is_err() {
            // An endpoint that is gone renews nothing, and its connections end.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = renewed => {}
        () = sleep(good_for(theirs, SystemTime::now())) => {}
    }
}

fn serial(credentials: &Credentials) -> String {
    credentials.certificate().serial.clone()
}

/// For how long a link to whoever has just shown this is left as it is: until little of the certificate's life is
/// left, or, where that is so already and there was no other, for half of what is left.
fn good_for(theirs: &Certificate, now: SystemTime) -> Duration {
    let life = theirs.not_after.duration_since(theirs.not_before);
    let last = life.unwrap_or_default() / LINK_RENEWED_AT;
    let left = theirs.not_after.duration_since(now).unwrap_or_default();
    let until_last = left.saturating_sub(last);
    until_last.max(left / 2).max(LINK_RENEWAL_PAUSE)
}

/// Tells the driver whenever the peer's links are all up, and when they no longer are.
async fn report(peer: NodeId, mut ups: watch::Receiver<usize>, inputs: mpsc::Sender<Input>) {
    let mut open = false;
    while ups.changed().await.is_ok() {
        let now_open = *ups.borrow_and_update() == LANES;
        if now_open != open {
            open = now_open;
            if inputs.send(Input::Reachable { peer, open }).await.is_err() {
                return;
            }
        }
    }
}

/// One read after the other, so that a follower gets its appends in order.
async fn read_and_send(
    peer: NodeId,
    mut waiting: mpsc::Receiver<LogRead>,
    outbox: Arc<Outbox>,
    budget: Arc<Budget>,
) {
    while let Some(LogRead { group, send, log }) = waiting.recv().await {
        let (first, last) = (send.head.prev.index.next(), send.last);
        let read = tokio::task::spawn_blocking(move || log.entries(first, last, send.bytes_max));
        let entries = match read.await {
            Ok(Ok(entries)) => entries,
            Ok(Err(error)) => {
                debug!(group = group.0, reason = %error, "nothing read for a follower");
                continue;
            }
            Err(_) => return,
        };
        let bytes = entries.iter().map(|entry| entry.body.len() as u64).sum();
        let message = Message {
            term: send.term,
            body: Body::Append {
                head: send.head,
                entries,
            },
        };
        outbox.push(vec![GroupMessage { group, message }]);
        budget.took_entries(peer, bytes).await;
    }
}

/// One answer after the other to a peer that has lost entries.
async fn find_and_send(mut asked: mpsc::Receiver<Find>, outbox: Arc<Outbox>) {
    while let Some(Find { missing, log }) = asked.recv().await {
        for _ in 0..FIND_LOOKS_MAX {
            let log = log.clone();
            let find = move || match log {
                Some(log) => log.placed(missing.first, missing.last),
                None => Ok(Vec::new()),
            };
            match tokio::task::spawn_blocking(find).await {
                Ok(Ok(entries)) => {
                    let mut pieces = Vec::new();
                    let asked = missing;
                    Found { asked, entries }.encode(&mut pieces);
                    outbox.push_frame(pieces);
                    break;
                }
                Ok(Err(error)) => {
                    debug!(group = missing.group.0, reason = %error, "nothing read for a peer's mending");
                    sleep(FIND_LOOK).await;
                }
                Err(_) => return,
            }
        }
    }
}

/// Between half of it and all: peers that lost each other at once do not dial at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, which costs nothing but coincidence.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}

const LANES: usize = 2;
/// The code with which a link is closed that a member opens who is one no more.
pub(crate) const CLOSE_GONE: u32 = 4;
/// The code with which a link is closed that a member of an earlier epoch opens.
pub(crate) const CLOSE_OUTDATED: u32 = 5;

#[cfg(test)]
mod tests;
