//! A subscription's pump at a member, as the server runs it: the broker's cursor decides, storage's log
//! is read, and what was not taken yet holds it back.

use kontiki_broker::{Cursor, Extent, Step};
use kontiki_storage::{Log, Storage};
use kontiki_wire::{Deliver, GroupId, Offset, StreamEnd, Subscribe};

/// One of them.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) group: GroupId,
    subscribe: Subscribe,
    cursor: Option<Cursor>,
    /// Deliveries sent and not taken.
    pub(crate) untaken: u32,
    pub(crate) pump_planned: bool,
}

/// What a look at it comes to.
pub(crate) enum Pumped {
    /// Send this, and look again.
    Send(Deliver),
    /// There is nothing to send.
    Wait,
    /// It ends.
    End(StreamEnd),
    /// The log does not give what it holds: another member may.
    Unreadable(String),
}

/// Deliveries on their way to one subscriber.
pub(crate) const UNTAKEN_MAX: u32 = 4;

impl Delivery {
    pub(crate) fn new(group: GroupId, subscribe: Subscribe) -> Self {
        Self {
            group,
            subscribe,
            cursor: None,
            untaken: 0,
            pump_planned: false,
        }
    }

    /// The next stretch, if there is one.
    pub(crate) fn pump(
        &mut self,
        storage: &Storage,
        watermark: Option<Offset>,
        wall: u64,
        bytes_max: usize,
    ) -> Pumped {
        let Some(watermark) = watermark else {
            return Pumped::Wait;
        };
        let log = storage.log(self.group);
        let first = log.as_ref().map_or(Offset(0), Log::first);
        let extent = Extent {
            first: first.min(watermark),
            watermark,
        };
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => match Cursor::open(&self.subscribe, extent, None) {
                Ok(cursor) => cursor,
                Err(refusal) => return Pumped::End(StreamEnd::Refused(refusal)),
            },
        };
        let pumped = match cursor.step(extent, wall) {
            Step::Read {
                from,
                until,
                bytes_max: enough,
            } => {
                let bytes_max = bytes_max.min(enough);
                read(log, &mut cursor, (from, until), watermark, bytes_max)
            }
            Step::Wait { .. } => Pumped::Wait,
            Step::Reached => Pumped::End(StreamEnd::Reached),
            Step::Refused(refusal) => Pumped::End(StreamEnd::Refused(refusal)),
        };
        self.cursor = Some(cursor);
        pumped
    }
}

fn read(
    log: Option<Log>,
    cursor: &mut Cursor,
    (from, until): (Offset, Offset),
    watermark: Offset,
    bytes_max: usize,
) -> Pumped {
    let Some(log) = log else {
        return Pumped::Unreadable("a topic has a watermark and no log".to_owned());
    };
    match log.read(from, until, bytes_max) {
        Ok(mut batches) => match cursor.take(&mut batches) {
            Ok(()) => Pumped::Send(Deliver { watermark, batches }),
            Err(why) => Pumped::Unreadable(why),
        },
        Err(error) => Pumped::Unreadable(error.to_string()),
    }
}
