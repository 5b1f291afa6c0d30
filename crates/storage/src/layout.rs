//! Everything that is written down outside this process: every directory, file name, keyspace, key,
//! magic, version and size. A change here is a change of format and needs a new version number.
//!
//! All numbers are little-endian, except in keys, where big-endian keeps the order.
//!
//! | what | where | written by |
//! |---|---|---|
//! | the lock | `lock` | `OsDisk`, held while the node runs |
//! | the journal | `journal/NNNNNNNNNN.journal` | `journal`, one thread |
//! | what is left of a damaged journal | `journal/NNNNNNNNNN.damaged` | moved there at a start, until no group is recovering |
//! | a group's segments | `groups/<id>/<first index>.segment` | `segment`, one thread |
//! | what the journal wrote of a segment that has no bodies of its own: the journal's own file by another name | `groups/<id>/<first index>.bodies` | `segment::apart`, one thread |
//! | their sparse indexes | `groups/<id>/<first index>.index` | `segment`, one thread |
//! | a segment while it is written anew | `groups/<id>/<first index>.mending` | `segment::rewrite` |
//! | what is fetched of a group that is not here yet | `groups/<id>.incoming/`, as in `groups/<id>/` | `incoming`, until it is whole and renamed |
//! | entries that peers gave for that | `groups/<id>/<first index>.fetched` | `segment::broken` |
//! | small state | `state/` | fjall, through `state` |
//! | state that would not open | `state.unreadable-<n>/` | moved there at a start |

use std::path::{Path, PathBuf};

use kontiki_raft::Index;
use kontiki_wire::GroupId;

/// Held with `flock` by the process that owns the directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// The journal's directory.
pub(crate) const JOURNAL_DIR: &str = "journal";
/// The directory of the groups' directories.
pub(crate) const GROUPS_DIR: &str = "groups";

/// The directory of fjall.
pub(crate) const STATE_DIR: &str = "state";

const JOURNAL_SUFFIX: &str = ".journal";
const DAMAGED_SUFFIX: &str = ".damaged";
const SEGMENT_SUFFIX: &str = ".segment";
const BODIES_SUFFIX: &str = ".bodies";
const INDEX_SUFFIX: &str = ".index";
const MENDING_SUFFIX: &str = ".mending";
const FETCHED_SUFFIX: &str = ".fetched";
const INCOMING_SUFFIX: &str = ".incoming";

/// The journal's frames. Header, in this order, 64 bytes:
///
/// | bytes | field |
/// |---|---|
/// | 4 | magic |
/// | 2 | version |
/// | 1 | kind, see `journal::frame::Kind` |
/// | 1 | zero |
/// | 4 | file: the number in the file's name, so that a recycled file's old frames are not taken for new |
/// | 4 + 8 | synced: file and byte up to which the journal was known durable when this was written |
/// | 8 | at: the frame's own byte in the file, so that a misdirected write is not taken for a frame |
/// | 4 | bytes of operations that follow |
/// | 4 | bytes of bodies that follow those |
/// | 4 | chain: the header checksum of the frame before, across files |
/// | 4 | CRC-32C of the operations |
/// | 8 | salt: the directory's own, so that no record's bytes can pass for a frame |
/// | 4 | zero |
/// | 4 | CRC-32C of the 60 bytes before |
///
/// Each body is covered by the checksum in its entry's header, which is part of the operations; zeros
/// fill up to a multiple of 8.
///
/// Operations, by their first byte: see `journal::op`.
pub(crate) mod journal {
    /// "KTKJ".
    pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"KTKJ");
    /// The version of frames and operations that are written.
    pub(crate) const VERSION: u16 = 2;
    /// Those that are read. Version 1 had no frame that says that another file was begun.
    pub(crate) const KNOWN: std::ops::RangeInclusive<u16> = 1..=VERSION;
    /// Bytes of a frame's header.
    pub(crate) const HEADER_BYTES: usize = 64;
    /// Frames begin at multiples of this.
    pub(crate) const ALIGN: usize = 8;
    /// Bytes of an entry's header among the operations: index, term, time (8 each), body length,
    /// body checksum (4 each), kind (1), zeros (7).
    pub(crate) const ENTRY_BYTES: usize = 40;
}

/// A group's segments: a header, one frame for each entry, and, once it is sealed, a footer.
///
/// Header, 64 bytes: magic (4), version (2), zeros (2), group, first index, term of the entry before,
/// offset of the first record (8 each), zeros (20), CRC-32C of the 60 bytes before (4).
///
/// Frame: magic (4), kind (1), zeros (3), group, index, term, time, offset (8 each), count of records,
/// bytes of the body, CRC-32C of the body, CRC-32C of the 60 bytes before (4 each); then the body as
/// the producer sent it.
///
/// Footer: what [`crate::segment`]'s `Footer` holds, and before its terms, if the segment has
/// configurations, how many (4), zeros (4), the index and the byte of each (8 each); then 16 bytes that
/// the file ends with: length of the footer (4), magic (4), CRC-32C of the footer (4), CRC-32C of the
/// 12 bytes before (4).
///
/// A segment whose bodies lie apart is sealed when it is written, and every byte of it is counted as if the
/// bodies were in it. Its file has a header of 64 bytes (magic (4), version (2), zeros (2), group, first index
/// (8 each), zeros (36), CRC-32C of the 60 bytes before (4)), the segment's header, for each frame a record, and the
/// footer. Record, 88 bytes: the byte of the segment where the frame begins, the byte of the file with the
/// bodies where its body begins (8 each), what a frame has before its body (64), CRC-32C of the 80 bytes
/// before (4), zeros (4).
///
/// Index: header (magic (4), version (2), zeros (2), group, first index (8 each), zeros (4), CRC-32C
/// (4)), then marks of 56 bytes: index, term, offset, time, position (8 each), digest of the frames
/// before (4), kind (1), zeros (7), CRC-32C (4).
pub(crate) mod segment {
    /// "KTKS", of a segment's header.
    pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"KTKS");
    /// "KTKA", of a segment whose bodies lie apart.
    pub(crate) const APART_MAGIC: u32 = u32::from_le_bytes(*b"KTKA");
    /// "KTKE", of an entry's frame.
    pub(crate) const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"KTKE");
    /// "KTKF", of a footer.
    pub(crate) const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"KTKF");
    /// "KTKI", of an index.
    pub(crate) const INDEX_MAGIC: u32 = u32::from_le_bytes(*b"KTKI");
    /// The version of all of them.
    pub(crate) const VERSION: u16 = 1;
    /// The version of a footer that tells of configurations.
    pub(crate) const CONFIGS_VERSION: u16 = 2;
    /// Bytes of a segment's header.
    pub(crate) const HEADER_BYTES: usize = 64;
    /// Bytes of a frame before its body.
    pub(crate) const ENTRY_BYTES: usize = 64;
    /// Bytes of the header of a segment whose bodies lie apart.
    pub(crate) const APART_HEADER_BYTES: usize = 64;
    /// Bytes of a record of one.
    pub(crate) const RECORD_BYTES: usize = 88;
    /// Bytes that a sealed segment ends with.
    pub(crate) const TRAILER_BYTES: usize = 16;
    /// Bytes of an index's header.
    pub(crate) const INDEX_HEADER_BYTES: usize = 32;
    /// Bytes of a mark.
    pub(crate) const MARK_BYTES: usize = 56;
}

/// fjall's keyspaces and what is in them.
pub(crate) mod state {
    /// Group id (8, big-endian) to: version (1), term, index (8 each), the state.
    pub(crate) const CHECKPOINTS: &str = "checkpoints";
    /// The version of a checkpoint's value.
    pub(crate) const CHECKPOINT_VERSION: u8 = 1;
    /// [`NEWEST`] to the number of the newest journal file that was begun (4).
    pub(crate) const JOURNAL: &str = "journal";
    /// The one key of [`JOURNAL`].
    pub(crate) const NEWEST: &str = "newest";
}

/// `journal/salt`: 8 bytes drawn at random when the directory was born, and their CRC-32C.
pub(crate) fn salt_path() -> PathBuf {
    PathBuf::from(JOURNAL_DIR).join("salt")
}

/// `journal/NNNNNNNNNN.journal`.
pub(crate) fn journal_path(file: u32) -> PathBuf {
    PathBuf::from(JOURNAL_DIR).join(format!("{file:010}{JOURNAL_SUFFIX}"))
}

/// `journal/NNNNNNNNNN.damaged`.
pub(crate) fn journal_aside(file: u32) -> PathBuf {
    PathBuf::from(JOURNAL_DIR).join(format!("{file:010}{DAMAGED_SUFFIX}"))
}

/// Whether a file of this name was part of a damaged journal.
pub(crate) fn is_journal_aside(name: &str) -> bool {
    name.strip_suffix(DAMAGED_SUFFIX)
        .is_some_and(|digits_of| digits(digits_of, 10).is_some())
}

/// The number in a journal file's name, or `None` for any other name.
pub(crate) fn journal_number(name: &str) -> Option<u32> {
    digits(name.strip_suffix(JOURNAL_SUFFIX)?, 10)?
        .try_into()
        .ok()
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// `groups/<id>`.
pub(crate) fn group_dir(group: GroupId) -> PathBuf {
    PathBuf::from(GROUPS_DIR).join(group.to_string())
}

/// `groups/<id>.incoming`.
pub(crate) fn incoming_dir(group: GroupId) -> PathBuf {
    PathBuf::from(GROUPS_DIR).join(format!("{group}{INCOMING_SUFFIX}"))
}

/// The group of which the directory of this name takes in what is fetched, or `None` for any other name.
pub(crate) fn group_of_incoming_dir(name: &str) -> Option<GroupId> {
    group_of_dir(name.strip_suffix(INCOMING_SUFFIX)?)
}

/// The first index in an index's name, or `None` for any other name.
pub(crate) fn index_first(name: &str) -> Option<Index> {
    digits(name.strip_suffix(INDEX_SUFFIX)?, 20).map(Index)
}

/// The group whose directory has this name, or `None` for any other name.
pub(crate) fn group_of_dir(name: &str) -> Option<GroupId> {
    let id = GroupId(name.parse().ok()?);
    (id.to_string() == name).then_some(id)
}

/// `groups/<id>/<first index>.segment`.
pub(crate) fn segment_path(group: GroupId, first: Index) -> PathBuf {
    group_dir(group).join(format!("{first:020}{SEGMENT_SUFFIX}"))
}

/// `groups/<id>/<first index>.bodies`.
pub(crate) fn bodies_path(group: GroupId, first: Index) -> PathBuf {
    group_dir(group).join(format!("{first:020}{BODIES_SUFFIX}"))
}

/// Where the bodies of the segment at this path are if they lie apart; `None` if it is no segment's path.
pub(crate) fn bodies_of(segment: &Path) -> Option<PathBuf> {
    let name = segment.file_name()?.to_str()?;
    let first = name.strip_suffix(SEGMENT_SUFFIX)?;
    Some(segment.with_file_name(format!("{first}{BODIES_SUFFIX}")))
}

/// The first index in the name of a file with a segment's bodies, or `None` for any other name.
pub(crate) fn bodies_first(name: &str) -> Option<Index> {
    digits(name.strip_suffix(BODIES_SUFFIX)?, 20).map(Index)
}

/// `groups/<id>/<first index>.index`.
pub(crate) fn index_path(group: GroupId, first: Index) -> PathBuf {
    group_dir(group).join(format!("{first:020}{INDEX_SUFFIX}"))
}

/// `groups/<id>/<first index>.mending`.
pub(crate) fn mending_path(group: GroupId, first: Index) -> PathBuf {
    group_dir(group).join(format!("{first:020}{MENDING_SUFFIX}"))
}

/// `groups/<id>/<first index>.fetched`: frames as in a segment, without header or footer.
pub(crate) fn fetched_path(group: GroupId, first: Index) -> PathBuf {
    group_dir(group).join(format!("{first:020}{FETCHED_SUFFIX}"))
}

/// The first index in a segment's name, or `None` for any other name.
pub(crate) fn segment_first(name: &str) -> Option<Index> {
    digits(name.strip_suffix(SEGMENT_SUFFIX)?, 20).map(Index)
}

/// Whether a name in a group's directory is of something that a mending left, which counts for nothing.
pub(crate) fn is_left_by_mending(name: &str) -> bool {
    name.ends_with(MENDING_SUFFIX) || name.ends_with(FETCHED_SUFFIX)
}

/// `state.unreadable-<n>`.
pub(crate) fn state_aside(n: u32) -> PathBuf {
    PathBuf::from(format!("{STATE_DIR}.unreadable-{n}"))
}
