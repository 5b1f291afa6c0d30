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
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) body_bytes: u64,
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
        self.entries(&persist.append);
    }

    pub(crate) fn standing(&mut self, standing: &Standing) {
        self.put_standing(STANDING, standing, 0);
    }

    pub(crate) fn whole(&mut self, standing: &Standing, entries: &[Entry]) {
        self.put_standing(WHOLE, standing, count(entries));
        self.entries(entries);
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

    fn entries(&mut self, entries: &[Entry]) {
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
            self.bodies.push(entry.body.clone());
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

/// Where the body of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BodyPlace {
    pub(crate) id: LogId,
    pub(crate) checksum: u32,
    /// The byte of the file where it begins.
    pub(crate) at: u64,
    pub(crate) bytes: u32,
}

/// Adds where the bodies of a group's entries are of which a frame tells whose bodies begin `at` a byte of the
/// file, and takes back what it cuts.
pub(crate) fn body_places(
    ops: &[u8],
    mut at: u64,
    group: GroupId,
    places: &mut Vec<BodyPlace>,
) -> Result<(), Invalid> {
    let mut reader = Reader {
        ops: Fields::new(ops),
        bodies: Fields::new(&[]),
    };
    while !reader.ops.is_empty() {
        let (of, count, cut_from) = reader.head()?.outline();
        if let Some(from) = cut_from.filter(|_| of == group) {
            places.truncate(places.partition_point(|place| place.id.index < from));
        }
        for _ in 0..count {
            let (entry, bytes) = reader.entry_header().ok_or(MEANINGLESS)?;
            if of == group {
                places.push(BodyPlace {
                    id: entry.id,
                    checksum: entry.checksum,
                    at,
                    bytes,
                });
            }
            at += u64::from(bytes);
        }
    }
    Ok(())
}

struct Reader<'a> {
    ops: Fields<'a>,
    bodies: Fields<'a>,
}

/// An operation without its entries, and how many of those follow.
enum Head {
    Persist {
        group: GroupId,
        hard: Option<Hard>,
        truncate_from: Option<Index>,
        commit: Index,
        count: u32,
    },
    Standing(Standing),
    Whole(Standing, u32),
    Removed(GroupId),
}

impl Head {
    /// The group it is about, how many entries follow, and from where on it cuts those before.
    fn outline(&self) -> (GroupId, u32, Option<Index>) {
        match *self {
            Self::Persist {
                group,
                truncate_from,
                count,
                ..
            } => (group, count, truncate_from),
            Self::Standing(standing) => (standing.group, 0, None),
            // Everything that follows what segments keep comes again.
            Self::Whole(standing, count) => (standing.group, count, Some(standing.kept.next())),
            Self::Removed(group) => (group, 0, Some(Index(0))),
        }
    }
}

const MEANINGLESS: Invalid = Invalid::Meaning("the frame's operations make no sense");

impl Reader<'_> {
    fn op(&mut self) -> Result<Op, Invalid> {
        Ok(match self.head()? {
            Head::Persist {
                group,
                hard,
                truncate_from,
                commit,
                count,
            } => Op::Persist {
                group,
                hard,
                truncate_from,
                entries: self.entries(count)?,
                commit,
            },
            Head::Standing(standing) => Op::Standing(standing),
            Head::Whole(standing, count) => Op::Whole {
                standing,
                entries: self.entries(count)?,
            },
            Head::Removed(group) => Op::Removed(group),
        })
    }

    fn head(&mut self) -> Result<Head, Invalid> {
        const UNKNOWN: Invalid =
            Invalid::Meaning("the frame has an operation that is not known to this program");
        let head = match self.ops.u8().ok_or(MEANINGLESS)? {
            PERSIST => self.persist(),
            STANDING => {
                let standing = self.standing().filter(|(_, count)| *count == 0);
                standing.map(|(standing, _)| Head::Standing(standing))
            }
            WHOLE => self
                .standing()
                .map(|(standing, count)| Head::Whole(standing, count)),
            REMOVED => {
                let group = self.ops.zeros(7).and_then(|()| self.ops.u64());
                group.map(|group| Head::Removed(GroupId(group)))
            }
            _ => return Err(UNKNOWN),
        };
        head.ok_or(MEANINGLESS)
    }

    fn persist(&mut self) -> Option<Head> {
        let flags = self.ops.u8()?;
        self.ops.zeros(2)?;
        let count = self.ops.u32()?;
        let group = GroupId(self.ops.u64()?);
        let hard = self.hard(flags)?;
        let truncate = Index(self.ops.u64()?);
        let commit = Index(self.ops.u64()?);
        Some(Head::Persist {
            group,
            hard: (flags & HAS_HARD != 0).then_some(hard),
            truncate_from: (flags & TRUNCATES != 0).then_some(truncate),
            commit,
            count,
        })
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
        let mut entries = Vec::new();
        for _ in 0..count {
            let (mut entry, len) = self.entry_header().ok_or(MEANINGLESS)?;
            let body = self.bodies.take(len as usize).ok_or(MEANINGLESS)?;
            if crc32c::crc32c(body) != entry.checksum {
                return Err(Invalid::Bytes(
                    "the checksum of an entry's body does not match",
                ));
            }
            entry.body = Bytes::copy_from_slice(body);
            entries.push(entry);
        }
        Ok(entries)
    }

    fn entry_header(&mut self) -> Option<(Entry, u32)> {
        let index = Index(self.ops.u64()?);
        let term = Term(self.ops.u64()?);
        let time = Micros(self.ops.u64()?);
        let len = self.ops.u32()?;
        let checksum = self.ops.u32()?;
        let kind = entry_kind(self.ops.u8()?)?;
        self.ops.zeros(7)?;
        let entry = Entry {
            id: LogId { term, index },
            kind,
            time,
            checksum,
            body: Bytes::new(),
        };
        Some((entry, len))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::Kind;

    use super::*;

    const GROUP: GroupId = GroupId(7);
    const OTHER: GroupId = GroupId(8);

    /// Bodies of as many bytes as their index says.
    fn persist(first: u64, last: u64, truncate_from: Option<u64>) -> Persist {
        let entry = |index: u64| Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Batch,
            time: Micros(0),
            checksum: index as u32,
            body: vec![0; index as usize].into(),
        };
        Persist {
            seq: kontiki_raft::WriteSeq(0),
            hard: None,
            truncate_from: truncate_from.map(Index),
            append: (first..=last).map(entry).collect(),
            commit: Index(0),
        }
    }

    /// The index and the place of each body, in frames of these operations whose bodies begin at byte 1,000 each.
    fn places(frames: &[Draft]) -> Vec<(u64, u64)> {
        let mut places = Vec::new();
        for draft in frames {
            body_places(&draft.ops, 1_000, GROUP, &mut places).unwrap();
        }
        assert!(
            places
                .iter()
                .all(|place| u64::from(place.bytes) == place.id.index.0)
        );
        places
            .iter()
            .map(|place| (place.id.index.0, place.at))
            .collect()
    }

    #[test]
    fn bodies_follow_one_another_whoever_they_belong_to() {
        let mut draft = Draft::default();
        draft.persist(OTHER, &persist(1, 2, None));
        draft.persist(GROUP, &persist(5, 6, None));
        draft.standing(&Standing::default());
        draft.persist(OTHER, &persist(3, 3, Some(1)));
        draft.persist(GROUP, &persist(7, 7, None));
        assert_eq!(places(&[draft]), [(5, 1_003), (6, 1_008), (7, 1_017)]);
    }

    #[test]
    fn what_is_cut_or_comes_again_has_its_latest_place() {
        let (mut first, mut second) = (Draft::default(), Draft::default());
        first.persist(GROUP, &persist(1, 4, None));
        second.persist(GROUP, &persist(3, 3, Some(3)));
        assert_eq!(places(&[first, second])[2..], [(3, 1_000)]);
        let (mut first, mut second) = (Draft::default(), Draft::default());
        first.persist(GROUP, &persist(1, 4, None));
        let standing = Standing {
            group: GROUP,
            kept: Index(2),
            ..Standing::default()
        };
        second.whole(&standing, &persist(3, 4, None).append);
        let both = places(&[first, second]);
        assert_eq!(both[2..], [(3, 1_000), (4, 1_003)]);
    }

    #[test]
    fn of_a_group_that_was_removed_only_what_came_after_counts() {
        let mut draft = Draft::default();
        draft.persist(GROUP, &persist(1, 3, None));
        draft.removed(GROUP);
        draft.persist(GROUP, &persist(1, 1, None));
        assert_eq!(places(&[draft]), [(1, 1_006)]);
    }

    #[test]
    fn operations_that_are_cut_short_are_no_places() {
        let mut draft = Draft::default();
        draft.persist(GROUP, &persist(1, 3, None));
        for len in 1..draft.ops.len() {
            let cut = body_places(&draft.ops[..len], 0, GROUP, &mut Vec::new());
            assert!(cut.is_err(), "{len}");
        }
    }
}
