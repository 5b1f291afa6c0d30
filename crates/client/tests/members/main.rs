//! Clients meet members that do what a script says: over real QUIC, with real certificates.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod admin;
mod append;
mod member;
mod stage;
mod subscribe;
mod trouble;
mod verify;
