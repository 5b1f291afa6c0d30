//! The one file that names bincode. Small control messages and small state only: bounded, without
//! recursive types and without elements of no size, and nothing may be left over.

pub(crate) use bincode::{Decode, Encode};

use crate::{Malformed, TopicName, limits::CONTROL_BYTES_MAX};

/// The bytes of a control message or a small state.
#[must_use]
pub fn encode<T: bincode::Encode>(_value: &T) -> Vec<u8> {
    let _ = CONTROL_BYTES_MAX;
    unreachable!("skeleton")
}

/// Reads what [`encode`] wrote: at most `limit` bytes, all of them.
pub fn decode<T: bincode::Decode<()>>(
    _what: &'static str,
    _bytes: &[u8],
    _limit: usize,
) -> Result<T, Malformed> {
    unreachable!("skeleton")
}

impl<C> Decode<C> for TopicName {
    fn decode<D: bincode::de::Decoder<Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        String::decode(decoder)?
            .parse()
            .map_err(bincode::error::DecodeError::OtherString)
    }
}

bincode::impl_borrow_decode!(TopicName);
