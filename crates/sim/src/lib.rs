//! Breaks a cluster on purpose, repeatably: one seed is one story.

#![forbid(unsafe_code)]

pub mod checker;
pub mod history;
pub mod invariants;
