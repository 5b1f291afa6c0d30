//! The ways to one member: its connections, shared by all handles, and the streams on them.
//!
//! A killed process sends no farewell, and QUIC notices its silence only after seconds. So when a
//! request went unanswered, and nothing at all has come on its connection meanwhile, the member's connections are
//! set aside: what is on them may go on or end by itself, but whatever comes next dials anew. A member that only
//! has too much to do keeps them, or it would get more to do; others are asked rather than it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use kontiki_transport::{Connection, Expect, FrameReader, FrameWriter};
use kontiki_wire::{
    ClientStream, FrameKind, Request, Response, StreamEnd, limits::CLIENT_FRAME_BYTES_MAX,
};
use tokio::{
    net::lookup_host,
    sync::{OwnedMutexGuard, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{backoff::Backoff, dialler::Dialler};

/// Streams of producers and subscriptions on one connection. A member allows 64; the others are for
/// requests, which come and go.
const LASTING_STREAMS_MAX: usize = 52;
/// A connection is set aside when this part of the life of the member's certificate is left.
const STALE_PART: u32 = 12;
/// Connections to one member.
const CONNECTIONS_MAX: usize = 16;
/// Addresses that are tried for one member: the one it announces and those it was found at.
const ADDRESSES_MAX: usize = 4;
/// What a connection may receive ahead for everything but subscriptions.
const RECEIVE_WINDOW: u32 = 4 << 20;
/// What one more stream that nobody reads can hold back: so much more, that it holds up no other.
const STREAM_WINDOW: u32 = 1 << 20;
/// How long a member is left alone after it could not be reached.
const REDIAL: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How long others are asked rather than a member that did not answer.
const DOUBTED: Duration = Duration::from_secs(5);
/// How long an address is dialled before the next one is as well.
const NEXT_AFTER: Duration = Duration::from_millis(100);
/// How long one attempt to reach a member may take.
const DIAL_TIME_MAX: Duration = Duration::from_secs(3);

/// Why a member gave no answer, for people.
#[derive(Clone, Debug)]
pub(crate) struct NoAnswer {
    pub(crate) why: Arc<str>,
    /// Whether somebody answers at every address, and none of them and us accept each other: that
    /// does not pass by itself.
    pub(crate) strangers: bool,
    /// Whether the member may have been told what was asked.
    pub(crate) sent: bool,
}

impl NoAnswer {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string().into(),
            strangers: false,
            sent: false,
        }
    }

    fn of_dialling(address: &str, why: &kontiki_transport::Error) -> Self {
        let strangers = matches!(why, kontiki_transport::Error::Identity(_));
        let mut why = why.to_string();
        if !why.contains(address) {
            why = format!("{address}: {why}");
        }
        Self {
            strangers,
            ..Self::new(why)
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// One live connection, with what all its streams know of it.
#[derive(Clone)]
pub(crate) struct Link {
    connection: Connection,
    lasting: Arc<AtomicUsize>,
    aside: watch::Sender<bool>,
    /// Whether much was left of what the other side has shown when it was dialled.
    young: bool,
}

impl Link {
    fn new(connection: Connection) -> Self {
        let shown = connection.certificate();
        let life = shown.not_after.duration_since(shown.not_before);
        let left = shown.not_after.duration_since(SystemTime::now());
        let young = left.unwrap_or_default() >= life.unwrap_or_default() / STALE_PART;
        Self {
            connection,
            lasting: Arc::default(),
            aside: watch::Sender::new(false),
            young,
        }
    }

    /// The name that the member's certificate says.
    pub(crate) fn member(&self) -> &str {
        &self.connection.identity().name
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> String {
        self.connection.remote_address().to_string()
    }

    /// A count that grows when anything at all comes from the other side, as it does soon after anything was sent to
    /// one that lives.
    fn signs_of_life(&self) -> u64 {
        self.connection.datagrams_received()
    }

    /// Lets nothing new use it.
    fn set_aside(&self) {
        self.aside.send_replace(true);
    }

    /// Whether little is left of what the other side has shown.
    fn ends_soon(&self) -> bool {
        let shown = self.connection.certificate();
        let life = shown.not_after.duration_since(shown.not_before);
        let left = shown.not_after.duration_since(SystemTime::now());
        // One that was as old when it was dialled is no older now, and there is none that is younger.
        self.young && left.unwrap_or_default() < life.unwrap_or_default() / STALE_PART
    }

    fn is_aside(&self) -> bool {
        *self.aside.borrow()
    }

    fn size_window(&self) {
        let streams = self
            .lasting
            .load(Ordering::Relaxed)
            .min(LASTING_STREAMS_MAX);
        self.connection
            .set_receive_window(RECEIVE_WINDOW + STREAM_WINDOW * streams as u32);
    }
}

/// A place among a connection's streams; a lasting one is taken before the stream is opened, so that
/// many who open at once do not crowd one connection.
struct Place {
    link: Link,
    lasting: bool,
}

impl Place {
    fn take(link: &Link, lasting: bool) -> Self {
        if lasting {
            link.lasting.fetch_add(1, Ordering::Relaxed);
            link.size_window();
        }
        Self {
            link: link.clone(),
            lasting,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lasting {
            self.link.lasting.fetch_sub(1, Ordering::Relaxed);
            self.link.size_window();
        }
    }
}

/// A lasting stream to a member, whose purpose has not been said yet.
pub(crate) struct Stream {
    pub(crate) writer: FrameWriter,
    pub(crate) reader: FrameReader,
    place: Place,
}

impl Stream {
    /// Resolves when somebody has found that the other side has fallen silent.
    pub(crate) fn distrusted(&self) -> impl Future<Output = ()> + use<> {
        let mut aside = self.place.link.aside.subscribe();
        async move {
            // It cannot go away while the stream is there.
            let _ = aside.wait_for(|aside| *aside).await;
        }
    }
}

/// One member: where it is and the connections to it.
pub(crate) struct Member {
    name: Arc<str>,
    dialler: Dialler,
    addresses: Mutex<Vec<String>>,
    links: Arc<Mutex<Vec<Link>>>,
    redial: Arc<tokio::sync::Mutex<Redial>>,
    /// When the last that was asked of it had not been answered in time, if it was not.
    owes_since: Mutex<Option<Instant>>,
    /// Whether somebody finds out whether it lives.
    examined: AtomicBool,
}

struct Redial {
    backoff: Backoff,
    not_before: Option<Instant>,
    last: NoAnswer,
}

impl Member {
    pub(crate) fn new(name: &str, dialler: Dialler) -> Self {
        Self {
            name: name.into(),
            dialler,
            addresses: Mutex::default(),
            links: Arc::default(),
            redial: Arc::new(tokio::sync::Mutex::new(Redial {
                backoff: REDIAL,
                not_before: None,
                last: NoAnswer::new("not tried yet"),
            })),
            owes_since: Mutex::default(),
            examined: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Adds an address. The one that the member itself announces goes first.
    pub(crate) fn found_at(&self, address: &str, announced: bool) {
        let mut addresses = lock(&self.addresses);
        if announced {
            addresses.retain(|known| known != address);
            addresses.insert(0, address.to_owned());
        } else if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
        addresses.truncate(ADDRESSES_MAX);
    }

    /// Whether there is a connection that nothing is known against.
    pub(crate) fn lives(&self) -> bool {
        lock(&self.links).iter().any(|link| !link.is_aside())
    }

    /// Whether it lives and answers.
    pub(crate) fn is_well(&self) -> bool {
        let owes = lock(&self.owes_since).is_some_and(|since| since.elapsed() < DOUBTED);
        !owes && self.lives()
    }

    /// It owes somebody an answer. Returns whether nobody else finds out yet whether it lives; whoever does says so
    /// when it is done.
    pub(crate) fn suspect(&self) -> bool {
        *lock(&self.owes_since) = Some(Instant::now());
        !self.examined.swap(true, Ordering::Relaxed)
    }

    /// It was found out whether it lives.
    pub(crate) fn was_examined(&self) {
        self.examined.store(false, Ordering::Relaxed);
    }

    /// It has fallen silent: lets nothing new use the connections there are.
    fn distrust(&self) {
        for link in lock(&self.links).drain(..) {
            link.set_aside();
        }
    }

    /// Takes up a connection that was made by address alone.
    pub(crate) fn adopt(&self, link: Link) {
        adopt(&self.links, link);
    }

    /// A stream for a producer or a subscription.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<Stream, NoAnswer> {
        let (place, (writer, reader)) = self.stream(true, deadline).await?;
        Ok(Stream {
            writer,
            reader,
            place,
        })
    }

    /// Asks one request on a stream of its own. No answer within `time`, and not even a sign of life, sets
    /// the member's connections aside.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        time: Duration,
        deadline: Instant,
    ) -> Result<Response, NoAnswer> {
        let (place, stream) = self.stream(false, deadline).await?;
        let until = deadline.min(Instant::now() + time);
        let signs = place.link.signs_of_life();
        let sent = |why: NoAnswer| NoAnswer { sent: true, ..why };
        match timeout_at(until, exchange(stream, request)).await {
            Ok(answer) => {
                *lock(&self.owes_since) = None;
                answer.map_err(|why| sent(self.unanswered(why)))
            }
            Err(_) => {
                // A deadline that comes sooner says nothing about the member.
                if until < deadline {
                    *lock(&self.owes_since) = Some(Instant::now());
                    if place.link.signs_of_life() == signs {
                        self.distrust();
                    }
                }
                Err(sent(self.unanswered("it does not answer")))
            }
        }
    }

    fn unanswered(&self, why: impl fmt::Display) -> NoAnswer {
        unanswered(&self.name, why)
    }

    /// A new stream on a connection with a place for it, dialling one if there is none. A connection
    /// that turns out to be gone is forgotten and another one made.
    async fn stream(
        &self,
        lasting: bool,
        deadline: Instant,
    ) -> Result<(Place, (FrameWriter, FrameReader)), NoAnswer> {
        loop {
            let (place, fresh) = self.place(lasting, deadline).await?;
            match timeout_at(deadline, place.link.connection.open()).await {
                Ok(Ok(stream)) => return Ok((place, stream)),
                Ok(Err(why)) => {
                    self.forget(&place.link);
                    if fresh {
                        return Err(self.unanswered(why));
                    }
                }
                Err(_) => return Err(self.unanswered("it lets no more streams be opened")),
            }
        }
    }

    /// A place on a connection there is. When there are as many as may be, they are shared by more.
    fn existing(&self, lasting: bool) -> Option<Place> {
        let mut links = lock(&self.links);
        // The streams of one whose other side's certificate ends soon go on elsewhere before it does.
        for stale in links.iter().filter(|link| link.ends_soon()) {
            stale.set_aside();
        }
        links.retain(|link| !link.is_aside());
        let used = |link: &Link| link.lasting.load(Ordering::Relaxed);
        let least = links.iter().min_by_key(|link| used(link))?;
        let fits = !lasting || used(least) < LASTING_STREAMS_MAX || links.len() >= CONNECTIONS_MAX;
        fits.then(|| Place::take(least, lasting))
    }

    fn forget(&self, gone: &Link) {
        gone.set_aside();
        lock(&self.links).retain(|link| !link.is_aside());
    }

    /// A place on a connection, and whether that was made just now. One attempt at a time, for all who
    /// wait; after a failed one the member is left alone for a moment.
    ///
    /// An attempt that has begun goes on when nobody waits for it any more: half a handshake costs both sides nearly
    /// as much as a whole one, and members that are slow are those who are asked for something again and again.
    async fn place(&self, lasting: bool, deadline: Instant) -> Result<(Place, bool), NoAnswer> {
        if let Some(place) = self.existing(lasting) {
            return Ok((place, false));
        }
        let redial = Arc::clone(&self.redial);
        let Ok(redial) = timeout_at(deadline, redial.lock_owned()).await else {
            return Err(self.unanswered("it is still being dialled"));
        };
        if let Some(place) = self.existing(lasting) {
            return Ok((place, false));
        }
        if redial.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(redial.last.clone());
        }
        let addresses = lock(&self.addresses).clone();
        let silent = format!("{} does not answer", addresses.join(" or "));
        let dialled = tokio::spawn(self.dialled(addresses, lasting, redial));
        match timeout_at(deadline, dialled).await {
            Ok(Ok(Ok(place))) => Ok((place, true)),
            Ok(Ok(Err(why))) => Err(why),
            Ok(Err(why)) => Err(self.unanswered(why)),
            Err(_) => Err(self.unanswered(silent)),
        }
    }

    /// One attempt to reach the member, with a place for whoever has begun it. What comes of it is there for all.
    fn dialled(
        &self,
        addresses: Vec<String>,
        lasting: bool,
        mut redial: OwnedMutexGuard<Redial>,
    ) -> impl Future<Output = Result<Place, NoAnswer>> + use<> {
        let (name, links) = (Arc::clone(&self.name), Arc::clone(&self.links));
        let dialler = self.dialler.clone();
        async move {
            let until = Instant::now() + DIAL_TIME_MAX;
            let expect = Expect::Node(name.to_string());
            match dial(&dialler, &addresses, &expect, until).await {
                Ok(link) => {
                    redial.backoff.reset();
                    redial.not_before = None;
                    // Before others who have waited take all there are.
                    let place = Place::take(&link, lasting);
                    adopt(&links, link);
                    Ok(place)
                }
                Err(why) => {
                    redial.not_before = Some(Instant::now() + redial.backoff.delay());
                    redial.last = unanswered(&name, why);
                    Err(redial.last.clone())
                }
            }
        }
    }
}

fn unanswered(name: &str, why: impl fmt::Display) -> NoAnswer {
    NoAnswer::new(format_args!("{name}: {why}"))
}

fn adopt(links: &Mutex<Vec<Link>>, link: Link) {
    let mut links = lock(links);
    if links.len() < CONNECTIONS_MAX {
        links.push(link);
    }
}

/// Dials one of these addresses after the other, the next whenever the last has not answered for a moment or has
/// failed. The first that answers as expected is taken.
pub(crate) async fn dial(
    dialler: &Dialler,
    addresses: &[String],
    expect: &Expect,
    deadline: Instant,
) -> Result<Link, NoAnswer> {
    let attempts: Vec<_> = addresses
        .iter()
        .map(|address| {
            let (dialler, address, expect) = (dialler.clone(), address.clone(), expect.clone());
            async move {
                match timeout_at(deadline, dial_one(&dialler, &address, &expect)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(NoAnswer::new(format_args!("{address} does not answer"))),
                }
            }
        })
        .collect();
    first_of(attempts.into_iter(), NoAnswer::new("it has no address")).await
}

/// A name may mean an address of each family, of which only one is listened at.
async fn dial_one(dialler: &Dialler, address: &str, expect: &Expect) -> Result<Link, NoAnswer> {
    let found = lookup_host(address)
        .await
        .map_err(|why| NoAnswer::new(format_args!("{address} cannot be looked up: {why}")))?;
    let attempts = found.take(ADDRESSES_MAX).map(|to| {
        let (dialler, address, expect) = (dialler.clone(), address.to_owned(), expect.clone());
        async move {
            match dialler.connect(to, expect).await {
                Ok(connection) => Ok(Link::new(connection)),
                Err(why) => Err(NoAnswer::of_dialling(&address, &why)),
            }
        }
    });
    let nothing = NoAnswer::new(format_args!("{address} means no address"));
    first_of(attempts, nothing).await
}

/// The first success; the other attempts are given up. All at once would cost the whole cluster a handshake each for
/// one that is used.
async fn first_of<T, A>(waiting: impl Iterator<Item = A>, nothing: NoAnswer) -> Result<T, NoAnswer>
where
    T: Send + 'static,
    A: Future<Output = Result<T, NoAnswer>> + Send + 'static,
{
    let mut waiting = waiting.peekable();
    let mut begun = JoinSet::new();
    let mut last: Option<NoAnswer> = None;
    loop {
        if let Some(next) = waiting.next() {
            begun.spawn(next);
        } else if begun.is_empty() {
            return Err(last.unwrap_or(nothing));
        }
        let more = waiting.peek().is_some();
        let ended = tokio::select! {
            biased;
            Some(ended) = begun.join_next() => ended,
            () = sleep(NEXT_AFTER), if more => continue,
        };
        let why = match ended {
            Ok(Ok(first)) => return Ok(first),
            Ok(Err(why)) => why,
            Err(why) => NoAnswer::new(why),
        };
        let strangers = why.strangers && last.is_none_or(|last| last.strangers);
        last = Some(NoAnswer { strangers, ..why });
    }
}

async fn exchange(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    request: &Request,
) -> Result<Response, NoAnswer> {
    let mut bytes = BytesMut::new();
    ClientStream::Requests.encode(&mut bytes);
    request.encode(&mut bytes);
    writer.write(bytes.freeze()).await.map_err(NoAnswer::new)?;
    writer.finish();
    match reader.next(CLIENT_FRAME_BYTES_MAX).await {
        Ok(Some(frame)) if frame.kind == FrameKind::End => match StreamEnd::decode(&frame) {
            Ok(StreamEnd::Refused(refusal)) => Ok(Response::Refused(refusal)),
            _ => Err(NoAnswer::new("it ended the stream without an answer")),
        },
        Ok(Some(frame)) => Response::decode(&frame).map_err(NoAnswer::new),
        Ok(None) => Err(NoAnswer::new("it ended the stream without an answer")),
        Err(why) => Err(NoAnswer::new(why)),
    }
}

/// Nothing that is done under these locks can leave things half-done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use kontiki_transport::{Authority, Credentials, Endpoint, Identity, Plane, Role};
    use kontiki_wire::ClusterId;
    use tokio::time::{pause, timeout};

    use super::*;

    /// Attempts that succeed or fail after so many milliseconds, and how many were begun.
    async fn first(attempts: &[(u64, bool)]) -> (Result<usize, NoAnswer>, usize) {
        let begun = Arc::new(AtomicUsize::new(0));
        let all = attempts.iter().enumerate().map(|(at, &(after, succeeds))| {
            let begun = Arc::clone(&begun);
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(after)).await;
                succeeds.then_some(at).ok_or_else(|| NoAnswer::new(at))
            }
        });
        let first = first_of(all, NoAnswer::new("there is none")).await;
        (first, begun.load(Ordering::Relaxed))
    }

    /// Every client that began had all members make a handshake, of which it used one.
    #[tokio::test(flavor = "current_thread")]
    async fn the_next_address_is_dialled_when_the_last_is_slow_or_has_failed() {
        pause();
        let (used, begun) = first(&[(20, true), (0, true)]).await;
        assert_eq!((used.unwrap(), begun), (0, 1), "one was enough");
        let (used, begun) = first(&[(2_000, true), (150, false), (30, true)]).await;
        assert_eq!((used.unwrap(), begun), (2, 3), "slow, and failed later");
        let (used, begun) = first(&[(10, false), (80, true), (0, true)]).await;
        assert_eq!((used.unwrap(), begun), (1, 2), "failed");
        let (used, begun) = first(&[(150, true), (500, true)]).await;
        assert_eq!((used.unwrap(), begun), (0, 2), "slow, and first");
        let (used, _) = first(&[(300, false), (10, false)]).await;
        assert_eq!(used.unwrap_err().to_string(), "0", "the last that failed");
        let (used, _) = first(&[]).await;
        assert_eq!(used.unwrap_err().to_string(), "there is none");
    }

    /// A member had to be dialled once for everybody who asked it and did not wait, and each time in vain.
    #[tokio::test]
    async fn dialling_goes_on_when_nobody_waits_for_it_any_more() {
        let hour = Duration::from_secs(3600);
        let authority = || Authority::new("a test's", hour).unwrap();
        let (nodes, clients) = (authority(), authority());
        let issue = |by: &Authority, role, name| {
            let identity = Identity::new(ClusterId(7), role, name).unwrap();
            by.issue(&identity, hour).unwrap()
        };
        let node = issue(&nodes, Role::Node, "n1");
        let [nodes, clients_pem] = [&nodes, &clients].map(Authority::certificate_pem);
        let listener =
            Credentials::from_pem(&node.certificate_pem, &node.key_pem, nodes, clients_pem);
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Endpoint::listen(any, Plane::Clients, &listener.unwrap()).unwrap();
        let me = issue(&clients, Role::Producer, "shop");
        let me = Credentials::from_pem(&me.certificate_pem, &me.key_pem, nodes, "").unwrap();
        let dialler = Dialler::new(Endpoint::dialer(Plane::Clients, &me).unwrap(), None);
        let member = Member::new("n1", dialler);
        member.found_at(&listener.local_address().to_string(), true);

        let at_once = Instant::now();
        let asked = member.ask(&Request::Status, DIAL_TIME_MAX, at_once).await;
        let why = asked.unwrap_err().to_string();
        assert!(why.ends_with("does not answer"), "{why}");
        let reached = async {
            while !member.lives() {
                tokio::task::yield_now().await;
            }
        };
        timeout(4 * DIAL_TIME_MAX, reached).await.unwrap();
    }
}
