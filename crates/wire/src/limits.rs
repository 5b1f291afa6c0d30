//! Every bound of the protocol, by name. What crosses one is refused with that name.

/// Bytes of a record's key.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Headers of a record.
pub const HEADERS_MAX: usize = 64;
/// Bytes of one header's name or value.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Bytes of a record's value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an encoded record.
pub const RECORD_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + (256 << 10);
/// Bytes of a batch, its header included.
pub const BATCH_BYTES_MAX: usize = 2 << 20;
/// Records of a batch.
pub const BATCH_RECORDS_MAX: u32 = 64 << 10;
/// Bytes a producer aims for when it closes a batch that more records wait for.
pub const BATCH_BYTES_TARGET: usize = 256 << 10;
/// Batches of one producer that may be unacknowledged; what the brokers remember of each producer to
/// recognise a resent batch covers them all.
pub const PRODUCER_BATCHES_IN_FLIGHT_MAX: usize = 64;
/// Producers a topic remembers; the longest silent is forgotten first.
pub const PRODUCERS_PER_TOPIC_MAX: usize = 10_000;
/// Bytes of a frame's payload on a client's stream.
pub const CLIENT_FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);
/// Bytes of a frame's payload between peers.
pub const PEER_FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of a control message.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;
/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 128;
/// Bytes of a member's or client's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Topics of a cluster.
pub const TOPICS_MAX: usize = 10_000;
/// Members of a cluster.
pub const MEMBERS_MAX: usize = 64;
/// Bytes of batches in one delivery; one batch that is larger travels alone.
pub const DELIVERY_BYTES_MAX: usize = 512 << 10;

const _: () = assert!(RECORD_BYTES_MAX + 64 <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_TARGET <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + 4096 <= PEER_FRAME_BYTES_MAX);
