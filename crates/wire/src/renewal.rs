//! How a member gets another certificate for the key that it has shown: it asks a member that signs, on the
//! link between them. Lost, doubled or late, neither does harm: who asks does so until it is answered.

use bytes::BytesMut;

use crate::{
    codec::{self, Decode, Encode},
    frame::{Frame, FrameKind, encode_frame},
    limits::{PEM_BYTES_MAX, RENEWED_BYTES_MAX, TEXT_BYTES_MAX},
    malformed::Malformed,
    scan::within,
};

/// Asks for it. Who asks, and with which key, the link says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renew;

/// The answer to it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Renewed {
    /// A certificate, as PEM.
    Signed(String),
    /// There is none from this member, and why.
    Refused(String),
}

impl Renew {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Renew, &[], out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        match frame.whole(FrameKind::Renew)?.len() {
            0 => Ok(Self),
            left => Err(Malformed::Trailing {
                what: "a request for another certificate",
                left,
            }),
        }
    }
}

impl Renewed {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Renewed, &codec::encode(self), out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Renewed)?;
        let renewed = codec::decode("another certificate", payload, RENEWED_BYTES_MAX)?;
        let (bytes, max) = match &renewed {
            Self::Signed(pem) => (pem.len(), PEM_BYTES_MAX),
            Self::Refused(why) => (why.len(), TEXT_BYTES_MAX),
        };
        within("the length of an answer", bytes as u64, max)?;
        Ok(renewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PEER_FRAME_BYTES_MAX;

    fn read(renewed: &Renewed) -> Result<Renewed, Malformed> {
        let mut out = BytesMut::new();
        renewed.encode(&mut out);
        Renewed::decode(&Frame::take(&mut out, PEER_FRAME_BYTES_MAX)?.expect("whole"))
    }

    #[test]
    fn an_answer_that_is_longer_than_any_is_refused() {
        let long = |count| "c".repeat(count);
        for good in [
            Renewed::Signed(long(PEM_BYTES_MAX)),
            Renewed::Refused(long(TEXT_BYTES_MAX)),
        ] {
            assert_eq!(read(&good).as_ref(), Ok(&good));
        }
        assert!(read(&Renewed::Signed(long(PEM_BYTES_MAX + 1))).is_err());
        assert!(read(&Renewed::Refused(long(TEXT_BYTES_MAX + 1))).is_err());
    }
}
