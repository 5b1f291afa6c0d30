//! What a client and a producer can be told, with defaults that fit most.

use std::time::Duration;

use kontiki_wire::{
    ClusterId,
    limits::{BATCH_BYTES_MAX, BATCH_BYTES_TARGET, NAME_BYTES_MAX, PRODUCER_BATCHES_IN_FLIGHT_MAX},
};

use thiserror::Error;

use crate::dialler::Files;

/// How long a call may take unless told otherwise.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// The shortest deadline that leaves room for one round of asking every member.
const DEADLINE_MIN: Duration = Duration::from_millis(10);
/// The longest time that anything may be set to: clocks can always add it.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The largest buffer of one producer.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// Addresses one may name.
const ADDRESSES_MAX: usize = 64;

/// An option with a value that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{option} is {given}, it must be {must}")]
pub struct InvalidOption {
    /// Which option.
    pub option: &'static str,
    /// What it was set to.
    pub given: String,
    /// What it may be.
    pub must: String,
}

/// How to reach a cluster and who one is.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) addresses: Vec<String>,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: Pem,
    pub(crate) ca_pem: String,
    /// Where these three lie, if they are looked at again.
    pub(crate) files: Option<Files>,
    pub(crate) name: String,
    pub(crate) deadline: Duration,
    pub(crate) producer: ProducerConfig,
}

/// A private key's text, kept out of `Debug`.
#[derive(Clone)]
pub(crate) struct Pem(pub(crate) String);

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a private key)")
    }
}

impl ConnectOptions {
    /// Options to reach the cluster at any of these addresses, `host:port`. One that answers is
    /// enough: it names the others.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            cluster: None,
            certificate_pem: String::new(),
            key_pem: Pem(String::new()),
            ca_pem: String::new(),
            files: None,
            name: "client".to_owned(),
            deadline: DEADLINE_DEFAULT,
            producer: ProducerConfig::default(),
        }
    }

    /// The certificate chain and the key to prove who one is, both as PEM.
    #[must_use]
    pub fn identity_pem(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.certificate_pem = certificate.into();
        self.key_pem = Pem(key.into());
        self.files = None;
        self
    }

    /// The authorities that members' certificates must chain to, as PEM.
    #[must_use]
    pub fn ca_pem(mut self, ca: impl Into<String>) -> Self {
        self.ca_pem = ca.into();
        self.files = None;
        self
    }

    /// The cluster that is meant; a certificate of another one is refused before anything is dialled.
    #[must_use]
    pub fn cluster_id(mut self, cluster: ClusterId) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// A name for this client in the log lines of its producers and in `Debug`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long connecting, an administrative call, and a subscription without a member to serve it
    /// may take before they fail. 10 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What producers are like that are made without a configuration of their own.
    #[must_use]
    pub fn producer(mut self, producer: ProducerConfig) -> Self {
        self.producer = producer;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidOption> {
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            return Err(InvalidOption {
                option: "addresses",
                given: format!("a list of {}", self.addresses.len()),
                must: format!("a list of 1 to {ADDRESSES_MAX}"),
            });
        }
        for address in &self.addresses {
            check_address(address)?;
        }
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(InvalidOption {
                option: "name",
                given: format!("{} bytes long", self.name.len()),
                must: format!("1 to {NAME_BYTES_MAX} bytes long"),
            });
        }
        if !(DEADLINE_MIN..=TIME_MAX).contains(&self.deadline) {
            return Err(InvalidOption {
                option: "deadline",
                given: format!("{:?}", self.deadline),
                must: format!("{DEADLINE_MIN:?} to {TIME_MAX:?}"),
            });
        }
        self.producer.check()
    }
}

/// That it reads `host:port`; the name is looked up when it is dialled.
pub(crate) fn check_address(address: &str) -> Result<(), InvalidOption> {
    let fits = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    if fits {
        return Ok(());
    }
    Err(InvalidOption {
        option: "an address",
        given: format!("{address:?}"),
        must: "host:port, as in 10.0.0.1:7401".to_owned(),
    })
}

/// How a producer gathers, sends and waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerConfig {
    pub(crate) in_flight_batches: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) linger: Option<Duration>,
    pub(crate) delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            in_flight_batches: 8,
            batch_bytes: BATCH_BYTES_TARGET,
            buffer_bytes: 32 << 20,
            linger: None,
            delivery_timeout: Duration::from_secs(30),
        }
    }
}

impl ProducerConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Batches that may be unacknowledged at once; while all are, further records gather into larger
    /// batches. 8 by default, at most
    /// [`PRODUCER_BATCHES_IN_FLIGHT_MAX`](kontiki_wire::limits::PRODUCER_BATCHES_IN_FLIGHT_MAX).
    #[must_use]
    pub fn in_flight_batches(mut self, batches: usize) -> Self {
        self.in_flight_batches = batches;
        self
    }

    /// Bytes at which a batch is closed though more records wait. 256 KiB by default.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Bytes of records that may wait for their acknowledgement; beyond, `submit` waits and
    /// `try_submit` fails. 32 MiB by default.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// How long a batch that is not full waits for more records. Unless it is said, one goes at once while fewer
    /// than two are on their way, and behind two it waits until one of them is acknowledged, for a
    /// millisecond or two at most. With zero it goes at once in any case.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// How long a record may take from the buffer to its acknowledgement, over all attempts; counted
    /// from the first record of its batch. 30 s by default.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidOption> {
        let invalid = |option, given: String, must: String| {
            Err(InvalidOption {
                option,
                given,
                must,
            })
        };
        if !(1..=PRODUCER_BATCHES_IN_FLIGHT_MAX).contains(&self.in_flight_batches) {
            return invalid(
                "in_flight_batches",
                self.in_flight_batches.to_string(),
                format!("1 to {PRODUCER_BATCHES_IN_FLIGHT_MAX}"),
            );
        }
        if !(1..=BATCH_BYTES_MAX).contains(&self.batch_bytes) {
            return invalid(
                "batch_bytes",
                self.batch_bytes.to_string(),
                format!("1 to {BATCH_BYTES_MAX}"),
            );
        }
        if !(BATCH_BYTES_MAX..=BUFFER_BYTES_MAX).contains(&self.buffer_bytes) {
            return invalid(
                "buffer_bytes",
                self.buffer_bytes.to_string(),
                format!("{BATCH_BYTES_MAX} to {BUFFER_BYTES_MAX}"),
            );
        }
        let bounds = DEADLINE_MIN..=TIME_MAX;
        if !bounds.contains(&self.delivery_timeout) || self.linger >= Some(self.delivery_timeout) {
            return invalid(
                "delivery_timeout",
                format!("{:?}", self.delivery_timeout),
                format!("{DEADLINE_MIN:?} to {TIME_MAX:?}, and longer than linger"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: ConnectOptions) -> String {
        options.check().unwrap_err().to_string()
    }

    fn options() -> ConnectOptions {
        ConnectOptions::new(["10.0.0.1:7401"])
    }

    #[test]
    fn defaults_and_bounds_themselves_are_accepted() {
        options().check().unwrap();
        let edge = ProducerConfig::new()
            .in_flight_batches(PRODUCER_BATCHES_IN_FLIGHT_MAX)
            .batch_bytes(BATCH_BYTES_MAX)
            .buffer_bytes(BATCH_BYTES_MAX);
        options()
            .producer(edge)
            .deadline(DEADLINE_MIN)
            .name("n".repeat(NAME_BYTES_MAX))
            .check()
            .unwrap();
    }

    #[test]
    fn option_that_cannot_be_is_named_with_what_it_may_be() {
        let none: [&str; 0] = [];
        assert_eq!(
            refused(ConnectOptions::new(none)),
            "addresses is a list of 0, it must be a list of 1 to 64"
        );
        for address in ["10.0.0.1", ":7401", "10.0.0.1:", "10.0.0.1:70000", ""] {
            assert!(refused(ConnectOptions::new([address])).contains("host:port"));
        }
        assert!(refused(options().name("")).starts_with("name is 0 bytes long"));
        assert!(refused(options().deadline(Duration::ZERO)).starts_with("deadline is 0ns"));
        assert!(refused(options().deadline(Duration::MAX)).contains("10ms to 86400s"));
    }

    #[test]
    fn producer_that_cannot_work_is_refused_with_the_options_it_is_in() {
        let refused = |producer| refused(options().producer(producer));
        let producer = ProducerConfig::new;
        assert!(refused(producer().in_flight_batches(0)).contains("in_flight_batches is 0"));
        assert!(refused(producer().in_flight_batches(65)).contains("1 to 64"));
        assert!(refused(producer().batch_bytes(0)).contains("batch_bytes"));
        assert!(refused(producer().batch_bytes(usize::MAX)).contains("batch_bytes"));
        assert!(refused(producer().buffer_bytes(1)).contains("buffer_bytes"));
        let lingers = producer().linger(Duration::from_secs(31));
        assert!(refused(lingers).contains("longer than linger"));
        let for_ever = producer().delivery_timeout(Duration::MAX);
        assert!(refused(for_ever).contains("10ms to 86400s"));
    }

    #[test]
    fn private_key_is_not_shown() {
        let options = options().identity_pem("certificate", "secret words");
        assert!(!format!("{options:?}").contains("secret"));
    }
}
