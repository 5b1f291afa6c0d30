//! Whole members in one process: real sockets, real disks, real certificates.

mod append;
mod caller;
mod client;
mod cluster;
mod damage;
mod delivery;
mod failover;
mod permission;
mod start;
mod strangers;
