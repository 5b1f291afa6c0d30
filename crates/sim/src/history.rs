//! What happened in a story, as its clients and replicas saw it. Whoever runs one, simulated or real,
//! tells it here; [`crate::checker`] says whether a correct log can have made it.
//!
//! All times are of one clock, the teller's. What was asked for is told before it is sent, and an answer
//! when it has come, so that what is told to be concurrent may have been, and what is told to be ordered
//! was.

mod value;

use std::fmt;

use kontiki_raft::{LogId, Micros};
use kontiki_wire::{Batch, GroupId, Malformed, ProducerId, TopicName};

pub use value::{Seen, Value};

/// Names an append.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendId(pub usize);

/// Names a reading of a topic's end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TailId(pub usize);

/// Names a subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriptionId(pub usize);

/// How an append ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It was acknowledged; its first record stands at this offset.
    Acknowledged {
        /// Where.
        offset: u64,
    },
    /// It certainly did not happen and never will.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// Records given to a producer together: all of them are appended side by side, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The topic.
    pub group: GroupId,
    /// Its first value.
    pub first: Value,
    /// How many; numbered consecutively.
    pub count: u32,
    /// When it was asked for.
    pub asked: Micros,
    /// When and how it ended; `None` while it has not.
    pub ended: Option<(Micros, Outcome)>,
}

/// A linearizable reading of a topic's end: answered by a leader that a quorum had confirmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The topic.
    pub group: GroupId,
    /// When it was asked for.
    pub asked: Micros,
    /// When it was answered, and the offset that the next record was to get. One that failed or was
    /// never answered says nothing.
    pub answered: Option<(Micros, u64)>,
}

/// Who sent a batch, and under which number: what its header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamp {
    /// The producer's name in the log.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: u32,
    /// The sequence of the first record.
    pub sequence: u64,
}

/// Consecutive records as somebody found them; a whole batch where that can be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of the first record.
    pub offset: u64,
    /// The batch's header, where it can be seen; then the piece is the whole batch.
    pub stamp: Option<Stamp>,
    /// The records' values.
    pub records: Vec<Seen>,
}

/// Something given to a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// When.
    pub at: Micros,
    /// What.
    pub piece: Piece,
}

/// One subscription, over all members that it was served by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The topic.
    pub group: GroupId,
    /// The first offset asked for; `None`: whatever comes next.
    pub from: Option<u64>,
    /// What it was given, in order.
    pub deliveries: Vec<Delivery>,
    /// Whether it was still being read when the story ended: then, if the story was settled, it has
    /// everything.
    pub open: bool,
}

/// Somebody said that everything below `next` is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermark {
    /// The topic.
    pub group: GroupId,
    /// When it was said.
    pub at: Micros,
    /// The watermark.
    pub next: u64,
}

/// Where something was looked up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holder {
    /// In a member's own store, by its number.
    Member(u64),
    /// Through a client, from beginning to end.
    Client,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => write!(f, "member {member}"),
            Self::Client => f.write_str("a reader of everything"),
        }
    }
}

/// A committed entry, as a replica holds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mark {
    /// Where it stands.
    pub id: LogId,
    /// Of its body.
    pub checksum: u32,
}

/// What a replica holds of a topic, committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    /// Whose it is.
    pub holder: Holder,
    /// The topic.
    pub group: GroupId,
    /// When it was taken.
    pub at: Micros,
    /// Whether it was taken at the story's end from a holder that is to have everything.
    pub complete: bool,
    /// The first offset that it is to have: what is below was trimmed.
    pub first: u64,
    /// Its records, in order.
    pub pieces: Vec<Piece>,
    /// Its entries, in order; empty where they cannot be seen.
    pub marks: Vec<Mark>,
    /// A hash of the state after an entry (offsets, producers), where it can be seen.
    pub state: Option<(LogId, u64)>,
}

/// How an order to make or remove a topic ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordered {
    /// Made, and this is its group.
    Made(GroupId),
    /// It was there already.
    Existed(GroupId),
    /// Removed.
    Removed,
    /// It certainly did not happen and never will.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// An order to make or remove a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Which.
    pub name: TopicName,
    /// Whether it is to be removed.
    pub removes: bool,
    /// When it was asked for.
    pub asked: Micros,
    /// When and how it ended.
    pub ended: Option<(Micros, Ordered)>,
}

/// Names an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OrderId(pub usize);

/// The topics that a member knew at the story's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catalogue {
    /// Who.
    pub holder: Holder,
    /// Names and groups, in any order.
    pub topics: Vec<(TopicName, GroupId)>,
}

/// Everything that was seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct History {
    /// By [`AppendId`].
    pub appends: Vec<Append>,
    /// An append was acknowledged again, or after its fate had been decided otherwise: which, and at
    /// which offset.
    pub again: Vec<(AppendId, u64)>,
    /// By [`TailId`].
    pub tails: Vec<Tail>,
    /// By [`SubscriptionId`].
    pub subscriptions: Vec<Subscription>,
    /// In any order.
    pub watermarks: Vec<Watermark>,
    /// In any order.
    pub dumps: Vec<Dump>,
    /// By [`OrderId`].
    pub orders: Vec<Order>,
    /// At the story's end.
    pub catalogues: Vec<Catalogue>,
    /// Moments at which no member had power.
    pub outages: Vec<Micros>,
    /// Whether the story was healed and given time: everything open has come to its end.
    pub settled: bool,
    /// What did not come about in the time that it was given; found by the teller.
    pub stuck: Vec<String>,
    /// The next number of each writer.
    writers: Vec<u32>,
}

impl History {
    /// A new writer.
    pub fn writer(&mut self) -> u32 {
        self.writers.push(0);
        u32::try_from(self.writers.len() - 1).expect("fewer writers than numbers for them")
    }

    /// A writer is about to append `count` records, whose values are the ones given back and those
    /// numbered after it. `count` is at least 1.
    pub fn append(
        &mut self,
        at: Micros,
        group: GroupId,
        writer: u32,
        count: u32,
    ) -> (AppendId, Value) {
        assert!(count > 0, "an append without a record");
        let number = &mut self.writers[writer as usize];
        let first = Value {
            writer,
            number: *number,
        };
        *number = number
            .checked_add(count)
            .expect("fewer values than numbers for them");
        self.appends.push(Append {
            group,
            first,
            count,
            asked: at,
            ended: None,
        });
        (AppendId(self.appends.len() - 1), first)
    }

    /// An append came to its end. The first end counts; another acknowledgement is kept to be compared.
    pub fn append_ended(&mut self, at: Micros, append: AppendId, outcome: Outcome) {
        let ended = &mut self.appends[append.0].ended;
        match (&ended, outcome) {
            (None, _) => *ended = Some((at, outcome)),
            (Some(_), Outcome::Acknowledged { offset }) => self.again.push((append, offset)),
            (Some(_), Outcome::Failed | Outcome::Unknown) => {}
        }
    }

    /// A leader is about to be asked for a topic's end.
    pub fn tail(&mut self, at: Micros, group: GroupId) -> TailId {
        self.tails.push(Tail {
            group,
            asked: at,
            answered: None,
        });
        TailId(self.tails.len() - 1)
    }

    /// A leader answered: the next record was to get the offset `next`.
    pub fn tail_answered(&mut self, at: Micros, tail: TailId, next: u64) {
        self.tails[tail.0].answered = Some((at, next));
    }

    /// Somebody begins to read a topic from an offset, or from wherever it ends.
    pub fn subscribe(&mut self, group: GroupId, from: Option<u64>) -> SubscriptionId {
        self.subscriptions.push(Subscription {
            group,
            from,
            deliveries: Vec::new(),
            open: true,
        });
        SubscriptionId(self.subscriptions.len() - 1)
    }

    /// A subscriber is given some records.
    pub fn delivered(&mut self, at: Micros, subscription: SubscriptionId, piece: Piece) {
        let deliveries = &mut self.subscriptions[subscription.0].deliveries;
        deliveries.push(Delivery { at, piece });
    }

    /// A subscriber reads no further.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        self.subscriptions[subscription.0].open = false;
    }

    /// Somebody said that everything below `next` is committed.
    pub fn watermark(&mut self, at: Micros, group: GroupId, next: u64) {
        self.watermarks.push(Watermark { group, at, next });
    }

    /// A topic is about to be asked to be made, or removed.
    pub fn order(&mut self, at: Micros, name: TopicName, removes: bool) -> OrderId {
        self.orders.push(Order {
            name,
            removes,
            asked: at,
            ended: None,
        });
        OrderId(self.orders.len() - 1)
    }

    /// An order came to its end. The first end counts.
    pub fn order_ended(&mut self, at: Micros, order: OrderId, how: Ordered) {
        self.orders[order.0].ended.get_or_insert((at, how));
    }
}

impl Append {
    /// The offset that was acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        match self.ended {
            Some((_, Outcome::Acknowledged { offset })) => Some(offset),
            _ => None,
        }
    }
}

impl Piece {
    /// What a batch says at an offset. Errs if its bytes are not a batch's.
    pub fn of(offset: u64, batch: &Batch) -> Result<Self, Malformed> {
        let header = batch.header();
        let records = batch.records();
        let records = records.map(|record| Ok(Seen::of(&record?.value)));
        Ok(Self {
            offset,
            stamp: Some(Stamp {
                producer: header.producer,
                epoch: header.epoch,
                sequence: header.sequence,
            }),
            records: records.collect::<Result<_, _>>()?,
        })
    }

    /// The offset after the last record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.records.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{BatchBuilder, Record};

    use super::*;

    #[test]
    fn a_batch_is_found_as_it_was_written() {
        let mut history = History::default();
        let writer = history.writer();
        let (_, first) = history.append(Micros(1), GroupId(1), writer, 2);
        let mut builder = BatchBuilder::new(64);
        for number in 0..2 {
            let value = Value {
                writer,
                number: first.number + number,
            };
            let record = Record {
                value: value.bytes(7),
                ..Record::default()
            };
            builder.push(&record).unwrap();
        }
        let batch = builder.finish(ProducerId(9), 1, 40);
        let piece = Piece::of(5, &batch).unwrap();
        let second = Value { writer, number: 1 };
        assert_eq!(piece.records, [first.into(), second.into()]);
        assert_eq!((piece.offset, piece.end()), (5, 7));
        let stamp = piece.stamp.unwrap();
        assert_eq!((stamp.producer.0, stamp.epoch, stamp.sequence), (9, 1, 40));
    }

    #[test]
    fn the_first_end_of_an_append_counts_and_a_later_acknowledgement_is_kept() {
        let mut history = History::default();
        let writer = history.writer();
        let (append, _) = history.append(Micros(1), GroupId(1), writer, 1);
        history.append_ended(Micros(2), append, Outcome::Acknowledged { offset: 3 });
        history.append_ended(Micros(3), append, Outcome::Unknown);
        history.append_ended(Micros(4), append, Outcome::Acknowledged { offset: 4 });
        assert_eq!(history.appends[0].acknowledged(), Some(3));
        assert_eq!(history.again, [(append, 4)]);
    }
}
