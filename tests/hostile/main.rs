//! A cluster of real processes under attack, on both planes, by those whose certificates are good and by
//! those who have none, while honest clients go on.
//!
//! After each attack: no process has died, no honest record is lost, moved, doubled or altered, no
//! election was held, the memory of each member stays under [`siege::MEMORY_MAX`], and honest clients got
//! at least the share of their calm throughput that the attack's test states.
//!
//! CI runs a sample. `HOSTILE_CASES` (malformed frames and streams), `HOSTILE_SECONDS` (of each flood),
//! `HOSTILE_CROWD` (stalled subscribers) and `HOSTILE_SEED` make it longer, or the same again:
//!
//! ```sh
//! HOSTILE_CASES=50000 HOSTILE_SECONDS=10 HOSTILE_CROWD=1000 \
//!   cargo test --release --test hostile -- --nocapture --test-threads 1
//! ```

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "what these tests do not need, others do")]
#[path = "../whole/cluster.rs"]
mod cluster;
mod crowds;
mod floods;
mod honest;
mod malformed;
mod nonsense;
mod siege;
mod stranger;
