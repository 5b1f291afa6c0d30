//! A cluster of real processes under attack, on both planes, by those whose certificates are good and by
//! those who have none, while honest clients go on.
//!
//! After each attack: no process has died, no election was held, the memory of each member stayed under
//! [`siege::MEMORY_MAX`], and honest clients got at least the share of their calm throughput that the
//! attack's round states, or did at the second try; at the end no honest record is lost, moved, doubled
//! or altered.
//!
//! Members, honest clients and attackers share a machine. So the honest have a thread of their own, and
//! the attackers one that the kernel favours less. Each round says how much processor time members took
//! for an honest record, in the calm and under attack, and how much the attackers had.
//!
//! CI runs a sample. `HOSTILE_CASES` (malformed frames and streams), `HOSTILE_SECONDS` (of each flood),
//! `HOSTILE_CROWD` (stalled subscribers), `HOSTILE_SEED` and `HOSTILE_NICE` (of the attackers) make it
//! longer, or the same again; `HOSTILE_ONLY` takes the rounds alone that have it in their names:
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
mod effort;
mod floods;
mod honest;
mod malformed;
mod nonsense;
#[allow(dead_code, reason = "what these tests do not need, transport's do")]
#[path = "../../crates/transport/tests/live/raw.rs"]
mod raw;
mod requests;
mod siege;
mod stranger;
