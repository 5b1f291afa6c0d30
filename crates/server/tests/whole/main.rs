//! Whole members in one process: real sockets, real disks, real certificates.

#![allow(
    clippy::unwrap_used,
    reason = "what tests may do, what they share may do"
)]

mod append;
mod caller;
mod certificates;
mod client;
mod cluster;
mod damage;
mod delivery;
mod failover;
mod mend;
mod permission;
mod start;
mod strangers;
mod tokens;
mod verify;
