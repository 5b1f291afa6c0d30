//! What members say to each other.

use bytes::BytesMut;
use kontiki_wire::{Found, FrameKind, Missing, PeerHello, decode_peer, encode_peer};

use crate::lies::{assert_said_the_same, lie, number};

/// Hellos, questions for entries and their answers, and frames of messages.
pub(crate) fn peer(payload: &[u8]) {
    if let Ok(hello) = PeerHello::decode(&lie(FrameKind::PeerHello, payload, payload.len())) {
        let mut again = BytesMut::new();
        hello.encode(&mut again);
        assert_said_the_same(&again, payload);
    }
    if let Ok(messages) = decode_peer(&lie(FrameKind::Peer, payload, number(payload, 0))) {
        let mut pieces = Vec::new();
        encode_peer(&messages, &mut pieces);
        let again = BytesMut::from(&pieces.concat()[..]);
        assert_said_the_same(&again, payload);
    }
    if let Ok(missing) = Missing::decode(&lie(FrameKind::Missing, payload, payload.len())) {
        let mut again = BytesMut::new();
        missing.encode(&mut again);
        assert_said_the_same(&again, payload);
    }
    // Its head is as long as its count of entries says.
    let head = number(payload, 24).saturating_mul(45).saturating_add(28);
    if let Ok(found) = Found::decode(&lie(FrameKind::Found, payload, head)) {
        let mut pieces = Vec::new();
        found.encode(&mut pieces);
        let again = BytesMut::from(&pieces.concat()[..]);
        assert_said_the_same(&again, payload);
    }
}
