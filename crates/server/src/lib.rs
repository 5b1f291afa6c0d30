//! Turns inputs into effects into deeds: a whole member of a cluster, around the broker that decides.
//!
//! [`Server`] is one member. One task, the driver, owns the broker: it takes what peers, clients and the
//! disk say, runs a turn, and has the effects done. Links carry what members say to each other; each
//! client's connection is a session; each subscription is a delivery, which never enters the driver.
//!
//! # A member in your own program
//!
//! A folder is made once, and then a member runs in it whenever the program does. The first one makes the
//! cluster, and an operator's certificate beside it:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use kontiki_client::{Client, Context, Record};
//! use kontiki_server::{Config, Server, birth::{MemberSpec, birth_alone}};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = Path::new("n1");
//! let me = MemberSpec {
//!     name: "n1".to_owned(),
//!     address: "10.0.0.1:7400".to_owned(),
//!     peer_address: "10.0.0.1:7401".to_owned(),
//! };
//! let born = birth_alone(dir, &me, false)?; // once
//! let server = Server::start(Config::load(dir)?).await?;
//!
//! let client = Client::connect(Context {
//!     name: "n1".to_owned(),
//!     cluster_id: born.cluster,
//!     addresses: vec![me.address],
//!     certificate: born.operator_dir.join("operator.pem"),
//!     key: born.operator_dir.join("operator.key"),
//!     ca: born.operator_dir.join("node-ca.pem"),
//! })
//! .await?;
//! client.topic("greetings")?.producer().append(Record::new("hello")).await?;
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Others join with a token that an operator's client gives out (`client.invite(Role::Node, an_hour)`):
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use kontiki_client::joining::{Seat, Versions, join};
//! use kontiki_server::{Config, Server, birth::{key_to_join, settle}};
//!
//! # async fn run(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let dir = Path::new("n2");
//! let seat = Seat::Member {
//!     address: "10.0.0.2:7400".to_owned(),
//!     peer_address: "10.0.0.2:7401".to_owned(),
//!     versions: Versions::MINE,
//! };
//! let key = key_to_join(dir)?;
//! let admitted = join(&token.parse()?, &key, "n2", seat, Duration::from_secs(30)).await?;
//! settle(dir, &admitted.welcome, &admitted.node_roots_pem)?; // once
//!
//! let server = Server::start(Config::load(dir)?).await?;
//! server.caught_up().await;
//! # Ok(())
//! # }
//! ```
//!
//! Interrupted anywhere before the folder is a member's, the same is done again with what is there. The whole
//! story, in which the first member leaves for good, is the repository's `examples/grow.rs`.

#![forbid(unsafe_code)]

mod agreed;
mod answers;
mod arrivals;
mod authorities;
mod awake;
mod belief;
pub mod birth;
mod boot;
mod budget;
mod catch_up;
mod clock;
mod config;
mod data;
mod delivery;
mod dialling;
mod driver;
mod error;
mod fetching;
mod handover;
mod keeper;
mod limits;
mod links;
mod member;
mod outbox;
pub mod own;
mod papers;
mod permission;
mod present;
mod production;
mod recent;
mod reception;
pub mod recovery;
mod renewals;
mod requests;
mod server;
mod service;
mod session;
mod shipping;
mod signing;
pub mod succession;
mod topics;
mod unsent;
pub mod verify;
mod walk;
mod watermarks;

pub use catch_up::{CatchUp, Copying};
pub use config::{Config, Limits, LogConfig, LogFormat, StorageConfig};
pub use error::{BirthError, ServerError, StartError};
pub use member::{Joined, MemberFile};
pub use server::Server;
