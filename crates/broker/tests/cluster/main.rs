//! Three brokers on a network that loses, doubles and reorders, with disks that forget what was not
//! synced, driven by producers that retry. One seed is one story.

#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod balance;
mod chance;
mod disk;
mod faults;
mod grow;
mod late;
mod oracle;
mod producer;
mod quiet;
mod races;
mod rests;
mod standing;
mod subscriber;
mod unheard;
mod world;
