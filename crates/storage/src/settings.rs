//! Sizes and bounds.

/// Sizes and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of one journal file; preallocated and recycled. Of more than 64 MiB none becomes a part of a topic's
    /// segments as it lies.
    pub journal_file_bytes: u64,
    /// Bytes after which a segment is sealed.
    pub segment_bytes: u64,
    /// Bytes of a topic's committed entries that are worth moving to its segment before their journal file ends.
    pub settle_bytes_min: u64,
    /// Bytes of an entry, on average, from which on those of a journal file that is nearly all one topic's stay
    /// where they are: its segment has the rest. Smaller ones are written once more.
    pub apart_bytes_min: u64,
    /// Bytes of entries, over all topics, kept in memory for subscribers after they are in segments, together
    /// with those that are not.
    pub hot_bytes_max: u64,
    /// Bytes of segments, over all topics, that the system's memory may keep for subscribers after they
    /// are durable: the latest. Those before are read from the disk again by whoever wants them.
    pub cached_bytes_max: u64,
    /// Bytes of entries that a start holds in memory of topics whose checkpoints are older or lost, the same part of
    /// each topic, and the last entry of each: of more it makes a checkpoint itself.
    pub unapplied_bytes_max: u64,
    /// Whether the host knows that this directory was opened before: then an empty journal is a loss.
    pub begun: bool,
    /// What else the host knows to be lost since, one sentence for people.
    pub lost: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            journal_file_bytes: 64 << 20,
            segment_bytes: 256 << 20,
            settle_bytes_min: 1 << 20,
            apart_bytes_min: 4 << 10,
            hot_bytes_max: 64 << 20,
            cached_bytes_max: 64 << 20,
            unapplied_bytes_max: 64 << 20,
            begun: false,
            lost: None,
        }
    }
}
