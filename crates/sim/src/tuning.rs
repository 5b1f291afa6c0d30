//! Sizes and bounds, drawn for each story: what takes gigabytes to happen in a real cluster happens
//! here within seconds.

use kontiki_broker::CheckpointEvery;
use kontiki_raft::Micros;

use crate::chance::Chance;

/// The settings of every member of a story.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) storage: kontiki_storage::Settings,
    pub(crate) raft: kontiki_raft::Settings,
    pub(crate) checkpoints: CheckpointEvery,
}

impl Tuning {
    /// Each bound is tight in some stories and as shipped in others.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let shipped = kontiki_raft::Settings::default();
        let election_timeout = chance.between(200_000, 500_000);
        let mut raft = kontiki_raft::Settings {
            election_timeout: Micros(election_timeout),
            beat_interval: Micros(election_timeout / chance.between(4, 8)),
            rest: kontiki_broker::REST,
            ..shipped
        };
        if chance.permille(500) {
            raft.append_bytes_max = chance.between(256, 16 << 10);
        }
        if chance.permille(500) {
            raft.window_bytes_max = chance.between(1 << 10, 64 << 10);
        }
        if chance.permille(400) {
            raft.window_messages_max = chance.between(1, 8) as usize;
        }
        if chance.permille(300) {
            raft.uncommitted_bytes_max = chance.between(2 << 10, 64 << 10);
        }
        if chance.permille(300) {
            raft.uncommitted_entries_max = chance.between(4, 64) as usize;
        }
        if chance.permille(700) {
            raft.tail_bytes_max = chance.between(0, 64 << 10);
        }
        if chance.permille(300) {
            raft.reads_max = chance.between(1, 8) as usize;
        }
        let journal_file_bytes = chance.between(32 << 10, 256 << 10);
        Self {
            storage: kontiki_storage::Settings {
                journal_file_bytes,
                segment_bytes: chance.between(16 << 10, 256 << 10),
                // No draw of its own: stories that were found before stay what they were.
                apart_bytes_min: if journal_file_bytes.is_multiple_of(4) {
                    4 << 10
                } else {
                    0
                },
                settle_bytes_min: journal_file_bytes / 16,
                begun: false,
                lost: None,
                cached_bytes_max: 64 << 10,
                unapplied_bytes_max: 32 << 10,
                hot_bytes_max: if chance.permille(600) {
                    chance.between(0, 64 << 10)
                } else {
                    64 << 20
                },
            },
            raft,
            checkpoints: CheckpointEvery {
                entries: chance.between(8, 1024),
                bytes: 4 << 20,
            },
        }
    }
}
