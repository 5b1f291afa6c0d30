//! Everything that is written down outside this process: every directory, file name, keyspace, key,
//! magic, version and size. A change here is a change of format and needs a new version number.
//!
//! All numbers are little-endian, except in keys, where big-endian keeps the order.
//!
//! | what | where | written by |
//! |---|---|---|
//! | the lock | `lock` | `OsDisk`, held while the node runs |
//! | the journal | `journal/NNNNNNNNNN.journal` | `journal`, one thread |
//! | a group's segments | `groups/<id>/<first index>.segment` | `segment`, one thread |
//! | their sparse indexes | `groups/<id>/<first index>.index` | `segment`, one thread |
//! | small state | `state/` | fjall, through `state` |
//! | state that would not open | `state.unreadable-<n>/` | moved there at a start |

use std::path::PathBuf;

use kontiki_wire::GroupId;

/// Held with `flock` by the process that owns the directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// The journal's directory.
pub(crate) const JOURNAL_DIR: &str = "journal";
/// The directory of the groups' directories.
pub(crate) const GROUPS_DIR: &str = "groups";

const JOURNAL_SUFFIX: &str = ".journal";

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
    /// The version of frames and operations.
    pub(crate) const VERSION: u16 = 1;
    /// Bytes of a frame's header.
    pub(crate) const HEADER_BYTES: usize = 64;
    /// Frames begin at multiples of this.
    pub(crate) const ALIGN: usize = 8;
    /// Bytes of an entry's header among the operations: index, term, time (8 each), body length,
    /// body checksum (4 each), kind (1), zeros (7).
    pub(crate) const ENTRY_BYTES: usize = 40;
}

/// `journal/salt`: 8 bytes drawn at random when the directory was born, and their CRC-32C.
pub(crate) fn salt_path() -> PathBuf {
    PathBuf::from(JOURNAL_DIR).join("salt")
}

/// `journal/NNNNNNNNNN.journal`.
pub(crate) fn journal_path(file: u32) -> PathBuf {
    PathBuf::from(JOURNAL_DIR).join(format!("{file:010}{JOURNAL_SUFFIX}"))
}

/// The number in a journal file's name, or `None` for any other name.
pub(crate) fn journal_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(JOURNAL_SUFFIX)?;
    let fits = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

/// `groups/<id>`.
pub(crate) fn group_dir(group: GroupId) -> PathBuf {
    PathBuf::from(GROUPS_DIR).join(group.to_string())
}
