//! `kontiki leader`: who leads is mostly the cluster's own matter; sometimes a person knows better.

use kontiki_client::{AdminError, TopicName};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    verbs::topic::no_topic,
};

/// What can be done about leaders.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Hand the leadership of a topic to a member, without losing a record or a moment
    Transfer {
        /// The topic
        #[arg(required_unless_present = "cluster")]
        topic: Option<TopicName>,

        /// Hand over the cluster's own log instead of a topic
        #[arg(long, conflicts_with = "topic")]
        cluster: bool,

        /// The member that is to lead
        #[arg(long, value_name = "MEMBER")]
        to: String,
    },
}

#[derive(Serialize)]
struct Transferred {
    topic: Option<String>,
    leader: String,
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let Verb::Transfer {
        topic,
        cluster: _,
        to,
    } = verb;
    let client = invocation.connect().await?;
    let done = client.admin().transfer_leader(topic.as_ref(), &to).await;
    match (done, &topic) {
        (Ok(()), _) => {}
        (Err(AdminError::NoSuchTopic { .. }), Some(topic)) => {
            return Err(no_topic(&client, topic).await);
        }
        (Err(error), _) => return Err(error.into()),
    }
    let transferred = Transferred {
        topic: topic.map(|topic| topic.to_string()),
        leader: to,
    };
    invocation.output.say(&transferred, |_| {
        let what = transferred
            .topic
            .as_deref()
            .unwrap_or("the cluster's own log");
        format!("{} leads {what} now", transferred.leader)
    })?;
    leave(&client).await;
    Ok(Exit::Done)
}
