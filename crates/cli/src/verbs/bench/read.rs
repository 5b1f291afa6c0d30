//! `kontiki bench read`: catching up with a whole topic, verifying every byte.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kontiki_client::{Client, DeliveredRecords, From as Start, Subscription, TopicName, Until};
use tokio::task::JoinSet;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    output::Counted,
    verbs::bench::{
        load::{at_least_one, servers},
        outcome::Open,
        payload::{Stamp, Wrong},
        report::Report,
    },
};

/// What to read
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic, filled by `kontiki bench append`
    #[arg(long, default_value = "bench")]
    topic: TopicName,

    /// Readers, each with a connection of its own, each reading all of it
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one)]
    subscribers: usize,

    /// Count the CPU of these processes as the servers' instead of looking for them
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
}

/// What readers saw.
#[derive(Default)]
struct Seen {
    records: u64,
    bytes: u64,
    /// Records whose bytes are those that a bench made from their numbers.
    verified: u64,
    /// Acknowledged records of the run that is looked for.
    of_run: u64,
    /// Records that no bench made.
    foreign: u64,
    /// Records that a bench made, with other bytes.
    altered: u64,
    /// Records of a producer that came again, or after later ones.
    out_of_order: u64,
    /// Offsets that did not follow on the one before.
    gaps: u64,
}

/// A run whose acknowledged records are counted, and which alone is judged: what other runs left in the
/// topic is no news.
#[derive(Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) run: u64,
    /// What was sent and not acknowledged, which may be there or not.
    pub(crate) open: &'a Open,
}

/// How long a topic may be out of reach while it is read back.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let first = invocation.connect().await?;
    let servers = servers(&args.pids, first.cluster_id())?;
    let mut readers = vec![(first.topic(args.topic.as_str())?, first)];
    for _ in 1..args.subscribers {
        let client = invocation.connect().await?;
        readers.push((client.topic(args.topic.as_str())?, client));
    }
    let before = servers.usage();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (topic, client) in readers {
        let subscription = topic.subscribe(Start::Earliest).until(Until::End).await?;
        tasks.spawn(read(client, subscription));
    }
    let mut seen = Seen::default();
    while let Some(ended) = tasks.join_next().await {
        seen.merge(&ended.map_err(|_| Failure::new("a reader of the bench died"))??);
    }
    let time = started.elapsed();
    let cost = servers.usage().since(&before);
    if seen.records == 0 {
        return Err(
            Failure::new(format!("{} has no records", args.topic)).advise(format!(
                "fill it with `kontiki bench append --topic {}`",
                args.topic
            )),
        );
    }
    let mut report = Report::new("read", args.topic.as_str());
    report.field("subscribers", args.subscribers);
    report.throughput(seen.records, seen.bytes, time);
    for (name, value) in [
        ("verified", seen.verified),
        ("foreign", seen.foreign),
        ("altered", seen.altered),
        ("out_of_order", seen.out_of_order),
        ("gaps", seen.gaps),
    ] {
        report.field(name, value);
    }
    report.line(
        "verified",
        format!(
            "{}, {} of other makers",
            Counted(seen.verified, "record"),
            seen.foreign
        ),
    );
    report.cost(&cost, servers.pids(), seen.records);
    report.say(invocation.output)?;
    seen.judge(&args.topic)
}

/// How many acknowledged records of one run are in a topic. An error if anything in it is not what was
/// appended.
pub(crate) async fn of_run(
    invocation: &Invocation,
    topic: &TopicName,
    sought: Sought<'_>,
) -> Result<u64, Failure> {
    let client = invocation.connect().await?;
    let reading = client.topic(topic.as_str())?.subscribe(Start::Earliest);
    let mut subscription = reading.until(Until::End).await?;
    let mut seen = Seen::default();
    let (mut last, mut due) = (BTreeMap::new(), None);
    let mut heard = Instant::now();
    loop {
        match subscription.next_batch().await {
            Ok(None) => break,
            Ok(Some(batch)) => {
                heard = Instant::now();
                seen.batch(batch, Some(sought), &mut last, &mut due)?;
            }
            // It goes on by itself when it is polled again.
            Err(error) if error.is_retryable() && heard.elapsed() < UNAVAILABLE_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
    leave(&client).await;
    seen.judge(topic)?;
    Ok(seen.of_run)
}

async fn read(client: Client, mut subscription: Subscription) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut last = BTreeMap::new();
    let mut due = None;
    while let Some(batch) = subscription.next_batch().await? {
        seen.batch(batch, None, &mut last, &mut due)?;
    }
    leave(&client).await;
    Ok(seen)
}

impl Seen {
    fn batch(
        &mut self,
        batch: DeliveredRecords,
        sought: Option<Sought<'_>>,
        last: &mut BTreeMap<(u64, u32), u64>,
        due: &mut Option<u64>,
    ) -> Result<(), Failure> {
        for delivered in batch {
            let delivered = delivered?;
            let offset = delivered.offset.0;
            let follows = due.is_none_or(|due| due == offset);
            *due = Some(offset + 1);
            let judged = self.add(&delivered.record.value, sought, last);
            self.gaps += u64::from(judged && !follows);
        }
        Ok(())
    }

    /// Takes a record; whether it is one of those that are judged.
    fn add(
        &mut self,
        value: &[u8],
        sought: Option<Sought<'_>>,
        last: &mut BTreeMap<(u64, u32), u64>,
    ) -> bool {
        self.records += 1;
        self.bytes += value.len() as u64;
        let is_judged = |run| sought.is_none_or(|sought| sought.run == run);
        match Stamp::verify(value) {
            Ok(stamp) if is_judged(stamp.run) => {
                self.verified += 1;
                self.of_run += u64::from(
                    sought.is_some_and(|sought| !sought.open.has(stamp.producer, stamp.sequence)),
                );
                let before = last.insert((stamp.run, stamp.producer), stamp.sequence);
                self.out_of_order +=
                    u64::from(before.is_some_and(|before| before >= stamp.sequence));
                true
            }
            Err(Wrong::Altered(run)) if is_judged(run) => {
                self.altered += 1;
                true
            }
            Err(Wrong::Foreign) => {
                self.foreign += 1;
                sought.is_none()
            }
            Ok(_) | Err(Wrong::Altered(_)) => false,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.verified += other.verified;
        self.foreign += other.foreign;
        self.altered += other.altered;
        self.out_of_order += other.out_of_order;
        self.gaps += other.gaps;
    }

    fn judge(&self, topic: &TopicName) -> Result<Exit, Failure> {
        if self.altered + self.out_of_order + self.gaps == 0 {
            return Ok(Exit::Done);
        }
        Err(Failure::new(format!(
            "{topic} is not what was appended: {} altered, {} doubled or out of order, {} gaps",
            self.altered, self.out_of_order, self.gaps
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verbs::bench::{outcome::Outcome, payload::Payloads};

    #[test]
    fn what_was_not_sent_so_is_noticed() {
        let mut payloads = Payloads::new(64);
        let mut make = |sequence| {
            payloads.make(Stamp {
                producer: 0,
                run: 1,
                sequence,
                sent: Duration::ZERO,
            })
        };
        let mut altered = make(5).to_vec();
        altered[40] ^= 1;
        let mut seen = Seen::default();
        let mut last = BTreeMap::new();
        for value in [
            make(0),
            make(1),
            make(1),
            make(3),
            make(2),
            altered.into(),
            "hello".into(),
        ] {
            seen.add(&value, None, &mut last);
        }
        assert_eq!((seen.records, seen.verified), (7, 5));
        assert_eq!((seen.altered, seen.foreign, seen.out_of_order), (1, 1, 2));
        assert!(seen.judge(&"t".parse().unwrap()).is_err());
    }

    #[test]
    fn what_may_be_there_does_not_stand_for_what_must() {
        let mut payloads = Payloads::new(64);
        let mut outcome = Outcome::new();
        outcome.fail((0, 1));
        let open = &outcome.open;
        let mut seen = Seen::default();
        // Of records 0 to 3 the last was acknowledged and lost, and 1 was not, and is there.
        for (run, sequence) in [(7, 0), (7, 1), (7, 2), (8, 3)] {
            let value = payloads.make(Stamp {
                producer: 0,
                run,
                sequence,
                sent: Duration::ZERO,
            });
            seen.add(&value, Some(Sought { run: 7, open }), &mut BTreeMap::new());
        }
        assert_eq!((seen.of_run, seen.verified), (2, 3));
    }

    #[test]
    fn what_another_run_left_is_not_judged() {
        let mut payloads = Payloads::new(64);
        let mut make = |run, sequence| {
            payloads.make(Stamp {
                producer: 0,
                run,
                sequence,
                sent: Duration::ZERO,
            })
        };
        let mut altered = make(8, 2).to_vec();
        altered[40] ^= 1;
        let of_others = [make(8, 1), make(8, 0), altered.into(), "hello".into()];
        let outcome = Outcome::new();
        let sought = Some(Sought {
            run: 7,
            open: &outcome.open,
        });
        let mut seen = Seen::default();
        let mut last = BTreeMap::new();
        for value in of_others {
            assert!(!seen.add(&value, sought, &mut last));
        }
        assert!(seen.add(&make(7, 0), sought, &mut last));
        assert_eq!(seen.of_run, 1);
        assert!(seen.judge(&"t".parse().unwrap()).is_ok());
        assert!(seen.add(&make(7, 0), sought, &mut last));
        assert!(seen.judge(&"t".parse().unwrap()).is_err(), "it came twice");
    }
}
