//! Operations: what the frames of the journal say about groups.
//!
//! Each begins with a byte that says what it is. A *persist* is one atomic write of a group; a
//! *standing* repeats a group's small state at the start of a file, so that older files can go; a
//! *whole* also repeats every entry that no segment keeps, so that nothing before it is needed; a
//! *removed* ends a group.

use bytes::Bytes;
use kontiki_raft::{
    Entry, Hard, Incarnation, Index, LogId, Micros, NodeId, NodeRef, Persist, Term,
};
use kontiki_wire::{GroupId, Offset};

use crate::{
    entry_kind::entry_kind,
    fields::{Fields, PutFields},
    journal::frame::Invalid,
    layout::journal::ENTRY_BYTES,
};

const PERSIST: u8 = 1;
const STANDING: u8 = 2;
const WHOLE: u8 = 3;
const REMOVED: u8 = 4;

const HAS_HARD: u8 = 1;
const HAS_VOTE: u8 = 2;
const TRUNCATES: u8 = 4;
const RECOVERING: u8 = 8;

/// A group's small state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) group: GroupId,
    pub(crate) hard: Hard,
    /// Known committed.
    pub(crate) commit: Index,
    /// Entries up to it were trimmed.
    pub(crate) base: LogId,
    /// The offset after the trimmed records.
    pub(crate) base_offset: Offset,
    /// Entries up to it are durable in segments.
    pub(crate) kept: Index,
    /// The end of the log.
    pub(crate) last: Index,
}

/// One operation, as read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Persist {
        group: GroupId,
        hard: Option<Hard>,
        truncate_from: Option<Index>,
        entries: Vec<Entry>,
        commit: Index,
    },
    Standing(Standing),
    Whole {
        standing: Standing,
        /// From `standing.kept + 1` to `standing.last`.
        entries: Vec<Entry>,
    },
    Removed(GroupId),
}

/// Operations on their way into one frame.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) ops: Vec<u8>,
    pub(crate) bodies: Vec<Body>,
    pub(crate) body_bytes: u64,
}

/// The body of an entry, and whose it is.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) group: GroupId,
    pub(crate) id: LogId,
    pub(crate) bytes: Bytes,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of operations and bodies.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.ops.len() as u64 + self.body_bytes
    }

    pub(crate) fn persist(&mut self, group: GroupId, persist: &Persist) {
        let truncates = persist.truncate_from.map_or(0, |_| TRUNCATES);
        let ops = &mut self.ops;
        ops.put_u8(PERSIST);
        ops.put_u8(truncates | persist.hard.map_or(0, hard_flags));
        ops.put_u16(0);
        ops.put_u32(count(&persist.append));
        ops.put_u64(group.0);
        put_hard(ops, persist.hard.unwrap_or_default());
        ops.put_u64(persist.truncate_from.unwrap_or_default().0);
        ops.put_u64(persist.commit.0);
        self.entries(group, &persist.append);
    }

    pub(crate) fn standing(&mut self, standing: &Standing) {
        self.put_standing(STANDING, standing, 0);
    }

    pub(crate) fn whole(&mut self, standing: &Standing, entries: &[Entry]) {
        self.put_standing(WHOLE, standing, count(entries));
        self.entries(standing.group, entries);
    }

    pub(crate) fn removed(&mut self, group: GroupId) {
        self.ops.put_u8(REMOVED);
        self.ops.put_zeros(7);
        self.ops.put_u64(group.0);
    }

    fn put_standing(&mut self, kind: u8, standing: &Standing, entries: u32) {
        let ops = &mut self.ops;
        ops.put_u8(kind);
        ops.put_u8(hard_flags(standing.hard));
        ops.put_u16(0);
        ops.put_u32(entries);
        ops.put_u64(standing.group.0);
        put_hard(ops, standing.hard);
        ops.put_u64(standing.commit.0);
        ops.put_u64(standing.base.term.0);
        ops.put_u64(standing.base.index.0);
        ops.put_u64(standing.base_offset.0);
        ops.put_u64(standing.kept.0);
        ops.put_u64(standing.last.0);
    }

    fn entries(&mut self, group: GroupId, entries: &[Entry]) {
        self.ops.reserve(entries.len() * ENTRY_BYTES);
        for entry in entries {
            let len = u32::try_from(entry.body.len()).expect("a body is far below 4 GiB");
            self.ops.put_u64(entry.id.index.0);
            self.ops.put_u64(entry.id.term.0);
            self.ops.put_u64(entry.time.0);
            self.ops.put_u32(len);
            self.ops.put_u32(entry.checksum);
            self.ops.put_u8(entry.kind as u8);
            self.ops.put_zeros(7);
            self.bodies.push(Body {
                group,
                id: entry.id,
                bytes: entry.body.clone(),
            });
            self.body_bytes += u64::from(len);
        }
    }
}

fn count(entries: &[Entry]) -> u32 {
    u32::try_from(entries.len()).expect("entries of one write are far below 2^32")
}

fn hard_flags(hard: Hard) -> u8 {
    let recovering = if hard.recovering { RECOVERING } else { 0 };
    HAS_HARD | recovering | hard.vote.map_or(0, |_| HAS_VOTE)
}

fn put_hard(ops: &mut Vec<u8>, hard: Hard) {
    let vote = hard.vote.unwrap_or_default();
    ops.put_u64(hard.term.0);
    ops.put_u64(vote.id.0);
    ops.put_u64(vote.incarnation.0);
}

/// Reads the operations of a frame. The bodies are copied, so that nothing keeps a file's bytes.
pub(crate) fn decode(ops: &[u8], bodies: &[u8]) -> Result<Vec<Op>, Invalid> {
    let mut reader = Reader {
        ops: Fields::new(ops),
        bodies: Fields::new(bodies),
    };
    let mut all = Vec::new();
    while !reader.ops.is_empty() {
        all.push(reader.op()?);
    }
    if !reader.bodies.is_empty() {
        return Err(Invalid::Meaning(
            "the frame has bodies that belong to no entry",
        ));
    }
    Ok(all)
}

struct Reader<'a> {
    ops: Fields<'a>,
    bodies: Fields<'a>,
}

const MEANINGLESS: Invalid = Invalid::Meaning("the frame's operations make no sense");

impl Reader<'_> {
    fn op(&mut self) -> Result<Op, Invalid> {
        const UNKNOWN: Invalid =
            Invalid::Meaning("the frame has an operation that is not known to this program");
        match self.ops.u8().ok_or(MEANINGLESS)? {
            PERSIST => self.persist(),
            STANDING => match self.standing() {
                Some((standing, 0)) => Ok(Op::Standing(standing)),
                _ => Err(MEANINGLESS),
            },
            WHOLE => {
                let (standing, count) = self.standing().ok_or(MEANINGLESS)?;
                let entries = self.entries(count)?;
                Ok(Op::Whole { standing, entries })
            }
            REMOVED => {
                let group = self.ops.zeros(7).and_then(|()| self.ops.u64());
                group
                    .map(|group| Op::Removed(GroupId(group)))
                    .ok_or(MEANINGLESS)
            }
            _ => Err(UNKNOWN),
        }
    }

    fn persist(&mut self) -> Result<Op, Invalid> {
        let (mut op, count) = self.persist_without_entries().ok_or(MEANINGLESS)?;
        if let Op::Persist { entries, .. } = &mut op {
            *entries = self.entries(count)?;
        }
        Ok(op)
    }

    /// And how many there are.
    fn persist_without_entries(&mut self) -> Option<(Op, u32)> {
        let flags = self.ops.u8()?;
        self.ops.zeros(2)?;
        let count = self.ops.u32()?;
        let group = GroupId(self.ops.u64()?);
        let hard = self.hard(flags)?;
        let truncate = Index(self.ops.u64()?);
        let op = Op::Persist {
            group,
            hard: (flags & HAS_HARD != 0).then_some(hard),
            truncate_from: (flags & TRUNCATES != 0).then_some(truncate),
            entries: Vec::new(),
            commit: Index(self.ops.u64()?),
        };
        Some((op, count))
    }

    fn standing(&mut self) -> Option<(Standing, u32)> {
        let flags = self.ops.u8()?;
        self.ops.zeros(2)?;
        let entries = self.ops.u32()?;
        let standing = Standing {
            group: GroupId(self.ops.u64()?),
            hard: self.hard(flags)?,
            commit: Index(self.ops.u64()?),
            base: LogId {
                term: Term(self.ops.u64()?),
                index: Index(self.ops.u64()?),
            },
            base_offset: Offset(self.ops.u64()?),
            kept: Index(self.ops.u64()?),
            last: Index(self.ops.u64()?),
        };
        Some((standing, entries))
    }

    fn hard(&mut self, flags: u8) -> Option<Hard> {
        let term = Term(self.ops.u64()?);
        let vote = NodeRef {
            id: NodeId(self.ops.u64()?),
            incarnation: Incarnation(self.ops.u64()?),
        };
        let vote = (flags & HAS_VOTE != 0).then_some(vote);
        Some(Hard {
            term,
            vote,
            recovering: flags & RECOVERING != 0,
        })
    }

    fn entries(&mut self, count: u32) -> Result<Vec<Entry>, Invalid> {
        (0..count).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Result<Entry, Invalid> {
        let entry = self.entry_with_body().ok_or(MEANINGLESS)?;
        if crc32c::crc32c(&entry.body) != entry.checksum {
            return Err(Invalid::Bytes(
                "the checksum of an entry's body does not match",
            ));
        }
        Ok(entry)
    }

    fn entry_with_body(&mut self) -> Option<Entry> {
        let index = Index(self.ops.u64()?);
        let term = Term(self.ops.u64()?);
        let time = Micros(self.ops.u64()?);
        let len = self.ops.u32()?;
        let checksum = self.ops.u32()?;
        let kind = entry_kind(self.ops.u8()?)?;
        self.ops.zeros(7)?;
        let body = self.bodies.take(len as usize)?;
        Some(Entry {
            id: LogId { term, index },
            kind,
            time,
            checksum,
            body: Bytes::copy_from_slice(body),
        })
    }
}
