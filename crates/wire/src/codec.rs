//! The one file that names bincode. Small control messages and small state only: bounded, without
//! recursive types and without elements of no size, and nothing may be left over.
//!
//! Integers have their full width: every value then has exactly one spelling, and no list takes more
//! than [`GROWTH`] times the memory that its bytes took on the wire.

pub(crate) use bincode::{Decode, Encode};
use bincode::{
    config::{self, Config},
    error::DecodeError,
};

use crate::{limits::CHECKPOINT_BYTES_MAX, malformed::Malformed};

/// How much larger than its bytes a value may be while it is read: a text of no letters takes 8 bytes,
/// and 24 in memory.
const GROWTH: usize = 4;

/// The bytes of a control message or a small state.
///
/// # Panics
/// If they are more than [`CHECKPOINT_BYTES_MAX`], which could not be read back.
#[must_use]
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let bytes = bincode::encode_to_vec(value, layout::<CHECKPOINT_BYTES_MAX>())
        .expect("none of our types holds what bincode cannot write");
    assert!(
        bytes.len() <= CHECKPOINT_BYTES_MAX,
        "{} bytes of {}",
        bytes.len(),
        std::any::type_name::<T>()
    );
    bytes
}

/// Reads what [`encode`] wrote: at most `limit` bytes, all of them.
pub fn decode<T: Decode<()>>(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<T, Malformed> {
    let limit = limit.min(CHECKPOINT_BYTES_MAX);
    if bytes.len() > limit {
        return Err(Malformed::TooLarge {
            what,
            have: bytes.len() as u64,
            limit: limit as u64,
        });
    }
    // bincode makes room for a list before it reads it, as far as its limit goes, and the limit must
    // be known when this is compiled: so a few of them, and for few bytes a low one.
    match step(bytes.len()) {
        0 => read::<T, _>(what, bytes, layout::<{ STEPS[0] * GROWTH }>()),
        1 => read::<T, _>(what, bytes, layout::<{ STEPS[1] * GROWTH }>()),
        2 => read::<T, _>(what, bytes, layout::<{ STEPS[2] * GROWTH }>()),
        3 => read::<T, _>(what, bytes, layout::<{ STEPS[3] * GROWTH }>()),
        4 => read::<T, _>(what, bytes, layout::<{ STEPS[4] * GROWTH }>()),
        5 => read::<T, _>(what, bytes, layout::<{ STEPS[5] * GROWTH }>()),
        6 => read::<T, _>(what, bytes, layout::<{ STEPS[6] * GROWTH }>()),
        7 => read::<T, _>(what, bytes, layout::<{ STEPS[7] * GROWTH }>()),
        _ => read::<T, _>(what, bytes, layout::<{ STEPS[8] * GROWTH }>()),
    }
}

/// Each at most four times the one before: beyond the first, nothing makes room for more than 16 times its
/// bytes.
const STEPS: [usize; 9] = [
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    CHECKPOINT_BYTES_MAX,
];

/// The first step that so many bytes do not go beyond.
fn step(len: usize) -> usize {
    STEPS.partition_point(|most| *most < len)
}

fn layout<const LIMIT: usize>() -> impl Config {
    config::standard()
        .with_fixed_int_encoding()
        .with_limit::<LIMIT>()
}

fn read<T: Decode<()>, C: Config>(
    what: &'static str,
    bytes: &[u8],
    config: C,
) -> Result<T, Malformed> {
    let (value, used) =
        bincode::decode_from_slice(bytes, config).map_err(|error| malformed(what, bytes, error))?;
    if used < bytes.len() {
        let left = bytes.len() - used;
        return Err(Malformed::Trailing { what, left });
    }
    Ok(value)
}

fn malformed(what: &'static str, bytes: &[u8], error: DecodeError) -> Malformed {
    let why = match error {
        DecodeError::UnexpectedEnd { additional } => {
            return Malformed::Short {
                what,
                have: bytes.len(),
                need: bytes.len().saturating_add(additional),
            };
        }
        DecodeError::UnexpectedVariant { found, .. } => {
            return Malformed::Unknown {
                what,
                value: found.into(),
            };
        }
        DecodeError::LimitExceeded => "it announces more than its bytes can hold".to_owned(),
        DecodeError::Utf8 { .. } => "a text in it is not utf-8".to_owned(),
        DecodeError::OtherString(why) => why,
        other => other.to_string(),
    };
    Malformed::Unreadable { what, why }
}

/// Reads a type as the text it is parsed from, so that what a name may be is said once.
macro_rules! decode_as_text {
    ($name:ident) => {
        impl<C> $crate::codec::Decode<C> for $name {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                String::decode(decoder)?.parse().map_err(
                    |wrong: $crate::parse_error::ParseError| {
                        bincode::error::DecodeError::OtherString(wrong.into())
                    },
                )
            }
        }

        bincode::impl_borrow_decode!($name);
    };
}
pub(crate) use decode_as_text;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        command::{ProducerState, TopicState},
        control::{Response, TopicInfo, TopicSettings},
        ids::{GroupId, Offset, TopicName},
        refusal::Refusal,
    };

    #[test]
    fn nothing_makes_room_for_more_than_sixteen_times_its_bytes() {
        for pair in STEPS.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= 4 * pair[0], "{pair:?}");
            assert!(STEPS[step(pair[0] + 1)] * GROWTH <= 16 * (pair[0] + 1));
            assert_eq!(STEPS[step(pair[1])], pair[1]);
        }
    }

    #[test]
    fn no_other_file_names_bincode() {
        fn search(dir: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    search(&path, found);
                } else if fs::read_to_string(&path).unwrap().contains("bincode") {
                    found.push(path.display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        search(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut found,
        );
        assert_eq!(
            found,
            [concat!(env!("CARGO_MANIFEST_DIR"), "/src/codec.rs")]
        );
    }

    #[test]
    fn lists_of_the_smallest_elements_are_read_in_every_size() {
        for count in [0, 1, 20, 60, 1_000, 10_000, 100_000] {
            let names = vec![String::new(); count];
            let known: Vec<String> = decode("names", &encode(&names), usize::MAX).unwrap();
            assert_eq!(known, names);

            let state = TopicState {
                producers: vec![ProducerState::default(); count],
                ..TopicState::default()
            };
            assert_eq!(decode("a state", &encode(&state), usize::MAX), Ok(state));

            let producers = vec![ProducerState {
                recent: vec![(0, 0, Offset(0), 0); count],
                ..ProducerState::default()
            }];
            let state = TopicState {
                producers,
                ..TopicState::default()
            };
            assert_eq!(decode("a state", &encode(&state), usize::MAX), Ok(state));
        }
    }

    #[test]
    fn what_is_left_over_or_missing_or_too_long_is_refused() {
        let mut bytes = encode(&Refusal::Fenced { epoch: 1 });
        let read = |bytes: &[u8], limit| decode::<Refusal>("a refusal", bytes, limit);
        assert_eq!(read(&bytes, 8), Ok(Refusal::Fenced { epoch: 1 }));
        assert!(matches!(read(&bytes, 7), Err(Malformed::TooLarge { .. })));
        assert!(matches!(read(&bytes[..7], 8), Err(Malformed::Short { .. })));
        bytes.push(0);
        assert_eq!(
            read(&bytes, 9),
            Err(Malformed::Trailing {
                what: "a refusal",
                left: 1
            })
        );
        assert!(matches!(
            read(&[99, 0, 0, 0], 8),
            Err(Malformed::Unknown { value: 99, .. })
        ));
    }

    #[test]
    fn a_list_that_announces_more_than_its_bytes_hold_is_refused() {
        for count in [2u64, 1 << 16, 1 << 32, u64::MAX] {
            let bytes = count.to_le_bytes();
            assert!(decode::<Vec<String>>("names", &bytes, 64).is_err());
            assert!(decode::<Vec<u64>>("numbers", &bytes, 64).is_err());
            assert!(decode::<Vec<u8>>("bytes", &bytes, 64).is_err());
        }
    }

    #[test]
    fn a_name_that_no_topic_may_have_is_refused_when_read() {
        let info = |name: &str| {
            let mut bytes = encode(&Response::Topic(TopicInfo {
                name: "abc".parse().unwrap(),
                group: GroupId(1),
                settings: TopicSettings::default(),
                replicas: Vec::new(),
                leader: None,
                first: Offset(0),
                next: Offset(0),
                epoch: 0,
            }));
            bytes[12..15].copy_from_slice(name.as_bytes());
            decode::<Response>("a response", &bytes, 1024)
        };
        assert!(info("a/c").is_ok());
        for name in ["a c", "/ab", "a\nb"] {
            assert!(
                matches!(info(name), Err(Malformed::Unreadable { .. })),
                "{name:?}"
            );
        }
        assert!(decode::<TopicName>("a name", &encode(&String::new()), 64).is_err());
    }
}
