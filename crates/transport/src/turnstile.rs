//! Shares the places for handshakes fairly among the addresses that dialers come from.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{Limits, pace::Pace};

/// Handshakes under way and dialers that wait for one.
///
/// Whoever waits, waits behind those of the same origin only: an address that answers and lets its
/// handshakes hang holds up nobody but itself.
pub(crate) struct Turnstile {
    limits: Limits,
    pace: Pace,
    places: Arc<Semaphore>,
    /// Those in here, under way or waiting.
    inside: AtomicUsize,
    origins: Mutex<HashMap<IpAddr, Origin>>,
}

struct Origin {
    /// Those of this origin in here. When it falls to none the origin is forgotten, which bounds the
    /// map by those in here.
    inside: usize,
    places: Arc<Semaphore>,
}

/// One dialer inside the turnstile; it leaves when this is dropped.
pub(crate) struct Pass {
    turnstile: Arc<Turnstile>,
    origin: IpAddr,
    own_places: Arc<Semaphore>,
}

/// A place for one handshake.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turnstile {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            pace: Pace::new(limits.handshakes_per_second, limits.handshakes_in_a_burst),
            places: Arc::new(Semaphore::new(limits.handshakes)),
            inside: AtomicUsize::new(0),
            origins: Mutex::default(),
        })
    }

    /// Whether so many are inside that an address must first prove that it can be answered.
    pub(crate) fn is_crowded(&self) -> bool {
        self.inside.load(Ordering::Relaxed) >= self.limits.handshakes_unproven
    }

    /// Lets one more in, unless its origin has too many inside.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Pass> {
        let origin = origin(from);
        let own_places = {
            let mut origins = self.origins();
            let of_origin = origins.entry(origin).or_insert_with(|| Origin {
                inside: 0,
                places: Arc::new(Semaphore::new(self.limits.handshakes_per_origin)),
            });
            if of_origin.inside >= self.limits.arrivals_per_origin {
                return None;
            }
            of_origin.inside += 1;
            Arc::clone(&of_origin.places)
        };
        self.inside.fetch_add(1, Ordering::Relaxed);
        Some(Pass {
            turnstile: Arc::clone(self),
            origin,
            own_places,
        })
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<IpAddr, Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Waits for a place for so long at most. Who waits in vain has taken nobody's turn. Cancel-safe, though the
    /// turn is lost.
    pub(crate) async fn place_within(&self, longest: Duration) -> Option<Place> {
        let by = Instant::now() + longest;
        let own = Arc::clone(&self.own_places).acquire_owned();
        let own = timeout_at(by, own).await.ok()?;
        let of_all = Arc::clone(&self.turnstile.places).acquire_owned();
        let of_all = timeout_at(by, of_all).await.ok()?;
        let left = by.saturating_duration_since(Instant::now());
        let in_time = self.turnstile.pace.turn_within(left).await;
        in_time.then(|| Place {
            _own: own.expect("never closed"),
            _of_all: of_all.expect("never closed"),
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turnstile.inside.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut origin) = self.turnstile.origins().entry(self.origin) {
            origin.get_mut().inside -= 1;
            if origin.get().inside == 0 {
                origin.remove();
            }
        }
    }
}

/// Who shares an address: a whole network of IPv6, as one host has all of its addresses.
fn origin(from: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::*;

    fn turnstile() -> Arc<Turnstile> {
        Turnstile::new(Limits {
            connections: 100,
            connections_per_identity: 100,
            strangers: 100,
            stranger_time: Duration::MAX,
            unfinished_bytes: 100,
            handshakes: 3,
            handshakes_per_second: 1_000,
            handshakes_in_a_burst: 1_000,
            handshakes_unproven: 2,
            handshakes_per_origin: 2,
            arrivals_per_origin: 3,
        })
    }

    async fn at_once<F: Future>(future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    const LONG: Duration = Duration::from_secs(60);
    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[tokio::test]
    async fn an_origin_whose_handshakes_hang_holds_up_only_itself() {
        let turnstile = turnstile();
        let passes: Vec<_> = (0..3).map_while(|_| turnstile.enter(ONE)).collect();
        assert_eq!(passes.len(), 3);
        let _first = at_once(passes[0].place_within(LONG))
            .await
            .expect("a place");
        let _second = at_once(passes[1].place_within(LONG))
            .await
            .expect("a place");
        assert!(
            at_once(passes[2].place_within(LONG)).await.is_none(),
            "a third of one origin"
        );
        let other = turnstile.enter(TWO).expect("room");
        assert!(
            at_once(other.place_within(LONG)).await.is_some(),
            "one of another origin"
        );
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_place_that_is_given_up() {
        let turnstile = turnstile();
        let passes: Vec<_> = (0..3).map_while(|_| turnstile.enter(ONE)).collect();
        let first = at_once(passes[0].place_within(LONG))
            .await
            .expect("a place");
        let _second = at_once(passes[1].place_within(LONG))
            .await
            .expect("a place");
        let mut third = pin!(passes[2].place_within(LONG));
        assert!(at_once(third.as_mut()).await.is_none());
        drop(first);
        assert!(at_once(third).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_in_vain_takes_nobodys_turn() {
        let turnstile = Turnstile::new(Limits {
            handshakes_per_second: 10,
            handshakes_in_a_burst: 1,
            ..turnstile().limits
        });
        let passes: Vec<_> = (0..3).map_while(|_| turnstile.enter(ONE)).collect();
        let short = Duration::from_millis(50);
        while passes[0].place_within(short).await.is_some() {}
        let since = Instant::now();
        for _ in 0..20 {
            assert!(passes[1].place_within(short).await.is_none());
        }
        assert!(passes[2].place_within(LONG).await.is_some());
        assert!(since.elapsed() <= Duration::from_millis(100));
    }

    #[test]
    fn an_origin_has_so_many_inside_and_no_more() {
        let turnstile = turnstile();
        let mut passes: Vec<_> = (0..4).map_while(|_| turnstile.enter(ONE)).collect();
        assert_eq!(passes.len(), 3);
        assert!(turnstile.enter(TWO).is_some());
        passes.pop();
        assert!(turnstile.enter(ONE).is_some());
    }

    #[test]
    fn it_is_crowded_as_long_as_many_are_inside_and_forgets_who_left() {
        let turnstile = turnstile();
        let first = turnstile.enter(ONE);
        assert!(!turnstile.is_crowded());
        let second = turnstile.enter(TWO);
        assert!(turnstile.is_crowded());
        drop((first, second));
        assert!(!turnstile.is_crowded());
        assert!(turnstile.origins().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let at = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
