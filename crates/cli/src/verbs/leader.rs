//! `kontiki leader`: who leads is mostly the cluster's own matter; sometimes a person knows better.

use std::collections::BTreeMap;

use kontiki_client::{AdminError, Client, ClusterStatus, TopicName};
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
    /// Spread the leaderships of topics evenly over the members that keep them, now
    Balance,
}

#[derive(Serialize)]
struct Balanced {
    moved: Vec<Moved>,
}

#[derive(Serialize)]
struct Moved {
    topic: String,
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Transferred {
    topic: Option<String>,
    leader: String,
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    let (topic, to) = match verb {
        Verb::Transfer { topic, to, .. } => (topic, to),
        Verb::Balance => {
            balance(&client, invocation).await?;
            leave(&client).await;
            return Ok(Exit::Done);
        }
    };
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

/// Hands leaderships over until no member has two more than another that could have them.
async fn balance(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    let mut moved: Vec<Moved> = Vec::new();
    loop {
        let status = client.admin().status().await?;
        let done = moved
            .iter()
            .map(|one| one.topic.as_str())
            .collect::<Vec<_>>();
        let Some(next) = uneven(&status, &done) else {
            break;
        };
        let topic: TopicName = next
            .topic
            .parse()
            .map_err(|_| Failure::new(format!("the cluster tells of a topic {:?}", next.topic)))?;
        client
            .admin()
            .transfer_leader(Some(&topic), &next.to)
            .await?;
        let (from, to) = (&next.from, &next.to);
        if !invocation.output.json() {
            invocation.output.note(format_args!(
                "{topic}: {to} leads it now, and {from} no more"
            ));
        }
        moved.push(next);
    }
    let balanced = Balanced { moved };
    invocation
        .output
        .say(&balanced, |_| match balanced.moved.len() {
            0 => "leaderships are spread evenly".to_owned(),
            1 => "1 topic is led by another member now".to_owned(),
            count => format!("{count} topics are led by other members now"),
        })
}

/// A topic whose leader leads two more than a member that keeps it too and could lead it; each is moved once.
fn uneven(status: &ClusterStatus, done: &[&str]) -> Option<Moved> {
    let active = status.members.iter();
    let active = active.filter(|member| member.state == "up" && member.standing == "active");
    let mut led: BTreeMap<&str, usize> = active.map(|one| (one.name.as_str(), 0)).collect();
    for leader in status
        .topics
        .iter()
        .filter_map(|topic| topic.leader.as_deref())
    {
        *led.entry(leader).or_default() += 1;
    }
    let able = |name: &str| {
        status
            .members
            .iter()
            .any(|it| it.name == name && it.standing == "active")
    };
    let topics = status
        .topics
        .iter()
        .filter(|it| !done.contains(&it.name.as_str()));
    let moves = topics.filter_map(|topic| {
        let from = topic.leader.as_deref()?;
        let followers = topic.replicas.iter().filter(|one| one.state == "follower");
        let fit = followers.filter(|one| able(&one.name));
        let to = fit.min_by_key(|one| led.get(one.name.as_str()))?;
        let apart = led.get(from)?.saturating_sub(*led.get(to.name.as_str())?);
        let moved = Moved {
            topic: topic.name.clone(),
            from: from.to_owned(),
            to: to.name.clone(),
        };
        (apart >= 2).then_some((apart, moved))
    });
    moves
        .max_by_key(|(apart, _)| *apart)
        .map(|(_, moved)| moved)
}
