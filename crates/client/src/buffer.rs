//! Where records gather: encoded at once into the open batch, under a lock that is held for no
//! longer than that takes. What waits, and what is on its way, is bounded by one number of bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use kontiki_wire::{BatchBuilder, Malformed, Record, limits::RECORD_BYTES_MAX};
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError, watch},
    time::Instant,
};

use crate::{
    error::AppendError,
    options::ProducerConfig,
    ticket::{BatchFate, Ticket},
};

/// The least room a new batch is given.
const CAPACITY_MIN: usize = 1 << 10;
/// How many batches in a row may leave half of their room unused before the next ones are given less: small
/// ones and full ones take turns where what is acknowledged together is submitted anew.
const SMALL_MAX: u32 = 16;

/// Batches on their way beside which the next one gathers what comes: while one is on the disks and another on the
/// wire, a third would wait for them, and for all that each costs by itself.
const AHEAD_MAX: usize = 2;
/// For how long at most, but for what the timer adds. Where answers take much longer, more are on their way.
const GATHERING_MAX: Duration = Duration::from_millis(1);

/// Counts a producer's batches from 1 in the order in which they were begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Serial(pub u64);

/// A batch that takes records, or waits to be sent.
pub struct Gathered {
    /// Its number.
    pub serial: Serial,
    /// Its records.
    pub builder: BatchBuilder,
    /// Where its tickets look.
    pub fate: Arc<BatchFate>,
    /// When its first record was submitted.
    pub since: Instant,
    /// Bytes of the buffer it holds.
    pub charged: usize,
}

/// A producer's buffer, between its handles and its sender.
pub(crate) struct Buffer {
    config: ProducerConfig,
    gathering: Mutex<Gathering>,
    /// One permit for each byte. Closed when nothing more is taken.
    room: Semaphore,
    /// Tells the sender that there may be something to do.
    work: Notify,
    /// Every batch up to this one has its fate.
    settled: watch::Sender<Serial>,
}

struct Gathering {
    open: Option<Gathered>,
    /// Full, in order, before `open`.
    full: VecDeque<Gathered>,
    /// The last batch begun.
    begun: Serial,
    /// Room to give the next batch: what the last ones needed.
    capacity: usize,
    /// Batches in a row that left half of it unused.
    small: u32,
    wake: Wake,
    /// Batches up to this one do not linger.
    pressing: Serial,
    ending: bool,
    failure: Option<AppendError>,
}

/// When the sender wants to be told of another record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Not,
    AtFirstRecord,
    AtFullBatch,
}

/// What the sender gets when it asks for a batch.
pub(crate) enum Taken {
    Batch(Box<Gathered>),
    /// There is one, but it lingers until then.
    Lingers(Instant),
    Nothing,
}

impl Buffer {
    pub(crate) fn new(config: ProducerConfig) -> Self {
        Self {
            room: Semaphore::new(config.buffer_bytes),
            config,
            gathering: Mutex::new(Gathering {
                open: None,
                full: VecDeque::new(),
                begun: Serial::default(),
                capacity: CAPACITY_MIN,
                small: 0,
                wake: Wake::Not,
                pressing: Serial::default(),
                ending: false,
                failure: None,
            }),
            work: Notify::new(),
            settled: watch::Sender::new(Serial::default()),
        }
    }

    pub(crate) fn config(&self) -> &ProducerConfig {
        &self.config
    }

    /// Puts a record into the open batch, waiting for room.
    pub(crate) async fn submit(&self, record: Record) -> Result<Ticket, AppendError> {
        let bytes = weigh(&record)?;
        match self.room.try_acquire_many(bytes) {
            Ok(room) => room.forget(),
            Err(TryAcquireError::Closed) => return Err(AppendError::Closed),
            Err(TryAcquireError::NoPermits) => match self.room.acquire_many(bytes).await {
                Ok(room) => room.forget(),
                Err(_) => return Err(AppendError::Closed),
            },
        }
        self.put(record, bytes as usize)
    }

    /// Puts a record into the open batch if there is room.
    pub(crate) fn try_submit(&self, record: Record) -> Result<Ticket, AppendError> {
        let bytes = weigh(&record)?;
        match self.room.try_acquire_many(bytes) {
            Ok(room) => room.forget(),
            Err(TryAcquireError::Closed) => return Err(AppendError::Closed),
            Err(TryAcquireError::NoPermits) => return Err(AppendError::BufferFull),
        }
        self.put(record, bytes as usize)
    }

    fn put(&self, mut record: Record, bytes: usize) -> Result<Ticket, AppendError> {
        if record.timestamp == 0 {
            record.timestamp = micros_since_epoch();
        }
        let (put, wake) = {
            let mut gathering = self.lock();
            let put = gathering.put(&record, bytes, self.config.batch_bytes);
            let wake = match gathering.wake {
                Wake::Not => false,
                Wake::AtFirstRecord => put.is_ok(),
                Wake::AtFullBatch => !gathering.full.is_empty(),
            };
            if wake {
                gathering.wake = Wake::Not;
            }
            (put, wake)
        };
        if wake {
            self.work.notify_one();
        }
        put.inspect_err(|_| self.room.add_permits(bytes))
    }

    /// The next batch to send while so many are on their way. Full ones first; the open one when it has lingered.
    /// When there is none to be had, [`Buffer::worked`] resolves as soon as there is.
    pub(crate) fn take(&self, now: Instant, ahead: usize) -> Taken {
        let mut gathering = self.lock();
        if let Some(batch) = gathering.full.pop_front() {
            return Taken::Batch(Box::new(batch));
        }
        let Some(open) = gathering.open.as_ref().filter(|open| open.has_records()) else {
            gathering.wake = Wake::AtFirstRecord;
            return Taken::Nothing;
        };
        let gather_for = match ahead < AHEAD_MAX {
            true => Duration::ZERO,
            false => GATHERING_MAX,
        };
        let due = open.since + self.config.linger.unwrap_or(gather_for);
        if now < due && open.serial > gathering.pressing {
            gathering.wake = Wake::AtFullBatch;
            return Taken::Lingers(due);
        }
        let batch = gathering.open.take().expect("it was just looked at");
        gathering.measure(&batch);
        Taken::Batch(Box::new(batch))
    }

    /// The batch waiting longest, if it was begun by then.
    pub(crate) fn take_begun_by(&self, then: Instant) -> Option<Gathered> {
        let mut gathering = self.lock();
        match gathering.full.front() {
            Some(first) if first.since <= then => gathering.full.pop_front(),
            Some(_) => None,
            None => gathering
                .open
                .take_if(|open| open.has_records() && open.since <= then),
        }
    }

    /// Whether something waits. If not, [`Buffer::worked`] resolves at the next record.
    pub(crate) fn has_waiting(&self) -> bool {
        let mut gathering = self.lock();
        let open = gathering.open.as_ref();
        let waiting = !gathering.full.is_empty() || open.is_some_and(Gathered::has_records);
        if !waiting {
            gathering.wake = Wake::AtFirstRecord;
        }
        waiting
    }

    /// When the batch waiting longest was begun.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        let gathering = self.lock();
        let open = gathering.open.as_ref().filter(|open| open.has_records());
        gathering.full.front().or(open).map(|first| first.since)
    }

    /// Resolves when there may be something to do; at once if that was so since it last resolved.
    pub(crate) async fn worked(&self) {
        self.work.notified().await;
    }

    /// Makes [`Buffer::worked`] resolve.
    pub(crate) fn stir(&self) {
        self.work.notify_one();
    }

    /// Gives back the room of batches that have their fate, and says up to which all have.
    pub(crate) fn settle(&self, bytes: usize, upto: Serial, failure: Option<AppendError>) {
        self.room.add_permits(bytes);
        if let Some(failure) = failure {
            self.lock().failure.get_or_insert(failure);
        }
        self.settled.send_if_modified(|settled| {
            let further = upto > *settled;
            *settled = upto.max(*settled);
            further
        });
    }

    /// Takes no more records. What waits stays.
    pub(crate) fn end(&self) {
        self.lock().ending = true;
        self.room.close();
        self.press();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.lock().ending
    }

    /// Waits until all that was put in before has its fate, and takes the first failure.
    pub(crate) async fn flush(&self) -> Result<(), AppendError> {
        let upto = self.press();
        let mut settled = self.settled.subscribe();
        settled
            .wait_for(|settled| *settled >= upto)
            .await
            .map_err(|_| AppendError::Closed)?;
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Lets no batch linger that has been begun.
    fn press(&self) -> Serial {
        let mut gathering = self.lock();
        let upto = match &gathering.open {
            // Nothing has been put into it: what comes later is not meant.
            Some(open) if !open.has_records() => Serial(gathering.begun.0 - 1),
            _ => gathering.begun,
        };
        gathering.pressing = upto;
        drop(gathering);
        self.stir();
        upto
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        // Encoding leaves a batch whole or as it was.
        self.gathering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn has_records(&self) -> bool {
        !self.builder.is_empty()
    }
}

impl Gathering {
    fn put(
        &mut self,
        record: &Record,
        bytes: usize,
        batch_bytes: usize,
    ) -> Result<Ticket, AppendError> {
        if self.ending {
            return Err(AppendError::Closed);
        }
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.builder.fits(bytes))
        {
            self.close_batch();
        }
        let room = self.room(bytes, batch_bytes);
        let begun = &mut self.begun;
        let open = self.open.get_or_insert_with(|| {
            begun.0 += 1;
            Gathered {
                serial: *begun,
                builder: BatchBuilder::new(room),
                fate: Arc::default(),
                since: Instant::now(),
                charged: 0,
            }
        });
        let position = open.builder.count();
        open.builder.push(record).map_err(AppendError::Refused)?;
        if position == 0 {
            open.since = Instant::now();
        }
        open.charged += bytes;
        let ticket = open.fate.ticket(position);
        if open.builder.len() >= batch_bytes {
            self.close_batch();
        }
        Ok(ticket)
    }

    /// Room for a batch that begins with a record of so many bytes: no more than it can need.
    fn room(&self, bytes: usize, batch_bytes: usize) -> usize {
        self.capacity.min(batch_bytes) + bytes
    }

    /// Gives the next batches room for as much as this one took, and for half as much when many in a row
    /// have left half of it unused.
    fn measure(&mut self, batch: &Gathered) {
        let bytes = batch.builder.len();
        if bytes >= self.capacity / 2 {
            self.capacity = self.capacity.max(bytes);
            self.small = 0;
            return;
        }
        self.small += 1;
        if self.small == SMALL_MAX {
            self.capacity = (self.capacity / 2).max(CAPACITY_MIN);
            self.small = 0;
        }
    }

    fn close_batch(&mut self) {
        if let Some(full) = self.open.take() {
            self.measure(&full);
            self.full.push_back(full);
        }
    }
}

/// Bytes of room for a record: at least what it takes in a batch.
fn weigh(record: &Record) -> Result<u32, AppendError> {
    let bytes = record.encoded_bytes_max();
    match u32::try_from(bytes) {
        // Ten bytes are what the bound may be above the record.
        Ok(weight) if bytes <= RECORD_BYTES_MAX + 16 => Ok(weight),
        _ => Err(AppendError::Refused(Malformed::TooLarge {
            what: "the length of a record",
            have: bytes as u64,
            limit: RECORD_BYTES_MAX as u64,
        })),
    }
}

fn micros_since_epoch() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
