//! A group, its disks and its network, driven by one seed.

mod changes;
mod dice;
mod fetching;
mod oracle;
mod world;

pub(crate) use world::World;
