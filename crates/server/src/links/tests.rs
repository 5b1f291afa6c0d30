//! Links that are dialled anew while they carry what waits.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use kontiki_raft::{Incarnation, Index, LogId, Term};
use kontiki_transport::{Authority, Identity, Plane, Role};
use kontiki_wire::{Frame, decode_peer};
use tokio::net::UdpSocket;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_peer_that_cannot_renew_is_dialled_a_few_times_and_not_all_the_time() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let authority = Authority::new("a test's", 2 * year).unwrap();
    let identity = Identity::new(ClusterId(7), Role::Node, "n1").unwrap();
    let issued = authority.issue(&identity, year).unwrap();
    let shown = Certificate::from_pem(&issued.certificate_pem).unwrap();
    let end = shown.not_after;
    // The first time when a sixth is left.
    let fresh = good_for(&shown, end - year);
    assert!(fresh > year * 4 / 5 && fresh < year * 5 / 6, "{fresh:?}");
    let mut now = end - year / 10;
    let mut dials = Vec::new();
    while now < end {
        let pause = good_for(&shown, now);
        dials.push(pause);
        now += pause;
    }
    assert_eq!(dials[0], year / 20);
    assert!(dials.len() < 25, "{dials:?}");
    assert!(dials.iter().all(|pause| *pause >= LINK_RENEWAL_PAUSE));
}

/// A way to a peer, on which while it is cut everything is lost with which a connection begins.
struct Wire {
    address: String,
    cut: Arc<AtomicBool>,
    lost: Arc<Notify>,
    tasks: JoinSet<()>,
}

/// What of a QUIC connection comes before its keys are agreed on has this bit set.
const LONG_HEADER: u8 = 0x80;

impl Wire {
    async fn to(peer: &Endpoint) -> Self {
        let (near, far) = (socket().await, socket().await);
        far.connect(peer.local_address()).await.unwrap();
        let mut wire = Self {
            address: near.local_addr().unwrap().to_string(),
            cut: Arc::default(),
            lost: Arc::default(),
            tasks: JoinSet::new(),
        };
        let (cut, lost) = (wire.cut.clone(), wire.lost.clone());
        wire.tasks.spawn(async move {
            let (mut out, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            let mut from = None;
            loop {
                tokio::select! {
                    received = near.recv_from(&mut out) => {
                        let (bytes, sender) = received.unwrap();
                        from = Some(sender);
                        if out[0] & LONG_HEADER != 0 && cut.load(Ordering::Relaxed) {
                            lost.notify_one();
                            continue;
                        }
                        far.send(&out[..bytes]).await.unwrap();
                    }
                    received = far.recv(&mut back) => {
                        let bytes = received.unwrap();
                        near.send_to(&back[..bytes], from.unwrap()).await.unwrap();
                    }
                }
            }
        });
        wire
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).await.unwrap()
}

fn credentials(nodes: &Authority, name: &str) -> Credentials {
    let identity = Identity::new(ClusterId(7), Role::Node, name).unwrap();
    let issued = nodes.issue(&identity, HOUR).unwrap();
    let roots = nodes.certificate_pem();
    Credentials::from_pem(&issued.certificate_pem, &issued.key_pem, roots, "").unwrap()
}

fn endpoint(nodes: &Authority, name: &str) -> Endpoint {
    let address = "127.0.0.1:0".parse().unwrap();
    Endpoint::listen(address, Plane::Peers, &credentials(nodes, name)).unwrap()
}

fn hello(from: u64, renews: bool) -> PeerHello {
    let node = |id| NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id),
    };
    PeerHello {
        cluster: ClusterId(7),
        epoch: Epoch::FIRST,
        from: node(from),
        to: node(2),
        lane: PeerLane::Log,
        versions: Versions::MINE,
        renews,
        peer_address: String::new(),
    }
}

/// What a link of this endpoint to a peer is made of.
struct Tried {
    outbox: Arc<Outbox>,
    ups: watch::Receiver<usize>,
    _inputs: mpsc::Receiver<Input>,
    tasks: JoinSet<()>,
}

fn link(endpoint: &Endpoint, address: &str) -> Tried {
    let (up, ups) = watch::channel(0);
    let (inputs, _inputs) = mpsc::channel(8);
    let mut tried = Tried {
        outbox: Arc::new(Outbox::new(PeerLane::Log)),
        ups,
        _inputs,
        tasks: JoinSet::new(),
    };
    let link = Link {
        hello: hello(1, false),
        member: Member {
            id: 2,
            name: "n2".to_owned(),
            peer_address: address.to_owned(),
            ..Member::default()
        },
        endpoint: endpoint.clone(),
        outbox: tried.outbox.clone(),
        knocks: Arc::default(),
        up: Arc::new(up),
        inputs,
    };
    tried.tasks.spawn(link.run());
    tried
}

/// A frame that tells itself from others.
fn frame(number: u64) -> Missing {
    Missing {
        group: GroupId(number),
        first: Index(1),
        last: Index(1),
    }
}

fn push(tried: &Tried, number: u64) {
    let mut bytes = BytesMut::new();
    frame(number).encode(&mut bytes);
    tried.outbox.push_frame(vec![bytes.freeze()]);
}

async fn heard(reader: &mut FrameReader, number: u64) {
    let heard = timeout(DIAL_MAX / 2, reader.next(1 << 10)).await;
    let heard = heard.expect("it arrives at once").unwrap().unwrap();
    assert_eq!(Missing::decode(&heard), Ok(frame(number)));
}

/// The next link that a peer is dialled with, and whether it takes the place of one.
async fn taken(peer: &Endpoint) -> (Connection, (FrameWriter, FrameReader), bool) {
    let connection = peer.accept().await.unwrap();
    let (writer, mut reader) = connection.accept().await.unwrap();
    let hello = reader.next(1 << 10).await.unwrap().unwrap();
    let renews = PeerHello::decode(&hello).unwrap().renews;
    (connection, (writer, reader), renews)
}

#[tokio::test]
async fn a_link_carries_what_waits_while_it_is_dialled_anew() {
    let nodes = Authority::new("nodes", 2 * HOUR).unwrap();
    let (me, peer) = (endpoint(&nodes, "n1"), endpoint(&nodes, "n2"));
    let wire = Wire::to(&peer).await;
    let mut tried = link(&me, &wire.address);
    let (_connection, (_writer, mut reader), renews) = taken(&peer).await;
    assert!(!renews);
    tried.ups.wait_for(|up| *up == 1).await.unwrap();

    wire.cut.store(true, Ordering::Relaxed);
    me.set_credentials(&credentials(&nodes, "n1")).unwrap();
    for number in 1..4 {
        wire.lost.notified().await;
        push(&tried, number);
        heard(&mut reader, number).await;
    }
    wire.cut.store(false, Ordering::Relaxed);
    let (_connection, (_writer, mut renewed), renews) = taken(&peer).await;
    assert!(renews);
    assert!(matches!(reader.next(1 << 10).await, Ok(None)));
    push(&tried, 4);
    heard(&mut renewed, 4).await;
    assert!(!tried.ups.has_changed().unwrap(), "it was never down");
}

/// Queues a message that tells itself from others.
fn push_message(tried: &Tried, number: u64) {
    let body = Body::Vote {
        last: LogId::ORIGIN,
        transfer: false,
    };
    let message = Message {
        term: Term(1),
        body,
    };
    let group = GroupId(number);
    tried.outbox.push(vec![GroupMessage { group, message }]);
}

fn numbers(frame: &Frame) -> Vec<u64> {
    let messages = decode_peer(frame).unwrap().messages;
    messages.iter().map(|message| message.group.0).collect()
}

#[tokio::test]
async fn nothing_is_lost_of_what_a_link_carries_when_another_takes_its_place() {
    let nodes = Authority::new("nodes", 2 * HOUR).unwrap();
    let (me, peer) = (endpoint(&nodes, "n1"), endpoint(&nodes, "n2"));
    let mut tried = link(&me, &peer.local_address().to_string());
    let (connection, (_writer, mut reader), _) = taken(&peer).await;
    tried.ups.wait_for(|up| *up == 1).await.unwrap();
    me.set_credentials(&credentials(&nodes, "n1")).unwrap();
    let mut pushed = 0;
    let mut push_some = || {
        for _ in 0..20 {
            push_message(&tried, pushed);
            pushed += 1;
        }
    };
    // The peer is busy: it reads nothing until it has the next.
    let mut next = pin!(taken(&peer));
    let (_connection, (_writer, mut renewed), _) = loop {
        tokio::select! {
            taken = &mut next => break taken,
            () = sleep(Duration::from_millis(1)) => push_some(),
        }
    };
    push_some();
    let mut heard = Vec::new();
    while let Some(frame) = reader.next(1 << 20).await.unwrap() {
        heard.extend(numbers(&frame));
    }
    connection.close(0, "the peer ended the link");
    while heard.len() < pushed as usize {
        let frame = renewed.next(1 << 20).await.unwrap().unwrap();
        heard.extend(numbers(&frame));
    }
    assert!(heard.into_iter().eq(0..pushed));
}

#[tokio::test]
async fn who_is_there_anew_is_dialled_again_and_not_who_has_renewed_its_link() {
    let callers = Callers::default();
    let knocks = Arc::new(Lanes::<Notify>::default());
    callers.lock().insert(NodeId(1), knocks.clone());
    for (from, renews, dials) in [(1, true, false), (9, false, false), (1, false, true)] {
        let mut knocked = pin!(knocks.log.notified());
        let _ = knocked.as_mut().enable();
        callers.heard(&hello(from, renews));
        assert_eq!(knocked.as_mut().enable(), dials, "{from} {renews}");
    }
}
