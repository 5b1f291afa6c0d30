//! Every bound of a member that is not the protocol's, by name.

use std::{ops::RangeInclusive, time::Duration};

use kontiki_wire::limits::{AUTHORITY_BYTES_MAX, CERTIFICATE_SECONDS_MAX};

/// Clients' connections, unless configured.
pub(crate) const CONNECTIONS: usize = 4096;
/// The most that may be configured for them: each may hold some megabytes.
pub(crate) const CONNECTIONS_HIGHEST: usize = 1 << 16;
/// Clients' connections with one identity, unless configured: a quarter of all.
pub(crate) const CONNECTIONS_PER_IDENTITY: usize = CONNECTIONS / 4;
/// Streams of one client's connection that are served at a time.
pub(crate) const STREAMS_PER_CONNECTION_MAX: usize = 64;
/// Bytes of batches read from producers and not answered yet, over all of them, unless configured.
pub(crate) const BYTES_IN_FLIGHT: usize = 64 << 20;
/// The most that may be configured for it.
pub(crate) const BYTES_IN_FLIGHT_HIGHEST: usize = 1 << 30;
/// Bytes that a journal file and a segment may be configured to.
pub(crate) const FILE_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 30;
/// Bytes of entries that the member may be configured to keep in its own memory, at most.
pub(crate) const HOT_BYTES_HIGHEST: u64 = 1 << 36;
/// Bytes of segments that the system may be configured to keep in memory, at most.
pub(crate) const CACHED_BYTES_HIGHEST: u64 = 1 << 40;
/// Bytes of a client's request or of the frame that opens its stream; the largest is that with four certificates of
/// authorities.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * AUTHORITY_BYTES_MAX + (1 << 10);
/// A stream that has said what it is for by then may go on.
pub(crate) const OPENING_MAX: Duration = Duration::from_secs(5);
/// Requests answered in a second, over all clients: each costs what a dozen records do, and whoever has
/// work to do asks seldom.
pub(crate) const REQUESTS_PER_SECOND: u32 = 2_000;
/// Requests answered at once after a pause.
pub(crate) const REQUESTS_IN_A_BURST: u32 = 1_000;
/// Bytes of deliveries and responses that wait for clients to take them, over all of them.
pub(crate) const UNSENT_BYTES_MAX: usize = 64 << 20;
/// An idle subscription gets a sign of life this often.
pub(crate) const DELIVERY_IDLE: Duration = Duration::from_millis(500);
/// Reads from the disk for clients under way at a time: a crowd that starts from the beginning waits in
/// line, and not every core and the disk for it.
pub(crate) const DISK_READS_MAX: usize = 8;
/// Bytes of entries that a member reads for one request of a walk over its log.
pub(crate) const WALK_BYTES_MAX: u64 = 4 << 20;
/// Bytes a second that it reads for walks, over all who ask: its disk and its core have other work.
pub(crate) const WALK_BYTES_PER_SECOND: u64 = 64 << 20;
/// How often a walk that met damage looks again for what exactly is missing.
pub(crate) const WALK_LOOK: Duration = Duration::from_millis(50);
/// How often it does at most.
pub(crate) const WALK_LOOKS_MAX: usize = 60;
/// Encoded deliveries that a topic with several subscribers keeps for the others of them.
pub(crate) const DELIVERIES_KEPT_MAX: usize = 8;
/// Bytes of them.
pub(crate) const DELIVERIES_KEPT_BYTES_MAX: usize = 1 << 20;
/// Bytes of them over all topics.
pub(crate) const DELIVERIES_KEPT_BYTES_IN_ALL_MAX: usize = 32 << 20;
/// Subscribers of a topic beyond which a member sends those on whom any replica may serve. They come to its leader,
/// which tells its own what is committed a hop sooner than others can, and has other things to do.
pub(crate) const SUBSCRIBERS_FEW: usize = 8;
/// A subscription to a topic that this member does not know yet waits this long for it.
pub(crate) const TOPIC_AWAITED_MAX: Duration = Duration::from_millis(500);
/// A subscription that must know where the topic ends waits this long for the group to say.
pub(crate) const WATERMARK_AWAITED_MAX: Duration = Duration::from_secs(2);
/// Frames a producer's session hands to the driver before others get their turn.
pub(crate) const FRAMES_PER_WAKE_MAX: usize = 64;

/// Inputs of clients that wait for the driver.
pub(crate) const CLIENT_INPUTS_MAX: usize = 1024;
/// Frames of peers that wait for the driver, on each lane.
pub(crate) const PEER_INPUTS_MAX: usize = 128;
/// Inputs of each kind that one turn takes.
pub(crate) const INPUTS_PER_TURN_MAX: usize = 256;

/// The driver may be woken so much later than it asked for; what is beyond that is time in which it was kept from
/// running. Two beats, and a third of the least election timeout.
pub(crate) const LATE_MAX: Duration = Duration::from_millis(100);
/// So long before it was to be woken it may have stopped running: the least election timeout.
pub(crate) const LOST_BEFORE_MAX: Duration = Duration::from_millis(300);
/// So much may be lost at once; whoever was away for longer has been given up by others.
pub(crate) const LOST_MAX: Duration = Duration::from_secs(2);
/// After a loss as much may be lost again when it has run for so many times that: a member's clock is never slower than
/// four fifths of another's for long.
pub(crate) const LOST_AGAIN_AFTER: u32 = 4;
/// What was lost is told if it is that much.
pub(crate) const LOST_TOLD: Duration = Duration::from_millis(200);
/// Microseconds for which the driver stays awake for its next input, unless configured: with members near each other
/// each input of an append, and the next append of one that waits for its answer, comes sooner.
pub(crate) const AWAKE_MICROS: u64 = 300;
/// The most that may be configured for it.
pub(crate) const AWAKE_MICROS_HIGHEST: u64 = 1_000;

/// Bytes of entries in a write for which latency counts, not throughput: it waits until the appends of the
/// same turn have left.
pub(crate) const SMALL_WRITE_BYTES_MAX: usize = 16 << 10;

/// Messages that wait for one link.
pub(crate) const LINK_MESSAGES_MAX: usize = 8192;
/// Messages kept for a link of beats while it is down, so that a vote asked for meanwhile arrives.
pub(crate) const LINK_MESSAGES_WHILE_DOWN_MAX: usize = 64;
/// Bytes of entries that wait for one link.
pub(crate) const LINK_BYTES_MAX: usize = 32 << 20;
/// Questions for lost entries, and answers to such, that wait for one link; an answer is at most a frame.
pub(crate) const LINK_FRAMES_MAX: usize = 8;
/// Answers to one peer's such questions that wait for the disk.
pub(crate) const FINDS_MAX: usize = 8;
/// How often a search for a peer's lost entries that met damage looks again what is sound there, and how
/// long it waits before. Together less than the peer waits for the answer: half an answer would tell it
/// that nobody has them.
pub(crate) const FIND_LOOKS_MAX: usize = 20;
pub(crate) const FIND_LOOK: Duration = Duration::from_millis(50);
/// Bytes of entries after which a peer's frame is closed and the next begun.
pub(crate) const PEER_FRAME_BYTES_TARGET: usize = 1 << 20;
/// Logs that are shipped to peers at a time.
pub(crate) const SHIPMENTS_MAX: usize = 4;
/// Pieces of a log that are read ahead of the network where it is shipped, and wait for the disk where it is
/// fetched: what either end holds of it is as many of [`kontiki_wire::SHIPPED_BYTES_MAX`], and one more.
pub(crate) const SHIPPED_AHEAD_MAX: usize = 4;
/// Bytes a second at which logs are copied to newcomers while producers keep a member busy, unless configured:
/// what leaves them four fifths of what they had, on two cores that they used up.
pub(crate) const CATCH_UP_BYTES_PER_SECOND: u64 = 32 << 20;
/// What may be configured for it: a piece must not take so long that its taker gives up.
pub(crate) const CATCH_UP_BYTES: RangeInclusive<u64> = 4 << 20..=1 << 40;
/// How often the rate is looked at while something is copied.
pub(crate) const CATCH_UP_LOOK: Duration = Duration::from_millis(100);
/// What was not copied for so long may be copied at once: whoever lacks little never waits.
pub(crate) const CATCH_UP_BURST: Duration = Duration::from_millis(100);
/// Entries for one that lacks them wait no longer than this: after more their leader asks for them anew.
pub(crate) const CATCH_UP_WAIT_MAX: Duration = Duration::from_millis(150);
/// Producers are quiet with less than so many bytes a second: they need no room that copying could take.
pub(crate) const QUIET_BYTES_PER_SECOND: u64 = 512 << 10;
/// Producers keep so much of what they append while little is copied, or copying gets slower: a little more
/// than the four fifths that they are promised.
pub(crate) const KEPT_PER_CENT: u64 = 88;
/// For how long little is copied, to see what producers append then.
pub(crate) const CATCH_UP_ALONE: Duration = Duration::from_millis(400);
/// For how long a rate is tried beside producers before it is judged.
pub(crate) const CATCH_UP_BESIDE: Duration = Duration::from_millis(500);
/// Rates that are tried before it is seen again what producers append while little is copied.
pub(crate) const CATCH_UP_TRIES: u32 = 6;
/// Bytes of a fetched log that may be under way: beats and appends, on connections of their own, wait behind
/// no more of it.
pub(crate) const BULK_WINDOW_BYTES: u32 = 2 << 20;
/// A fetch of which nothing comes for so long has failed.
pub(crate) const FETCH_SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often the driver hears how far a fetch is.
pub(crate) const FETCH_TOLD_EVERY: Duration = Duration::from_millis(200);
/// Reads of the log for one follower that wait for the disk.
pub(crate) const LOG_READS_MAX: usize = 256;
/// Connections to the peers' address that have not said yet whose link they are.
pub(crate) const ARRIVALS_MAX: usize = 64;
/// The first pause before a lost link is dialled again; it doubles up to the second.
pub(crate) const REDIAL_FIRST: Duration = Duration::from_millis(50);
/// The longest pause before a lost link is dialled again.
pub(crate) const REDIAL_LONGEST: Duration = Duration::from_secs(1);
/// A link that is younger is not dialled again because its peer was heard.
pub(crate) const LINK_FRESH: Duration = Duration::from_secs(1);
/// Addresses of one peer's name that are dialled.
pub(crate) const DIAL_ADDRESSES_MAX: usize = 4;
/// A dial that has not succeeded by then has failed.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(2);

/// How long a cluster's authorities are good for.
pub(crate) const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a certificate that they sign is.
pub(crate) const LEAF_VALID: Duration = Duration::from_secs(CERTIFICATE_SECONDS_MAX);
/// Seconds for which one may be configured to be.
pub(crate) const LEAF_VALID_SECONDS: RangeInclusive<u64> = 4..=CERTIFICATE_SECONDS_MAX;
/// How often it is looked whether a certificate is to be renewed, or another one lies in the folder.
pub(crate) const KEEPER_LOOK: Duration = Duration::from_millis(500);
/// How long a member that signs may take to answer.
pub(crate) const RENEWAL_ANSWER_MAX: Duration = Duration::from_secs(3);
/// The first pause before a renewal is tried again; it doubles up to the second, or to a thirtieth of the
/// certificate's life.
pub(crate) const RENEWAL_PAUSE_FIRST: Duration = Duration::from_millis(400);
/// The longest pause before a renewal is tried again.
pub(crate) const RENEWAL_PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// Certificates of clients renewed in a second: the cluster agrees on something for each.
pub(crate) const RENEWALS_PER_SECOND: u32 = 5;
/// Certificates of clients renewed at once after a pause.
pub(crate) const RENEWALS_IN_A_BURST: u32 = 100;
/// A client that asks again so soon gets the certificate that it was given, or sooner where they are good for less
/// than thirty times as long.
pub(crate) const RENEWAL_KEPT: Duration = Duration::from_secs(600);
/// A client of whose renewal nothing came does not try again so soon, though the cluster has agreed on something.
pub(crate) const RENEWAL_LOST: Duration = Duration::from_secs(10);
/// Clients' certificates that are kept for that.
pub(crate) const RENEWALS_KEPT_MAX: usize = 1024;
/// How long the cluster may take to agree that a member has applied everything.
pub(crate) const CONFIRMED_MAX: Duration = Duration::from_secs(3);
/// How long a client waits for its turn to have its certificate renewed.
pub(crate) const RENEWAL_TURN_MAX: Duration = Duration::from_secs(5);
/// How often it is said that a certificate cannot be renewed.
pub(crate) const RENEWAL_COMPLAINS: Duration = Duration::from_secs(60);
/// Between two attempts to have the cluster know what a member shows.
pub(crate) const CERTIFY_PAUSE: Duration = Duration::from_millis(500);
/// What peers have said of certificates and the keeper has not heard.
pub(crate) const SAID_MAX: usize = 64;
/// A link is dialled anew when this part of the other side's certificate's life is left.
pub(crate) const LINK_RENEWED_AT: u32 = 6;
/// The shortest time until it is dialled anew again.
pub(crate) const LINK_RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a link that another has taken the place of may take until all that it carries is heard.
pub(crate) const LINK_FAREWELL_MAX: Duration = Duration::from_secs(5);
/// Strangers who are attended to at a time: as many as the clients' plane has places for.
pub(crate) const STRANGERS_MAX: usize = 32;
/// Requests to join with a token that are agreed on in a second.
pub(crate) const JOINS_PER_SECOND: u32 = 10;
/// Requests to join in a second that come with no token known here: each is a guess at one.
pub(crate) const GUESSES_PER_SECOND: u32 = 10;
/// Of either at once after a pause.
pub(crate) const JOINS_IN_A_BURST: u32 = 20;
/// Whoever would wait longer for a turn is told to ask again.
pub(crate) const JOIN_TURN_MAX: Duration = Duration::from_secs(1);
/// How long a token is waited for that is not known here: another member may just have made it.
pub(crate) const TOKEN_AWAITED_MAX: Duration = Duration::from_secs(1);
/// How often it is looked for.
pub(crate) const TOKEN_LOOK: Duration = Duration::from_millis(50);

/// What the member's owner wants and the driver has not seen yet.
pub(crate) const ORDERS_MAX: usize = 4;
/// How long a stream that has ended waits for its client to have heard why.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_millis(500);
/// How long a stopping member waits for its disk to close.
pub(crate) const STOPPING_MAX: Duration = Duration::from_secs(10);
/// How long a stopping member waits for others to take over what it leads.
pub(crate) const HANDOVER_MAX: Duration = Duration::from_secs(1);
/// How often it looks whether they have.
pub(crate) const HANDOVER_LOOK: Duration = Duration::from_millis(20);

const _: () = assert!(
    PEER_FRAME_BYTES_TARGET + kontiki_wire::limits::BATCH_BYTES_MAX
        <= kontiki_wire::limits::PEER_FRAME_BYTES_MAX
);
// The largest of frames can wait for its reader.
const _: () = assert!(UNSENT_BYTES_MAX >= 4 * kontiki_wire::limits::CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(BYTES_IN_FLIGHT >= kontiki_wire::limits::BATCH_BYTES_MAX);
