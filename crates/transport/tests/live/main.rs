//! Live endpoints on loopback: who is let in, what a connection carries, and what it may cost.

mod admission;
mod bounds;
mod cluster;
mod forge;
mod joining;
mod raw;
mod restart;
mod revoked;
mod streams;
mod succession;
mod time;
