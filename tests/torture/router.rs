//! The network between members and clients, as a router that all their datagrams pass: each directed
//! link can be cut, or lose, delay, double, reorder and corrupt what it carries.
//!
//! Everybody knows a member by its front, a socket of the router. What member A sends to B's front
//! reaches B from A's front, so each link is known by where a datagram comes from; clients, who have no
//! front, get a socket each.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{net::UdpSocket, time::sleep};

use crate::{
    cluster::{Cluster, address, ports},
    load::Hands,
    plan::Random,
};

/// Bytes of the largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// A client's socket that has been silent for so long is forgotten.
const CLIENT_SILENT_MAX: Duration = Duration::from_secs(60);

/// One end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum End {
    Member(usize),
    Clients,
}

/// What a link does to datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Weather {
    pub(crate) cut: bool,
    /// In a hundred.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) corrupted: u64,
    /// Milliseconds; a wide range reorders.
    pub(crate) delay: RangeInclusive<u64>,
}

impl Weather {
    pub(crate) const CLEAR: Self = Self {
        cut: false,
        lost: 0,
        doubled: 0,
        corrupted: 0,
        delay: 0..=0,
    };
    pub(crate) const CUT: Self = Self {
        cut: true,
        ..Self::CLEAR
    };
}

/// The router. Its sockets live as long as the hands that it was made with.
pub(crate) struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    weather: Mutex<HashMap<(End, End), Weather>>,
    random: Mutex<Random>,
    planes: [Plane; 2],
}

/// What members listen on for clients, or for each other.
struct Plane {
    fronts: Vec<Arc<UdpSocket>>,
    members: Vec<SocketAddr>,
    /// Which client a socket stands for, and to which member.
    clients: Mutex<HashMap<(SocketAddr, usize), Arc<UdpSocket>>>,
}

impl Router {
    /// Births a cluster that is known by this router's sockets.
    pub(crate) fn around(size: usize, hands: &Hands, random: &mut Random) -> (Self, Cluster) {
        let router = Self::new(size, hands, random);
        let known = (0..size).map(|at| router.known(at));
        let mut cluster = Cluster::born_at(&known.collect::<Vec<_>>(), &[]);
        for (at, member) in cluster.members.iter_mut().enumerate() {
            member.options = router.options(at);
        }
        (router, cluster)
    }

    /// One between clients and so many members.
    pub(crate) fn new(size: usize, hands: &Hands, random: &mut Random) -> Self {
        let at = address();
        let planes = [(); 2].map(|()| Plane::new(at, size, hands));
        let shared = Arc::new(Shared {
            weather: Mutex::default(),
            random: Mutex::new(random.branch()),
            planes,
        });
        for plane in 0..shared.planes.len() {
            for at in 0..size {
                hands.handle.spawn(front(shared.clone(), plane, at));
            }
        }
        Self { shared }
    }

    /// For how many members there is room.
    pub(crate) fn size(&self) -> usize {
        self.shared.planes[0].fronts.len()
    }

    /// Where clients reach a member, and where peers do: here.
    pub(crate) fn known(&self, at: usize) -> (SocketAddr, SocketAddr) {
        let of = |plane: &Plane| plane.fronts[at].local_addr().expect("a bound socket");
        let [clients, peers] = &self.shared.planes;
        (of(clients), of(peers))
    }

    /// What makes a member listen where this hands on what is for it.
    pub(crate) fn options(&self, at: usize) -> Vec<String> {
        let options = ["--listen", "--listen-peers"].into_iter();
        let options = options.zip(&self.shared.planes);
        let words = options.map(|(option, plane)| [option.into(), plane.members[at].to_string()]);
        words.flatten().collect()
    }

    /// Changes what one direction of a link does.
    pub(crate) fn set(&self, from: End, to: End, weather: Weather) {
        self.shared.weather().insert((from, to), weather);
    }

    /// Changes both directions.
    pub(crate) fn set_both(&self, one: End, other: End, weather: &Weather) {
        self.set(one, other, weather.clone());
        self.set(other, one, weather.clone());
    }

    /// Clears the sky.
    pub(crate) fn clear(&self) {
        self.shared.weather().clear();
    }
}

impl Plane {
    fn new(at: Ipv4Addr, size: usize, hands: &Hands) -> Self {
        let bind = |_| {
            let bound = UdpSocket::bind(SocketAddr::from((at, 0)));
            Arc::new(hands.wait(bound).expect("a socket"))
        };
        // Held until the members' own ports are known, or those might be the same.
        let fronts: Vec<_> = (0..size).map(bind).collect();
        let members = ports(at, size);
        Self {
            fronts,
            members: members.into_iter().map(|port| (at, port).into()).collect(),
            clients: Mutex::default(),
        }
    }
}

impl Shared {
    fn weather(&self) -> MutexGuard<'_, HashMap<(End, End), Weather>> {
        self.weather.lock().expect("no panic elsewhere")
    }

    /// Carries a datagram over a link, with what the link does to it.
    fn carry(&self, link: (End, End), datagram: &[u8], by: &Arc<UdpSocket>, to: SocketAddr) {
        let weather = self.weather().get(&link).cloned();
        let weather = weather.unwrap_or(Weather::CLEAR);
        let mut random = self.random.lock().expect("no panic elsewhere");
        if weather.cut || random.percent(weather.lost) {
            return;
        }
        let mut datagram = datagram.to_vec();
        if random.percent(weather.corrupted) && !datagram.is_empty() {
            let at = random.below(datagram.len() as u64) as usize;
            datagram[at] ^= 1 << random.below(8);
        }
        let copies = 1 + u64::from(random.percent(weather.doubled));
        for _ in 0..copies {
            let delay = random.millis(weather.delay.clone());
            if delay.is_zero() {
                // A full buffer is one more way to lose a datagram.
                let _ = by.try_send_to(&datagram, to);
                continue;
            }
            let (by, datagram) = (by.clone(), datagram.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                let _ = by.try_send_to(&datagram, to);
            });
        }
    }
}

/// Takes what is sent to a member's front.
async fn front(shared: Arc<Shared>, plane: usize, at: usize) {
    let this = &shared.planes[plane];
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A socket tells here that a datagram sent earlier found nobody.
        let Ok((bytes, from)) = this.fronts[at].recv_from(&mut buffer).await else {
            continue;
        };
        let to = this.members[at];
        match this.members.iter().position(|member| *member == from) {
            Some(sender) => {
                let link = (End::Member(sender), End::Member(at));
                shared.carry(link, &buffer[..bytes], &this.fronts[sender], to);
            }
            None => {
                let link = (End::Clients, End::Member(at));
                if let Some(socket) = client(&shared, plane, at, from).await {
                    shared.carry(link, &buffer[..bytes], &socket, to);
                }
            }
        }
    }
}

/// The socket that stands for a client before a member.
async fn client(
    shared: &Arc<Shared>,
    plane: usize,
    at: usize,
    client: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    let this = &shared.planes[plane];
    let known = |plane: &Plane| {
        let clients = plane.clients.lock().expect("no panic elsewhere");
        clients.get(&(client, at)).cloned()
    };
    if let Some(socket) = known(this) {
        return Some(socket);
    }
    let local = SocketAddr::from((this.members[at].ip(), 0));
    let socket = Arc::new(UdpSocket::bind(local).await.ok()?);
    let mut clients = this.clients.lock().expect("no panic elsewhere");
    clients.insert((client, at), socket.clone());
    tokio::spawn(back(shared.clone(), plane, at, client, socket.clone()));
    Some(socket)
}

/// Takes what a member sends to a client.
async fn back(
    shared: Arc<Shared>,
    plane: usize,
    at: usize,
    client: SocketAddr,
    socket: Arc<UdpSocket>,
) {
    let this = &shared.planes[plane];
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while let Ok(received) =
        tokio::time::timeout(CLIENT_SILENT_MAX, socket.recv_from(&mut buffer)).await
    {
        let Ok((bytes, _)) = received else {
            continue;
        };
        let link = (End::Member(at), End::Clients);
        shared.carry(link, &buffer[..bytes], &this.fronts[at], client);
    }
    let mut clients = this.clients.lock().expect("no panic elsewhere");
    clients.remove(&(client, at));
}
