//! Stories of single batches, and a model of a broker that is given whatever can arrive.

use std::collections::HashMap;

use bytes::Bytes;
use kontiki_wire::{AppendRefused, BatchHeader, Record};
use proptest::prelude::*;

use super::*;

fn topic() -> TopicName {
    "t".parse().unwrap()
}

fn not_appended() -> AppendError {
    AppendError::NotAppended {
        topic: topic(),
        why: "time is over".into(),
    }
}

/// A batch of records with these values.
fn gathered(serial: u64, values: &[u64]) -> Gathered {
    let mut builder = BatchBuilder::new(0);
    for value in values {
        let value = Bytes::copy_from_slice(&value.to_le_bytes());
        builder
            .push(&Record {
                value,
                ..Record::default()
            })
            .unwrap();
    }
    Gathered {
        serial: Serial(serial),
        builder,
        fate: Arc::default(),
        since: Instant::now(),
        charged: values.len(),
    }
}

/// A flight with batches of one record each, of the values 1, 2, … and their fates.
fn flight_of(count: u64) -> (Flight, Vec<Arc<BatchFate>>) {
    let mut flight = Flight::new(topic(), ProducerId(7));
    let mut fates = Vec::new();
    for serial in 1..=count {
        let gathered = gathered(serial, &[serial]);
        fates.push(Arc::clone(&gathered.fate));
        flight.push(gathered);
    }
    (flight, fates)
}

fn send_all(flight: &mut Flight) -> Vec<Batch> {
    std::iter::from_fn(|| flight.send_next()).collect()
}

fn sequences(batches: &[Batch]) -> Vec<(u32, u64)> {
    batches
        .iter()
        .map(|batch| (batch.header().epoch, batch.header().sequence))
        .collect()
}

fn acknowledge(flight: &mut Flight, sequence: u64, offset: u64) -> Result<(), Absurd> {
    flight.acknowledge(&Acknowledged {
        sequence,
        offset: Offset(offset),
        time: 1,
    })
}

fn outcome(fate: &Arc<BatchFate>) -> Option<Result<Appended, AppendError>> {
    fate.ticket(0).outcome()
}

fn is_ambiguous(fate: &Arc<BatchFate>) -> bool {
    matches!(outcome(fate), Some(Err(AppendError::Ambiguous { .. })))
}

fn is_not_appended(fate: &Arc<BatchFate>) -> bool {
    matches!(outcome(fate), Some(Err(AppendError::NotAppended { .. })))
}

fn is_waiting(fate: &Arc<BatchFate>) -> bool {
    outcome(fate).is_none()
}

#[test]
fn lost_stream_has_everything_unanswered_sent_again_with_the_same_sequences() {
    let (mut flight, fates) = flight_of(3);
    let sent = send_all(&mut flight);
    acknowledge(&mut flight, 0, 10).unwrap();
    flight.stream_ended();
    assert_eq!(send_all(&mut flight), sent[1..]);
    acknowledge(&mut flight, 1, 11).unwrap();
    acknowledge(&mut flight, 2, 12).unwrap();
    assert!(flight.is_empty());
    let offsets = fates
        .iter()
        .map(|fate| outcome(fate).unwrap().unwrap().offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [10, 11, 12].map(Offset));
}

#[test]
fn answers_may_overtake_each_other_and_room_is_given_back_once() {
    let (mut flight, _) = flight_of(3);
    send_all(&mut flight);
    acknowledge(&mut flight, 2, 12).unwrap();
    assert_eq!(flight.settled().1, Serial(0), "the first are still owed");
    acknowledge(&mut flight, 0, 10).unwrap();
    assert_eq!(flight.settled().1, Serial(1));
    acknowledge(&mut flight, 1, 11).unwrap();
    let (settled, upto) = flight.settled();
    assert_eq!((settled.bytes, upto), (2, Serial(3)));
}

#[test]
fn answer_that_is_not_owed_or_goes_back_in_offsets_is_absurd() {
    let (mut flight, _) = flight_of(3);
    assert!(acknowledge(&mut flight, 0, 0).is_err(), "not sent yet");
    send_all(&mut flight);
    assert!(acknowledge(&mut flight, 9, 0).is_err(), "never sent");
    assert!(
        acknowledge(&mut flight, 0, u64::MAX).is_err(),
        "no such offset"
    );
    acknowledge(&mut flight, 0, 10).unwrap();
    assert!(acknowledge(&mut flight, 0, 10).is_err(), "answered already");
    assert!(
        acknowledge(&mut flight, 1, 10).is_err(),
        "taken by the first"
    );
    acknowledge(&mut flight, 1, 11).unwrap();
}

#[test]
fn refusal_stops_sending_until_all_is_answered_and_then_begins_with_the_first() {
    let (mut flight, _) = flight_of(3);
    let first_two = [flight.send_next().unwrap(), flight.send_next().unwrap()];
    assert_eq!(
        flight.refuse(0, &Refusal::Busy).unwrap(),
        Remedy::Again(Refusal::Busy.to_string())
    );
    assert_eq!(flight.send_next(), None);
    assert_eq!(flight.owed(), 1);
    let gap = Refusal::SequenceGap { expected: 0 };
    assert!(matches!(flight.refuse(1, &gap), Ok(Remedy::Again(_))));
    assert_eq!(flight.owed(), 0);
    flight.stream_ended();
    assert_eq!(send_all(&mut flight)[..2], first_two);
}

#[test]
fn expiry_tells_what_may_have_happened_from_what_has_not() {
    let (mut flight, fates) = flight_of(4);
    flight.send_next().unwrap();
    flight.send_next().unwrap();
    assert!(matches!(
        flight.refuse(0, &Refusal::Busy),
        Ok(Remedy::Again(_))
    ));
    flight.stream_ended();
    flight.fail_first("late", &not_appended());
    assert!(is_not_appended(&fates[0]), "refused, and nothing else");
    assert!(is_ambiguous(&fates[1]), "on a stream that was lost");
    assert!(is_waiting(&fates[2]) && is_waiting(&fates[3]), "never sent");
    assert_eq!(sequences(&send_all(&mut flight)), [(1, 0), (1, 1)]);
    let (settled, upto) = flight.settled();
    assert_eq!((settled.failed, settled.bytes, upto), (2, 2, Serial(2)));
    assert!(settled.failure.unwrap().has_no_side_effects(), "the first");
}

#[test]
fn batch_nobody_knows_of_stays_ambiguous_though_it_is_refused_later() {
    let (mut flight, fates) = flight_of(1);
    send_all(&mut flight);
    flight.refuse(0, &Refusal::Unknown).unwrap();
    flight.stream_ended();
    send_all(&mut flight);
    flight.refuse(0, &Refusal::Busy).unwrap();
    flight.stream_ended();
    flight.fail_first("late", &not_appended());
    assert!(is_ambiguous(&fates[0]));
}

#[test]
fn forgotten_producer_goes_on_in_another_epoch_and_doubles_nothing() {
    let (mut flight, fates) = flight_of(3);
    flight.send_next().unwrap();
    acknowledge(&mut flight, 0, 5).unwrap();
    flight.send_next().unwrap();
    let forgotten = Refusal::SequenceGap { expected: 0 };
    let remedy = flight.refuse(1, &forgotten).unwrap();
    assert!(matches!(remedy, Remedy::NewEpoch(_)));
    flight.stream_ended();
    flight.next_epoch("forgotten");
    let again = send_all(&mut flight);
    assert_eq!(sequences(&again), [(1, 0), (1, 1)]);
    let values = |batch: &Batch| batch.records().next().unwrap().unwrap().value;
    assert_eq!(values(&again[0]), &2_u64.to_le_bytes()[..]);
    assert!(fates[1..].iter().all(is_waiting));
    // Lower offsets than before: the topic was made anew.
    acknowledge(&mut flight, 0, 0).unwrap();

    // The same while its one batch may be in the log: it fails.
    flight.stream_ended();
    send_all(&mut flight);
    flight.stream_ended();
    send_all(&mut flight);
    let remedy = flight.refuse(1, &Refusal::SequenceGap { expected: 0 });
    assert!(matches!(remedy, Ok(Remedy::NewEpoch(_))));
    flight.stream_ended();
    flight.next_epoch("forgotten again");
    assert!(is_ambiguous(&fates[2]));
    assert!(flight.is_empty());
}

#[test]
fn rejected_batch_fails_alone_if_it_is_the_first_and_waits_for_its_turn_otherwise() {
    let (mut flight, fates) = flight_of(2);
    send_all(&mut flight);
    let large = Refusal::TooLarge {
        what: "a batch".to_owned(),
        limit: 1,
    };
    assert!(matches!(flight.refuse(1, &large), Ok(Remedy::Again(_))));
    assert!(matches!(flight.refuse(0, &large), Ok(Remedy::Reject(_))));
    flight.stream_ended();
    flight.fail_first("too large", &not_appended());
    assert!(is_not_appended(&fates[0]));
    assert!(is_waiting(&fates[1]));
}

#[test]
fn failing_everything_fails_each_in_its_own_way() {
    let (mut flight, fates) = flight_of(3);
    flight.send_next().unwrap();
    flight.stream_ended();
    let waiting = gathered(4, &[4]);
    flight.fail_all("no permission", &not_appended());
    flight.pass_by(&waiting, &not_appended());
    assert!(is_ambiguous(&fates[0]));
    assert!(is_not_appended(&fates[1]) && is_not_appended(&fates[2]));
    assert!(is_not_appended(&waiting.fate));
    assert_eq!(flight.settled().1, Serial(4));
}

#[test]
fn of_two_remedies_the_one_that_says_more_counts() {
    let later = Remedy::Later("busy".to_owned());
    let elsewhere = Remedy::Elsewhere(Some("n2".to_owned()));
    let forbidden = Remedy::NotPermitted("no".to_owned());
    assert_eq!(later.clone().or(elsewhere.clone()), elsewhere);
    assert_eq!(elsewhere.clone().or(later), elsewhere);
    assert_eq!(elsewhere.clone().or(Remedy::Elsewhere(None)), elsewhere);
    assert_eq!(elsewhere.or(forbidden.clone()), forbidden);
}

/// What a broker makes of batches: the rules of `broker/producers.rs` for one producer.
#[derive(Default)]
struct Model {
    log: Vec<u64>,
    known: Option<(u32, u64)>,
    /// By epoch and sequence, where a batch went.
    places: HashMap<(u32, u64), u64>,
}

impl Model {
    fn judge(&mut self, batch: &Batch) -> Result<u64, Refusal> {
        let BatchHeader {
            epoch,
            sequence,
            count,
            ..
        } = *batch.header();
        let next = match self.known {
            Some((known, _)) if epoch < known => return Err(Refusal::Fenced { epoch: known }),
            Some((known, next)) if epoch == known => next,
            _ => 0,
        };
        if sequence + u64::from(count) <= next {
            let place = self.places.get(&(epoch, sequence)).copied();
            return place.ok_or(Refusal::SequenceGap { expected: next });
        }
        if sequence != next {
            return Err(Refusal::SequenceGap { expected: next });
        }
        let offset = self.log.len() as u64;
        for record in batch.records() {
            let value = record.unwrap().value;
            self.log
                .push(u64::from_le_bytes(value[..].try_into().unwrap()));
        }
        self.known = Some((epoch, sequence + u64::from(count)));
        self.places.insert((epoch, sequence), offset);
        Ok(offset)
    }
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Event {
    /// A batch of so many records is submitted.
    Submit(u8),
    /// The sender puts so many batches on the stream.
    Send(u8),
    /// The broker takes the first batch off the stream, and does this.
    Take(Deed),
    /// The sender takes an answer.
    Answer,
    /// The stream is lost; so many of its batches still arrive, later.
    Lose(u8),
    /// A batch of a lost stream arrives.
    Straggler(u8),
    /// The first batch's time is over.
    Expire,
}

#[derive(Clone, Debug)]
enum Deed {
    Judge,
    /// Judged, but nobody is told.
    JudgeUnknown,
    /// Neither judged nor told.
    Unknown,
    Busy,
}

fn event() -> impl Strategy<Value = Event> {
    let deed = prop_oneof![
        6 => Just(Deed::Judge),
        1 => Just(Deed::JudgeUnknown),
        1 => Just(Deed::Unknown),
        1 => Just(Deed::Busy),
    ];
    prop_oneof![
        4 => (1u8..4).prop_map(Event::Submit),
        4 => (1u8..5).prop_map(Event::Send),
        8 => deed.prop_map(Event::Take),
        8 => Just(Event::Answer),
        1 => any::<u8>().prop_map(Event::Lose),
        2 => any::<u8>().prop_map(Event::Straggler),
        1 => Just(Event::Expire),
    ]
}

/// A sender, a stream and a broker, with all that was submitted.
struct World {
    flight: Flight,
    fates: Vec<(Vec<u64>, Arc<BatchFate>)>,
    submitted: u64,
    broker: Model,
    stream: VecDeque<Batch>,
    answers: VecDeque<kontiki_wire::Answer>,
    /// What is left of lost streams, each in order.
    stragglers: Vec<VecDeque<Batch>>,
    remedy: Option<Remedy>,
}

impl World {
    fn new() -> Self {
        Self {
            flight: Flight::new(topic(), ProducerId(7)),
            fates: Vec::new(),
            submitted: 0,
            broker: Model::default(),
            stream: VecDeque::new(),
            answers: VecDeque::new(),
            stragglers: Vec::new(),
            remedy: None,
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Submit(count) => {
                let values: Vec<_> = (0..u64::from(*count)).map(|n| self.submitted + n).collect();
                self.submitted += values.len() as u64;
                let gathered = gathered(self.fates.len() as u64 + 1, &values);
                self.fates.push((values, Arc::clone(&gathered.fate)));
                self.flight.push(gathered);
            }
            Event::Send(count) => {
                for _ in 0..*count {
                    self.stream.extend(self.flight.send_next());
                }
            }
            Event::Take(deed) => self.take(deed),
            Event::Answer => self.answer(),
            Event::Lose(left) => self.lose(usize::from(*left)),
            Event::Straggler(which) => {
                if !self.stragglers.is_empty() {
                    let which = usize::from(*which) % self.stragglers.len();
                    if let Some(batch) = self.stragglers[which].pop_front() {
                        let _ = self.broker.judge(&batch);
                    }
                }
            }
            Event::Expire => {
                if !self.flight.is_empty() {
                    self.lose(usize::MAX);
                    self.flight.fail_first("late", &not_appended());
                }
            }
        }
    }

    fn take(&mut self, deed: &Deed) {
        let Some(batch) = self.stream.pop_front() else {
            return;
        };
        let sequence = batch.header().sequence;
        let judged = match deed {
            Deed::Judge => self.broker.judge(&batch),
            Deed::JudgeUnknown => self.broker.judge(&batch).and(Err(Refusal::Unknown)),
            Deed::Unknown => Err(Refusal::Unknown),
            Deed::Busy => Err(Refusal::Busy),
        };
        self.answers.push_back(match judged {
            Ok(offset) => Ok(Acknowledged {
                sequence,
                offset: Offset(offset),
                time: 0,
            }),
            Err(refusal) => Err(AppendRefused { sequence, refusal }),
        });
    }

    fn answer(&mut self) {
        match self.answers.pop_front() {
            None => return,
            Some(Ok(acknowledged)) => self.flight.acknowledge(&acknowledged).unwrap(),
            Some(Err(refused)) => {
                let remedy = self.flight.refuse(refused.sequence, &refused.refusal);
                let remedy = remedy.unwrap();
                self.remedy = Some(match self.remedy.take() {
                    None => remedy,
                    Some(before) => before.or(remedy),
                });
            }
        }
        if self.flight.owed() == 0
            && let Some(remedy) = self.remedy.take()
        {
            self.flight.stream_ended();
            self.apply(remedy);
        }
    }

    fn apply(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Again(_) | Remedy::Later(_) => {}
            Remedy::NewEpoch(why) => self.flight.next_epoch(&why),
            Remedy::NewName(why) => panic!("nobody else has this name: {why}"),
            other => panic!("{other:?} was not asked for"),
        }
    }

    /// Loses the stream with its answers; `left` of its batches are still on the way.
    fn lose(&mut self, left: usize) {
        self.stream.truncate(left);
        self.stragglers.push(std::mem::take(&mut self.stream));
        self.answers.clear();
        self.flight.stream_ended();
        if let Some(remedy) = self.remedy.take() {
            self.apply(remedy);
        }
    }

    /// Lets everything come to its end without further trouble.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            if self.flight.is_empty() {
                break;
            }
            self.happen(&Event::Send(1));
            self.happen(&Event::Take(Deed::Judge));
            self.happen(&Event::Answer);
        }
        assert!(self.flight.is_empty(), "batches are left without a fate");
        for straggler in std::mem::take(&mut self.stragglers).into_iter().flatten() {
            let _ = self.broker.judge(&straggler);
        }
    }

    fn check(&self) {
        let log = &self.broker.log;
        let place = |value: u64| log.iter().position(|logged| *logged == value);
        for pair in log.windows(2) {
            assert!(pair[0] < pair[1], "doubled or out of order: {log:?}");
        }
        for (values, fate) in &self.fates {
            let outcome = outcome(fate).expect("every batch has a fate");
            for (position, value) in values.iter().enumerate() {
                match &outcome {
                    Ok(appended) => assert_eq!(
                        place(*value),
                        Some(appended.offset.0 as usize + position),
                        "acknowledged elsewhere than it is"
                    ),
                    Err(AppendError::Ambiguous { .. }) => {}
                    Err(AppendError::NotAppended { .. }) => {
                        assert_eq!(place(*value), None, "promised not to be there");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_acknowledged_records_are_there_once_in_order_and_failed_ones_as_said(
        events in prop::collection::vec(event(), 0..120)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.come_to_rest();
        world.check();
        prop_assert_eq!(world.flight.settled().1, Serial(world.fates.len() as u64));
    }
}
