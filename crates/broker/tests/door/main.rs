//! One broker by hand: what it takes, what it refuses, how its groups come and go, and what stops it.

#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod appending;
mod births;
mod ends;
mod hand;
mod membership;
mod mending;
mod recovered;
mod requests;
