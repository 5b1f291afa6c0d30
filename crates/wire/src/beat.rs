//! The beat of a member: that it lives, for all groups that rest, and how lately it has heard the other.
//!
//! ```text
//!  0  life        u64  of who beats: drawn at its start, never 0
//!  8  beat        u64  counted from 1 in that life
//! 16  heard life  u64  of the last beat heard of the other; 0 if none was
//! 24  heard beat  u64
//! 32  count       u32  at most 1,024
//! 36  groups      u64  each: who beats leads it no more
//! ```

use bytes::{BufMut, BytesMut};

use crate::{
    frame::{Frame, FrameKind, encode_frame},
    ids::GroupId,
    limits::ENDED_RESTS_MAX,
    malformed::Malformed,
    scan::Scan,
};

/// One member to another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberBeat {
    /// This run of who beats: who was started anew rests in no group.
    pub life: u64,
    /// Counts the beats of this run, to whomever: none to this receiver has a lower number than one before.
    pub beat: u64,
    /// The life and number of the last beat that was heard of the receiver, if one was.
    pub heard: Option<(u64, u64)>,
    /// Groups that who beats leads no more: the receiver may rest in them. Said until it is heard.
    pub ended: Vec<GroupId>,
}

impl MemberBeat {
    /// Appends its frame to `out`.
    ///
    /// # Panics
    /// If there are more than [`ENDED_RESTS_MAX`] groups in it.
    pub fn encode(&self, out: &mut BytesMut) {
        assert!(self.ended.len() <= ENDED_RESTS_MAX, "{}", self.ended.len());
        let mut payload = BytesMut::with_capacity(HEAD_BYTES + 8 * self.ended.len());
        let (life, beat) = self.heard.unwrap_or_default();
        for number in [self.life, self.beat, life, beat] {
            payload.put_u64_le(number);
        }
        payload.put_u32_le(self.ended.len() as u32);
        for group in &self.ended {
            payload.put_u64_le(group.0);
        }
        encode_frame(FrameKind::Beat, &payload, out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let mut scan = Scan::new("a member's beat", frame.whole(FrameKind::Beat)?);
        let (life, beat) = (scan.u64()?, scan.u64()?);
        let heard = (scan.u64()?, scan.u64()?);
        let count = scan.count("the number of groups that rest no more", ENDED_RESTS_MAX)?;
        let mut ended = Vec::with_capacity(count.min(scan.left() / 8));
        for _ in 0..count {
            ended.push(GroupId(scan.u64()?));
        }
        scan.end()?;
        if life == 0 || beat == 0 || (heard.0 == 0) != (heard.1 == 0) {
            return Err(Malformed::Inconsistent {
                what: "a member's beat without a life or a number",
            });
        }
        Ok(Self {
            life,
            beat,
            heard: (heard.0 > 0).then_some(heard),
            ended,
        })
    }
}

const HEAD_BYTES: usize = 36;
