//! Every "no", with what to do next.

use std::fmt;

use crate::{
    codec::{Decode, Encode},
    limits::{MEMBERS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX},
    malformed::Malformed,
};

/// Every "no", with what to do next. Numbers are stable: variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Refusal {
    /// Another member leads; certainly nothing happened. Ask there.
    NotLeader {
        /// Its name, if known.
        leader: Option<String>,
    },
    /// There is no such topic; certainly nothing happened.
    NoSuchTopic {
        /// The name asked for.
        name: String,
    },
    /// There is no such member; certainly nothing happened.
    NoSuchMember {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The certificate's role does not permit it; certainly nothing happened.
    NotPermitted {
        /// What was asked.
        what: String,
    },
    /// Too much is waiting; certainly nothing happened. Try again in a moment.
    Busy,
    /// No quorum confirmed it in time; it may still happen.
    Unknown,
    /// A bound was crossed; certainly nothing happened.
    TooLarge {
        /// Which.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A producer's batch does not continue its sequence; certainly nothing happened.
    SequenceGap {
        /// The sequence expected next.
        expected: u64,
    },
    /// A newer epoch of the same producer is at work; certainly nothing happened.
    Fenced {
        /// The epoch at work.
        epoch: u32,
    },
    /// The offset asked for was trimmed, or lies beyond what this topic will ever have had.
    OffsetOutOfRange {
        /// The first offset there is.
        first: u64,
        /// The next offset to be given.
        next: u64,
    },
    /// The bytes meant nothing; certainly nothing happened.
    Malformed {
        /// What was wrong.
        what: String,
    },
    /// This member cannot do it now, and why; certainly nothing happened. Try again, here or elsewhere.
    Unavailable {
        /// Why.
        why: String,
    },
    /// It cannot be done as it was asked, and why, with what to do first; certainly nothing happened.
    Unfit {
        /// Why.
        why: String,
    },
    /// The cluster was recovered after the loss of a majority, and what was asked was meant for the life
    /// before: what was acknowledged then may be gone, and its offsets given anew. Certainly nothing
    /// happened.
    Recovered {
        /// How often it was recovered.
        epoch: u64,
    },
}

impl Refusal {
    /// Whether what was asked did not happen and will not. Otherwise nobody knows.
    #[must_use]
    pub fn certainly_nothing_happened(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::NotLeader { .. }
            | Self::NoSuchTopic { .. }
            | Self::NoSuchMember { .. }
            | Self::NotPermitted { .. }
            | Self::Busy
            | Self::TooLarge { .. }
            | Self::SequenceGap { .. }
            | Self::Fenced { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Malformed { .. }
            | Self::Unavailable { .. }
            | Self::Unfit { .. }
            | Self::Recovered { .. } => true,
        }
    }

    /// Whether asking for the very same again, here or at the member that it names, may succeed
    /// without anyone having changed anything. After [`Refusal::Unknown`] that is safe only for what
    /// is recognised when it comes twice, as a batch with its sequence is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::Busy | Self::Unknown | Self::Unavailable { .. } => true,
            Self::NoSuchTopic { .. }
            | Self::NoSuchMember { .. }
            | Self::NotPermitted { .. }
            | Self::TooLarge { .. }
            | Self::SequenceGap { .. }
            | Self::Fenced { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Malformed { .. }
            | Self::Unfit { .. }
            | Self::Recovered { .. } => false,
        }
    }

    /// The same with every text cut to what a reader takes.
    pub(crate) fn bounded(&self) -> Self {
        let mut bounded = self.clone();
        if let Some(text) = bounded.text_mut() {
            cut(text, TEXT_BYTES_MAX);
        }
        if let Self::NoSuchMember { known, .. } = &mut bounded {
            known.truncate(MEMBERS_MAX);
            known.iter_mut().for_each(|name| cut(name, NAME_BYTES_MAX));
        }
        bounded
    }

    /// Refuses what [`Refusal::bounded`] would cut.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        if *self == self.bounded() {
            return Ok(());
        }
        Err(Malformed::Inconsistent {
            what: "a text or list of a refusal is longer than one may be",
        })
    }

    /// The one text of it that may be long.
    fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::NotLeader { leader } => leader.as_mut(),
            Self::NoSuchTopic { name } | Self::NoSuchMember { name, .. } => Some(name),
            Self::NotPermitted { what }
            | Self::TooLarge { what, .. }
            | Self::Malformed { what } => Some(what),
            Self::Unavailable { why } | Self::Unfit { why } => Some(why),
            Self::Busy
            | Self::Unknown
            | Self::SequenceGap { .. }
            | Self::Fenced { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Recovered { .. } => None,
        }
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader {
                leader: Some(leader),
            } => write!(f, "another member leads, {leader:?}; ask there"),
            Self::NotLeader { leader: None } => {
                f.write_str("no leader is known here yet; ask another member, or here again soon")
            }
            Self::NoSuchTopic { name } => {
                write!(
                    f,
                    "there is no topic {name:?}; create it, or list those there are"
                )
            }
            Self::NoSuchMember { name, known } => {
                write!(f, "there is no member {name:?}; the members are {known:?}")
            }
            Self::NotPermitted { what } => write!(
                f,
                "this certificate does not permit {}; use one whose role does",
                Plain(what)
            ),
            Self::Busy => f.write_str("too much is waiting here; try again in a moment"),
            Self::Unknown => f.write_str(
                "no quorum confirmed it in time: it may have happened, or may still; read before \
                 you ask again",
            ),
            Self::TooLarge { what, limit } => {
                write!(f, "{} is too large, the limit is {limit}", Plain(what))
            }
            Self::SequenceGap { expected } => write!(
                f,
                "a batch before this one is missing, the sequence expected next is {expected}; \
                 resend from there, or start a new producer"
            ),
            Self::Fenced { epoch } => write!(
                f,
                "a newer instance of this producer is at work, with epoch {epoch}; stop this one"
            ),
            Self::OffsetOutOfRange { first, next } => write!(
                f,
                "there is no such offset; the first is {first}, and {next} will be given next"
            ),
            Self::Malformed { what } => write!(
                f,
                "what was sent cannot be read: {}; client and server may be of different versions",
                Plain(what)
            ),
            Self::Unavailable { why } => {
                write!(
                    f,
                    "not possible here now: {}; try again, or another member",
                    Plain(why)
                )
            }
            Self::Unfit { why } => Plain(why).fmt(f),
            Self::Recovered { epoch } => write!(
                f,
                "the cluster was recovered after the loss of a majority, and this is epoch {epoch} of it: \
                 what was acknowledged before may be gone, and its offsets given anew; look at what is \
                 there, and begin anew"
            ),
        }
    }
}

/// Text from elsewhere, as one line that cannot move a terminal's cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(char::is_control) {
            let mut ends = piece.chars();
            match ends.next_back() {
                Some(last) if last.is_control() => {
                    write!(f, "{}{}", ends.as_str(), last.escape_default())?;
                }
                _ => f.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_leaves_open_whether_anything_happened() {
        assert!(!Refusal::Unknown.certainly_nothing_happened());
        assert!(Refusal::Busy.certainly_nothing_happened());
        let leader = None;
        assert!(Refusal::NotLeader { leader }.certainly_nothing_happened());
    }

    #[test]
    fn what_only_the_asker_can_mend_is_not_retryable() {
        assert!(Refusal::Busy.is_retryable());
        assert!(Refusal::Unknown.is_retryable());
        assert!(!Refusal::Fenced { epoch: 2 }.is_retryable());
        assert!(!Refusal::SequenceGap { expected: 2 }.is_retryable());
    }

    #[test]
    fn text_from_elsewhere_is_shown_as_one_harmless_line() {
        let why = "disk\n\u{1b}[2Jgone".to_owned();
        assert_eq!(
            Refusal::Unavailable { why }.to_string(),
            r"not possible here now: disk\n\u{1b}[2Jgone; try again, or another member"
        );
        let name = "a\r\"b".to_owned();
        assert!(
            Refusal::NoSuchTopic { name }
                .to_string()
                .contains(r#""a\r\"b""#)
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_then_pass_the_check() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let refusal = Refusal::NoSuchMember {
            name: long.clone(),
            known: vec![long; MEMBERS_MAX + 1],
        };
        assert!(refusal.check().is_err());
        let bounded = refusal.bounded();
        assert_eq!(bounded.check(), Ok(()));
        let Refusal::NoSuchMember { name, known } = bounded else {
            unreachable!()
        };
        assert_eq!(name.len(), TEXT_BYTES_MAX);
        assert_eq!(known.len(), MEMBERS_MAX);
    }
}
