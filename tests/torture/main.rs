//! Faults on real processes, under load, judged by everything that clients saw. Each kind does a few
//! rounds, from a seed that it prints; `TORTURE="only=kills rounds=500"` is a longer run of one.

mod calls;
mod clocks;
#[allow(dead_code, reason = "tests/whole uses the rest of it")]
#[path = "../whole/cluster.rs"]
mod cluster;
mod damage;
mod full;
mod growth;
mod kills;
mod load;
mod members;
mod namespaces;
mod network;
mod pauses;
mod plan;
mod power;
mod replica;
mod report;
mod router;
mod sizes;
mod stage;
mod stops;
mod wounds;
