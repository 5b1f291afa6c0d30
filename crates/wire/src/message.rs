//! The layout of Raft's messages. The group that each is about stands before it.
//!
//! ```text
//!  0  term      u64
//!  8  kind      u8    1 to 18, as numbered below
//!  9  content   its fields in order: numbers u64, yes or no u8, positions term u64 and index u64
//! ```
//!
//! An append's content ends in the number of entries as u32, and then for each:
//!
//! ```text
//!  0  term      u64
//!  8  index     u64
//! 16  time      u64
//! 24  checksum  u32   CRC-32C of the body
//! 28  length    u32   of the body, which lies behind the frame's head
//! 32  kind      u8
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kontiki_raft::{
    AppendHead, Body, Entry, Index, Kind, Life, LogId, Message, Micros, Session, Term,
};

use crate::{
    checksum::entry_checksum,
    limits::{APPEND_ENTRIES_MAX, ENTRY_BYTES_MAX},
    malformed::Malformed,
    scan::{Scan, within},
};

const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND: u8 = 5;
const APPENDED: u8 = 6;
const APPEND_REJECTED: u8 = 7;
const BEAT: u8 = 8;
const BEAT_REPLY: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const REJOIN: u8 = 11;
const REJOIN_AT: u8 = 12;
const REMOVED: u8 = 13;
const VOUCHED: u8 = 14;
const FETCH: u8 = 15;
const FETCHING: u8 = 16;
const REST: u8 = 17;
const RESTING: u8 = 18;

const HEAD_BYTES: usize = 9;
const APPEND_BYTES: usize = 8 + 16 + 8 + 4;
const ENTRY_BYTES: usize = 33;
/// A vote's reply is the shortest.
pub(crate) const MESSAGE_BYTES_MIN: usize = HEAD_BYTES + 1;

/// Bytes of the message and of the group before it, without the bodies of entries.
pub(crate) fn message_bytes(message: &Message) -> usize {
    let content = match &message.body {
        Body::PreVote { .. } | Body::Fetch { .. } => 8 + 16,
        Body::PreVoteReply { .. } => 8 + 1,
        Body::Vote { .. } => 16 + 1,
        Body::VoteReply { .. } => 1,
        Body::Append { entries, .. } => APPEND_BYTES + entries.len() * ENTRY_BYTES,
        Body::Appended { .. } => 8 + 8 + 1,
        Body::Beat { .. } | Body::Rest { .. } | Body::RejoinAt { .. } | Body::Fetching { .. } => {
            8 + 8
        }
        Body::AppendRejected { .. } => 8 + 16 + 16,
        Body::BeatReply { .. } | Body::Resting { .. } | Body::Rejoin { .. } => 8,
        Body::TimeoutNow { .. } | Body::Vouched { .. } | Body::Removed { .. } => 16,
    };
    8 + HEAD_BYTES + content
}

/// Appends the message without the bodies of its entries, which are to follow behind the frame's head.
pub(crate) fn encode_message(message: &Message, out: &mut BytesMut) {
    out.put_u64_le(message.term.0);
    match &message.body {
        Body::PreVote { round, last } => {
            out.put_u8(PRE_VOTE);
            out.put_u64_le(*round);
            put_log_id(*last, out);
        }
        Body::PreVoteReply { round, granted } => {
            out.put_u8(PRE_VOTE_REPLY);
            out.put_u64_le(*round);
            out.put_u8((*granted).into());
        }
        Body::Vote { last, transfer } => {
            out.put_u8(VOTE);
            put_log_id(*last, out);
            out.put_u8((*transfer).into());
        }
        Body::VoteReply { granted } => {
            out.put_u8(VOTE_REPLY);
            out.put_u8((*granted).into());
        }
        Body::Append { head, entries } => {
            out.put_u8(APPEND);
            out.put_u64_le(head.session.0);
            put_log_id(head.prev, out);
            out.put_u64_le(head.commit.0);
            put_entries(head.prev, entries, out);
        }
        Body::Appended {
            session,
            matched,
            counts,
        } => {
            out.put_u8(APPENDED);
            out.put_u64_le(session.0);
            out.put_u64_le(matched.0);
            out.put_u8((*counts).into());
        }
        Body::AppendRejected {
            session,
            prev,
            hint,
        } => {
            out.put_u8(APPEND_REJECTED);
            out.put_u64_le(session.0);
            put_log_id(*prev, out);
            put_log_id(*hint, out);
        }
        Body::Beat { beat, commit } => {
            out.put_u8(BEAT);
            out.put_u64_le(*beat);
            out.put_u64_le(commit.0);
        }
        Body::BeatReply { beat } => {
            out.put_u8(BEAT_REPLY);
            out.put_u64_le(*beat);
        }
        Body::Rest { beat, commit } => {
            out.put_u8(REST);
            out.put_u64_le(*beat);
            out.put_u64_le(commit.0);
        }
        Body::Resting { beat } => {
            out.put_u8(RESTING);
            out.put_u64_le(*beat);
        }
        Body::TimeoutNow { need } => {
            out.put_u8(TIMEOUT_NOW);
            put_log_id(*need, out);
        }
        Body::Rejoin { life } => {
            out.put_u8(REJOIN);
            out.put_u64_le(life.0);
        }
        Body::RejoinAt { life, index } => {
            out.put_u8(REJOIN_AT);
            out.put_u64_le(life.0);
            out.put_u64_le(index.0);
        }
        Body::Removed { upto } => {
            out.put_u8(REMOVED);
            put_log_id(*upto, out);
        }
        Body::Fetch { session, upto } => {
            out.put_u8(FETCH);
            out.put_u64_le(session.0);
            put_log_id(*upto, out);
        }
        Body::Fetching { session, arrived } => {
            out.put_u8(FETCHING);
            out.put_u64_le(session.0);
            out.put_u64_le(arrived.0);
        }
        Body::Vouched { had } => {
            out.put_u8(VOUCHED);
            put_log_id(*had, out);
        }
    }
}

fn put_log_id(id: LogId, out: &mut BytesMut) {
    out.put_u64_le(id.term.0);
    out.put_u64_le(id.index.0);
}

fn put_entries(prev: LogId, entries: &[Entry], out: &mut BytesMut) {
    assert!(entries.len() <= APPEND_ENTRIES_MAX, "{}", entries.len());
    out.put_u32_le(entries.len() as u32);
    let mut last = prev;
    for entry in entries {
        assert!(
            entry.id.index == last.index.next() && entry.id.term >= last.term,
            "entry {} after {last}",
            entry.id
        );
        last = entry.id;
        put_log_id(entry.id, out);
        out.put_u64_le(entry.time.0);
        out.put_u32_le(entry.checksum);
        out.put_u32_le(entry.body.len() as u32);
        out.put_u8(entry.kind as u8);
    }
}

/// Reads the next message; the bodies of its entries come off the front of `bodies`.
pub(crate) fn decode_message(
    scan: &mut Scan<'_>,
    bodies: &mut Bytes,
) -> Result<Message, Malformed> {
    let term = Term(scan.u64()?);
    let body = match scan.u8()? {
        PRE_VOTE => Body::PreVote {
            round: scan.u64()?,
            last: log_id(scan)?,
        },
        PRE_VOTE_REPLY => Body::PreVoteReply {
            round: scan.u64()?,
            granted: scan.bool("whether a vote is granted")?,
        },
        VOTE => Body::Vote {
            last: log_id(scan)?,
            transfer: scan.bool("whether leadership is transferred")?,
        },
        VOTE_REPLY => Body::VoteReply {
            granted: scan.bool("whether a vote is granted")?,
        },
        APPEND => {
            let head = AppendHead {
                session: Session(scan.u64()?),
                prev: log_id(scan)?,
                commit: Index(scan.u64()?),
            };
            let entries = entries(term, head.prev, scan, bodies)?;
            Body::Append { head, entries }
        }
        APPENDED => Body::Appended {
            session: Session(scan.u64()?),
            matched: Index(scan.u64()?),
            counts: scan.bool("whether an acknowledgement counts")?,
        },
        APPEND_REJECTED => Body::AppendRejected {
            session: Session(scan.u64()?),
            prev: log_id(scan)?,
            hint: log_id(scan)?,
        },
        BEAT => Body::Beat {
            beat: scan.u64()?,
            commit: Index(scan.u64()?),
        },
        BEAT_REPLY => Body::BeatReply { beat: scan.u64()? },
        REST => Body::Rest {
            beat: scan.u64()?,
            commit: Index(scan.u64()?),
        },
        RESTING => Body::Resting { beat: scan.u64()? },
        TIMEOUT_NOW => Body::TimeoutNow {
            need: log_id(scan)?,
        },
        REJOIN => Body::Rejoin {
            life: Life(scan.u64()?),
        },
        REJOIN_AT => Body::RejoinAt {
            life: Life(scan.u64()?),
            index: Index(scan.u64()?),
        },
        REMOVED => Body::Removed {
            upto: log_id(scan)?,
        },
        FETCH => Body::Fetch {
            session: Session(scan.u64()?),
            upto: log_id(scan)?,
        },
        FETCHING => Body::Fetching {
            session: Session(scan.u64()?),
            arrived: Index(scan.u64()?),
        },
        VOUCHED => Body::Vouched { had: log_id(scan)? },
        other => return Err(unknown("the kind of message", other)),
    };
    Ok(Message { term, body })
}

fn log_id(scan: &mut Scan<'_>) -> Result<LogId, Malformed> {
    Ok(LogId {
        term: Term(scan.u64()?),
        index: Index(scan.u64()?),
    })
}

fn entries(
    term: Term,
    prev: LogId,
    scan: &mut Scan<'_>,
    bodies: &mut Bytes,
) -> Result<Vec<Entry>, Malformed> {
    let count = scan.count("the number of entries", APPEND_ENTRIES_MAX)?;
    let count_max = scan.left() / ENTRY_BYTES;
    within("the number of entries", count as u64, count_max)?;
    let mut entries = Vec::with_capacity(count);
    let mut last = prev;
    for _ in 0..count {
        let entry = entry(scan, bodies)?;
        if last.index.0.checked_add(1) != Some(entry.id.index.0) {
            return Err(Malformed::Inconsistent {
                what: "an entry does not follow the one before it",
            });
        }
        if entry.id.term < last.term {
            return Err(Malformed::Inconsistent {
                what: "an entry is of an earlier term than the one before it",
            });
        }
        last = entry.id;
        entries.push(entry);
    }
    if last.term > term {
        return Err(Malformed::Inconsistent {
            what: "an entry is of a later term than the message that brings it",
        });
    }
    Ok(entries)
}

fn entry(scan: &mut Scan<'_>, bodies: &mut Bytes) -> Result<Entry, Malformed> {
    let id = log_id(scan)?;
    let time = Micros(scan.u64()?);
    let checksum = scan.u32()?;
    let length = scan.count("the length of an entry", ENTRY_BYTES_MAX)?;
    let kind = entry_kind(scan.u8()?)?;
    let body = entry_body(bodies, length, checksum)?;
    Ok(Entry {
        id,
        kind,
        time,
        checksum,
        body,
    })
}

/// Takes an entry's body from the front of those that follow all heads.
pub(crate) fn entry_body(
    bodies: &mut Bytes,
    length: usize,
    checksum: u32,
) -> Result<Bytes, Malformed> {
    const WHAT: &str = "the body of an entry";
    if length > bodies.len() {
        return Err(Malformed::Short {
            what: WHAT,
            have: bodies.len(),
            need: length,
        });
    }
    let body = bodies.split_to(length);
    match entry_checksum(&body) == checksum {
        true => Ok(body),
        false => Err(Malformed::Checksum { what: WHAT }),
    }
}

/// The kind that a byte stands for; the byte of a kind is its number.
pub(crate) fn entry_kind(byte: u8) -> Result<Kind, Malformed> {
    Ok(match byte {
        0 => Kind::Noop,
        1 => Kind::Config,
        2 => Kind::Batch,
        3 => Kind::Command,
        other => return Err(unknown("the kind of entry", other)),
    })
}

fn unknown(what: &'static str, value: u8) -> Malformed {
    Malformed::Unknown {
        what,
        value: value.into(),
    }
}
