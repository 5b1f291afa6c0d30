//! Whole frames over a QUIC stream.

use bytes::Bytes;
use kontiki_wire::Frame;

use crate::Error;

/// The sending half of a stream.
pub struct FrameWriter {}

/// The receiving half of a stream.
pub struct FrameReader {}

impl FrameWriter {
    /// Writes these bytes, whole frames, in order. Returns when they are in the stream's window: flow
    /// control is the back-pressure. Not cancel-safe: a cancelled write ends the stream.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), Error> {
        unreachable!("skeleton")
    }

    /// Writes these pieces one after the other.
    pub async fn write_all(&mut self, _pieces: &mut [Bytes]) -> Result<(), Error> {
        unreachable!("skeleton")
    }

    /// Sets the stream's priority among those of its connection; higher goes first, 0 is the default.
    pub fn set_priority(&self, _priority: i32) {}

    /// Ends the stream after what was written.
    pub fn finish(&mut self) {}

    /// Resolves when the other side has stopped reading this stream or the connection is lost.
    pub async fn stopped(&mut self) {}
}

impl FrameReader {
    /// The next frame, or `None` when the other side has finished the stream between two frames.
    /// `payload_max` bounds it. Cancel-safe.
    pub async fn next(&mut self, _payload_max: usize) -> Result<Option<Frame>, Error> {
        unreachable!("skeleton")
    }

    /// A frame that has already arrived whole, without waiting.
    pub fn ready(&mut self, _payload_max: usize) -> Result<Option<Frame>, Error> {
        unreachable!("skeleton")
    }

    /// Tells the other side that nothing more will be read.
    pub fn stop(&mut self, _code: u32) {}
}
