//! The first frame of a file: where the journal comes from, and what of it is still needed.

use crate::{
    fields::{Fields, PutFields},
    journal::frame::Position,
};

/// Bytes of one sentence about damage; longer ones are cut.
const DAMAGE_BYTES_MAX: usize = 1024;
/// Sentences about damage that are carried from file to file.
const DAMAGE_MAX: usize = 64;

/// Where a file's valid frames end, and the checksum that the next frame chains to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct End {
    pub(crate) position: Position,
    pub(crate) chain: u32,
}

impl End {
    /// Where no frame of this file ends, so that nobody finds that it goes on.
    pub(crate) fn beyond(file: u32) -> Self {
        let at = u64::MAX;
        Self {
            position: Position { file, at },
            chain: 0,
        }
    }
}

/// What the first frame of a file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Begin {
    /// The end of the file before; the default if there was none.
    pub(crate) previous: End,
    /// The first file that was still needed.
    pub(crate) first_needed: u32,
    /// The size of this file when it was begun.
    pub(crate) size: u64,
    /// Damage that was found at a start and from which groups were recovering, one sentence each.
    pub(crate) damage: Vec<String>,
}

impl Begin {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let damage = &self.damage[..self.damage.len().min(DAMAGE_MAX)];
        let mut bytes = Vec::new();
        bytes.put_u32(self.previous.position.file);
        bytes.put_u32(self.previous.chain);
        bytes.put_u64(self.previous.position.at);
        bytes.put_u32(self.first_needed);
        bytes.put_u32(u32::try_from(damage.len()).expect("at most DAMAGE_MAX"));
        bytes.put_u64(self.size);
        for sentence in damage {
            let sentence = &sentence.as_bytes()[..sentence.len().min(DAMAGE_BYTES_MAX)];
            bytes.put_u32(u32::try_from(sentence.len()).expect("at most DAMAGE_BYTES_MAX"));
            bytes.extend_from_slice(sentence);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let file = fields.u32()?;
        let chain = fields.u32()?;
        let at = fields.u64()?;
        let first_needed = fields.u32()?;
        let sentences = fields.u32()?;
        let size = fields.u64()?;
        let mut damage = Vec::new();
        for _ in 0..sentences {
            let len = fields.u32()? as usize;
            damage.push(String::from_utf8_lossy(fields.take(len)?).into_owned());
        }
        let previous = End {
            position: Position { file, at },
            chain,
        };
        fields.is_empty().then_some(Self {
            previous,
            first_needed,
            size,
            damage,
        })
    }
}
