//! A consumer: it reads a topic from the beginning, at one member after the other, and is given every
//! record once and in order.

use kontiki_wire::{
    Batch, Deliver, DeliveredBatch, From, GroupId, Offset, Refusal, StreamEnd, Subscribe,
    TopicName, Until,
};

use crate::{
    chance::Chance,
    event::{Event, PipeId},
    history::{Piece, SubscriptionId},
    pipe::{End, Up},
    world::World,
};

/// One consumer of one topic.
pub(crate) struct Consumer {
    name: TopicName,
    pub(crate) group: GroupId,
    subscription: SubscriptionId,
    /// What was given ends here.
    pub(crate) next: u64,
    stream: Option<(PipeId, usize)>,
    /// Whether something at or after `next` has come on this stream.
    aligned: bool,
    turn: u32,
    /// Its topic was deleted.
    pub(crate) has_ended: bool,
    chance: Chance,
}

/// Between two attempts.
const RETRY: u64 = 150_000;
/// A consumer goes on at another member after about so long.
const STAYS: u64 = 6_000_000;

impl World {
    /// A consumer begins to read a topic.
    pub(crate) fn consume(&mut self, name: TopicName, group: GroupId) {
        let number = self.consumers.len();
        let chance = self.chance.fork(2_000 + number as u64);
        let subscription = self.history.subscribe(group, Some(0));
        self.consumers.push(Consumer {
            name,
            group,
            subscription,
            next: 0,
            stream: None,
            aligned: false,
            turn: 0,
            has_ended: false,
            chance,
        });
        self.leave(number);
    }

    /// Goes on elsewhere in a moment.
    pub(crate) fn leave(&mut self, number: usize) {
        let it = &mut self.consumers[number];
        let stream = it.stream.take();
        it.turn += 1;
        let turn = it.turn;
        let has_ended = it.has_ended;
        let delay = it.chance.around(RETRY);
        if let Some((pipe, _)) = stream {
            self.close(pipe);
        }
        if !has_ended {
            self.plan_in(
                delay,
                Event::Consumer {
                    consumer: number,
                    turn,
                },
            );
        }
    }

    pub(crate) fn wake_consumer(&mut self, number: usize, turn: u32) {
        let members = 0..self.members.len();
        let members: Vec<usize> = members
            .filter(|member| !self.members[*member].is_out)
            .collect();
        let it = &mut self.consumers[number];
        if it.turn != turn || it.has_ended {
            return;
        }
        if it.stream.is_some() {
            self.leave(number);
            return;
        }
        let member = *it.chance.pick(&members);
        let subscribe = Subscribe {
            topic: it.name.clone(),
            group: Some(it.group),
            epoch: None,
            from: From::Offset(Offset(it.next)),
            until: Until::Forever,
        };
        let stays = it.chance.around(STAYS);
        let Some(pipe) = self.connect(End::Consumer(number), member) else {
            self.leave(number);
            return;
        };
        let it = &mut self.consumers[number];
        it.stream = Some((pipe, member));
        it.aligned = false;
        self.up(pipe, Up::Subscribe(subscribe));
        self.plan_in(
            stays,
            Event::Consumer {
                consumer: number,
                turn,
            },
        );
    }

    /// It is given something.
    pub(crate) fn delivered(&mut self, number: usize, pipe: PipeId, deliver: Deliver) {
        let it = &self.consumers[number];
        if it.stream.is_none_or(|(open, _)| open != pipe) {
            return;
        }
        let group = it.group;
        self.history
            .watermark(self.time(), group, deliver.watermark.0);
        for batch in deliver.batches {
            if let Err(why) = self.take(number, batch) {
                self.find(|| format!("a consumer of group {group} is given {why}"));
                return;
            }
        }
        self.up(pipe, Up::Taken);
    }

    /// Checks that a batch is what is due, as the client does.
    fn take(&mut self, number: usize, batch: DeliveredBatch) -> Result<(), String> {
        let at = self.time();
        let it = &mut self.consumers[number];
        let offset = batch.offset.0;
        self.trace.note(at.0, 13, offset);
        let whole = Batch::verify(batch.batch).map_err(|why| why.to_string())?;
        let mut piece = Piece::of(offset, &whole).map_err(|why| why.to_string())?;
        if offset > it.next || (it.aligned && offset < it.next) {
            return Err(format!("offset {offset} where {} is due", it.next));
        }
        if piece.end() <= it.next {
            return Ok(());
        }
        it.aligned = true;
        if offset < it.next {
            piece.records.drain(..(it.next - offset) as usize);
            piece.offset = it.next;
            piece.stamp = None;
        }
        it.next = piece.end();
        self.history.delivered(at, it.subscription, piece);
        Ok(())
    }

    /// The member ends the stream.
    pub(crate) fn ended(&mut self, number: usize, pipe: PipeId, end: StreamEnd) {
        let it = &mut self.consumers[number];
        if it.stream.is_none_or(|(open, _)| open != pipe) {
            return;
        }
        let group = it.group;
        match end {
            StreamEnd::Deleted { group: gone } if gone == group => {
                it.has_ended = true;
                let subscription = it.subscription;
                self.history.unsubscribe(subscription);
                if !self.is_deleted(group) {
                    self.find(|| format!("group {group} is said to be deleted, and nobody did"));
                }
            }
            StreamEnd::Refused(Refusal::OffsetOutOfRange { first, next }) => {
                let due = it.next;
                self.find(|| {
                    format!("offset {due} of group {group} is refused: there are {first} to {next}")
                });
            }
            _ => {}
        }
        self.leave(number);
    }
}
