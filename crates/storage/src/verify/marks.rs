//! A segment's index, held against the frames that it is of.

use std::path::PathBuf;

use kontiki_raft::Index;
use kontiki_wire::GroupId;

use crate::{
    Error,
    disk::Disk,
    layout::{
        self,
        segment::{INDEX_HEADER_BYTES, MARK_BYTES},
    },
    segment::{EntryHeader, Mark, index_header, mark_due},
    verify::window::Window,
};

/// What is wrong with an index.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) path: PathBuf,
    pub(crate) at: u64,
    pub(crate) what: &'static str,
}

/// The marks of one segment, as its frames are gone through.
#[derive(Debug)]
pub(crate) struct MarkCheck {
    path: PathBuf,
    /// `None` if there is nothing to be read in it.
    index: Option<Window>,
    /// The byte of the next slot.
    slot: u64,
    ahead: Option<Mark>,
    /// The last sound one before that.
    taken: Option<Mark>,
    /// Sound marks so far.
    count: u32,
    /// The last entry that has a mark, or should have.
    last: Option<Mark>,
    /// Frames were passed over, so it is not known which entry has the next mark.
    astray: bool,
    /// The first thing that is wrong: where, and what.
    wrong: Option<(u64, &'static str)>,
}

impl MarkCheck {
    pub(crate) fn open(disk: &dyn Disk, group: GroupId, first: Index) -> Result<Self, Error> {
        let path = layout::index_path(group, first);
        let mut check = Self {
            path: disk.full_path(&path),
            index: None,
            slot: INDEX_HEADER_BYTES as u64,
            ahead: None,
            taken: None,
            count: 0,
            last: None,
            astray: false,
            wrong: None,
        };
        match Window::open(disk, &path) {
            Ok(mut window) => {
                if *window.bytes(0, INDEX_HEADER_BYTES)? == index_header(group, first) {
                    check.index = Some(window);
                } else {
                    check.wrong = Some((0, "its header is not the one of this segment's index"));
                }
            }
            Err(error) if error.is_missing() => check.wrong = Some((0, "it is missing")),
            Err(error) => return Err(error),
        }
        Ok(check)
    }

    /// The next sound mark, which stays the next one.
    fn peek(&mut self) -> Result<Option<Mark>, Error> {
        let Some(window) = &mut self.index else {
            return Ok(None);
        };
        while self.ahead.is_none() {
            let at = self.slot;
            let bytes = window.bytes(at, MARK_BYTES)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let mark = Mark::decode(bytes);
            self.slot += MARK_BYTES as u64;
            if mark.is_none() {
                self.wrong
                    .get_or_insert((at, "the checksum of a mark does not match"));
            }
            // An earlier build marked an entry twice where a start went on from it.
            self.ahead = mark.filter(|mark| self.taken != Some(*mark));
        }
        Ok(self.ahead)
    }

    fn take(&mut self) {
        self.taken = self.ahead.take();
        self.count += 1;
    }

    fn wrong(&mut self, what: &'static str) {
        let at = self.slot - self.ahead.map_or(0, |_| MARK_BYTES as u64);
        self.wrong.get_or_insert((at, what));
    }

    /// Goes on to the frame at `position`, whose header is sound; `digest` is that of the frames before,
    /// if it is known. Gives back what a sound mark says it is.
    pub(crate) fn frame(
        &mut self,
        header: &EntryHeader,
        position: u64,
        digest: Option<u32>,
    ) -> Result<Option<u32>, Error> {
        while let Some(mark) = self.peek()?
            && mark.position < position
        {
            if !self.astray {
                self.wrong("a mark leads to a place where no entry begins");
            }
            self.take();
        }
        let due = mark_due(
            self.last.as_ref(),
            header,
            position,
            digest.unwrap_or_default(),
        );
        let mark = self.ahead.filter(|mark| mark.position == position);
        let Some(mark) = mark else {
            if let Some(due) = due.filter(|_| !self.astray) {
                self.wrong("an entry's mark is missing");
                self.last = Some(due);
            }
            return Ok(None);
        };
        let agrees = Mark {
            id: header.id,
            offset: header.offset,
            time: header.time,
            position,
            digest: digest.unwrap_or(mark.digest),
            kind: header.kind,
        };
        if agrees != mark {
            self.wrong("a mark says something else than the entry that it leads to");
        }
        self.take();
        self.last = Some(mark);
        self.astray = false;
        Ok((agrees == mark).then_some(mark.digest))
    }

    /// The next mark behind the byte `at`, of an entry from `from` on. Frames are passed over.
    pub(crate) fn behind(&mut self, at: u64, from: Index) -> Result<Option<Mark>, Error> {
        self.astray = true;
        while let Some(mark) = self.peek()?
            && (mark.position <= at || mark.id.index < from)
        {
            self.take();
        }
        Ok(self.ahead)
    }

    /// After the last frame: the first thing that is wrong with the index, if anything is. `count` is how
    /// many marks the footer says there are.
    pub(crate) fn end(mut self, count: Option<u32>) -> Result<Option<Wrong>, Error> {
        while self.peek()?.is_some() {
            if !self.astray {
                self.wrong("a mark is of an entry that is not in the segment");
            }
            self.take();
        }
        if count.is_some_and(|count| count != self.count) {
            self.wrong("it has not as many marks as the segment's footer says");
        }
        let path = self.path;
        Ok(self.wrong.map(|(at, what)| Wrong { path, at, what }))
    }
}
