//! What a subscriber may read next: never past the watermark, never with a gap. Used by whoever pumps
//! a subscription; it waits for nothing and reads nothing itself.

use kontiki_wire::{
    Batch, DeliveredBatch, From, Offset, Refusal, Subscribe, Until, Watermark,
    limits::DELIVERY_BYTES_MAX,
};

/// The topic as the log stands here at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first offset there is.
    pub first: Offset,
    /// The end of what may be read.
    pub watermark: Watermark,
}

/// One subscription's place in a topic, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    next: Offset,
    end: End,
    /// Bytes of the next stretch.
    stretch: usize,
}

/// Where a subscription ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Never,
    Before(Offset),
    /// Before the first entry of this time or later. Such an entry has been seen if `seen`.
    Time {
        time: u64,
        seen: bool,
    },
}

/// What to do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read batches from `from` and up to `until`, at least one, and hand them to [`Cursor::take`].
    Read {
        /// The next offset to deliver.
        from: Offset,
        /// At most the watermark.
        until: Offset,
        /// With so many bytes of batches it is enough. Little for a subscriber that has taken nothing
        /// yet, so that a crowd that never will costs little; twice as much each time.
        bytes_max: usize,
    },
    /// There is nothing to read before the watermark rises.
    Wait {
        /// Look again at this time too, in microseconds since the Unix epoch, even if it does not: the
        /// subscription may have reached its end then.
        until: Option<u64>,
    },
    /// The end was reached.
    Reached,
    /// It cannot go on.
    Refused(Refusal),
}

impl Cursor {
    /// The time to look up before [`Cursor::open`], if the subscription begins at one.
    #[must_use]
    pub fn time_sought(subscribe: &Subscribe) -> Option<u64> {
        match subscribe.from {
            From::Time(time) => Some(time),
            _ => None,
        }
    }

    /// Places a new subscription. `found` is the first offset appended at or after
    /// [`Cursor::time_sought`], `None` if every committed record is older.
    ///
    /// An offset beyond the watermark means *not yet*: a member that has just restarted may for a
    /// moment know less than a subscriber has seen elsewhere.
    pub fn open(
        subscribe: &Subscribe,
        extent: Extent,
        found: Option<Offset>,
    ) -> Result<Self, Refusal> {
        let Extent { first, watermark } = extent;
        let next = match subscribe.from {
            From::Earliest => first,
            From::Latest => watermark,
            From::Offset(offset) if offset < first => return Err(out_of_range(extent)),
            From::Offset(offset) => offset,
            From::Last(count) => Offset(watermark.0.saturating_sub(count)).max(first),
            From::Time(_) => found.unwrap_or(watermark).max(first),
        };
        let end = match subscribe.until {
            Until::Forever => End::Never,
            Until::Offset(offset) => End::Before(offset),
            Until::End => End::Before(watermark),
            Until::Time(time) => End::Time { time, seen: false },
        };
        Ok(Self {
            next,
            end,
            stretch: FIRST_STRETCH_BYTES,
        })
    }

    /// The next offset to deliver.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.next
    }

    /// What to do now, at `wall` microseconds since the Unix epoch.
    #[must_use]
    pub fn step(&self, extent: Extent, wall: u64) -> Step {
        let caught_up = self.next >= extent.watermark;
        let until = match self.end {
            End::Before(end) if self.next >= end => return Step::Reached,
            End::Time { seen: true, .. } => return Step::Reached,
            End::Time { time, .. } if caught_up => {
                let settled = time.saturating_add(SETTLING_MICROS);
                if wall >= settled {
                    return Step::Reached;
                }
                return Step::Wait {
                    until: Some(settled),
                };
            }
            End::Before(end) => end.min(extent.watermark),
            End::Never | End::Time { .. } => extent.watermark,
        };
        if self.next < extent.first {
            return Step::Refused(out_of_range(extent));
        }
        if caught_up {
            return Step::Wait { until: None };
        }
        Step::Read {
            from: self.next,
            until,
            bytes_max: self.stretch,
        }
    }

    /// Takes what was read for the last [`Step::Read`] and moves past it: to be called when what was
    /// taken before is on its way to the subscriber. Batches from the end of the
    /// subscription on are dropped from the list. The first batch may begin before the cursor and the
    /// last may reach past an end given as an offset; the client drops those records, because only
    /// it opens batches. Says what is wrong if the batches do not follow on the cursor without a gap:
    /// then nothing of them may be delivered.
    pub fn take(&mut self, batches: &mut Vec<DeliveredBatch>) -> Result<(), String> {
        let mut next = self.next;
        let mut kept = 0;
        for batch in batches.iter() {
            if self.ends_before(batch) {
                break;
            }
            let end = end_of(batch)?;
            let follows = if kept == 0 {
                batch.offset <= next
            } else {
                batch.offset == next
            };
            if !follows || end <= next {
                return Err(format!(
                    "a batch with offsets {} to {end} was read where {next} is next",
                    batch.offset
                ));
            }
            next = end;
            kept += 1;
        }
        if let (End::Time { seen, .. }, true) = (&mut self.end, kept < batches.len()) {
            *seen = true;
        }
        batches.truncate(kept);
        self.next = next;
        self.stretch = (self.stretch * 2).min(DELIVERY_BYTES_MAX);
        Ok(())
    }

    fn ends_before(&self, batch: &DeliveredBatch) -> bool {
        match self.end {
            End::Never => false,
            End::Before(end) => batch.offset >= end,
            End::Time { time, .. } => batch.time >= time,
        }
    }
}

fn end_of(batch: &DeliveredBatch) -> Result<Offset, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("the batch at {}: {what}", batch.offset);
    let header = *Batch::trusted(batch.batch.clone())
        .map_err(|malformed| wrong(&malformed))?
        .header();
    batch
        .offset
        .0
        .checked_add(u64::from(header.count))
        .map(Offset)
        .ok_or_else(|| wrong(&"its offsets run out"))
}

fn out_of_range(extent: Extent) -> Refusal {
    Refusal::OffsetOutOfRange {
        first: extent.first.0,
        next: extent.watermark.0,
    }
}

/// A subscription that ends at a time ends this long after it if nothing newer came: a record that the
/// leader timed just before may still be on its way to the watermark, and clocks differ a little.
const SETTLING_MICROS: u64 = 1_000_000;

/// Bytes of the first stretch of a subscription. It doubles with each one that the subscriber has room
/// for, up to [`DELIVERY_BYTES_MAX`]: whoever reads gets whole deliveries after three.
const FIRST_STRETCH_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use kontiki_wire::{BatchBuilder, ProducerId, Record};

    use super::*;

    const EXTENT: Extent = Extent {
        first: Offset(10),
        watermark: Offset(50),
    };

    fn subscribe(from: From, until: Until) -> Subscribe {
        Subscribe {
            topic: "t".parse().unwrap(),
            group: None,
            epoch: None,
            from,
            until,
        }
    }

    fn open(from: From, until: Until) -> Cursor {
        Cursor::open(&subscribe(from, until), EXTENT, None).unwrap()
    }

    fn batch(offset: u64, count: u32, time: u64) -> DeliveredBatch {
        let mut builder = BatchBuilder::new(256);
        for _ in 0..count {
            builder.push(&Record::default()).unwrap();
        }
        DeliveredBatch {
            offset: Offset(offset),
            time,
            batch: builder.finish(ProducerId(1), 0, offset).bytes().clone(),
        }
    }

    fn read(from: u64, until: u64) -> Step {
        Step::Read {
            from: Offset(from),
            until: Offset(until),
            bytes_max: FIRST_STRETCH_BYTES,
        }
    }

    #[test]
    fn beginnings_are_where_they_are_asked_for() {
        let at = |from| open(from, Until::Forever).position();
        assert_eq!(at(From::Earliest), Offset(10));
        assert_eq!(at(From::Latest), Offset(50));
        assert_eq!(at(From::Offset(Offset(12))), Offset(12));
        assert_eq!(at(From::Last(5)), Offset(45));
        assert_eq!(at(From::Last(1000)), Offset(10));
        assert_eq!(at(From::Time(7)), Offset(50));
        let timed = subscribe(From::Time(7), Until::Forever);
        assert_eq!(Cursor::time_sought(&timed), Some(7));
        let cursor = Cursor::open(&timed, EXTENT, Some(Offset(30))).unwrap();
        assert_eq!(cursor.position(), Offset(30));
    }

    #[test]
    fn trimmed_offset_is_refused_and_a_future_one_waits() {
        let refused = Refusal::OffsetOutOfRange {
            first: 10,
            next: 50,
        };
        let trimmed = subscribe(From::Offset(Offset(9)), Until::Forever);
        assert_eq!(Cursor::open(&trimmed, EXTENT, None), Err(refused));

        let cursor = open(From::Offset(Offset(60)), Until::Forever);
        assert_eq!(cursor.step(EXTENT, 0), Step::Wait { until: None });
        let later = Extent {
            watermark: Offset(61),
            ..EXTENT
        };
        assert_eq!(cursor.step(later, 0), read(60, 61));
    }

    #[test]
    fn log_trimmed_under_a_slow_subscriber_is_said() {
        let cursor = open(From::Earliest, Until::Forever);
        let later = Extent {
            first: Offset(11),
            ..EXTENT
        };
        let Step::Refused(Refusal::OffsetOutOfRange { first: 11, .. }) = cursor.step(later, 0)
        else {
            panic!("{:?}", cursor.step(later, 0));
        };
    }

    #[test]
    fn end_is_the_watermark_of_the_beginning() {
        let mut cursor = open(From::Last(5), Until::End);
        let later = Extent {
            watermark: Offset(90),
            ..EXTENT
        };
        assert_eq!(cursor.step(later, 0), read(45, 50));
        cursor.take(&mut vec![batch(45, 5, 0)]).unwrap();
        assert_eq!(cursor.step(later, 0), Step::Reached);
        assert_eq!(open(From::Latest, Until::End).step(later, 0), Step::Reached);
    }

    #[test]
    fn first_batch_may_begin_before_the_cursor_and_the_last_reach_past_the_end() {
        let mut cursor = open(From::Offset(Offset(12)), Until::Offset(Offset(18)));
        assert_eq!(cursor.step(EXTENT, 0), read(12, 18));
        let mut batches = vec![batch(10, 5, 0), batch(15, 5, 0), batch(20, 5, 0)];
        cursor.take(&mut batches).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!(cursor.position(), Offset(20));
        assert_eq!(cursor.step(EXTENT, 0), Step::Reached);
    }

    #[test]
    fn gap_overlap_or_stale_batch_moves_nothing() {
        let mut cursor = open(From::Offset(Offset(12)), Until::Forever);
        for mut wrong in [
            vec![batch(13, 1, 0)],
            vec![batch(10, 2, 0)],
            vec![batch(12, 2, 0), batch(15, 1, 0)],
            vec![batch(12, 2, 0), batch(13, 2, 0)],
        ] {
            assert!(cursor.take(&mut wrong).is_err());
            assert_eq!(cursor.position(), Offset(12));
        }
    }

    #[test]
    fn stretches_double_as_they_are_taken_up_to_a_whole_delivery() {
        let mut cursor = open(From::Earliest, Until::Forever);
        let mut sizes = Vec::new();
        for offset in 10..16 {
            let Step::Read { bytes_max, .. } = cursor.step(EXTENT, 0) else {
                panic!("{:?}", cursor.step(EXTENT, 0));
            };
            sizes.push(bytes_max >> 10);
            // Whatever is refused was not taken.
            cursor.take(&mut vec![batch(40, 1, 0)]).unwrap_err();
            cursor.take(&mut vec![batch(offset, 1, 0)]).unwrap();
        }
        assert_eq!(sizes, [64, 128, 256, 512, 512, 512]);
    }

    #[test]
    fn end_in_time_is_found_among_the_batches_or_by_the_clock() {
        let mut cursor = open(From::Offset(Offset(40)), Until::Time(1000));
        assert_eq!(cursor.step(EXTENT, 9_000_000), read(40, 50));
        let mut batches = vec![batch(40, 5, 999), batch(45, 5, 1000)];
        cursor.take(&mut batches).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!(cursor.step(EXTENT, 0), Step::Reached);

        let waiting = open(From::Latest, Until::Time(1000));
        let settled = 1000 + SETTLING_MICROS;
        assert_eq!(
            waiting.step(EXTENT, settled - 1),
            Step::Wait {
                until: Some(settled)
            }
        );
        assert_eq!(waiting.step(EXTENT, settled), Step::Reached);
    }
}
