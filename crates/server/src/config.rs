//! What an operator may set: `kontiki.toml` in the member's directory. Every key is optional, and a key
//! that is not known is refused, naming the nearest one that is.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{error::StartError, limits};

/// A member's configuration. Flags of the command line override its fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The member's directory.
    pub dir: PathBuf,
    /// Where to listen for clients. Without it: the address that the member was born with, or its port
    /// on all interfaces where that is a host's name.
    pub listen: Option<SocketAddr>,
    /// Where to listen for peers; the same rule.
    pub listen_peers: Option<SocketAddr>,
    /// Where clients are told to reach this member, `host:port`. The cluster knows it since the
    /// member's birth; a different one is refused at the start.
    pub advertise: Option<String>,
    /// Where peers reach this member, `host:port`; the same rule.
    pub advertise_peers: Option<String>,
    /// What is logged, and how; for whoever sets up logging.
    pub log: LogConfig,
    /// How much at once.
    pub limits: Limits,
    /// How large files are.
    pub storage: StorageConfig,
    /// The folder with the cluster's authorities and their keys, if this member is to sign with them. Without
    /// it: `ca` in its own folder, if there are keys in that.
    pub ca: Option<PathBuf>,
    /// How long a certificate is good that this member signs.
    pub certificates_valid: Duration,
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// A level or a filter of `tracing`; `info` unless said.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// A log's format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Clients' connections; the next one is closed with a reason.
    pub connections: usize,
    /// Connections of clients with one identity; the next one is closed with a reason.
    pub connections_per_identity: usize,
    /// Bytes of batches that have been read from producers and are not answered yet, over all of them.
    pub bytes_in_flight: usize,
    /// Bytes a second at which logs are copied to newcomers however busy producers keep this member. More, up to
    /// what disk and network give, while they do not.
    pub catch_up_bytes_per_second: u64,
    /// Microseconds for which the member looks for the next thing to do before it sleeps, where it has found one
    /// sooner nearly every time and appends come one by one. Zero spares the processor, and appends wait until it
    /// is woken.
    pub awake_micros: u64,
}

/// How large files are, and how much of them the system may keep in memory. Smaller files suit a small
/// disk, at the price of more of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// Bytes of one journal file; preallocated and recycled.
    pub journal_file_bytes: u64,
    /// Bytes after which a topic's segment is sealed.
    pub segment_bytes: u64,
    /// Bytes of the latest entries, over all topics, that the member keeps in its own memory for subscribers.
    pub hot_bytes_max: u64,
    /// Bytes of segments, the latest over all topics, that the system's memory may keep for subscribers.
    pub cached_bytes_max: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        let settings = kontiki_storage::Settings::default();
        Self {
            journal_file_bytes: settings.journal_file_bytes,
            segment_bytes: settings.segment_bytes,
            hot_bytes_max: settings.hot_bytes_max,
            cached_bytes_max: settings.cached_bytes_max,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            connections_per_identity: limits::CONNECTIONS_PER_IDENTITY,
            bytes_in_flight: limits::BYTES_IN_FLIGHT,
            catch_up_bytes_per_second: limits::CATCH_UP_BYTES_PER_SECOND,
            awake_micros: limits::AWAKE_MICROS,
        }
    }
}

impl Config {
    /// The configuration of the member in `dir` if its `kontiki.toml` says nothing.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            listen: None,
            listen_peers: None,
            advertise: None,
            advertise_peers: None,
            log: LogConfig::default(),
            limits: Limits::default(),
            storage: StorageConfig::default(),
            ca: None,
            certificates_valid: limits::LEAF_VALID,
        }
    }

    /// Reads `kontiki.toml` in `dir`; none is the same as an empty one.
    pub fn load(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(dir, &text).map_err(|what| StartError::Config { path, what }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::new(dir)),
            Err(source) => Err(StartError::Io {
                doing: "cannot read",
                path,
                source,
            }),
        }
    }

    fn parse(dir: &Path, text: &str) -> Result<Self, String> {
        let plain = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        let table: toml::Table = text.parse().map_err(plain)?;
        refuse_unknown(&table)?;
        let file: File = toml::from_str(text).map_err(plain)?;
        let limits = file.limits;
        if !(1..=limits::CONNECTIONS_HIGHEST).contains(&limits.connections) {
            return Err(format!(
                "`limits.connections` must be from 1 to {}",
                limits::CONNECTIONS_HIGHEST
            ));
        }
        if limits.connections_per_identity == 0 {
            return Err("`limits.connections_per_identity` must be at least 1".to_owned());
        }
        let least = kontiki_wire::limits::BATCH_BYTES_MAX;
        if !(least..=limits::BYTES_IN_FLIGHT_HIGHEST).contains(&limits.bytes_in_flight) {
            return Err(format!(
                "`limits.bytes_in_flight` must be from {least}, one batch, to {}",
                limits::BYTES_IN_FLIGHT_HIGHEST
            ));
        }
        if !limits::CATCH_UP_BYTES.contains(&limits.catch_up_bytes_per_second) {
            return Err(format!(
                "`limits.catch_up_bytes_per_second` must be from {} to {}",
                limits::CATCH_UP_BYTES.start(),
                limits::CATCH_UP_BYTES.end()
            ));
        }
        if limits.awake_micros > limits::AWAKE_MICROS_HIGHEST {
            return Err(format!(
                "`limits.awake_micros` must be from 0 to {}",
                limits::AWAKE_MICROS_HIGHEST
            ));
        }
        for (key, bytes) in [
            ("journal_file_bytes", file.storage.journal_file_bytes),
            ("segment_bytes", file.storage.segment_bytes),
        ] {
            if !limits::FILE_BYTES.contains(&bytes) {
                let (least, most) = (limits::FILE_BYTES.start(), limits::FILE_BYTES.end());
                return Err(format!("`storage.{key}` must be from {least} to {most}"));
            }
        }
        for (key, bytes, most) in [
            (
                "hot_bytes_max",
                file.storage.hot_bytes_max,
                limits::HOT_BYTES_HIGHEST,
            ),
            (
                "cached_bytes_max",
                file.storage.cached_bytes_max,
                limits::CACHED_BYTES_HIGHEST,
            ),
        ] {
            if bytes > most {
                return Err(format!("`storage.{key}` must be from 0 to {most}"));
            }
        }
        if let Some(seconds) = file.ca.valid_seconds
            && !limits::LEAF_VALID_SECONDS.contains(&seconds)
        {
            let (least, most) = (
                limits::LEAF_VALID_SECONDS.start(),
                limits::LEAF_VALID_SECONDS.end(),
            );
            return Err(format!("`ca.valid_seconds` must be from {least} to {most}"));
        }
        Ok(Self {
            dir: dir.to_owned(),
            listen: address("listen", file.listen)?,
            listen_peers: address("listen_peers", file.listen_peers)?,
            advertise: file.advertise,
            advertise_peers: file.advertise_peers,
            log: file.log,
            limits,
            storage: file.storage,
            // A relative one is meant from where it is written.
            ca: file.ca.dir.map(|ca| dir.join(ca)),
            certificates_valid: file
                .ca
                .valid_seconds
                .map_or(limits::LEAF_VALID, Duration::from_secs),
        })
    }
}

fn address(key: &str, text: Option<String>) -> Result<Option<SocketAddr>, String> {
    text.map(|text| {
        text.parse().map_err(|_| {
            format!("`{key}` is an address and a port, such as 0.0.0.0:7400, not {text:?}")
        })
    })
    .transpose()
}

fn refuse_unknown(table: &toml::Table) -> Result<(), String> {
    for (key, value) in table {
        known(key, KEYS)?;
        let Some((_, inner)) = TABLES.iter().find(|(name, _)| name == key) else {
            continue;
        };
        let section = value
            .as_table()
            .ok_or_else(|| format!("`{key}` is a table, written [{key}]"))?;
        for name in section.keys() {
            known(&format!("{key}.{name}"), inner)?;
        }
    }
    Ok(())
}

fn known(key: &str, keys: &[&str]) -> Result<(), String> {
    if keys.contains(&key) {
        return Ok(());
    }
    let nearest = keys
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)))
        .expect("every table has keys");
    Err(format!("unknown key `{key}`; did you mean `{nearest}`?"))
}

#[derive(Deserialize)]
struct File {
    listen: Option<String>,
    listen_peers: Option<String>,
    advertise: Option<String>,
    advertise_peers: Option<String>,
    #[serde(default)]
    log: LogConfig,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    storage: StorageConfig,
    #[serde(default)]
    ca: CaSection,
}

#[derive(Default, Deserialize)]
struct CaSection {
    dir: Option<PathBuf>,
    valid_seconds: Option<u64>,
}

const FILE: &str = "kontiki.toml";

const KEYS: &[&str] = &[
    "listen",
    "listen_peers",
    "advertise",
    "advertise_peers",
    "log",
    "limits",
    "storage",
    "ca",
];

const TABLES: &[(&str, &[&str])] = &[
    ("log", &["log.level", "log.format"]),
    (
        "limits",
        &[
            "limits.connections",
            "limits.connections_per_identity",
            "limits.bytes_in_flight",
            "limits.catch_up_bytes_per_second",
            "limits.awake_micros",
        ],
    ),
    (
        "storage",
        &[
            "storage.journal_file_bytes",
            "storage.segment_bytes",
            "storage.hot_bytes_max",
            "storage.cached_bytes_max",
        ],
    ),
    ("ca", &["ca.dir", "ca.valid_seconds"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("n1"), text)
    }

    #[test]
    fn empty_file_says_what_no_file_says() {
        assert_eq!(parse("").unwrap(), Config::new(Path::new("n1")));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::load(dir.path()).unwrap(), Config::new(dir.path()));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "listen = '0.0.0.0:1'\nlisten_peers = '[::]:2'\nadvertise = 'a:3'\nadvertise_peers = 'b:4'\n\
             [log]\nlevel = 'debug'\nformat = 'json'\n\
             [limits]\nconnections = 7\nconnections_per_identity = 3\nbytes_in_flight = 8388608\n\
             catch_up_bytes_per_second = 9000000\nawake_micros = 0\n\
             [storage]\njournal_file_bytes = 1048576\nsegment_bytes = 2097152\nhot_bytes_max = 3\ncached_bytes_max = 0\n\
             [ca]\ndir = 'keys'\n",
        )
        .unwrap();
        assert_eq!(config.listen, Some("0.0.0.0:1".parse().unwrap()));
        assert_eq!(config.listen_peers, Some("[::]:2".parse().unwrap()));
        assert_eq!(config.advertise.as_deref(), Some("a:3"));
        assert_eq!(config.advertise_peers.as_deref(), Some("b:4"));
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.limits.connections, 7);
        assert_eq!(config.limits.connections_per_identity, 3);
        assert_eq!(config.limits.bytes_in_flight, 8 << 20);
        assert_eq!(config.limits.catch_up_bytes_per_second, 9_000_000);
        assert_eq!(config.limits.awake_micros, 0);
        assert_eq!(config.storage.journal_file_bytes, 1 << 20);
        assert_eq!(config.storage.segment_bytes, 2 << 20);
        assert_eq!(config.storage.hot_bytes_max, 3);
        assert_eq!(config.storage.cached_bytes_max, 0);
        assert_eq!(config.ca.as_deref(), Some(Path::new("n1/keys")));
    }

    #[test]
    fn the_users_manual_names_every_key() {
        let manual = include_str!("../../../README.md");
        let inner = TABLES.iter().flat_map(|(_, keys)| *keys);
        for key in KEYS.iter().chain(inner) {
            let name = key.rsplit('.').next().unwrap();
            assert!(
                manual.contains(&format!("{name}`")) || manual.contains(&format!("`[{name}]")),
                "{key}"
            );
        }
    }

    #[test]
    fn unknown_key_is_refused_with_the_nearest_known_one() {
        let refused = |text| parse(text).unwrap_err();
        assert_eq!(
            refused("lisen = ''"),
            "unknown key `lisen`; did you mean `listen`?"
        );
        assert_eq!(
            refused("[log]\nformt = ''"),
            "unknown key `log.formt`; did you mean `log.format`?"
        );
        assert_eq!(refused("log = 1"), "`log` is a table, written [log]");
    }

    #[test]
    fn value_that_means_nothing_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("listen = 'localhost'", "0.0.0.0:7400"),
            ("[log]\nformat = 'xml'", "`text` or `json`"),
            ("[limits]\nconnections = 0", "from 1 to 65536"),
            (
                "[limits]\nconnections = 9223372036854775807",
                "from 1 to 65536",
            ),
            ("[limits]\nconnections_per_identity = 0", "at least 1"),
            ("[limits]\nbytes_in_flight = 1", "one batch"),
            ("[limits]\ncatch_up_bytes_per_second = 1", "from 4194304"),
            ("[limits]\nawake_micros = 1001", "from 0 to 1000"),
            ("[storage]\nsegment_bytes = 1", "from 1048576"),
            (
                "[storage]\nhot_bytes_max = 9223372036854775807",
                "from 0 to 68719476736",
            ),
            (
                "[storage]\ncached_bytes_max = 9223372036854775807",
                "from 0 to 1099511627776",
            ),
            ("listen = ", "string"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
