//! Every bound of the protocol, by name. What crosses one is refused with that name.

/// Bytes of a record's key.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Headers of a record.
pub const HEADERS_MAX: usize = 64;
/// Bytes of one header's name, and of its value.
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
/// Producers a topic remembers; the longest silent is forgotten first. A first batch that was committed
/// and not acknowledged, and that is sent again only after so many others have spoken, is taken for new:
/// the one way in which a record can come twice.
pub const PRODUCERS_PER_TOPIC_MAX: usize = 10_000;
/// Answers to a producer in one frame.
pub const ANSWERS_MAX: usize = 1024;
/// Bytes of a frame's payload on a client's stream.
pub const CLIENT_FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);
/// Bytes of batches in one delivery; one batch that is larger travels alone.
pub const DELIVERY_BYTES_MAX: usize = 512 << 10;
/// Batches in one delivery: as many of the smallest as [`DELIVERY_BYTES_MAX`] holds.
pub const DELIVERY_BATCHES_MAX: usize = DELIVERY_BYTES_MAX / 64;

/// Bytes of a frame's payload between peers.
pub const PEER_FRAME_BYTES_MAX: usize = 4 << 20;
/// Groups in a member's beat that rest no more; the others are in the next ones.
pub const ENDED_RESTS_MAX: usize = 1024;
/// Messages, of any groups, in one frame between peers.
pub const PEER_MESSAGES_MAX: usize = 64 << 10;
/// Entries of one append.
pub const APPEND_ENTRIES_MAX: usize = 64 << 10;
/// Bytes of an entry's body.
pub const ENTRY_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Bytes of bodies in one answer to a question for entries; one entry that is larger travels alone.
pub const FOUND_BYTES_MAX: usize = 1 << 20;
/// Entries in one such answer.
pub const FOUND_ENTRIES_MAX: usize = 16 << 10;

/// Bytes of what a client asks: a request, or the opening of a stream.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Bytes of a control message.
pub const CONTROL_BYTES_MAX: usize = 2 << 20;
/// Bytes of an encoded refusal.
pub const REFUSAL_BYTES_MAX: usize = 8 << 10;
/// Bytes of one text in a refusal; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 1 << 10;
/// Damaged stretches that one answer to a walk tells of.
pub const WALK_DAMAGE_MAX: usize = 64;
/// Bytes of a request to join.
pub const JOIN_BYTES_MAX: usize = 2 << 10;
/// Bytes of certificates in one PEM text.
pub const PEM_BYTES_MAX: usize = 64 << 10;
/// Bytes of the answer to a request to join.
pub const WELCOME_BYTES_MAX: usize = 5 * PEM_BYTES_MAX;
/// Bytes of the answer to a request for another certificate.
pub const RENEWED_BYTES_MAX: usize = PEM_BYTES_MAX + 64;
/// Bytes of a group's small state.
pub const CHECKPOINT_BYTES_MAX: usize = 32 << 20;

/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 128;
/// Bytes of a member's or client's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of an address, `host:port`.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Addresses in a token.
pub const TOKEN_ADDRESSES_MAX: usize = 8;
/// Topics of a cluster.
pub const TOPICS_MAX: usize = 10_000;
/// Members of a cluster.
pub const MEMBERS_MAX: usize = 64;
/// Tokens that a cluster knows at a time, the spent ones included until they expire.
pub const TOKENS_MAX: usize = 1024;
/// Patterns of topics that a token confines its bearer to.
pub const TOKEN_TOPICS_MAX: usize = 32;
/// Seconds for which a token may admit somebody: 30 days.
pub const TOKEN_LIFE_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Recoveries that a cluster remembers, the latest ones.
pub const RECOVERIES_MAX: usize = 16;
/// Topics that a recovery names of those that it has lost; the others are counted.
pub const LOST_LISTED_MAX: usize = 64;
/// Certificates, or bearers of some, that a cluster revokes at a time.
pub const REVOKED_MAX: usize = 1024;
/// Seconds for which a certificate is good that the cluster signs, at most: a year.
pub const CERTIFICATE_SECONDS_MAX: u64 = 365 * 24 * 3600;
/// Seconds for which a revocation holds whose certificate's end is not known: as long as an authority lives.
pub const REVOKED_SECONDS: u64 = 10 * 365 * 24 * 3600;
/// Bytes of a certificate's serial number.
pub const SERIAL_BYTES_MAX: usize = 20;
/// Authorities that a member says it trusts.
pub const PAPERS_ROOTS_MAX: usize = 16;
/// Bytes of an authority's certificate, or of another one's word for it: four of them are asked for at once.
pub const AUTHORITY_BYTES_MAX: usize = 2 << 10;
/// Clients that one member names of those that show what a replaced authority has signed.
pub const OUTDATED_MAX: usize = 256;
/// Sentences in one list of a status.
pub const SENTENCES_MAX: usize = 64;

const _: () = assert!(RECORD_BYTES_MAX + 64 <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_TARGET <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + 4096 <= PEER_FRAME_BYTES_MAX);
// An answer's head takes 28 bytes and 45 more for each entry.
const _: () = assert!(
    ENTRY_BYTES_MAX + FOUND_BYTES_MAX + 28 + 45 * FOUND_ENTRIES_MAX <= PEER_FRAME_BYTES_MAX
);
const _: () = assert!(CONTROL_BYTES_MAX <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX <= CONTROL_BYTES_MAX);
const _: () = assert!(4 * AUTHORITY_BYTES_MAX + 1024 <= REQUEST_BYTES_MAX);
// Names and addresses that are as long as they may be, and the rest of what is asked and answered.
const _: () = assert!(NAME_BYTES_MAX + 2 * ADDRESS_BYTES_MAX + 160 <= JOIN_BYTES_MAX);
const _: () = assert!(
    2 * PEM_BYTES_MAX + (2 * MEMBERS_MAX + 1) * (NAME_BYTES_MAX + 2 * ADDRESS_BYTES_MAX + 64)
        <= WELCOME_BYTES_MAX
);
// A delivery's head takes 12 bytes and 20 more for each batch.
const _: () =
    assert!(DELIVERY_BYTES_MAX + 12 + 20 * DELIVERY_BATCHES_MAX <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + 12 + 20 <= CLIENT_FRAME_BYTES_MAX);
// A refusal is at most a text and a list of members' names.
const _: () =
    assert!(4 + (8 + TEXT_BYTES_MAX) + 8 + MEMBERS_MAX * (8 + NAME_BYTES_MAX) <= REFUSAL_BYTES_MAX);
// A topic's state is 24 bytes, 36 more for each producer and 28 more for each of its batches.
const _: () = assert!(
    24 + PRODUCERS_PER_TOPIC_MAX * (36 + PRODUCER_BATCHES_IN_FLIGHT_MAX * 28)
        <= CHECKPOINT_BYTES_MAX
);
