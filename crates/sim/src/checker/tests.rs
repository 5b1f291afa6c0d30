//! The checker is checked: what a correct log made is never flagged, what was spoiled always is, with
//! the right code, and on small histories it says what a search through all orders says.

mod brute_force;
mod chance;
mod cluster;
mod spoiled;
mod valid;
mod words;
