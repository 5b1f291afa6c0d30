//! Kontiki whole: real processes, disks, sockets and certificates.

mod certificates;
#[allow(dead_code, reason = "tests/torture uses the rest of it")]
mod cluster;
mod damage;
mod disk;
mod examples;
mod readme;
mod rotation;
mod stillness;
mod subscribers;
mod upgrade;
