//! Makes valid histories: a log that is correct by construction, with clients that overlap, fail, give
//! up, are answered twice and change their epoch, readers that lag, topics that come and go.

use std::collections::VecDeque;

use kontiki_raft::{Index, LogId, Micros, Term};
use kontiki_wire::{GroupId, ProducerId};

use super::chance::Chance;
use crate::history::{
    AppendId, Catalogue, Dump, History, Holder, Mark, Ordered, Outcome, Piece, Seen, Stamp,
    SubscriptionId, TailId, Value,
};

/// A batch in the log.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) append: AppendId,
    pub(super) piece: Piece,
    term: u64,
}

/// An append under way.
struct Pending {
    append: AppendId,
    first: Value,
    count: u32,
    /// Where it stands, once it does.
    offset: Option<u64>,
    /// Its writer has its answer.
    ended: bool,
}

struct Writer {
    number: u32,
    pending: VecDeque<Pending>,
    epoch: u32,
    sequence: u64,
}

struct Reader {
    subscription: SubscriptionId,
    next: Option<u64>,
    whole: bool,
    open: bool,
}

/// One topic.
struct Topic {
    group: GroupId,
    log: Vec<Batch>,
    end: u64,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    /// Each with what it will tell, once that is known.
    tails: Vec<(TailId, Option<u64>)>,
    removed: bool,
}

/// What makes a history.
struct Cluster<'a> {
    chance: &'a mut Chance,
    history: History,
    now: u64,
    term: u64,
    topics: Vec<Topic>,
}

/// A valid history of about so many steps.
pub(super) fn history(chance: &mut Chance, steps: u64) -> History {
    let mut cluster = Cluster {
        chance,
        history: History::default(),
        now: 1,
        term: 1,
        topics: Vec::new(),
    };
    let topics = 1 + cluster.chance.below(2);
    for group in 1..=topics {
        cluster.make(GroupId(group));
    }
    for _ in 0..steps {
        cluster.now += cluster.chance.below(3);
        let topic = cluster.chance.below(topics) as usize;
        cluster.step(topic);
    }
    if topics == 2 && cluster.chance.percent(30) {
        cluster.remove(1);
    }
    cluster.end();
    cluster.history
}

impl Cluster<'_> {
    fn at(&self) -> Micros {
        Micros(self.now)
    }

    fn make(&mut self, group: GroupId) {
        let name = format!("t{group}").parse().unwrap();
        let order = self.history.order(self.at(), name, false);
        self.now += 1;
        let at = self.at();
        self.history.order_ended(at, order, Ordered::Made(group));
        let writers = 1 + self.chance.below(3);
        let writers = (0..writers).map(|_| Writer {
            number: self.history.writer(),
            pending: VecDeque::new(),
            epoch: 0,
            sequence: 0,
        });
        let writers = writers.collect();
        let mut readers = Vec::new();
        for _ in 0..self.chance.below(4) {
            let from = match self.chance.below(3) {
                0 => None,
                1 => Some(0),
                _ => Some(self.chance.below(20)),
            };
            readers.push(Reader {
                subscription: self.history.subscribe(group, from),
                next: from,
                whole: self.chance.percent(50),
                open: true,
            });
        }
        self.topics.push(Topic {
            group,
            log: Vec::new(),
            end: 0,
            writers,
            readers,
            tails: Vec::new(),
            removed: false,
        });
    }

    fn remove(&mut self, topic: usize) {
        let name = format!("t{}", self.topics[topic].group).parse().unwrap();
        let order = self.history.order(self.at(), name, true);
        self.now += 1;
        let at = self.at();
        self.history.order_ended(at, order, Ordered::Removed);
        self.topics[topic].removed = true;
    }

    fn step(&mut self, topic: usize) {
        match self.chance.below(100) {
            0..20 => self.ask(topic),
            20..45 => self.take(topic),
            45..65 => self.answer(topic),
            65..68 => self.give_up(topic),
            68..74 => self.fail(topic),
            74..76 => self.again(topic),
            76..88 => self.deliver(topic),
            88..90 => self.watermark(topic),
            90..98 => self.tail(topic),
            98 => self.term += 1,
            _ => {
                let at = self.at();
                self.history.outages.push(at);
            }
        }
    }

    fn writer(&mut self, topic: usize) -> usize {
        self.chance.below(self.topics[topic].writers.len() as u64) as usize
    }

    fn ask(&mut self, topic: usize) {
        let at = self.at();
        let count = 1 + self.chance.below(3) as u32;
        let writer = self.writer(topic);
        let topic = &mut self.topics[topic];
        let writer = &mut topic.writers[writer];
        let (append, first) = self.history.append(at, topic.group, writer.number, count);
        writer.pending.push_back(Pending {
            append,
            first,
            count,
            offset: None,
            ended: false,
        });
    }

    /// The first of a writer's batches that has no place gets one.
    fn take(&mut self, topic: usize) {
        let writer = self.writer(topic);
        let topic = &mut self.topics[topic];
        let writer = &mut topic.writers[writer];
        let Some(pending) = writer.pending.iter_mut().find(|one| one.offset.is_none()) else {
            return;
        };
        pending.offset = Some(topic.end);
        let records = (0..pending.count).map(|more| {
            Seen::Value(Value {
                writer: pending.first.writer,
                number: pending.first.number + more,
            })
        });
        topic.log.push(Batch {
            append: pending.append,
            piece: Piece {
                offset: topic.end,
                stamp: Some(Stamp {
                    producer: ProducerId(writer.number.into()),
                    epoch: writer.epoch,
                    sequence: writer.sequence,
                }),
                records: records.collect(),
            },
            term: self.term,
        });
        writer.sequence += u64::from(pending.count);
        topic.end += u64::from(pending.count);
        // What comes later in the log was asked for later by this writer: what was given up before
        // can have no place any more.
        while let Some(first) = writer.pending.front()
            && first.ended
        {
            writer.pending.pop_front();
        }
    }

    fn answer(&mut self, topic: usize) {
        let at = self.at();
        let writer = self.writer(topic);
        let pending = &mut self.topics[topic].writers[writer].pending;
        let placed = pending
            .iter_mut()
            .find(|one| one.offset.is_some() && !one.ended);
        let Some(pending) = placed else { return };
        pending.ended = true;
        let offset = pending.offset.unwrap();
        let outcome = Outcome::Acknowledged { offset };
        self.history.append_ended(at, pending.append, outcome);
    }

    /// Nobody knows what became of it; it may still get its place.
    fn give_up(&mut self, topic: usize) {
        let at = self.at();
        let writer = self.writer(topic);
        let pending = &mut self.topics[topic].writers[writer].pending;
        if let Some(pending) = pending.iter_mut().find(|one| !one.ended) {
            pending.ended = true;
            self.history
                .append_ended(at, pending.append, Outcome::Unknown);
        }
    }

    /// It never gets a place; what follows is of another epoch.
    fn fail(&mut self, topic: usize) {
        let at = self.at();
        let writer = self.writer(topic);
        let writer = &mut self.topics[topic].writers[writer];
        let failing = writer
            .pending
            .iter()
            .position(|one| one.offset.is_none() && !one.ended);
        let Some(failing) = failing else { return };
        let failed = writer.pending.remove(failing).unwrap();
        self.history
            .append_ended(at, failed.append, Outcome::Failed);
        writer.epoch += 1;
        writer.sequence = 0;
    }

    /// A batch in the log is acknowledged again.
    fn again(&mut self, topic: usize) {
        let at = self.at();
        let batches = &self.topics[topic].log;
        let Some(batch) = self.chance.pick(batches) else {
            return;
        };
        if self.history.appends[batch.append.0].ended.is_some() {
            let offset = batch.piece.offset;
            let outcome = Outcome::Acknowledged { offset };
            self.history.append_ended(at, batch.append, outcome);
        }
    }

    fn deliver(&mut self, topic: usize) {
        let at = self.at();
        let topic = &mut self.topics[topic];
        if topic.readers.is_empty() {
            return;
        }
        let reader = self.chance.below(topic.readers.len() as u64) as usize;
        let reader = &mut topic.readers[reader];
        if self.chance.percent(3) {
            reader.open = false;
            self.history.unsubscribe(reader.subscription);
        }
        if reader.open {
            read(&mut self.history, at, &topic.log, topic.end, reader);
        }
    }

    fn watermark(&mut self, topic: usize) {
        let at = self.at();
        let topic = &self.topics[topic];
        let next = match self.chance.pick(&topic.log) {
            Some(batch) => batch.piece.end(),
            None => 0,
        };
        self.history.watermark(at, topic.group, next);
    }

    fn tail(&mut self, topic: usize) {
        let at = self.at();
        let topic = &mut self.topics[topic];
        match self.chance.below(3) {
            0 => {
                let tail = self.history.tail(at, topic.group);
                topic.tails.push((tail, None));
            }
            1 => {
                let open = topic.tails.iter_mut().find(|(_, told)| told.is_none());
                if let Some((_, told)) = open {
                    *told = Some(topic.end);
                }
            }
            _ => {
                let ready = topic.tails.iter().position(|(_, told)| told.is_some());
                if let Some(ready) = ready {
                    let (tail, told) = topic.tails.remove(ready);
                    self.history.tail_answered(at, tail, told.unwrap());
                }
            }
        }
    }

    /// Everything comes to its end, and all replicas are looked at.
    fn end(&mut self) {
        self.history.settled = true;
        for topic in 0..self.topics.len() {
            self.now += 1;
            let at = self.at();
            let topic = &mut self.topics[topic];
            for writer in &mut topic.writers {
                for pending in writer.pending.iter().filter(|one| !one.ended) {
                    let outcome = match pending.offset {
                        Some(offset) => Outcome::Acknowledged { offset },
                        None if self.chance.percent(50) => Outcome::Failed,
                        None => Outcome::Unknown,
                    };
                    self.history.append_ended(at, pending.append, outcome);
                }
            }
            for reader in topic.readers.iter_mut().filter(|reader| reader.open) {
                while read(&mut self.history, at, &topic.log, topic.end, reader) {}
            }
            if !topic.removed {
                self.history.dumps.extend(dumps(at, topic, self.chance));
            }
        }
        let listed = self.topics.iter().filter(|topic| !topic.removed);
        let listed =
            listed.map(|topic| (format!("t{}", topic.group).parse().unwrap(), topic.group));
        let topics: Vec<_> = listed.collect();
        self.history.catalogues = (1..=3)
            .map(|member| Catalogue {
                holder: Holder::Member(member),
                topics: topics.clone(),
            })
            .collect();
    }
}

/// Gives a reader what comes next; whether there was anything.
fn read(history: &mut History, at: Micros, log: &[Batch], end: u64, reader: &mut Reader) -> bool {
    let next = reader.next.unwrap_or(end);
    let batch = log.partition_point(|batch| batch.piece.end() <= next);
    let Some(batch) = log.get(batch) else {
        return false;
    };
    let mut piece = batch.piece.clone();
    if !reader.whole {
        piece.records.drain(..(next - piece.offset) as usize);
        piece.offset = next;
        piece.stamp = None;
    }
    reader.next = Some(piece.end());
    history.delivered(at, reader.subscription, piece);
    true
}

fn dumps(at: Micros, topic: &Topic, chance: &mut Chance) -> Vec<Dump> {
    let pieces: Vec<Piece> = topic.log.iter().map(|batch| batch.piece.clone()).collect();
    let mark = |(index, batch): (u64, &Batch)| Mark {
        id: LogId {
            term: Term(batch.term),
            index: Index(index),
        },
        checksum: batch.append.0 as u32,
    };
    let marks: Vec<Mark> = (1..).zip(&topic.log).map(mark).collect();
    let state = marks.last().map(|mark| (mark.id, topic.end * 31));
    let whole = |holder| Dump {
        holder,
        group: topic.group,
        at,
        complete: true,
        first: 0,
        pieces: pieces.clone(),
        marks: marks.clone(),
        state,
    };
    let mut dumps: Vec<Dump> = (1..=3)
        .map(|member| whole(Holder::Member(member)))
        .collect();
    if chance.percent(30) {
        dumps.push(Dump {
            marks: Vec::new(),
            state: None,
            ..whole(Holder::Client)
        });
    }
    if chance.percent(30) {
        // Someone was looked at earlier, when it had less.
        let kept = chance.below(pieces.len() as u64 + 1) as usize;
        let mut earlier = whole(Holder::Member(2));
        earlier.complete = false;
        earlier.pieces.truncate(kept);
        earlier.marks.truncate(kept);
        earlier.state = None;
        dumps.insert(0, earlier);
    }
    dumps
}
