//! The two planes: their names, their bounds, and the settings of QUIC that follow.

use std::{sync::Arc, time::Duration};

use kontiki_wire::limits::{CLIENT_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
};

use crate::reset::ResetSecret;

/// Which plane an endpoint is of. Peers have an endpoint of their own, so that no flood of clients can
/// cause an election; each plane has its own ALPN, roots, windows and bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Between members.
    Peers,
    /// Between clients and members.
    Clients,
}

/// Whom one means to reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Any member of the own cluster.
    AnyNode,
    /// The member of this name.
    Node(String),
}

/// What a listener holds at once. The rest is turned away, cheaply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections, from the first packet of their handshake to their end.
    pub connections: usize,
    /// Connections of one identity.
    pub connections_per_identity: usize,
    /// Connections of strangers, who have no identity.
    pub strangers: usize,
    /// How long one of them may stay.
    pub stranger_time: Duration,
    /// Bytes of frames that have arrived before they are whole, over all connections; each has room for up to
    /// half a mebibyte more, or for as much again. Above it, whoever leaves more than half a mebibyte of them is
    /// given up.
    pub unfinished_bytes: usize,
    /// Handshakes under way; more wait for their turn.
    pub handshakes: usize,
    /// Handshakes begun in a second; more wait for their turn. Each costs half a millisecond of a core,
    /// and those who are connected are not to pay for those who come.
    pub handshakes_per_second: u32,
    /// Handshakes that may begin at once after a pause.
    pub handshakes_in_a_burst: u32,
    /// Handshakes under way or waited for above which an address must first prove that it can be
    /// answered.
    pub handshakes_unproven: usize,
    /// Handshakes under way with one address; more of the same wait.
    pub handshakes_per_origin: usize,
    /// Dialers of one address that have a handshake under way or wait for one.
    pub arrivals_per_origin: usize,
}

/// The smallest UDP payload that QUIC lets a path have: what a connection starts with.
const PAYLOAD_BYTES_MIN: u16 = 1_200;

/// The largest UDP payload that path discovery tries. Loopback and jumbo frames carry it, at 2.7 times
/// the throughput of a 1,452-byte one; much more than this collapses, because segmentation offload
/// sends at most 64 KiB at a time.
const PAYLOAD_BYTES_MAX: u16 = 6_500;

/// How soon the path is measured anew after it seemed to swallow large packets; congestion can look
/// the same.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(10);

/// The round trip assumed before the first is measured. A lost first packet is sent again after three
/// of them; the library's third of a second would make that a second.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Packets that may wait for one acknowledgement of QUIC's own. Each costs both ends a wake-up, and an append
/// or its answer is often on its way back anyway.
const UNACKNOWLEDGED_MAX: u32 = 9;

/// How long the first of them waits at most.
const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// Pieces of received data, each from one packet, that are taken off a stream at a time.
pub(crate) const CHUNKS: usize = 32;

/// What they come to at most.
const TAKEN_BYTES_MAX: usize = CHUNKS * PAYLOAD_BYTES_MAX as usize;

/// Bytes that may be on the way before the first of them is acknowledged: ten of the largest packets,
/// as RFC 9002 has it. The library's own 12,000 are taken up by two probes of the path, and a connection
/// that is closed meanwhile never says so, nor why.
const INITIAL_WINDOW: u64 = 10 * PAYLOAD_BYTES_MAX as u64;

/// How long somebody may stay who asks for a certificate: what that takes, many times over.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(10);

impl Plane {
    /// The one protocol that is spoken on it by those who have a certificate.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Peers => b"kontiki-peer/1",
            Self::Clients => b"kontiki-client/1",
        }
    }

    /// Bounds of one connection.
    pub(crate) fn bounds(self) -> Bounds {
        match self {
            Self::Peers => Bounds {
                stream_window: 8 << 20,
                connection_window: 16 << 20,
                send_window: 16 << 20,
                streams: 16,
                streams_to_dialer: 16,
                unfinished_at_listener: 16 * (PEER_FRAME_BYTES_MAX + TAKEN_BYTES_MAX),
                unfinished_at_dialer: 16 * (PEER_FRAME_BYTES_MAX + TAKEN_BYTES_MAX),
                idle: Duration::from_secs(8),
                keep_alive: Duration::from_secs(2),
            },
            Self::Clients => Bounds {
                stream_window: 1 << 20,
                connection_window: 4 << 20,
                send_window: 4 << 20,
                streams: 64,
                streams_to_dialer: 0,
                unfinished_at_listener: 32 << 20,
                unfinished_at_dialer: 64 * (CLIENT_FRAME_BYTES_MAX + TAKEN_BYTES_MAX),
                idle: Duration::from_secs(15),
                keep_alive: Duration::from_secs(4),
            },
        }
    }
}

impl Limits {
    /// What suits a plane.
    #[must_use]
    pub fn of(plane: Plane) -> Self {
        match plane {
            Plane::Peers => Self {
                connections: 512,
                connections_per_identity: 16,
                strangers: 0,
                stranger_time: STRANGER_TIME_MAX,
                unfinished_bytes: 256 << 20,
                handshakes: 128,
                handshakes_per_second: 250,
                handshakes_in_a_burst: 128,
                handshakes_unproven: 32,
                handshakes_per_origin: 32,
                arrivals_per_origin: 128,
            },
            Plane::Clients => Self {
                connections: 4_096,
                connections_per_identity: 1_024,
                strangers: 32,
                stranger_time: STRANGER_TIME_MAX,
                unfinished_bytes: 64 << 20,
                handshakes: 256,
                // One costs the deciding thread about a millisecond: an eighth of it is all.
                handshakes_per_second: 125,
                handshakes_in_a_burst: 256,
                handshakes_unproven: 64,
                handshakes_per_origin: 64,
                arrivals_per_origin: 1_024,
            },
        }
    }
}

/// What one connection may hold of this side's memory and attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes received on one stream and not yet read.
    stream_window: u32,
    /// Bytes received on all streams and not yet read.
    connection_window: u32,
    /// Bytes written and not yet acknowledged.
    send_window: u64,
    /// Streams that a dialer may have open at a listener.
    pub(crate) streams: u32,
    /// Streams that a listener may have open at a dialer.
    streams_to_dialer: u32,
    /// Bytes of frames that a listener holds before they are whole, over all streams. Less than a
    /// frame of the largest size on every stream where the dialer is not to be trusted.
    pub(crate) unfinished_at_listener: usize,
    /// The same at a dialer.
    pub(crate) unfinished_at_dialer: usize,
    /// Silence after which the connection is lost.
    idle: Duration,
    /// Silence after which the dialer breaks it.
    keep_alive: Duration,
}

impl Bounds {
    /// For the side that dials.
    pub(crate) fn of_dialer(self) -> Arc<TransportConfig> {
        let mut config = self.transport(self.streams_to_dialer);
        config.keep_alive_interval(Some(self.keep_alive));
        Arc::new(config)
    }

    /// For the side that listens. It gives no stream until it has judged who dials.
    pub(crate) fn of_listener(self) -> Arc<TransportConfig> {
        Arc::new(self.transport(0))
    }

    fn transport(self, streams: u32) -> TransportConfig {
        let idle = IdleTimeout::try_from(self.idle).expect("seconds fit a variable-length integer");
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(PAYLOAD_BYTES_MAX)
            .black_hole_cooldown(BLACK_HOLE_COOLDOWN);
        let mut congestion = CubicConfig::default();
        congestion.initial_window(INITIAL_WINDOW);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_MAX))
            .max_ack_delay(Some(ACK_DELAY_MAX));
        let mut config = TransportConfig::default();
        config
            .ack_frequency_config(Some(acks))
            .congestion_controller_factory(Arc::new(congestion))
            .max_concurrent_bidi_streams(VarInt::from_u32(streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            .max_idle_timeout(Some(idle))
            .initial_rtt(INITIAL_RTT)
            .initial_mtu(PAYLOAD_BYTES_MIN)
            .min_mtu(PAYLOAD_BYTES_MIN)
            .mtu_discovery_config(Some(mtu));
        config
    }
}

/// What holds for all connections of a socket.
pub(crate) fn endpoint_config(plane: Plane, reset: &ResetSecret) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    reset.configure(plane.alpn(), &mut config);
    config
        .max_udp_payload_size(PAYLOAD_BYTES_MAX)
        .expect("the bound lies within what QUIC allows");
    config
}
