//! Whole frames over a QUIC stream.

use std::{
    fmt,
    future::Future,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kontiki_wire::{FRAME_HEADER_BYTES, Frame, Malformed};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout_at};

use crate::{Error, link::Link, plane::CHUNKS};

/// How long a frame may take from its first byte to its last, if it does not keep coming at 64 KiB a
/// second or more.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// What every further byte adds to that, as bytes a second: slow, but not dripping.
const FRAME_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Room that a frame of which so much has arrived is given at once, as a multiple of that: most are then
/// never moved while they arrive, and who sends little cannot have much kept free for him.
const ROOM_AHEAD: usize = 8;

/// And at most so much more than has arrived, or as much again if that is more.
const ROOM_AHEAD_BYTES_MAX: usize = 512 << 10;

/// A frame of so many bytes is given memory of its own: what follows it on the stream would have to be moved,
/// or have it moved, once there is no room for both.
const ALONE_BYTES_MIN: usize = 64 << 10;

/// The code with which a stream is given up in the middle of a write.
const TORN: VarInt = VarInt::from_u32(1);

/// The sending half of a stream. Dropping it ends the stream after what was written; what is still on
/// the way is lost if the connection ends before [`stopped`](Self::stopped) resolves.
pub struct FrameWriter {
    send: SendStream,
    link: Arc<Link>,
}

/// The receiving half of a stream.
///
/// An idle one holds no memory. A frame that arrives slowly holds what has arrived of it, and some room for
/// the rest of it, within `payload_max` and within a bound for what has arrived over all streams of the
/// connection, for [`FRAME_TIME_MAX`].
pub struct FrameReader {
    recv: RecvStream,
    link: Arc<Link>,
    arrived: Arrived,
    /// How much of it has been counted in at the link.
    held: usize,
    /// By when the frame that has begun must be whole.
    deadline: Option<Instant>,
    finished: bool,
}

impl FrameWriter {
    pub(crate) fn new(send: SendStream, link: Arc<Link>) -> Self {
        Self { send, link }
    }

    /// Writes these bytes, whole frames, in order. Returns when they are in the stream's window: flow
    /// control is the back-pressure. Not cancel-safe: a cancelled write ends the stream.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.write_all(&mut [bytes]).await
    }

    /// Writes these pieces one after the other, like [`write`](Self::write), and leaves them empty.
    pub async fn write_all(&mut self, pieces: &mut [Bytes]) -> Result<(), Error> {
        let mut writing = Writing {
            send: &mut self.send,
            whole: false,
        };
        let written = writing.send.write_all_chunks(pieces).await;
        writing.whole = true;
        drop(writing);
        written.map_err(|error| self.link.unwritten(error))
    }

    /// Sets the stream's priority among those of its connection; higher goes first, 0 is the default.
    pub fn set_priority(&self, priority: i32) {
        // A stream that has ended has nothing left to be sent first.
        let _ = self.send.set_priority(priority);
    }

    /// Ends the stream after what was written.
    pub fn finish(&mut self) {
        // To finish twice is to finish.
        let _ = self.send.finish();
    }

    /// Resolves when the other side has stopped reading this stream, or has received all of it after
    /// [`finish`](Self::finish), or the connection is lost. Cancel-safe.
    pub async fn stopped(&mut self) {
        let _ = self.send.stopped().await;
    }
}

/// What has arrived of a stream and has not been handed on.
#[derive(Default)]
struct Arrived {
    buffer: BytesMut,
    /// What came after that, which ends with a large frame then.
    rest: BytesMut,
}

/// A write under way. If it is dropped half-way the stream has no frame boundary any more, and is
/// given up.
struct Writing<'a> {
    send: &'a mut SendStream,
    whole: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.whole {
            let _ = self.send.reset(TORN);
        }
    }
}

impl FrameReader {
    pub(crate) fn new(recv: RecvStream, link: Arc<Link>) -> Self {
        Self {
            recv,
            link,
            arrived: Arrived::default(),
            held: 0,
            deadline: None,
            finished: false,
        }
    }

    /// The next frame, or `None` when the other side has finished the stream between two frames.
    /// `payload_max` bounds it. Cancel-safe. After an error the stream is of no more use.
    pub async fn next(&mut self, payload_max: usize) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.take(payload_max)? {
                return Ok(Some(frame));
            }
            if self.finished {
                return self.end().map(|()| None);
            }
            self.fill(payload_max).await?;
        }
    }

    /// A frame that has already arrived whole, without waiting.
    pub fn ready(&mut self, payload_max: usize) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.take(payload_max)? {
                return Ok(Some(frame));
            }
            if self.finished {
                return Ok(None);
            }
            // Nobody needs waking: the next call of `next` leaves a waker of its own.
            let mut context = Context::from_waker(Waker::noop());
            match pin!(self.fill(payload_max)).poll(&mut context) {
                Poll::Ready(filled) => filled?,
                Poll::Pending => return Ok(None),
            }
        }
    }

    /// Tells the other side that nothing more will be read.
    pub fn stop(&mut self, code: u32) {
        // What has been read to its end needs no stopping.
        let _ = self.recv.stop(VarInt::from_u32(code));
    }

    fn take(&mut self, payload_max: usize) -> Result<Option<Frame>, Error> {
        let frame = self.arrived.take(payload_max)?;
        if frame.is_some() {
            self.deadline = None;
            self.link.release(self.held - self.arrived.len());
            self.held = self.arrived.len();
        }
        Ok(frame)
    }

    /// Takes what has arrived, or waits for more. Cancel-safe: bytes leave the stream only when they
    /// are put into the buffer.
    async fn fill(&mut self, payload_max: usize) -> Result<(), Error> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let reading = self.recv.read_chunks(&mut chunks);
        let read = if self.arrived.len() == 0 {
            reading.await
        } else {
            let deadline = *self
                .deadline
                .get_or_insert_with(|| Instant::now() + FRAME_TIME_MAX);
            timeout_at(deadline, reading)
                .await
                .map_err(|_| Error::TimedOut("the rest of a frame"))?
        };
        let Some(count) = read.map_err(|error| self.link.unread(error))? else {
            self.finished = true;
            return Ok(());
        };
        let chunks = &mut chunks[..count];
        let bytes = length(chunks);
        self.extend_deadline(bytes);
        self.arrived.put(chunks, payload_max);
        self.held += bytes;
        self.link.hold(bytes)
    }

    /// Whoever keeps sending may go on, also after a pause in which nobody read.
    fn extend_deadline(&mut self, bytes: usize) {
        if let Some(deadline) = &mut self.deadline {
            let micros = bytes as u64 * 1_000_000 / FRAME_BYTES_PER_SECOND_MIN;
            *deadline = (*deadline).max(Instant::now() + Duration::from_micros(micros));
        }
    }

    /// The end of the stream is good between two frames only.
    fn end(&self) -> Result<(), Error> {
        let have = self.arrived.len();
        if have == 0 {
            return Ok(());
        }
        Err(Error::Malformed(Malformed::Short {
            what: "the last frame of a stream",
            have,
            need: FRAME_HEADER_BYTES.max(have + 1),
        }))
    }
}

impl Arrived {
    fn len(&self) -> usize {
        self.buffer.len() + self.rest.len()
    }

    /// The first frame, if it is there whole.
    fn take(&mut self, payload_max: usize) -> Result<Option<Frame>, Malformed> {
        let frame = Frame::take(&mut self.buffer, payload_max)?;
        if self.buffer.is_empty() {
            // It may still hold on to memory that it shares with frames handed on.
            self.buffer = mem::take(&mut self.rest);
        }
        Ok(frame)
    }

    /// Puts what has arrived behind what had, in which there is no whole frame.
    fn put(&mut self, chunks: &mut [Bytes], payload_max: usize) {
        let mut left = match Frame::length(front(&self.buffer, chunks), payload_max) {
            Some(whole) if whole >= ALONE_BYTES_MIN => whole - self.buffer.len(),
            _ => usize::MAX,
        };
        let fits = |chunk: &&Bytes| {
            let fits = chunk.len() <= left;
            left -= if fits { chunk.len() } else { 0 };
            fits
        };
        let count = chunks.iter().take_while(fits).count();
        let (chunks, after) = chunks.split_at_mut(count);
        let end = after.first_mut().map(|first| first.split_to(left));
        let end = end.unwrap_or_default();
        put(&mut self.buffer, chunks, &end, payload_max);
        if !after.is_empty() {
            put(&mut self.rest, after, &[], payload_max);
        }
    }
}

/// Puts these and the end of its frame behind it, and makes room for all of the frame that begins it.
fn put(buffer: &mut BytesMut, chunks: &[Bytes], end: &[u8], payload_max: usize) {
    let arrived = buffer.len() + length(chunks) + end.len();
    let whole = Frame::length(front(buffer, chunks), payload_max).unwrap_or(0);
    let ahead = (arrived * ROOM_AHEAD).min(arrived + arrived.max(ROOM_AHEAD_BYTES_MAX));
    let room = arrived.max(whole.min(ahead));
    if whole < ALONE_BYTES_MIN {
        buffer.reserve(room - buffer.len());
    } else if arrived > buffer.capacity() {
        // It could grow by itself, but then to twice of what it had room for, which the frame would keep.
        let mut larger = BytesMut::with_capacity(room);
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
    }
    buffer.extend_from_slice(end);
}

/// What begins with the header of a frame.
fn front<'a>(buffer: &'a [u8], chunks: &'a [Bytes]) -> &'a [u8] {
    match (buffer, chunks) {
        ([], [first, ..]) => first,
        _ => buffer,
    }
}

fn length(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.link.release(self.held);
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameWriter({})", self.send.id())
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameReader({})", self.recv.id())
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{FrameKind, encode_frame};

    use super::*;

    const MAX: usize = 1 << 20;

    /// No piece of it is like another.
    fn payload(at: usize, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(4)).map(|word| (word as u32) << 4 | at as u32);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    }

    fn frames(lengths: &[usize]) -> Bytes {
        let mut bytes = BytesMut::new();
        for (at, length) in lengths.iter().enumerate() {
            encode_frame(FrameKind::Produce, &payload(at, *length), &mut bytes);
        }
        bytes.freeze()
    }

    /// What comes out when so many bytes arrive at a time, in pieces of so many.
    fn taken(mut stream: Bytes, at_a_time: usize, piece: usize) -> Vec<Bytes> {
        let mut arrived = Arrived::default();
        let mut taken = Vec::new();
        while !stream.is_empty() {
            let mut now = stream.split_to(at_a_time.min(stream.len()));
            let pieces = std::iter::from_fn(|| {
                let piece = now.split_to(piece.min(now.len()));
                (!piece.is_empty()).then_some(piece)
            });
            arrived.put(&mut pieces.collect::<Vec<_>>(), MAX);
            while let Some(frame) = arrived.take(MAX).unwrap() {
                taken.push(frame.payload);
            }
        }
        assert_eq!(arrived.len(), 0);
        taken
    }

    #[test]
    fn frames_come_out_as_they_were_sent_however_they_arrive() {
        let lengths = [
            0,
            3,
            ALONE_BYTES_MIN,
            1,
            3 * ALONE_BYTES_MIN,
            70_000,
            70_001,
            0,
            500,
        ];
        let sent = frames(&lengths);
        for (at_a_time, piece) in [
            (sent.len(), 6_468),
            (sent.len(), sent.len()),
            (208_000, 6_468),
            (FRAME_HEADER_BYTES, 5),
            (65_536, 65_536),
            (7, 3),
        ] {
            let taken = taken(sent.clone(), at_a_time, piece);
            assert_eq!(
                taken.len(),
                lengths.len(),
                "{at_a_time} in pieces of {piece}"
            );
            for (at, (taken, length)) in taken.iter().zip(lengths).enumerate() {
                assert!(
                    *taken == payload(at, length),
                    "frame {at}, {at_a_time} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn large_frame_stays_where_it_begins_to_arrive() {
        let mut stream = frames(&[4 * ALONE_BYTES_MIN, 4 * ALONE_BYTES_MIN]);
        let mut arrived = Arrived::default();
        let mut put = |arrived: &mut Arrived, bytes| {
            arrived.put(&mut [stream.split_to(bytes)], MAX);
        };
        put(&mut arrived, ALONE_BYTES_MIN);
        let begun = arrived.buffer.as_ptr();
        put(&mut arrived, 3 * ALONE_BYTES_MIN + 50_000);
        let (first, next) = (arrived.buffer.as_ptr(), arrived.rest.as_ptr());
        assert_eq!(first, begun);
        assert!(arrived.take(MAX).unwrap().is_some());
        put(&mut arrived, 3 * ALONE_BYTES_MIN);
        assert_eq!(arrived.buffer.as_ptr(), next);
    }

    #[test]
    fn who_has_sent_little_is_given_little_room() {
        let mut stream = frames(&[MAX]);
        let mut arrived = Arrived::default();
        arrived.put(&mut [stream.split_to(100)], MAX);
        assert!(arrived.buffer.capacity() <= 100 * ROOM_AHEAD);
        let mut all = Arrived::default();
        all.put(&mut [frames(&[MAX]).split_to(ALONE_BYTES_MIN * 4)], MAX);
        assert!(all.buffer.capacity() <= ALONE_BYTES_MIN * 4 + ROOM_AHEAD_BYTES_MAX);
        let mut most = Arrived::default();
        let much = ROOM_AHEAD_BYTES_MAX + ALONE_BYTES_MIN;
        most.put(&mut [frames(&[2 * MAX]).split_to(much)], 2 * MAX);
        assert!(most.buffer.capacity() <= 2 * much);
    }

    #[test]
    fn a_large_frame_is_moved_seldom_and_keeps_no_more_than_it_needs() {
        // The last piece of the second finds no room left, and ends with the frame that follows.
        for payload in [2 * MAX, ROOM_AHEAD * ALONE_BYTES_MIN + 3_000] {
            let mut stream = frames(&[payload, 100]);
            let whole = FRAME_HEADER_BYTES + payload;
            let mut arrived = Arrived::default();
            let (mut at, mut moved, mut bytes) = (arrived.buffer.as_ptr(), 0, 0);
            for begun in (0..whole).step_by(ALONE_BYTES_MIN) {
                let piece = stream.split_to(ALONE_BYTES_MIN.min(stream.len()));
                arrived.put(&mut [piece], 2 * MAX);
                if arrived.buffer.as_ptr() != at {
                    at = arrived.buffer.as_ptr();
                    (moved, bytes) = (moved + 1, bytes + begun);
                }
            }
            assert!(moved <= 6 && bytes <= whole, "{moved} times, {bytes} bytes");
            assert_eq!(arrived.buffer.capacity(), whole);
        }
    }
}
