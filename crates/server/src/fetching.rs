//! Fetches the log of a group from a peer, on a connection that is dialled for that alone, and hands it to
//! the disk piece by piece.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use kontiki_broker::Input;
use kontiki_raft::NodeRef;
use kontiki_storage::{Incoming, NotTaken, Storage};
use kontiki_transport::{Connection, Endpoint, Expect, FrameReader};
use kontiki_wire::{
    FrameKind, GroupId, Inquiry, Member, PeerHello, Stock, limits::PEER_FRAME_BYTES_MAX,
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

use crate::{
    budget::Budget,
    dialling::dial,
    limits::{BULK_WINDOW_BYTES, DIAL_MAX, FETCH_SILENCE_MAX, FETCH_TOLD_EVERY, SHIPPED_AHEAD_MAX},
};

/// The fetches of this member.
pub(crate) struct Fetches {
    storage: Storage,
    inputs: mpsc::Sender<Input>,
    budget: Arc<Budget>,
    jobs: Jobs,
    done: Done,
}

/// What is under way, for a group at most one each. Ends with its owner.
#[derive(Default)]
struct Jobs {
    by_group: BTreeMap<GroupId, AbortHandle>,
}

/// Logs that are here whole, until their groups begin with them.
type Done = Arc<Mutex<BTreeMap<GroupId, Incoming>>>;

/// How a peer is reached.
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    pub(crate) member: Member,
    /// What the stream opens with.
    pub(crate) hello: PeerHello,
}

impl Fetches {
    pub(crate) fn new(storage: Storage, inputs: mpsc::Sender<Input>, budget: Arc<Budget>) -> Self {
        Self {
            storage,
            inputs,
            budget,
            jobs: Jobs::default(),
            done: Done::default(),
        }
    }

    /// Fetches from a peer; without a way to it, that has failed.
    pub(crate) fn start(&mut self, group: GroupId, from: NodeRef, way: Option<Way>) {
        self.stop(group);
        let (storage, inputs) = (self.storage.clone(), self.inputs.clone());
        let (budget, done) = (Arc::clone(&self.budget), Arc::clone(&self.done));
        let job = tokio::spawn(async move {
            let fetched = match way {
                None => Err("there is no way to it".to_owned()),
                Some(way) => fetch(group, &way, &storage, &inputs, &budget).await,
            };
            let failed = match fetched {
                Ok(incoming) => {
                    lock(&done).insert(group, incoming);
                    None
                }
                Err(why) => Some(why),
            };
            let ended = Input::Fetched {
                group,
                from,
                failed,
            };
            // Nobody hears it any more when the member is stopping.
            let _ = inputs.send(ended).await;
        });
        self.jobs.begun(group, job.abort_handle());
    }

    /// Nothing more of it is wanted.
    pub(crate) fn stop(&mut self, group: GroupId) {
        self.jobs.stop(group);
        lock(&self.done).remove(&group);
    }

    /// Has the group begin with what was fetched.
    pub(crate) fn adopt(&mut self, me: NodeRef, group: GroupId, forgot: bool) {
        let fetched = lock(&self.done).remove(&group);
        let (storage, inputs) = (self.storage.clone(), self.inputs.clone());
        let job = tokio::spawn(async move {
            let adopted = spawn_blocking(move || {
                let incoming = match fetched {
                    Some(incoming) => incoming,
                    None => storage.take_in(group)?,
                };
                storage.adopt(incoming, forgot)
            });
            if let Ok(Err(error)) = adopted.await {
                let ended = Input::Fetched {
                    group,
                    from: me,
                    failed: Some(error.to_string()),
                };
                // Nobody hears it any more when the member is stopping.
                let _ = inputs.send(ended).await;
            }
        });
        self.jobs.begun(group, job.abort_handle());
    }
}

impl Jobs {
    /// One has begun. Those that have ended are forgotten.
    fn begun(&mut self, group: GroupId, job: AbortHandle) {
        self.by_group.retain(|_, job| !job.is_finished());
        self.by_group.insert(group, job);
    }

    fn stop(&mut self, group: GroupId) {
        if let Some(job) = self.by_group.remove(&group) {
            job.abort();
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in self.by_group.values() {
            job.abort();
        }
    }
}

/// Fetches all there is; says why not.
async fn fetch(
    group: GroupId,
    way: &Way,
    storage: &Storage,
    inputs: &mpsc::Sender<Input>,
    budget: &Budget,
) -> Result<Incoming, String> {
    let disk = storage.clone();
    let incoming = spawn_blocking(move || disk.take_in(group)).await;
    let incoming = incoming.map_err(|error| error.to_string())?;
    let incoming = incoming.map_err(|error| error.to_string())?;
    let asked = Inquiry {
        group,
        first: incoming.next(),
    };
    let opened = timeout(DIAL_MAX, open(way, asked)).await;
    let opened = opened.map_err(|_| "it does not answer".to_owned())?;
    let (connection, mut reader) = opened.map_err(|error| error.to_string())?;
    let stock = Stock::decode(&next(&mut reader).await?);
    let stock = stock.map_err(|malformed| malformed.to_string())?;
    let had = incoming.bytes();
    let of = had.saturating_add(stock.bytes);
    let taken = Arc::new(AtomicU64::new(had));
    let (pieces, writing) = take_in(incoming, &taken);
    let received = async {
        let mut told = Instant::now();
        loop {
            let frame = next(&mut reader).await?;
            if frame.kind != FrameKind::Shipped {
                return Err("it sends something else than a log".to_owned());
            }
            if frame.payload.is_empty() {
                return Ok(());
            }
            let bytes = frame.payload.len() as u64;
            // What the disk does not take, it says why.
            if pieces.send(frame.payload).await.is_err() {
                return Ok(());
            }
            budget.took_file(bytes).await;
            if told.elapsed() >= FETCH_TOLD_EVERY {
                told = Instant::now();
                let bytes = taken.load(Ordering::Relaxed);
                // Nobody hears it any more when the member is stopping.
                let _ = inputs.send(Input::Fetching { group, bytes, of }).await;
            }
        }
    };
    let received = received.await;
    drop(pieces);
    let incoming = writing.await.map_err(|error| error.to_string())?;
    connection.close(0, "the log was fetched");
    let bytes = taken.load(Ordering::Relaxed);
    let _ = inputs.send(Input::Fetching { group, bytes, of }).await;
    let incoming = incoming?;
    received.map(|()| incoming)
}

async fn open(
    way: &Way,
    asked: Inquiry,
) -> Result<(Connection, FrameReader), kontiki_transport::Error> {
    let expect = Expect::Node(way.member.name.clone());
    let connection = dial(&way.endpoint, (&way.member.peer_address, None), &expect).await?;
    connection.set_receive_window(BULK_WINDOW_BYTES);
    let (mut writer, reader) = connection.open().await?;
    let mut out = BytesMut::new();
    way.hello.encode(&mut out);
    asked.encode(FrameKind::Ship, &mut out);
    writer.write(out.freeze()).await?;
    writer.finish();
    Ok((connection, reader))
}

async fn next(reader: &mut FrameReader) -> Result<kontiki_wire::Frame, String> {
    let silent = || format!("it has been silent for {} s", FETCH_SILENCE_MAX.as_secs());
    let frame = timeout(FETCH_SILENCE_MAX, reader.next(PEER_FRAME_BYTES_MAX)).await;
    let frame = frame.map_err(|_| silent())?;
    let frame = frame.map_err(|error| error.to_string())?;
    frame.ok_or_else(|| "it broke off".to_owned())
}

type Writing = JoinHandle<Result<Incoming, String>>;

/// Hands pieces to the disk on a thread that may wait for it.
fn take_in(mut incoming: Incoming, taken: &Arc<AtomicU64>) -> (mpsc::Sender<Bytes>, Writing) {
    let (pieces, mut received) = mpsc::channel::<Bytes>(SHIPPED_AHEAD_MAX);
    let taken = Arc::clone(taken);
    let writing = spawn_blocking(move || {
        while let Some(piece) = received.blocking_recv() {
            match incoming.take(&piece) {
                Ok(()) => taken.store(incoming.bytes(), Ordering::Relaxed),
                Err(NotTaken::Refused(why)) => return Err(why),
                Err(NotTaken::Failed(error)) => return Err(error.to_string()),
            }
        }
        Ok(incoming)
    });
    (pieces, writing)
}

fn lock(done: &Done) -> std::sync::MutexGuard<'_, BTreeMap<GroupId, Incoming>> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_ended_is_forgotten_and_what_has_not_ends_with_its_owner() {
        let mut jobs = Jobs::default();
        for group in 1..100 {
            let job = tokio::spawn(async {});
            jobs.begun(GroupId(group), job.abort_handle());
            job.await.unwrap();
        }
        let endless = || tokio::spawn(std::future::pending::<()>());
        let (stopped, dropped) = (endless(), endless());
        jobs.begun(GroupId(100), stopped.abort_handle());
        jobs.begun(GroupId(101), dropped.abort_handle());
        assert_eq!(jobs.by_group.len(), 2);
        jobs.stop(GroupId(100));
        assert!(stopped.await.unwrap_err().is_cancelled());
        drop(jobs);
        assert!(dropped.await.unwrap_err().is_cancelled());
    }
}
