//! Turns inputs into effects into deeds: a whole member of a cluster, around the broker that decides.
//!
//! [`Server`] is one member. One task, the driver, owns the broker: it takes what peers, clients and the
//! disk say, runs a turn, and has the effects done. Links carry what members say to each other; each
//! client's connection is a session; each subscription is a delivery, which never enters the driver.

#![forbid(unsafe_code)]

mod answers;
mod arrivals;
mod authorities;
pub mod birth;
mod boot;
mod clock;
mod config;
mod data;
mod delivery;
mod dialling;
mod driver;
mod error;
mod handover;
mod limits;
mod links;
mod member;
mod outbox;
mod papers;
mod permission;
mod production;
mod recent;
mod reception;
pub mod recovery;
mod requests;
mod server;
mod service;
mod session;
mod topics;
mod unsent;
pub mod verify;
mod walk;
mod watermarks;

pub use config::{Config, Limits, LogConfig, LogFormat, StorageConfig};
pub use error::{BirthError, ServerError, StartError};
pub use member::{Joined, MemberFile};
pub use server::Server;
