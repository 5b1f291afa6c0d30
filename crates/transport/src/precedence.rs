//! Who goes first where all of a member's tasks share a thread: what members say to each other, before what clients do.
//!
//! The runtime polls its tasks in turn, by and large in the order in which they became ready. With a thousand busy clients a round of all of
//! them takes longer than a follower waits for its leader, and what passes through several tasks, as a beat does, takes
//! several rounds: leaders were deposed because their members had much to do. So a task of a client passes while one of
//! a peer has waited for a moment. To pass costs a fraction of a microsecond.

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::Plane;

/// How long a task of the peers' plane may be ready before those of clients pass. Less than that is a round with few
/// clients, whose order is as good as any.
const WAITS_MAX: Duration = Duration::from_millis(4);
/// How often a task passes before it has its turn all the same.
const PASSES_MAX: u32 = 64;

/// What the tasks of one member know of each other. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Precedence(Arc<State>);

#[derive(Debug)]
struct State {
    begun: Instant,
    waiting: Mutex<Waiting>,
    /// When the first of those who wait became ready, in microseconds, or [`NEVER`]: all that tasks of clients look at.
    since: AtomicU64,
}

/// Tasks of the peers' plane that are ready and have not been polled.
#[derive(Debug, Default)]
struct Waiting {
    tickets: u64,
    /// When each of them became ready, by its ticket: the first has waited longest.
    since: BTreeMap<u64, u64>,
}

const NEVER: u64 = u64::MAX;

impl Default for Precedence {
    fn default() -> Self {
        Self(Arc::new(State {
            begun: Instant::now(),
            waiting: Mutex::default(),
            since: AtomicU64::new(NEVER),
        }))
    }
}

impl Precedence {
    /// The same task, which others let pass. It counts as ready from now on, and is to be spawned at once.
    pub fn first<T: 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        First {
            task: Box::pin(task),
            ready: Arc::new(Ready::new(&self.0)),
        }
    }

    /// Lets clients pass as if a task were ready, for one that waits until the runtime has gone round.
    #[must_use]
    pub fn waits(&self) -> impl Drop + Send + use<> {
        Waits {
            ticket: self.0.enter(),
            state: Arc::clone(&self.0),
        }
    }

    /// The same task in the order of its plane.
    pub(crate) fn of<T: 'static>(
        &self,
        plane: Plane,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = T> + Send>> {
        match plane {
            Plane::Peers => Box::pin(self.first(task)),
            Plane::Clients => Box::pin(self.after(task)),
        }
    }

    /// The same task, which lets others pass.
    pub fn after<T: 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        After {
            task: Box::pin(task),
            state: Arc::clone(&self.0),
            passed: 0,
        }
    }

    /// What an endpoint of a plane runs its tasks by.
    pub(crate) fn runtime(&self, plane: Plane) -> Arc<dyn Runtime> {
        Arc::new(Ordered {
            precedence: self.clone(),
            plane,
        })
    }
}

impl State {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// One more waits, with the ticket that is returned.
    fn enter(&self) -> u64 {
        let mut waiting = lock(&self.waiting);
        let ticket = waiting.tickets;
        waiting.tickets += 1;
        waiting.since.insert(ticket, self.now());
        self.show(&waiting);
        ticket
    }

    fn leave(&self, ticket: u64) {
        let mut waiting = lock(&self.waiting);
        waiting.since.remove(&ticket);
        self.show(&waiting);
    }

    fn show(&self, waiting: &Waiting) {
        let first = waiting.since.values().next();
        self.since
            .store(first.copied().unwrap_or(NEVER), Ordering::Relaxed);
    }

    fn somebody_has_waited(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != NEVER && self.now().saturating_sub(since) > WAITS_MAX.as_micros() as u64
    }
}

/// Nothing that is done under these locks can leave things half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a task of the peers' plane waits for its turn, and how the runtime is told so.
struct Ready {
    state: Arc<State>,
    told: Mutex<Told>,
}

struct Told {
    turn: Turn,
    waker: Waker,
}

enum Turn {
    Idle,
    Waiting(u64),
    Ended,
}

impl Ready {
    /// It waits from the beginning, for its first turn.
    fn new(state: &Arc<State>) -> Self {
        let told = Told {
            turn: Turn::Waiting(state.enter()),
            waker: Waker::noop().clone(),
        };
        Self {
            state: Arc::clone(state),
            told: Mutex::new(told),
        }
    }

    fn goes(&self, told: &mut Told, to: Turn) {
        if let Turn::Waiting(ticket) = mem::replace(&mut told.turn, to) {
            self.state.leave(ticket);
        }
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut told = lock(&self.told);
        if matches!(told.turn, Turn::Idle) {
            told.turn = Turn::Waiting(self.state.enter());
        }
        // Under the lock: all that it does is to put the task into the runtime's queue.
        told.waker.wake_by_ref();
    }
}

struct First<T> {
    task: Pin<Box<dyn Future<Output = T> + Send>>,
    ready: Arc<Ready>,
}

impl<T> Future for First<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut told = lock(&self.ready.told);
        told.waker.clone_from(context.waker());
        // Before it runs, so that whoever wakes it meanwhile is heard.
        self.ready.goes(&mut told, Turn::Idle);
        drop(told);
        let waker = Waker::from(Arc::clone(&self.ready));
        self.task.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

impl<T> Drop for First<T> {
    fn drop(&mut self) {
        self.ready.goes(&mut lock(&self.ready.told), Turn::Ended);
    }
}

struct Waits {
    ticket: u64,
    state: Arc<State>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.state.leave(self.ticket);
    }
}

struct After<T> {
    task: Pin<Box<dyn Future<Output = T> + Send>>,
    state: Arc<State>,
    /// How often it has let others pass since its last turn.
    passed: u32,
}

impl<T> Future for After<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if self.passed < PASSES_MAX && self.state.somebody_has_waited() {
            self.passed += 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.passed = 0;
        self.task.as_mut().poll(context)
    }
}

/// Tokio's runtime, with the tasks of an endpoint in their order.
#[derive(Debug)]
struct Ordered {
    precedence: Precedence,
    plane: Plane,
}

impl Runtime for Ordered {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(self.precedence.of(self.plane, task));
    }

    fn wrap_udp_socket(
        &self,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use tokio::time::{sleep, timeout};

    use super::*;

    /// Is ready again at once; what tokio has for that waits until it has asked for what has come from outside.
    async fn yield_now() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn waiting(precedence: &Precedence) -> usize {
        lock(&precedence.0.waiting).since.len()
    }

    fn work(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {}
    }

    /// Clients that keep the thread busy, each for so long in a turn: counts their turns.
    fn crowd(
        precedence: &Precedence,
        clients: usize,
        turn: Duration,
    ) -> (Arc<AtomicUsize>, Arc<AtomicBool>) {
        let turns = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        for _ in 0..clients {
            let (turns, ended) = (Arc::clone(&turns), Arc::clone(&ended));
            tokio::spawn(precedence.after(async move {
                while !ended.load(Ordering::Relaxed) {
                    turns.fetch_add(1, Ordering::Relaxed);
                    work(turn);
                    yield_now().await;
                }
            }));
        }
        (turns, ended)
    }

    /// How many turns of such a crowd one of the first waits for.
    async fn turns_waited(precedence: &Precedence, clients: usize) -> usize {
        let (turns, ended) = crowd(precedence, clients, WAITS_MAX / 4);
        let counted = Arc::clone(&turns);
        let first = tokio::spawn(precedence.first(async move {
            let mut most = 0;
            for _ in 0..5 {
                let before = counted.load(Ordering::Relaxed);
                yield_now().await;
                most = most.max(counted.load(Ordering::Relaxed) - before);
            }
            most
        }));
        let most = first.await.unwrap();
        ended.store(true, Ordering::Relaxed);
        most
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_of_the_first_does_not_wait_for_a_round_of_all() {
        let precedence = Precedence::default();
        let waited = turns_waited(&precedence, 100).await;
        assert!((1..=10).contains(&waited), "{waited} turns");
        assert_eq!(waiting(&precedence), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn clients_have_their_turn_though_one_of_the_first_is_always_ready() {
        let precedence = Precedence::default();
        // As if one were ready for ever: nobody polls it.
        let _waits = precedence.waits();
        sleep(2 * WAITS_MAX).await;
        assert!(precedence.0.somebody_has_waited());
        let turn = tokio::spawn(precedence.after(async { 7 }));
        let turn = timeout(Duration::from_secs(20), turn).await;
        assert_eq!(turn.unwrap().unwrap(), 7);
    }

    /// Who was woken by another thread is polled after some who came later.
    #[tokio::test(flavor = "current_thread")]
    async fn one_that_waits_counts_though_others_came_later_and_have_gone() {
        let precedence = Precedence::default();
        let long = precedence.waits();
        sleep(2 * WAITS_MAX).await;
        let later = precedence.waits();
        drop(later);
        assert!(precedence.0.somebody_has_waited());
        let begun = Instant::now();
        let later = precedence.waits();
        drop(long);
        let waited = precedence.0.somebody_has_waited();
        assert!(!waited || begun.elapsed() > WAITS_MAX, "it has just come");
        drop(later);
        assert!(!precedence.0.somebody_has_waited());
    }

    /// Two of the first that overlap were taken for one that waits since the first of them came.
    #[tokio::test(flavor = "current_thread")]
    async fn clients_have_their_part_where_several_of_the_first_are_busy_and_none_waits_long() {
        let precedence = Precedence::default();
        let short = WAITS_MAX / 40;
        let (turns, ended) = crowd(&precedence, 4, short);
        let firsts = [(); 3].map(|()| {
            tokio::spawn(precedence.first(async move {
                for _ in 0..200 {
                    work(short);
                    yield_now().await;
                }
            }))
        });
        for first in firsts {
            first.await.unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        let turns = turns.load(Ordering::Relaxed);
        // A round of all is far less than what one may wait for, unless the machine stands still: then some pass. Of
        // 64 turns they had one.
        assert!(turns >= 4 * 200 / 8, "{turns} turns");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_ends_while_it_is_ready_holds_up_nobody() {
        let precedence = Precedence::default();
        let waker = Arc::new(Mutex::new(None));
        let told = Arc::clone(&waker);
        let mut first = Box::pin(precedence.first(std::future::poll_fn(move |context| {
            *told.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        })));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(waiting(&precedence), 1, "for its first turn");
        assert!(first.as_mut().poll(&mut context).is_pending());
        let waker: Waker = waker.lock().unwrap().take().unwrap();
        assert_eq!(waiting(&precedence), 0);
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(waiting(&precedence), 1);
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert_eq!(waiting(&precedence), 0);
        waker.wake_by_ref();
        assert_eq!(waiting(&precedence), 1);
        drop(first);
        assert_eq!(waiting(&precedence), 0);
        waker.wake();
        assert_eq!(waiting(&precedence), 0, "it was woken after its end");
    }
}
