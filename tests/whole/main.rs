//! Kontiki whole: real processes, disks, sockets and certificates.

mod cluster;
mod disk;
mod faults;
mod history;
mod readme;
mod subscribers;
