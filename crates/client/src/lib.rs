//! What users depend on: producers, subscriptions and administration of a Kontiki cluster.
//!
//! ```no_run
//! use kontiki_client::{Client, Context, From, Record, Until};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Context::load("context.toml")?).await?;
//! let topic = client.topic("greetings")?;
//!
//! let producer = topic.producer();
//! let appended = producer.append(Record { value: "hello".into(), ..Record::default() }).await?;
//! println!("hello is at {}", appended.offset);
//! producer.close().await?;
//!
//! let mut subscription = topic.subscribe(From::Earliest).until(Until::End).await?;
//! while let Some(batch) = subscription.next_batch().await? {
//!     for delivered in batch {
//!         println!("{:?}", delivered?.record.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every call ends within a deadline, every queue has a bound, and every error says whether what was
//! asked certainly did not happen.

#![forbid(unsafe_code)]

mod admin;
mod asking;
mod backoff;
mod buffer;
mod certificates;
mod client;
mod connections;
mod context;
mod contexts;
mod dialler;
mod ended;
mod error;
mod flight;
pub mod joining;
mod membership;
mod options;
mod planted;
mod producer;
mod reading;
mod routing;
mod sender;
mod status;
mod subscription;
mod ticket;
mod verify;
mod vigil;

pub use kontiki_wire::{
    ClusterId, From, GroupId, Handover, Header, MemberInfo, Offset, Papers, ParseError, Record,
    Recovery, Revocation, Rotate, Rotation, RotationStage, Standing, Successors, TokenId,
    TokenInfo, TokenSpec, TopicInfo, TopicName, TopicSettings, Trust, Turnover, Until, Whom,
};

/// What decides about a producer's batches, without the shell that carries them: for the simulator,
/// which makes no promise to keep these names.
#[doc(hidden)]
pub mod parts {
    #[cfg(feature = "planted")]
    pub use crate::planted::{Planted, plant};
    pub use crate::{
        buffer::{Gathered, Serial},
        flight::{Absurd, Flight, Remedy, Settled},
        ticket::{BatchFate, Outcome},
    };
    pub use tokio::time::Instant;
}

pub use admin::Admin;
pub use certificates::Renewed;
pub use client::{Client, Topic};
pub use context::{Context, ContextError};
pub use contexts::Contexts;
pub use error::{AdminError, AppendError, ConnectError, SubscribeError};
pub use options::{ConnectOptions, InvalidOption, ProducerConfig};
pub use producer::Producer;
pub use status::{ClusterStatus, MemberHealth, ReplicaHealth, TopicHealth};
pub use subscription::{Delivered, DeliveredRecords, SubscribeBuilder, Subscription};
pub use ticket::{Appended, Ticket};
pub use verify::{ClusterVerified, EntriesDamaged, ReplicaVerified};
