//! One frame: its header, and what makes its bytes valid.

use std::fmt;

use crate::{
    fields::{Fields, PutFields},
    layout::journal::{ALIGN, HEADER_BYTES, KNOWN, MAGIC, VERSION},
    planted::{Planted, plants},
};

/// Why a sound frame of another version is not read.
pub(crate) const UNKNOWN_VERSION: &str = "its format's version is not known to this program";

/// A byte of the journal; ordered as the journal was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Position {
    pub(crate) file: u32,
    pub(crate) at: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of file {}", self.at, self.file)
    }
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first of a file.
    Begin = 1,
    /// Operations on groups.
    Operations = 2,
    /// Only the news of what is synced.
    Mark = 3,
    /// Files before the one named are not needed any more.
    Freed = 4,
    /// The file ends here and the one named goes on.
    Turn = 5,
    /// The process stopped here on purpose.
    Close = 6,
    /// The file named goes on from before this frame, and its first frame was durable when this was
    /// written: since version 2.
    Followed = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; 7] = [
            Kind::Begin,
            Kind::Operations,
            Kind::Mark,
            Kind::Freed,
            Kind::Turn,
            Kind::Close,
            Kind::Followed,
        ];
        ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// Why no frame can be read somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Invalid {
    /// The bytes are not what was written, or nothing was.
    Bytes(&'static str),
    /// They are what was written, and cannot be right here: no crash leaves that behind.
    Meaning(&'static str),
}

impl Invalid {
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Bytes(why) | Self::Meaning(why) => why,
        }
    }
}

/// The header of a frame, see [`crate::layout::journal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) position: Position,
    pub(crate) synced: Position,
    pub(crate) ops_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) chain: u32,
    pub(crate) ops_checksum: u32,
    pub(crate) salt: u64,
}

impl Header {
    /// The header's bytes, and its checksum, which the next frame carries as its chain.
    pub(crate) fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_u32(MAGIC);
        bytes.put_u16(VERSION);
        bytes.put_u8(self.kind as u8);
        bytes.put_u8(0);
        bytes.put_u32(self.position.file);
        bytes.put_u32(self.synced.file);
        bytes.put_u64(self.synced.at);
        bytes.put_u64(self.position.at);
        bytes.put_u32(self.ops_bytes);
        bytes.put_u32(self.body_bytes);
        bytes.put_u32(self.chain);
        bytes.put_u32(self.ops_checksum);
        bytes.put_u64(self.salt);
        bytes.put_u32(0);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32(checksum);
        let bytes = bytes.try_into().expect("the fields above are 64 bytes");
        (bytes, checksum)
    }

    /// Reads a header that stands whole in itself, and its checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), Invalid> {
        const SHORT: Invalid = Invalid::Bytes("the file ends inside a frame's header");
        let (bytes, _) = bytes.split_at_checked(HEADER_BYTES).ok_or(SHORT)?;
        let mut fields = Fields::new(bytes);
        if fields.u32() != Some(MAGIC) {
            return Err(Invalid::Bytes("no frame begins here"));
        }
        let (covered, last) = bytes.split_at(HEADER_BYTES - 4);
        let checksum = crc32c::crc32c(covered);
        if last != checksum.to_le_bytes() {
            return Err(Invalid::Bytes("the header's checksum does not match"));
        }
        if !fields.u16().is_some_and(|version| KNOWN.contains(&version)) {
            return Err(Invalid::Meaning(UNKNOWN_VERSION));
        }
        let decoded = (|| {
            let kind = Kind::from_byte(fields.u8()?)?;
            fields.zeros(1)?;
            let file = fields.u32()?;
            let synced = Position {
                file: fields.u32()?,
                at: fields.u64()?,
            };
            let at = fields.u64()?;
            Some(Self {
                kind,
                position: Position { file, at },
                synced,
                ops_bytes: fields.u32()?,
                body_bytes: fields.u32()?,
                chain: fields.u32()?,
                ops_checksum: fields.u32()?,
                salt: fields.u64()?,
            })
        })();
        const UNKNOWN: Invalid = Invalid::Meaning("the frame's kind is not known to this program");
        let header = decoded.ok_or(UNKNOWN)?;
        Ok((header, checksum))
    }

    /// Bytes of the whole frame, padding included.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.ops_bytes) + u64::from(self.body_bytes))
    }

    /// The first byte after the frame.
    pub(crate) fn end(&self) -> u64 {
        self.position.at.saturating_add(self.frame_bytes())
    }
}

/// Bytes of a frame with so much in it.
pub(crate) fn frame_bytes(content: u64) -> u64 {
    (HEADER_BYTES as u64 + content).next_multiple_of(ALIGN as u64)
}

/// Where a frame must stand to be taken for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) salt: u64,
}

impl Place {
    /// The header that `bytes`, which begin at byte `at` of the file, begin with, if it was written for
    /// there; and its checksum.
    pub(crate) fn header(self, at: u64, bytes: &[u8]) -> Result<(Header, u32), Invalid> {
        let (header, checksum) = Header::decode(bytes)?;
        let here = Position {
            file: self.file,
            at,
        };
        let here = match plants(Planted::StaleFramesReplayed) {
            true => Position {
                file: header.position.file,
                at,
            },
            false => here,
        };
        if header.position != here {
            return Err(Invalid::Bytes("the frame was written for another place"));
        }
        if header.salt != self.salt {
            return Err(Invalid::Bytes("the frame was written in another directory"));
        }
        Ok((header, checksum))
    }

    /// The same for a whole frame, verified but for its bodies, whose checksums are among its
    /// operations.
    pub(crate) fn frame(self, at: u64, bytes: &[u8]) -> Result<Frame<'_>, Invalid> {
        let (header, checksum) = self.header(at, bytes)?;
        let mut fields = Fields::new(bytes);
        fields.take(HEADER_BYTES);
        let ops = fields.take(header.ops_bytes as usize);
        let bodies = fields.take(header.body_bytes as usize);
        let (Some(ops), Some(bodies)) = (ops, bodies) else {
            return Err(Invalid::Bytes("the file ends inside the frame"));
        };
        let used = HEADER_BYTES + ops.len() + bodies.len();
        if crc32c::crc32c(ops) != header.ops_checksum {
            let why = "the checksum of the frame's operations does not match";
            return Err(Invalid::Bytes(why));
        }
        if fields.zeros(used.next_multiple_of(ALIGN) - used).is_none() {
            return Err(Invalid::Bytes("the frame is not filled up with zeros"));
        }
        Ok(Frame {
            header,
            checksum,
            ops,
            bodies,
        })
    }
}

/// A frame whose header, operations and padding are sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    /// The header's checksum.
    pub(crate) checksum: u32,
    pub(crate) ops: &'a [u8],
    pub(crate) bodies: &'a [u8],
}
