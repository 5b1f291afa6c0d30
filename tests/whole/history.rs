//! What clients saw, and whether it can have been one log. Every acknowledged append names its offset,
//! so the order is given and nothing has to be searched for.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use kontiki_client::{Client, From, TopicName, Until};

/// One value that was given to a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was acknowledged at this offset.
    Acknowledged(u64),
    /// It certainly did not happen.
    NotAppended,
    /// Nobody knows.
    Ambiguous,
}

/// All values given to producers, which are unique, and how each ended.
#[derive(Default, Debug)]
pub(crate) struct History {
    pub(crate) appends: BTreeMap<String, Outcome>,
}

impl History {
    pub(crate) fn record(&mut self, value: impl Into<String>, outcome: Outcome) {
        let value = value.into();
        let earlier = self.appends.insert(value.clone(), outcome);
        assert!(earlier.is_none(), "{value} was appended twice by the test");
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.appends
            .values()
            .filter(|o| matches!(o, Outcome::Acknowledged(_)))
            .count()
    }

    /// Checks a log, read from offset 0, against what was promised: every acknowledged value stands
    /// once, at its offset; an ambiguous one at most once; a refused one, and one never appended,
    /// nowhere; each producer's values in the order they were given.
    pub(crate) fn check(&self, log: &[String]) {
        let mut places: BTreeMap<&str, u64> = BTreeMap::new();
        for (offset, value) in log.iter().enumerate() {
            if let Some(first) = places.insert(value, offset as u64) {
                panic!("{value} stands twice, at {first} and at {offset}");
            }
            match self.appends.get(value) {
                None => panic!("{value}, at {offset}, was never appended"),
                Some(Outcome::NotAppended) => {
                    panic!("{value}, at {offset}, was refused for certain")
                }
                Some(_) => {}
            }
        }
        for (value, outcome) in &self.appends {
            let Outcome::Acknowledged(offset) = outcome else {
                continue;
            };
            match places.get(value.as_str()) {
                None => panic!("{value} was acknowledged at {offset} and is lost"),
                Some(place) => {
                    assert_eq!(
                        place, offset,
                        "{value} was acknowledged at {offset} and moved"
                    );
                }
            }
        }
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for value in log {
            let (producer, number) = value.split_once('-').expect("producer-number");
            let number: u64 = number.parse().expect("producer-number");
            if let Some(before) = last.insert(producer, number) {
                assert!(before < number, "{value} stands after {producer}-{before}");
            }
        }
    }
}

/// Reads a whole topic as it is now, checking that offsets are dense from 0.
pub(crate) async fn read_all(client: &Client, topic: &TopicName) -> Vec<String> {
    let mut subscription = client
        .topic(topic)
        .expect("a name")
        .subscribe(From::Earliest)
        .until(Until::End)
        .await
        .expect("a subscription");
    let mut log = Vec::new();
    while let Some(delivered) = subscription.next().await {
        let delivered = delivered.expect("a delivery");
        assert_eq!(delivered.offset.0, log.len() as u64, "offsets are dense");
        log.push(String::from_utf8(delivered.record.value.to_vec()).expect("text"));
    }
    log
}
