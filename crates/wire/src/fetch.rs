//! What members say to each other when one has nothing of a group's log and there is much of it: how much
//! another has in files that do not change any more, and those files' bytes, as they are.
//!
//! ```text
//! Inquiry, Ship                    Stock
//!  0  group  u64                    0  group  u64   as it was asked
//!  8  first  u64   entry            8  first  u64   as it was asked
//!                                  16  last   u64   the last entry there is to fetch; 0 if there is none
//!                                  24  bytes  u64   from `first` on
//! ```

use bytes::{BufMut, BytesMut};
use kontiki_raft::Index;

use crate::{
    frame::{Frame, FrameKind, encode_frame},
    ids::GroupId,
    malformed::Malformed,
    scan::Scan,
};

/// Bytes of one piece of a log that is fetched.
pub const SHIPPED_BYTES_MAX: usize = 512 << 10;

/// Asks for what there is to fetch of a log, or for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Whose.
    pub group: GroupId,
    /// The first entry that the asker lacks.
    pub first: Index,
}

/// What there is to fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stock {
    /// What was asked.
    pub asked: Inquiry,
    /// The last entry that can be fetched; 0 if there is none.
    pub last: Index,
    /// Bytes that it takes.
    pub bytes: u64,
}

impl Inquiry {
    /// Appends its frame to `out`: [`FrameKind::Inquiry`] or [`FrameKind::Ship`].
    pub fn encode(&self, kind: FrameKind, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(INQUIRY_BYTES);
        self.put(&mut payload);
        encode_frame(kind, &payload, out);
    }

    /// Reads it, of either kind.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let kind = match frame.kind {
            FrameKind::Ship => FrameKind::Ship,
            _ => FrameKind::Inquiry,
        };
        let mut scan = Scan::new("a question for a log", frame.whole(kind)?);
        let inquiry = Self::read(&mut scan)?;
        scan.end()?;
        Ok(inquiry)
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.group.0);
        out.put_u64_le(self.first.0);
    }

    fn read(scan: &mut Scan<'_>) -> Result<Self, Malformed> {
        let inquiry = Self {
            group: GroupId(scan.u64()?),
            first: Index(scan.u64()?),
        };
        match inquiry.first.0 {
            0 | u64::MAX => Err(Malformed::Inconsistent {
                what: "a question for a log from an entry that cannot be",
            }),
            _ => Ok(inquiry),
        }
    }
}

impl Stock {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(INQUIRY_BYTES + 16);
        self.asked.put(&mut payload);
        payload.put_u64_le(self.last.0);
        payload.put_u64_le(self.bytes);
        encode_frame(FrameKind::Stock, &payload, out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let mut scan = Scan::new("what there is of a log", frame.whole(FrameKind::Stock)?);
        let stock = Self {
            asked: Inquiry::read(&mut scan)?,
            last: Index(scan.u64()?),
            bytes: scan.u64()?,
        };
        scan.end()?;
        Ok(stock)
    }
}

const INQUIRY_BYTES: usize = 16;
