//! Whole frames over a QUIC stream.

use std::{
    fmt,
    future::Future,
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
/// An idle one holds no memory. A frame that arrives slowly holds what has arrived of it, and room for up to
/// eight times as much, within `payload_max` and within a bound for what has arrived over all streams of the
/// connection, for [`FRAME_TIME_MAX`].
pub struct FrameReader {
    recv: RecvStream,
    link: Arc<Link>,
    /// Arrived and not yet handed on.
    buffer: BytesMut,
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
            buffer: BytesMut::new(),
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
        let frame = Frame::take(&mut self.buffer, payload_max)?;
        if frame.is_some() {
            self.deadline = None;
            self.link.release(self.held - self.buffer.len());
            self.held = self.buffer.len();
        }
        Ok(frame)
    }

    /// Takes what has arrived, or waits for more. Cancel-safe: bytes leave the stream only when they
    /// are put into the buffer.
    async fn fill(&mut self, payload_max: usize) -> Result<(), Error> {
        if self.buffer.is_empty() {
            // It may still hold on to memory that it shares with frames handed on.
            self.buffer = BytesMut::new();
        }
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let reading = self.recv.read_chunks(&mut chunks);
        let read = if self.buffer.is_empty() {
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
        let chunks = &chunks[..count];
        let bytes = chunks.iter().map(Bytes::len).sum();
        self.extend_deadline(bytes);
        let front = match &self.buffer[..] {
            [] => &chunks[0],
            begun => begun,
        };
        let arrived = self.buffer.len() + bytes;
        let whole = Frame::length(front, payload_max).unwrap_or(0);
        let room = arrived.max(whole.min(arrived * ROOM_AHEAD));
        self.buffer.reserve(room - self.buffer.len());
        for chunk in chunks {
            self.buffer.extend_from_slice(chunk);
        }
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
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(Error::Malformed(Malformed::Short {
            what: "the last frame of a stream",
            have: self.buffer.len(),
            need: FRAME_HEADER_BYTES.max(self.buffer.len() + 1),
        }))
    }
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
