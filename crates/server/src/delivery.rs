//! One subscription's pump: wait for the watermark, read, write. QUIC's flow control is the
//! back-pressure, so a slow subscriber only has a smaller cursor.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kontiki_broker::{Cursor, Extent, Step};
use kontiki_transport::FrameWriter;
use kontiki_wire::{DeliveredBatch, GroupId, Offset, Refusal, StreamEnd, Subscribe};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::error;

use crate::{
    clock::wall_micros,
    limits::{DELIVERY_IDLE, SUBSCRIBERS_FEW, WATERMARK_AWAITED_MAX},
    recent::encode,
    service::{Ended, Service, unheard},
    topics::KeptTopic,
    watermarks::Mark,
};

/// Serves a subscription to its end; one that may as well go elsewhere, if its topic has few here, and while this
/// member leads that if it did when it came.
pub(crate) async fn serve(
    service: &Service,
    subscribe: &Subscribe,
    if_few: bool,
    writer: &mut FrameWriter,
) -> Ended {
    match Delivery::open(service, subscribe, if_few).await {
        Ok(delivery) => delivery.run(service, writer).await,
        Err(ended) => ended,
    }
}

struct Delivery {
    topic: Arc<KeptTopic>,
    cursor: Cursor,
    marks: watch::Receiver<Mark>,
    /// It came for the leader.
    by_leader: bool,
}

impl Delivery {
    async fn open(service: &Service, subscribe: &Subscribe, if_few: bool) -> Result<Self, Ended> {
        let topic = tokio::select! {
            topic = service.topic(&subscribe.topic) => topic?,
            () = service.stopped() => return Err(Ended::With(StreamEnd::Moving)),
        };
        if let Some(meant) = subscribe.group.filter(|meant| *meant != topic.group) {
            return Err(another(meant, topic.group));
        }
        let mut marks = topic.watermark.watch();
        if if_few && topic.watermark.watched() > SUBSCRIBERS_FEW {
            return Err(Ended::With(StreamEnd::Crowded));
        }
        // Only what the group itself has said is an end to begin or to stop at.
        let known = marks.wait_for(|mark| mark.watermark.is_some() || mark.deleted || mark.closed);
        match timeout(WATERMARK_AWAITED_MAX, known).await {
            Ok(Ok(mark)) if mark.deleted => return Err(deleted(topic.group)),
            Ok(Ok(mark)) if mark.closed => return Err(Ended::With(StreamEnd::Moving)),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(unheard().into()),
        }
        let found = match (Cursor::time_sought(subscribe), topic.log().cloned()) {
            (Some(time), Some(log)) => service.read(move || log.offset_at(time)).await?,
            _ => None,
        };
        let cursor = Cursor::open(subscribe, extent(&topic), found)?;
        let by_leader = if_few && marks.borrow().leads;
        Ok(Self {
            topic,
            cursor,
            marks,
            by_leader,
        })
    }

    async fn run(mut self, service: &Service, writer: &mut FrameWriter) -> Ended {
        let mut silent = true;
        loop {
            let mark = *self.marks.borrow_and_update();
            if mark.deleted {
                return deleted(self.topic.group);
            }
            let led_elsewhere = self.by_leader && !mark.leads;
            if mark.closed || led_elsewhere || *service.stopping.borrow() {
                return Ended::With(StreamEnd::Moving);
            }
            let extent = extent(&self.topic);
            let step = self.cursor.step(extent, wall_micros());
            let sent = match step {
                Step::Read {
                    from,
                    until,
                    bytes_max,
                } => {
                    let next = self.next(service, extent.watermark, (from, until), bytes_max);
                    match next.await {
                        Ok(frame) => service.unsent.write(writer, frame).await,
                        Err(ended) => return ended,
                    }
                }
                // The first sign of life comes at once, whatever there is to wait for.
                Step::Wait { .. } if silent => {
                    writer.write(encode(extent.watermark, Vec::new()).1).await
                }
                Step::Wait { until } => {
                    let idle = self.wait(until, service, writer).await;
                    match idle {
                        Some(Woken::ToSaySo) => {
                            writer.write(encode(extent.watermark, Vec::new()).1).await
                        }
                        Some(Woken::ToLook) => Ok(()),
                        None => return Ended::Silently,
                    }
                }
                Step::Reached => return Ended::With(StreamEnd::Reached),
                Step::Refused(refusal) => return refusal.into(),
            };
            silent = false;
            if let Err(error) = sent {
                return error.into();
            }
        }
    }

    /// The frame that delivers the next stretch.
    async fn next(
        &mut self,
        service: &Service,
        watermark: Offset,
        (from, until): (Offset, Offset),
        bytes_max: usize,
    ) -> Result<Bytes, Ended> {
        // Others of this topic's subscribers are likely to want the same, if it ends where all do.
        let shared = until == watermark && self.topic.watermark.watched() > 1;
        if let Some(delivery) = shared
            .then(|| self.topic.recent.find(from, watermark))
            .flatten()
        {
            let mut batches = delivery.batches.clone();
            self.take(&mut batches)?;
            if batches.len() == delivery.batches.len() {
                return Ok(delivery.frame.clone());
            }
            return Ok(encode(watermark, batches).1);
        }
        let (mut batches, hot) = self.read(service, (from, until), bytes_max).await?;
        let read = batches.len();
        if read == 0 {
            return Err(unreadable(format!(
                "{}: nothing is at {from}, and the watermark is {watermark}",
                self.topic.name
            )));
        }
        self.take(&mut batches)?;
        if shared && hot && batches.len() == read {
            let delivery = self.topic.recent.encode(from, watermark, batches);
            return Ok(delivery.frame.clone());
        }
        Ok(encode(watermark, batches).1)
    }

    /// What was read, and whether it was in memory.
    async fn read(
        &self,
        service: &Service,
        (from, until): (Offset, Offset),
        bytes_max: usize,
    ) -> Result<(Vec<DeliveredBatch>, bool), Ended> {
        let log = self
            .topic
            .log()
            .ok_or_else(|| unreadable(format!("{} has a watermark and no log", self.topic.name)))?;
        if let Some(batches) = log.read_hot(from, until, bytes_max) {
            return Ok((batches, true));
        }
        let log = log.clone();
        let read = move || log.read(from, until, bytes_max);
        Ok((service.read(read).await?, false))
    }

    fn take(&mut self, batches: &mut Vec<DeliveredBatch>) -> Result<(), Ended> {
        self.cursor.take(batches).map_err(unreadable)
    }

    /// Waits for something to look at, or to say that there is nothing; `None` if the subscriber left.
    async fn wait(
        &mut self,
        until: Option<u64>,
        service: &Service,
        writer: &mut FrameWriter,
    ) -> Option<Woken> {
        let due = until.map_or(DELIVERY_IDLE, |wall| {
            Duration::from_micros(wall.saturating_sub(wall_micros()))
        });
        tokio::select! {
            biased;
            changed = self.marks.changed() => {
                changed.expect("the topic, and so its watermark, is held here");
                Some(Woken::ToLook)
            }
            () = service.stopped() => Some(Woken::ToLook),
            () = writer.stopped() => None,
            () = sleep(due), if due < DELIVERY_IDLE => Some(Woken::ToLook),
            () = sleep(DELIVERY_IDLE) => Some(Woken::ToSaySo),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // It is among those counted; whoever is left alone shares with nobody.
        if self.topic.watermark.watched() <= 2 {
            self.topic.recent.clear();
        }
    }
}

/// Why a wait was over.
enum Woken {
    ToLook,
    ToSaySo,
}

fn extent(topic: &KeptTopic) -> Extent {
    let watermark = topic.watermark.known().unwrap_or_default();
    Extent {
        first: topic
            .log()
            .map_or(Offset(0), |log| log.first())
            .min(watermark),
        watermark,
    }
}

fn deleted(group: GroupId) -> Ended {
    Ended::With(StreamEnd::Deleted { group })
}

/// The topic that bears the name here is not the one that is meant. Groups are numbered in the order in
/// which they are made.
fn another(meant: GroupId, here: GroupId) -> Ended {
    if here > meant {
        return deleted(meant);
    }
    Ended::from(Refusal::Unavailable {
        why: "this member has not heard yet that the topic was made anew".to_owned(),
    })
}

/// The disk does not give what it holds. Another member may have it.
fn unreadable(why: String) -> Ended {
    error!(%why, "a subscription cannot go on");
    Refusal::Unavailable { why }.into()
}
